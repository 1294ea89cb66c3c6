"""JSON schemas as they are written: their parts, and whether llguidance compiles them within bounds of its own.

Its limits of work do not end everything (1.9.1): whether a string can match several patterns at once it finds out in
time that doubles with each of them, a `multipleOf` has a state for each remainder, and rules within rules, by
reference too, take of the thread's stack until the process ends.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from app.errors import InvalidInput

MAX_DOUBLINGS = 8
"""Of the work for one value: 8 patterns and formats that it must match at the same time, or a multiple of 65,536."""
MAX_DEPTH = 256
"""Schemas within each other, references followed. A thousand objects end a process."""
MAX_RULES = 1000
"""Of a grammar; three thousand that lead to each other end a process."""
DEFINITIONS = ("$defs", "definitions")
_WITH_NAMED_SCHEMAS = frozenset({"properties", "patternProperties", *DEFINITIONS})
_WITH_SCHEMAS = frozenset({"anyOf", "allOf", "oneOf", "prefixItems"})
_WITH_SCHEMA = frozenset({"items", "additionalProperties"})
_JSON_IN_GRAMMAR = re.compile(r"%json\s*")


def parts_of(schema: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The schemas directly within one, and where they stand."""
    for keyword, value in schema.items():
        if keyword in _WITH_NAMED_SCHEMAS and isinstance(value, dict):
            yield from ((f"{keyword}.{name}", one) for name, one in value.items() if isinstance(one, dict))
        elif keyword in _WITH_SCHEMAS and isinstance(value, list):
            yield from ((f"{keyword}[{place}]", one) for place, one in enumerate(value) if isinstance(one, dict))
        elif keyword in _WITH_SCHEMA and isinstance(value, dict):
            yield keyword, value


def require_modest(structure: Mapping[str, Any], *, param: str) -> None:
    """structure: `Structure` of app/tasks/completion.py, whose value has its right type. Raises InvalidInput."""
    value: Any = structure.get("value")
    if structure["kind"] == "grammar" and value.count("\n") >= MAX_RULES:
        raise InvalidInput(f"{param}: a grammar may have {MAX_RULES} lines; this one has more.", param=param)
    for schema in _schemas_of(structure["kind"], value):
        cost = _Costs(schema, param).of(schema)
        if cost.doublings > MAX_DOUBLINGS:
            raise InvalidInput(
                f"{param}: one value must match too much at the same time; {MAX_DOUBLINGS} patterns and formats are the"
                f" limit, or a multipleOf of {4**MAX_DOUBLINGS:,}.",
                param=param,
            )


def _schemas_of(kind: str, value: Any) -> Iterator[Any]:
    """Those within a grammar, too."""
    if kind == "json_schema":
        yield value
    elif kind == "grammar":
        for found in _JSON_IN_GRAMMAR.finditer(value):
            try:
                yield json.JSONDecoder().raw_decode(value, found.end())[0]
            except (ValueError, RecursionError):  # llguidance refuses these in its own words
                continue


class _Cost(NamedTuple):
    """doublings: of the work for one value, at least as many as there are. depth: of schemas within each other."""

    doublings: float
    depth: int


_NOTHING = _Cost(0, 0)


class _Costs:
    """Of the parts of one schema."""

    def __init__(self, root: Any, param: str) -> None:
        self._root = root
        self._param = param
        self._of_references: dict[str, _Cost] = {}
        self._depth = 0

    def of(self, schema: Any) -> _Cost:
        """Raises InvalidInput for one that is nested too deep."""
        if not isinstance(schema, Mapping):
            return _NOTHING
        self._depth += 1
        self._require_shallow(self._depth)
        referred = self._of_reference(schema.get("$ref"))
        doublings = referred.doublings + _own_doublings(schema)
        depth, most_within = referred.depth, 0.0
        for name, inner in parts_of(schema):
            if name.startswith(DEFINITIONS):
                continue  # costs where something refers to it
            cost = self.of(inner)
            depth = max(depth, cost.depth)
            if name.startswith("allOf"):
                doublings += cost.doublings
            else:
                most_within = max(most_within, cost.doublings)
        self._require_shallow(depth + 1)
        self._depth -= 1
        return _Cost(doublings + most_within, depth + 1)

    def _require_shallow(self, depth: int) -> None:
        if depth > MAX_DEPTH:
            text = f"schemas are nested more than {MAX_DEPTH} deep, references followed."
            raise InvalidInput(f"{self._param}: {text}", param=self._param)

    def _of_reference(self, reference: Any) -> _Cost:
        """One that leads back to itself adds nothing."""
        if not isinstance(reference, str) or not reference.startswith("#"):
            return _NOTHING
        if reference not in self._of_references:
            self._of_references[reference] = _NOTHING
            self._of_references[reference] = self.of(self._at(reference))
        return self._of_references[reference]

    def _at(self, reference: str) -> Any:
        found = self._root
        for part in reference.removeprefix("#").split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and name.isdecimal() and int(name) < len(found):
                found = found[int(name)]
            else:
                found = found.get(name) if isinstance(found, dict) else None
        return found


def _own_doublings(schema: Mapping[str, Any]) -> float:
    multiple = schema.get("multipleOf")
    digits = Decimal(str(multiple)).as_tuple().digits if isinstance(multiple, int | float) else ()
    states = int("".join(map(str, digits)) or "0")
    return ("pattern" in schema) + ("format" in schema) + states.bit_length() / 2
