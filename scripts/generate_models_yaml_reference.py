# ruff: noqa: E501  # paragraphs of Markdown are one line each
"""Writes docs/models-yaml.md and docs/models.schema.json from app/declaration/form.py:
`python -m scripts.generate_models_yaml_reference`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

from app.declaration.form import (
    DEVICE_MAPS,
    NO_DEFAULTS,
    AdapterForm,
    BatchForm,
    Category,
    EntryForm,
    EnvironmentForm,
    FileForm,
    Form,
    MediaForm,
    ModerationForm,
    QueueForm,
    RayForm,
    ReplicasForm,
    TotalQueueForm,
)
from app.declaration.schema import models_schema

DOCS = Path(__file__).resolve().parent.parent / "docs"
TARGET = DOCS / "models-yaml.md"
SCHEMA = DOCS / "models.schema.json"
INTRODUCTION = """# models.yaml

Every key that this version takes. An unknown key is an error that names file, line, entry and key; `pipeserve check [FILE]` tells without starting anything. Generated from `app/declaration/form.py` by `scripts/generate_models_yaml_reference.py`; a test holds the two together.

Durations are seconds or text such as `500ms`, `20s`, `5m`, `1h`, `30d`; sizes are bytes or text such as `512MiB`, `8GiB`. Devices are `cpu`, `mps`, `cuda:0`, `xpu:0`, and numbers for CUDA's, counted as `nvidia-smi` counts those that CUDA_VISIBLE_DEVICES leaves. Relative folders are relative to the file. An entry needs `task` or `model`, or both.

Errors of form (YAML, an unknown key or task, an id used twice) stop `serve`. Whatever is wrong with one model's files or with the Hub makes that entry FAILED with a sentence, in `/v1/models` and in answers; the others serve. SIGHUP and `POST /v1/models/reload` have a running server read the file again, without losing a request ([operations.md](operations.md)).

Besides its own tasks an entry answers what its model implies: feature-extraction also sentence-similarity, a text-classification model of natural language inference also zero-shot-classification.

## In an editor

A JSON schema of the file completes its keys, shows what they mean and marks mistakes while you type. `pipeserve schema > models.schema.json` writes it; it is [models.schema.json](models.schema.json) here. Editors with the YAML language server (VS Code's YAML extension, Neovim, Helix, Zed) take it from the file's first line; JetBrains' find it under *JSON Schema Mappings*:

```yaml
# yaml-language-server: $schema=./models.schema.json
models:
  - {id: reviews, task: text-classification, keep_alive: 10m}
```

What no schema can say (a folder that is not there, an id used twice, keys that do not fit each other) `pipeserve check` says.
"""

MODERATIONS = """Each of `moderations`, such as `toxicity: {labels: {toxic: harassment, threat: [harassment/threatening, violence]}, threshold: 0.7}`. A category's score is the greatest of its labels' scores, whether the model gives each label a chance of its own or all of them one between them; `parameters: {function_to_apply: sigmoid}` of the entry says which, where the model's config does not. Categories that no label means have 0; there are %s. An alias such as `omni-moderation-latest` lets clients that name OpenAI's model find yours.

"""
ENVIRONMENTS = """Each of `environments`, such as `optimum: {python: /opt/optimum/bin/python}`; `pipeserve env create` builds those that the package ships (docs/environments.md).

"""
REPLICAS = """`replicas: {min: 1, max: 8}`:

"""
ADAPTERS = """`adapters`: `{sql: ./adapters/sql, poet: our-team/poet}`, or a list of folders and Hub ids, or of objects:

"""


def rows(form: type[Form], *, marks_defaults: bool = False) -> str:
    lines = ["| key | type | default | what |", "|---|---|---|---|"]
    for name, field in form.model_fields.items():
        schema = form.model_json_schema()["properties"][name]
        default = "" if field.is_required() else f"`{shown(field.default)}`"
        mark = " ¹" if marks_defaults and name in NO_DEFAULTS else ""
        lines.append(f"| `{name}`{mark} | {type_of(name, schema)} | {default} | {field.description} |")
    return "\n".join(lines) + "\n"


_TYPES = {
    "auto_class": "string",
    "adapters": "object or list",
    "budget": "device: size or share",
    "device": "device",
    "device_map": ", ".join(f"`{name}`" for name in DEVICE_MAPS) + " or module: device",
    "devices": "list of devices",
    "environments": "name: object",
    "labels": "label: category or list of categories",
    "thresholds": "category: number",
    "moderations": "entry: object",
    "replicas": "integer or object",
    "resources": "name: number",
}


def shown(value: Any) -> str:
    if value is None:
        return "unset"
    if isinstance(value, Form):
        return "{}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def type_of(name: str, schema: dict[str, Any]) -> str:
    if name in ("keep_alive", "deadline", "max_wait", "upscale_delay"):
        return "duration"
    if name in ("memory", "memory_limit", "kv_cache", "cache", "max_bytes"):
        return "size"
    if name in _TYPES:
        return _TYPES[name]
    options = [option for option in schema.get("anyOf", [schema]) if option.get("type") != "null"]
    return " or ".join(_type_of(option) for option in options).replace("|", "\\|")


def _type_of(option: dict[str, Any]) -> str:
    if "enum" in option or "const" in option:
        return ", ".join(f"`{value}`" for value in option.get("enum", [option.get("const")]))
    if option.get("type") == "array":
        return "list of objects" if option["items"].get("type") == "object" else "list of strings"
    return "object" if "$ref" in option else str(option.get("type"))


def page() -> str:
    parts = [
        INTRODUCTION,
        "## The file\n\n" + rows(FileForm),
        "`queue`:\n\n" + rows(TotalQueueForm),
        "`media`:\n\n" + rows(MediaForm),
        ENVIRONMENTS + rows(EnvironmentForm),
        MODERATIONS % ", ".join(f"`{name}`" for name in get_args(Category)) + rows(ModerationForm),
        "## An entry\n\n" + rows(EntryForm, marks_defaults=True),
        "¹ not under `defaults:`\n",
        "`batch`:\n\n" + rows(BatchForm),
        "`queue`:\n\n" + rows(QueueForm),
        REPLICAS + rows(ReplicasForm),
        "`ray`:\n\n" + rows(RayForm),
        ADAPTERS + rows(AdapterForm),
    ]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(parts))


def schema() -> str:
    return json.dumps(models_schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    TARGET.write_text(page())
    SCHEMA.write_text(schema())
