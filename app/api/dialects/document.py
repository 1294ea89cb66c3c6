"""The dialects' routes in the OpenAPI document."""

from __future__ import annotations

from functools import partial
from typing import Any

from pydantic import TypeAdapter

from app.api.dialects.base import Rule
from app.api.dialects.table import PLACES, Place
from app.api.openapi import REF, Document, error_answers, json_body, root_and_below
from app.tasks.base import JSON

TAG = "other servers' clients"
_EVENTS = {"description": "Server-sent events; the data of each is a StreamEvent."}
_VERTEX = "VertexBody"
_VERTEX_ANSWER = "VertexAnswer"
_VERTEX_SCHEMAS: dict[str, Any] = {
    _VERTEX: {
        "title": _VERTEX,
        "description": "Vertex AI: bodies of this route, or their bare `inputs`. `parameters` are for those without.",
        "type": "object",
        "required": ["instances"],
        "properties": {
            "instances": {"type": "array", "minItems": 1, "items": {}},
            "parameters": {"type": "object"},
            "model": {"type": "string"},
        },
    },
    _VERTEX_ANSWER: {
        "title": _VERTEX_ANSWER,
        "type": "object",
        "required": ["predictions"],
        "properties": {"predictions": {"type": "array", "items": {}}},
    },
}


def dialect_document() -> Document:
    """Every route at the root and below a model's URL."""
    names, schemas = _schemas()
    paths: dict[str, Any] = {}
    for path, place in PLACES.items():
        both = root_and_below(path, partial(_operation, path, place, names))
        paths |= both if path else {"/": both["/"]}
    return Document(paths, {**schemas, **_VERTEX_SCHEMAS})


def _rules() -> dict[int, Rule]:
    return {id(rule): rule for place in PLACES.values() for rule in place.rules}


def _schemas() -> tuple[dict[tuple[int, str], dict[str, Any]], dict[str, Any]]:
    """Body and answer of each rule, and the definitions that they refer to."""
    adapters: list[Any] = []
    for key, rule in _rules().items():
        adapters.append(((key, "body"), "validation", TypeAdapter(rule.body)))
        adapters.append(((key, "answer"), "serialization", TypeAdapter(rule.answer)))
    parts, defined = TypeAdapter.json_schemas(adapters, ref_template=REF)
    return {key: schema for (key, _), schema in parts.items()}, defined.get("$defs", {})


def _operation(
    path: str,
    place: Place,
    parts: dict[tuple[int, str], dict[str, Any]],
    parameters: list[dict[str, Any]],
    suffix: str,
) -> dict[str, Any]:
    bodies = [parts[id(rule), "body"] for rule in place.rules]
    answers = [parts[id(rule), "answer"] for rule in place.rules]
    if place.takes_instances:
        bodies.append({"$ref": REF.format(model=_VERTEX)})
        answers.append({"$ref": REF.format(model=_VERTEX_ANSWER)})
    content = {name: {"schema": _one_of(answers) if name == JSON else _EVENTS} for name in place.media_types}
    return {
        "tags": [TAG],
        "summary": place.summary,
        "description": "\n".join(f"- `{rule.field}`: {rule.server}. {rule.summary}" for rule in place.rules),
        "operationId": (path or "root").replace("/", "_") + "_dialect" + suffix,
        "parameters": parameters,
        "requestBody": json_body(_one_of(bodies), place.rules[0].example),
        "responses": {"200": {"description": "The answer.", "content": content}, **error_answers()},
    }


def _one_of(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
