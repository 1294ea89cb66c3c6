"""/v1/embeddings, at the root and below each model's URL."""

from __future__ import annotations

from typing import Annotated, Literal

import orjson
from pydantic import Field
from starlette.types import Receive, Scope, Send

from app.api.call import read_call, task_body
from app.api.fields import Body, Unused, read_as
from app.api.record import record_of
from app.api.renaming import by_names, renamed
from app.api.tasks import TaskAnswerer
from app.catalog import ModelSpec
from app.errors import InvalidInput
from app.tasks.registry import ALL_TASKS
from app.tasks.text import Text, TokenIds

EMBEDDINGS = "v1/embeddings"
MAX_INPUTS = 2048  # OpenAI's
_TASK = ALL_TASKS["feature-extraction"]
_UNUSED = Unused()


class EmbeddingBody(Body):
    """input: a text, or its tokens, or a list of either."""

    input: Text | TokenIds | Annotated[list[Text | TokenIds], Field(min_length=1, max_length=MAX_INPUTS)]
    model: str | None = Field(default=None, description="A declared model. Unset: the first that makes vectors.")
    encoding_format: Literal["float", "base64"] | None = Field(default=None, description="Unset: float.")
    dimensions: int | None = Field(default=None, ge=1, description="So many leading dimensions, scaled to length 1.")
    truncate: bool | None = Field(
        default=None, description="Whether inputs longer than the model takes are cut. Unset: as its files say."
    )
    user: str | None = Field(default=None, description="Accepted; nothing is kept of it.")
    keep_alive: float | str | None = Field(default=None, description="How long the model stays loaded afterwards.")


class OpenAIEmbeddings:
    """Owned by the event loop. Implements `Served`."""

    paths = frozenset({EMBEDDINGS})

    def __init__(self, answerer: TaskAnswerer) -> None:
        self._answerer = answerer

    async def answer(self, path: str, path_model: str | None, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises the errors of `app/errors.py`."""
        record = record_of(scope)
        call = read_call(scope["query_string"], record.headers)
        body = read_as(EmbeddingBody, _UNUSED.without(await self._answerer.read_object(receive, record)))
        spec = self._answerer.choose(_TASK, record, path_model, call.model, body.model)
        is_one = isinstance(body.input, str) or isinstance(body.input[0], int)
        parameters = {name: getattr(body, name) for name in ("dimensions", "encoding_format", "truncate")}
        asked = task_body([body.input] if is_one else body.input, parameters, body.keep_alive)
        with renamed(by_names({"inputs[0]" if is_one else "inputs": "input", "parameters.dimensions": "dimensions"})):
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
