"""The form of models.yaml as a JSON schema, by which editors complete keys and mark mistakes while one types.

It is made from the forms, so it knows what they know. What it cannot say (a folder that is missing, an id used twice,
a key that does not fit another) `pipeserve check` does.
"""

from __future__ import annotations

from typing import Any

from app.declaration.form import NO_DEFAULTS, EntryForm, FileForm
from app.tasks.registry import ALIASES, TASKS

DIALECT = "http://json-schema.org/draft-07/schema#"
"""What the language servers of editors know best."""


def models_schema() -> dict[str, Any]:
    file, entry = FileForm.model_json_schema(), EntryForm.model_json_schema()
    definitions = {**file.pop("$defs"), **entry.pop("$defs")}
    task = {"type": "string", "enum": [*TASKS, *ALIASES]}
    entry["properties"]["task"]["anyOf"] = [task, {"type": "null"}]
    entry["properties"]["tasks"]["anyOf"] = [{"type": "array", "items": task, "minItems": 1}, {"type": "null"}]
    entry["anyOf"] = [{"required": ["task"]}, {"required": ["model"]}]
    file["properties"]["models"]["items"] = {"$ref": "#/$defs/EntryForm"}
    file["properties"]["defaults"] |= {
        "properties": {key: one for key, one in entry["properties"].items() if key not in NO_DEFAULTS},
        "additionalProperties": False,
    }
    schema = _tidied({**file, "$defs": {**definitions, "EntryForm": entry}})
    return {"$schema": DIALECT, "title": "models.yaml of Pipeserve", **schema}


def _tidied(schema: Any) -> Any:
    """Without pydantic's titles, which repeat each key, and without keywords that JSON schemas do not have."""
    if isinstance(schema, list):
        return [_tidied(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {name: _tidied(one) for name, one in value.items()} if key in ("properties", "$defs") else _tidied(value)
        for key, value in schema.items()
        if key not in ("title", "gt")
    }
