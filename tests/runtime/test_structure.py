"""Structured output: whatever a random model would rather write, its answer parses and validates."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jsonschema
import numpy as np
import pytest

from app.errors import InvalidInput, NotAvailable
from app.runtime.structure.grammars import MAX_BYTES, Grammars
from app.runtime.structure.schemas import MAX_DEPTH, MAX_RULES
from tests.media.memory import at_most
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


def items(**more: Any) -> dict[str, Any]:
    return {"kind": "json_schema", "value": {"type": "array", "items": {"type": "integer"}, **more}}


BOMBS: list[dict[str, Any]] = [
    *({"kind": "regex", "value": one} for one in ("(a{1000}){1000}", "((a{1000}){1000}){1000}", "(a{300}){300}")),
    *({"kind": "regex", "value": one} for one in ("(a+)+b", "(.*a){50}", "(a|b)*a(a|b){60}", r"(\w|\d|\s){5000}")),
    {"kind": "regex", "value": "(" * 10_000 + "a" + ")" * 10_000},
    {"kind": "regex", "value": "|".join(f"a{number}b" for number in range(20_000))},
    {"kind": "grammar", "value": 'start: start "a" | "b"'},
    {"kind": "grammar", "value": 'start: "a"{1000000}'},
    {"kind": "grammar", "value": "start: a0\n" + "".join(f"a{n}: a{n + 1} a{n + 1}\n" for n in range(60)) + 'a60: "a"'},
    {"kind": "grammar", "value": "start: (start | start start | start start start)?"},
    items(minItems=1_000_000, maxItems=1_000_000),
    items(minItems=2**62),
    {"kind": "json_schema", "value": {"type": "string", "minLength": 10**9, "maxLength": 10**9}},
    {"kind": "json_schema", "value": {"type": "string", "pattern": "^(a{1000}){1000}$"}},
    {"kind": "json_schema", "value": {"allOf": [{"type": "string", "pattern": f".*{n}.*"} for n in range(200)]}},
    {"kind": "json_schema", "value": {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}},
    {"kind": "json_schema", "value": {"anyOf": [obj({f"a{n}": {"type": "string"}}) for n in range(2000)]}},
]


def matching(*patterns: str) -> dict[str, Any]:
    """All of them at once."""
    return {"allOf": [{"type": "string", "pattern": one} for one in patterns]}


LETTERS = [f".*{letter}.*" for letter in "abcdefghijkl"]


@pytest.mark.parametrize(
    "schema",
    [
        matching(*LETTERS),
        {"allOf": [matching(*LETTERS[:6]), matching(*LETTERS[6:])]},
        {"$defs": {"a": matching(*LETTERS[:6])}, "$ref": "#/$defs/a", **matching(*LETTERS[6:])},
        {"allOf": [{"type": "object", "properties": {"a": {"type": "string", "pattern": one}}} for one in LETTERS]},
        {"anyOf": [{"type": "integer"}, matching(*LETTERS)]},
    ],
)
@pytest.mark.parametrize("is_within_a_grammar", [False, True])
def test_patterns_of_one_string_are_few(grammars: Grammars, schema: dict[str, Any], is_within_a_grammar: bool) -> None:
    """Whether all can hold is more work with each, by a factor."""
    structure: dict[str, Any] = {"kind": "json_schema", "value": schema}
    if is_within_a_grammar:
        structure = {"kind": "grammar", "value": f"start: a\na: %json {json.dumps(schema)}"}
    with pytest.raises(InvalidInput, match="8 patterns and formats are the limit"):
        grammars.compile(structure, param="x")


def chained(count: int, link: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """Each definition refers to the next."""
    definitions = {f"a{n}": link(f"#/$defs/a{n + 1}") for n in range(count)}
    return {"$defs": {**definitions, f"a{count}": {"type": "integer"}}, "$ref": "#/$defs/a0"}


LINKS: dict[str, Callable[[str], dict[str, Any]]] = {
    "reference": lambda to: {"$ref": to},
    "allOf": lambda to: {"allOf": [{"$ref": to}]},
    "anyOf": lambda to: {"anyOf": [{"$ref": to}, {"type": "null"}]},
    "object": lambda to: obj({"b": {"$ref": to}}),
    "array": lambda to: {"type": "array", "items": {"$ref": to}},
}


@pytest.mark.parametrize("name", LINKS)
def test_schemas_are_not_nested_until_the_process_ends(grammars: Grammars, name: str) -> None:
    """As deep as they may be they compile, in a thread, as in a worker."""
    with pytest.raises(InvalidInput, match="nested more than 256 deep"):
        grammars.compile({"kind": "json_schema", "value": chained(1000, LINKS[name])}, param="x")
    deep = {"kind": "json_schema", "value": chained(MAX_DEPTH // 2 - 2, LINKS[name])}
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(grammars.compile, deep, param="x").result()


def test_rules_do_not_lead_to_each_other_until_the_process_ends(grammars: Grammars) -> None:
    """Nor do terminals."""
    for letter in "aA":
        many, few = (
            f"start: {letter}0\n"
            + "".join(f"{letter}{n}: {letter}{n + 1}\n" for n in range(count))
            + f'{letter}{count}: "x"'
            for count in (9000, MAX_RULES - 2)
        )
        with pytest.raises(InvalidInput, match="1000 lines"):
            grammars.compile({"kind": "grammar", "value": many}, param="x")
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(grammars.compile, {"kind": "grammar", "value": few}, param="x").result()


@pytest.mark.parametrize("multiples", [(131_071,), (0.131071,), (97, 89, 83, 79)])
def test_multiples_have_few_remainders(grammars: Grammars, multiples: tuple[float, ...]) -> None:
    """Each is a state, and each of one with each of another."""
    schema = {"allOf": [{"type": "number", "multipleOf": one} for one in multiples]}
    with pytest.raises(InvalidInput, match="multipleOf of 65,536"):
        grammars.compile({"kind": "json_schema", "value": schema}, param="x")
    assert grammars.compile({"kind": "json_schema", "value": {"type": "number", "multipleOf": 0.01}}, param="x")


def test_patterns_of_different_strings_may_be_many(grammars: Grammars) -> None:
    """Each is looked at alone."""
    fields = {f"a{n}": {"type": "string", "pattern": "^[a-z]+$"} for n in range(20)}
    shared = {"$defs": {"a": obj(fields)}, "allOf": [{"$ref": "#/$defs/a"}]}
    assert grammars.compile({"kind": "json_schema", "value": shared}, param="x")


def test_what_nothing_matches_is_said(grammars: Grammars) -> None:
    """In words, where llguidance has a name for it only."""
    endless = {"kind": "json_schema", "value": {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}}
    with pytest.raises(InvalidInput, match=r"x: nothing matches it\.$"):
        grammars.compile(endless, param="x")


@pytest.mark.timeout(30)
@pytest.mark.parametrize("structure", BOMBS, ids=lambda structure: str(structure["value"])[:40])
def test_bomb_is_refused_or_followed(grammars: Grammars, structure: dict[str, Any]) -> None:
    """By less than a gibibyte, and until nothing may come any more where a token would be too much work."""
    with at_most(2**30):
        try:
            matcher = grammars.compile(structure, param="x").matcher()
        except InvalidInput as error:
            assert len(error.message) < 500
            return
        for _ in range(20):
            mask = np.zeros((SIZE + 31) // 32, dtype=np.int32)
            matcher.fill(mask)
            allowed = np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")[:SIZE])
            if not len(allowed) or not matcher.accept(int(allowed[0])):
                break
