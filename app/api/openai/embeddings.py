"""/v1/embeddings, at the root and below each model's URL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import orjson
from pydantic import Field, ValidationError
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from app.api.call import read_call
from app.api.openai.bodies import Body
from app.api.openai.renaming import renamed
from app.api.record import record_of
from app.api.tasks import TaskAnswerer
from app.catalog import ModelSpec
from app.errors import InputTooLarge, InvalidInput
from app.tasks.registry import ALL_TASKS
from app.tasks.requests import as_invalid_input
from app.tasks.text import Text

EMBEDDINGS = "v1/embeddings"
MAX_INPUTS = 2048  # OpenAI's
_TASK = ALL_TASKS["feature-extraction"]


class EmbeddingBody(Body):
    """input: a text or a list of texts; tokens are not taken."""

    input: Text | Annotated[list[Text], Field(min_length=1, max_length=MAX_INPUTS)]
    model: str | None = Field(default=None, description="A declared model. Unset: the first that makes vectors.")
    encoding_format: Literal["float", "base64"] | None = Field(default=None, description="Unset: float.")
    dimensions: int | None = Field(default=None, ge=1, description="So many leading dimensions, scaled to length 1.")
    user: str | None = Field(default=None, description="Accepted; nothing is kept of it.")
    keep_alive: float | str | None = Field(default=None, description="How long the model stays loaded afterwards.")


def read_embedding_body(body: Mapping[str, Any]) -> EmbeddingBody:
    """Raises InvalidInput naming the field."""
    given = body.get("input")
    if isinstance(given, list) and given and isinstance(given[0], int | list):
        raise InvalidInput("input: tokens are not taken; send texts.", param="input")
    try:
        return EmbeddingBody.model_validate({name: value for name, value in body.items() if value is not None})
    except ValidationError as error:
        found = as_invalid_input(error, "", EmbeddingBody)
        if isinstance(found, InputTooLarge):  # too many texts are no matter of a model's context
            raise InvalidInput(found.message, param=found.param) from None
        raise found from None


class OpenAIEmbeddings:
    """Owned by the event loop. Implements `BelowModels`."""

    paths = frozenset({EMBEDDINGS})

    def __init__(self, answerer: TaskAnswerer) -> None:
        self._answerer = answerer

    async def answer(self, path: str, path_model: str | None, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises the errors of `app/errors.py`."""
        record = record_of(scope)
        call = read_call(scope["query_string"], record.headers)
        body = read_embedding_body(await self._answerer.read_object(receive, record))
        spec = self._answerer.choose(_TASK, path_model, call.model, body.model)
        inputs = [body.input] if isinstance(body.input, str) else body.input
        parameters = {"dimensions": body.dimensions, "encoding_format": body.encoding_format}
        asked = {
            "inputs": inputs,
            "parameters": {name: value for name, value in parameters.items() if value is not None},
            **({} if body.keep_alive is None else {"keep_alive": body.keep_alive}),
        }
        with renamed({"inputs": "input", "parameters.dimensions": "dimensions"}):
            answered = await self._answerer.run(_TASK, spec, asked, call, record, receive)
        check_pooled(answered.fragments, spec)
        told = _shown(answered.fragments, body.model or spec.name, answered.result.num_tokens)
        await self._answerer.send(send, told, answered.result, spec, record)


def check_pooled(fragments: list[bytes], spec: ModelSpec) -> None:
    """Whether each is one vector. Raises InvalidInput for a model that makes one for each token."""
    if fragments[0].startswith((b"[[", b'["')):
        text = f'"{spec.id}" makes a vector for each token: declare its `pooling`, such as mean.'
        raise InvalidInput(f"model: {text}", param="model")


def _shown(fragments: list[bytes], model: str, num_tokens: int) -> bytes:
    """The workers' vectors, as they are, in OpenAI's shape."""
    rows = b",".join(
        b'{"object":"embedding","index":%d,"embedding":%s}' % (index, fragment)
        for index, fragment in enumerate(fragments)
    )
    rest = orjson.dumps({"model": model, "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens}})
    return b'{"object":"list","data":[' + rows + b"]," + rest[1:]


class EmbeddingsEndpoint:
    """The route at the root: an ASGI app."""

    def __init__(self, embeddings: OpenAIEmbeddings) -> None:
        self._embeddings = embeddings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        record_of(scope).route = f"/{EMBEDDINGS}"
        await self._embeddings.answer(EMBEDDINGS, None, scope, receive, send)


def embeddings_routes(embeddings: OpenAIEmbeddings) -> list[BaseRoute]:
    return [Route(f"/{EMBEDDINGS}", EmbeddingsEndpoint(embeddings), methods=["POST"])]
