"""Vertex AI: `{"instances": [...], "parameters": ...}` -> `{"predictions": [...]}`, an answer per instance.

An instance is a body of Text Generation Inference or Text Embeddings Inference, of the model's own task, or its bare
`inputs`. Instances with equal parameters are one job.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from app.api.dialects.base import Answers, Asked
from app.api.dialects.table import PLACES, rule_for
from app.catalog import ModelSpec
from app.errors import InvalidInput
from app.tasks.base import is_not_a_list
from app.tasks.requests import require_few

FIELDS = ("instances", "parameters", "model")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Instances that are computed as one job. places: of each, in the request."""

    asked: list[Asked]
    places: list[int]

    def inputs(self) -> list[Any]:
        return [one for asked in self.asked for one in asked.inputs]

    def predictions(self, answers: Answers) -> list[tuple[int, bytes]]:
        """Each instance's place and answer."""
        found, start = [], 0
        for place, asked in zip(self.places, self.asked, strict=True):
            stop = start + len(asked.inputs)
            part = replace(answers, fragments=answers.fragments[start:stop])
            found.append((place, _prediction(asked, part)))
            start = stop
        return found


def instances_of(body: dict[str, Any], *, max_instances: int) -> list[dict[str, Any]]:
    """Each as a body; `parameters` beside them are for those that have none. Raises InvalidInput, InputTooLarge."""
    for field in body:
        if field not in FIELDS:
            raise InvalidInput(f"{field}: no such field; there are {', '.join(FIELDS)}.", param=field)
    instances, shared = body["instances"], body.get("parameters")
    if not isinstance(instances, list) or not instances:
        raise InvalidInput("instances must be a list of at least one.", param="instances")
    require_few("instances", len(instances), max_instances)
    bodies = [one if isinstance(one, dict) and _is_body(one) else {"inputs": one} for one in instances]
    if shared is None:
        return bodies
    return [one if "parameters" in one else {**one, "parameters": shared} for one in bodies]


def _is_body(instance: dict[str, Any]) -> bool:
    return any(rule.is_in(instance) for rule in PLACES[""].rules) or "messages" in instance or "prompt" in instance


def groups_of(bodies: Sequence[dict[str, Any]], spec: ModelSpec, task: str) -> list[Group]:
    """task: the model's own, for instances that no other server's model would answer. Raises InvalidInput."""
    groups: dict[bytes, Group] = {}
    for place, body in enumerate(bodies):
        rule = rule_for(PLACES[""].rules_for(body), spec)
        try:
            asked = _plain(task, body) if rule is None else rule.asked(body)
        except InvalidInput as error:
            raise InvalidInput(f"instances[{place}]: {error.message}", param=f"instances[{place}]") from None
        if asked.is_stream:
            raise InvalidInput(f"instances[{place}].stream: predictions are no stream.", param="stream")
        key = orjson.dumps([asked.task, asked.all_parameters({})], option=orjson.OPT_SORT_KEYS)
        group = groups.setdefault(key, Group(asked=[], places=[]))
        group.asked.append(asked)
        group.places.append(place)
    return list(groups.values())


def _plain(task: str, body: dict[str, Any]) -> Asked:
    for field in body:
        if field not in ("inputs", "parameters"):
            raise InvalidInput(f"{field}: no such field.", param=field)
    parameters = body.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise InvalidInput("parameters must be an object.", param="parameters")
    inputs = body.get("inputs")
    is_single = is_not_a_list(inputs, parameters)
    return Asked(
        task=task,
        inputs=[inputs] if is_single else inputs,  # type: ignore[arg-type]  # is_not_a_list has looked
        parameters=parameters,
        present=lambda answers: answers.fragments[0] if is_single else b"[" + b",".join(answers.fragments) + b"]",
    )


def _prediction(asked: Asked, answers: Answers) -> bytes:
    """Of a generation only the text, as Text Generation Inference predicts."""
    if asked.task != "text-generation":
        return asked.present(answers)
    return orjson.dumps(orjson.loads(answers.fragments[0])[0]["generated_text"])


def as_predictions(found: Sequence[tuple[int, bytes]]) -> bytes:
    return b'{"predictions":[' + b",".join(answer for _, answer in sorted(found)) + b"]}"
