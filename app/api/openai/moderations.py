"""/v1/moderations, at the root and below each model's URL: a text classifier's labels as OpenAI's categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, get_args

import orjson
from pydantic import Field
from starlette.types import Receive, Scope, Send

from app.api.call import Call, read_call, task_body
from app.api.fields import Body, Unused, read_as
from app.api.names import agreed
from app.api.record import record_of
from app.api.renaming import by_names, renamed
from app.api.tasks import TaskAnswerer, resolved
from app.catalog import ModelSpec, ModerationSpec
from app.declaration.form import Category
from app.errors import InvalidInput, ModelFailed, NotAvailable, NotServed
from app.fleet.requests import ModelsAPI
from app.tasks.registry import ALL_TASKS
from app.tasks.text import Text

MODERATIONS = "v1/moderations"
MAX_INPUTS = 2048
_TASK = ALL_TASKS["text-classification"]
_CATEGORIES: tuple[str, ...] = get_args(Category)
_UNUSED = Unused()

Scores = Mapping[str, float]
"""By category."""


class TextPart(Body):
    type: Literal["text"]
    text: Text


class ImagePart(Body):
    """Refused: what judges here reads texts."""

    type: Literal["image_url"]
    image_url: dict[str, Any]


class ModerationBody(Body):
    """input: a text or a list of texts, each with a result of its own, or the parts of one input."""

    input: Text | Annotated[list[Text | TextPart | ImagePart], Field(min_length=1, max_length=MAX_INPUTS)]
    model: str | None = Field(default=None, description="A declared model. Unset: the first that moderates.")
    truncate: bool | None = Field(default=None, description="true: cut texts that are longer than the model takes.")
    keep_alive: float | str | None = Field(default=None, description="How long the model stays loaded afterwards.")


class OpenAIModerations:
    """Owned by the event loop. Implements `Served`."""

    paths = frozenset({MODERATIONS})

    def __init__(self, answerer: TaskAnswerer) -> None:
        self._answerer = answerer

    async def answer(self, path: str, path_model: str | None, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises the errors of `app/errors.py`."""
        record = record_of(scope)
        call = read_call(scope["query_string"], record.headers)
        body = read_as(ModerationBody, _UNUSED.without(await self._answerer.read_object(receive, record)))
        texts, is_one = _read_input(body.input)
        spec, moderation = await _choose((path_model, call.model, body.model), call, record.fleet)
        asked = task_body(texts, {"truncate": body.truncate}, body.keep_alive)
        asked["parameters"]["top_k"] = None  # all labels
        with renamed(by_names({"inputs[0]" if isinstance(body.input, str) else "inputs": "input"})):
            answered = await self._answerer.run(_TASK, spec, asked, call, record, receive)
        found = [_scores(orjson.loads(fragment), moderation, spec) for fragment in answered.fragments]
        told = {
            "id": f"modr-{record.request_id}",
            "model": body.model or spec.id,
            "results": [_result(scores, moderation) for scores in ([_greatest(found)] if is_one else found)],
        }
        await self._answerer.send(send, orjson.dumps(told), answered.result, spec, record)


async def _choose(names: Sequence[str | None], call: Call, fleet: ModelsAPI) -> tuple[ModelSpec, ModerationSpec]:
    """The entry that path, query and body agree on, else the first that moderates. Raises NotAvailable,
    NotServed, InvalidInput, and what loading raises for an entry whose task is not known yet."""
    moderating = [spec for spec in fleet.entries() if spec.moderation is not None]
    if not moderating:
        raise NotAvailable(
            "No model here moderates: `moderations:` in models.yaml says which entry for text-classification does,"
            " and which category each of its labels means."
        )
    name = agreed(fleet.get, names)
    spec = await resolved(fleet, moderating[0].id if name is None else name, call)
    if spec.moderation is None:
        listed = ", ".join(one.id for one in moderating)
        text = f'"{spec.id}" does not moderate; in `moderations:` of models.yaml there are: {listed}.'
        raise NotServed(text, param="model")
    return spec, spec.moderation


def _read_input(given: str | list[str | TextPart | ImagePart]) -> tuple[list[str], bool]:
    """The texts, and whether all of them are parts of one input. Raises InvalidInput, for an image too."""
    if isinstance(given, str):
        return [given], True
    if len({isinstance(one, str) for one in given}) > 1:
        raise InvalidInput("input must be texts or parts; the list mixes both.", param="input")
    texts = []
    for index, one in enumerate(given):
        if isinstance(one, ImagePart):
            param = f"input[{index}]"
            raise InvalidInput(f"{param}: images are not taken; the models here judge texts.", param=param)
        texts.append(one if isinstance(one, str) else one.text)
    return texts, not isinstance(given[0], str)


def _scores(labels: Sequence[Mapping[str, Any]], moderation: ModerationSpec, spec: ModelSpec) -> Scores:
    """Of each category the greatest of its labels' scores. labels: an answer of text-classification."""
    given = {one["label"]: one["score"] for one in labels}
    scores: dict[str, float] = {}
    for label, categories in moderation.labels.items():
        if label not in given:
            shown = ", ".join(map(str, given))
            raise ModelFailed(f'moderations: "{spec.id}" has no label "{label}"; it has {shown}.')
        for category in categories:
            scores[category] = max(scores.get(category, 0.0), given[label])
    return scores


def _greatest(parts: Sequence[Scores]) -> Scores:
    """An input is as bad as the worst of its parts."""
    return {category: max(one[category] for one in parts) for category in parts[0]}


def _result(scores: Scores, moderation: ModerationSpec) -> dict[str, Any]:
    """A category that no label means applies to nothing."""
    flags = {one: one in scores and scores[one] >= moderation.thresholds[one] for one in _CATEGORIES}
    return {
        "flagged": any(flags.values()),
        "categories": flags,
        "category_scores": {one: scores.get(one, 0.0) for one in _CATEGORIES},
        "category_applied_input_types": {one: ["text"] if one in scores else [] for one in _CATEGORIES},
    }
