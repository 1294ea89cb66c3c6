"""Structured output: whatever a random model would rather write, its answer parses and validates."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import jsonschema
import numpy as np
import pytest

from app.errors import InvalidInput, NotAvailable
from app.runtime.structure.grammars import MAX_BYTES, Grammars
from tests.tiny.chat import tokenizer

TOKENIZER = tokenizer()
SIZE = len(TOKENIZER) + 9
END = TOKENIZER.eos_token_id
MAX_TOKENS = 3000


@pytest.fixture(scope="module")
def grammars() -> Grammars:
    return Grammars(TOKENIZER, vocabulary_size=SIZE, end_ids=[END])


def written(grammars: Grammars, structure: dict[str, Any], seed: int) -> str:
    """By a model that likes all allowed tokens the same, and an end most of all."""
    chance = random.Random(seed)
    matcher = grammars.compile(structure, param="x").matcher()
    tokens: list[int] = []
    while not matcher.is_finished:
        mask = np.zeros((SIZE + 31) // 32, dtype=np.int32)
        matcher.fill(mask)
        allowed = np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")[:SIZE]).tolist()
        assert allowed, TOKENIZER.decode(tokens)
        if END in allowed:
            break
        # Closing marks now and then, so that it comes to an end.
        closing = [token for token in allowed if TOKENIZER.decode([token]) in '"}]']
        token = chance.choice(closing if closing and chance.random() < 0.3 else allowed)
        assert matcher.accept(token)
        tokens.append(token)
        assert len(tokens) < MAX_TOKENS, TOKENIZER.decode(tokens)
    return str(TOKENIZER.decode(tokens))


def obj(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False, **more}


SCHEMAS: list[dict[str, Any]] = [
    obj({"a": {"type": "string", "maxLength": 5}}, required=["a"]),
    obj({"a": {"type": "integer", "minimum": -3, "maximum": 12}}, required=["a"]),
    obj({"a": {"type": "number", "minimum": 0, "maximum": 1}}, required=["a"]),
    obj({"a": {"type": "boolean"}, "b": {"type": "null"}}, required=["a", "b"]),
    obj({"a": {"enum": ["x", 3, None]}, "b": {"const": "fixed"}}, required=["a", "b"]),
    obj({"a": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 4}}, required=["a"]),
    obj({"a": obj({"b": obj({"c": {"type": "string", "maxLength": 3}}, required=["c"])}, required=["b"])}),
    obj({"a": {"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": 3}]}}, required=["a"]),
    obj({"a": {"type": ["string", "null"], "maxLength": 4}}, required=["a"]),
    obj({"a": {"type": "string", "pattern": "^[a-c]{2,4}$"}}, required=["a"]),
    obj({"a": {"type": "string", "format": "date"}, "b": {"type": "string", "format": "uuid"}}, required=["a", "b"]),
    obj({"a": {"type": "string", "maxLength": 2}, "b": {"type": "integer"}, "c": {"type": "boolean"}}, required=["b"]),
    {
        "$defs": {"item": obj({"n": {"type": "integer"}}, required=["n"])},
        **obj({"a": {"type": "array", "items": {"$ref": "#/$defs/item"}, "maxItems": 3}}, required=["a"]),
    },
    {
        "$defs": {"node": obj({"v": {"enum": [1]}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}})},
        "$ref": "#/$defs/node",
    },
    {"type": "array", "items": {"type": "string", "maxLength": 2}, "maxItems": 3},
    {"type": "string", "minLength": 2, "maxLength": 4},
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: json.dumps(schema)[:60])
def test_every_answer_under_a_schema_validates(grammars: Grammars, schema: dict[str, Any]) -> None:
    """However it was chosen among the tokens that may come next."""
    for seed in range(5):
        text = written(grammars, {"kind": "json_schema", "value": schema}, seed)
        jsonschema.validate(json.loads(text), schema)


def test_json_object_is_an_object(grammars: Grammars) -> None:
    """Any."""
    assert isinstance(json.loads(written(grammars, {"kind": "json_object"}, 1)), dict)


def test_regular_expressions_choices_and_grammars_hold(grammars: Grammars) -> None:
    """Each in its own words."""
    for seed in range(5):
        assert re.fullmatch("[ab]{3}-[0-9]+", written(grammars, {"kind": "regex", "value": "[ab]{3}-[0-9]{1,3}"}, seed))
        assert written(grammars, {"kind": "choice", "value": ["yes", 'n"o', "größer"]}, seed) in (
            "yes",
            'n"o',
            "größer",
        )
        lark = 'start: "a" ("b" | "c"){2}'
        assert re.fullmatch("a[bc]{2}", written(grammars, {"kind": "grammar", "value": lark}, seed))


@pytest.mark.parametrize(
    ("structure", "says"),
    [
        ({"kind": "json_schema", "value": {"type": "strin"}}, "strin"),
        ({"kind": "json_schema", "value": obj({"a": {"not": {"type": "string"}}})}, "not"),
        (
            {"kind": "json_schema", "value": obj({"a": {"type": "array", "items": {"not": {}}}})},
            'at properties.a.items: Unimplemented keys: ["not"]',
        ),
        (
            {"kind": "json_schema", "value": {"$defs": {"n": {"not": {}}}, **obj({"a": {"$ref": "#/$defs/n"}})}},
            "at $defs.n",
        ),
        ({"kind": "json_schema", "value": {"anyOf": [{"type": "string"}, {"type": "strin"}]}}, "at anyOf[1]"),
        ({"kind": "json_schema", "value": "x"}, "schema"),
        ({"kind": "json_schema", "value": {"$ref": "#/$defs/nowhere"}}, "nowhere"),
        ({"kind": "regex", "value": "(a"}, "unclosed group"),
        ({"kind": "regex", "value": ""}, "empty"),
        ({"kind": "choice", "value": []}, "list"),
        ({"kind": "choice", "value": ["a"] * 1001}, "1001"),
        ({"kind": "grammar", "value": "start: nothing"}, "nothing"),
        ({"kind": "regex", "value": "a" * MAX_BYTES}, "limit"),
    ],
)
def test_what_cannot_be_held_is_said(grammars: Grammars, structure: dict[str, Any], says: str) -> None:
    """With the parameter's name, and the part that is wrong."""
    with pytest.raises(InvalidInput) as raised:
        grammars.compile(structure, param="response_format")
    assert raised.value.param == "response_format" and says in raised.value.message
    assert len(raised.value.message) < 500 and ".rs:" not in raised.value.message


def test_compiled_structures_are_kept(grammars: Grammars) -> None:
    """The same one is the same grammar; matchers of one do not know each other."""
    structure = {"kind": "choice", "value": ["ab", "ac"]}
    first = grammars.compile(structure, param="x")
    assert grammars.compile(dict(structure), param="y") is first
    one, other = first.matcher(), first.matcher()
    assert one.accept(TOKENIZER.encode("a")[0]) and not other.accept(TOKENIZER.encode("b")[0])


def test_slow_tokenizer_is_said() -> None:
    """Not every tokenizer can be followed."""

    class Slow:
        is_fast = False

    with pytest.raises(NotAvailable):
        Grammars(Slow(), vocabulary_size=9, end_ids=[1]).compile({"kind": "json_object"}, param="x")
