# ruff: noqa: E501  # rows of Markdown tables are one line each
"""Writes docs/tasks.md and a page of each task from the task registry: `python -m scripts.generate_tasks_reference`.

What the pages show as answers was answered: `scripts/record_task_examples.py` asks a real server and keeps what it said
in docs/tasks/answers.json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from app.tasks.base import JSON, Task
from app.tasks.curl import curl_of
from app.tasks.registry import TASKS
from demo.run import shown
from scripts.python_example import METHOD_NAMES, python_of

TARGET = Path(__file__).resolve().parent.parent / "docs" / "tasks.md"
FOLDER = TARGET.parent / "tasks"
ANSWERS = FOLDER / "answers.json"
INTRODUCTION = """# Tasks

Every task that this version serves, at `POST /v1/<task>`: a page each, with its parameters, an example that was executed, and a picture of the answer. Made from `app/tasks/` by `scripts/generate_tasks_reference.py`. `tests/contract/test_every_task.py` runs each page's curl command against a real server as it stands there, and the method of `huggingface_hub.InferenceClient` where there is one (sync and async).

In the examples `picture.png`, `sound.wav` and `film.gif` stand for files of yours, and `$URL` for the server, such as `http://127.0.0.1:8000`. A file may also be sent as base64 or a data URI in JSON (`{"inputs": "<base64>", "parameters": {...}}`), or in a form with the parameters beside it. Answers are JSON unless `Accept` asks for another of the task's types. What every request may say besides (deadline, model, `keep_alive`): [HTTP API](api.md).

"""
PARTS = {"text": "Text", "image": "Images", "audio": "Sounds", "video": "Videos", "multimodal": "Several of these"}
MADE_BY = {
    "all-MiniLM-L6-v2": "The answer is that of the real all-MiniLM-L6-v2.",
    "demo": "The answer is that of a small model that `make demo` trains in seconds: it knows little more than the demo.",
    "random": "The model that answered is tiny and its weights are random: the form of the answer is right, what it says means nothing.",
}
"""By `made_by` of the recorded answers."""


def index() -> str:
    parts = [INTRODUCTION]
    for modality, title in PARTS.items():
        rows = "\n".join(_row(task) for task in TASKS.values() if task.modality == modality)
        parts.append(f"## {title}\n\n| task | answers | `InferenceClient` |\n|---|---|---|\n{rows}\n")
    return "\n".join(parts)


def _row(task: Task) -> str:
    names = ", ".join(f"`{name}`" for name in (task.name, *task.aliases))
    method = f"`{METHOD_NAMES[task.name]}`" if task.name in METHOD_NAMES else ""
    return f"| [{names}](tasks/{task.name}.md) | {task.summary} | {method} |"


def page(task: Task, recorded: dict[str, Any]) -> str:
    aliases = f" Also called {', '.join(f'`{name}`' for name in task.aliases)}." if task.aliases else ""
    return f"""# {task.name}

{task.summary}{aliases}

![The example's request and its answer](pictures/{task.name}.svg)

{MADE_BY[recorded["made_by"]]}

## Ask

```sh
{curl_of(task)}
```
{_as_json(task)}
```json
{shown(recorded["answer"])}
```

{_python(task)}
## Serve

```yaml
models:
  - task: {task.name}  # {task.default_model}
  - {{id: mine, task: {task.name}, model: ./my-model}}
```

Loaded by {" or ".join(f"`{name}`" for name in task.auto_classes)}. Shares a forward: {task.batching}{_implied(task)}

## Inputs

{_inputs(task)}

## Parameters

{_parameters(task)}

## Answer

{_answers(task)}
"""


def _as_json(task: Task) -> str:
    return "" if task.answers[0] == JSON else f"\nWith `-H 'Accept: {JSON}'`:\n"


def _python(task: Task) -> str:
    if task.name not in METHOD_NAMES:
        return "`InferenceClient` has no method for this task; any HTTP client sends the body above.\n"
    return f"```python\n{python_of(task)}\n```\n"


def _implied(task: Task) -> str:
    links = ", ".join(f"[{name}]({name}.md)" for name in task.implies)
    return f" Its models also answer {links}." if links else ""


def _inputs(task: Task) -> str:
    schema = TypeAdapter(task.input_type).json_schema()
    form = f"One input, or a list of them; one is\n\n```text\n{shape(schema)}\n```"
    if task.media_field is None:
        return form
    return (
        form
        + "\n\nThe file may be the whole body, whatever its Content-Type; or base64, a data URI or a file of a form."
    )


def _parameters(task: Task) -> str:
    schema = task.parameters.model_json_schema()
    fields = task.parameters.model_fields
    if not fields:
        return "None."
    rows = [
        f"| `{name}`{' (required)' if field.is_required() else ''} | {_cell(shape(schema['properties'][name], schema))}"
        f" | {_cell(field.description or '')} |"
        for name, field in fields.items()
    ]
    return "\n".join(["| name | type | what |", "|---|---|---|", *rows])


def _answers(task: Task) -> str:
    schema = TypeAdapter(task.output_type).json_schema()
    options = [shape(option, schema) for option in schema.get("anyOf", [schema])]
    text = "```text\n" + "\nor ".join(options) + "\n```\n\nA list of inputs is answered by a list, in their order."
    if task.answers != (JSON,):
        text += f"\n\nAs {', '.join(f'`{name}`' for name in task.answers)}: what `Accept` asks for, else the first."
    return text


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def shape(schema: Any, root: dict[str, Any] | None = None) -> str:
    """A JSON schema as people sketch it: `[{"label": string, "score": number}]`."""
    root = schema if root is None else root
    if schema.get("format") == "byte":
        return "<file>"
    if "$ref" in schema:
        return shape(root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "anyOf" in schema:
        options = [option for option in schema["anyOf"] if option.get("type") != "null"]
        return " or ".join(dict.fromkeys(shape(option, root) for option in options))
    if "enum" in schema or "const" in schema:
        return " or ".join(json.dumps(value) for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        inside = ", ".join(shape(one, root) for one in schema.get("prefixItems", [])) or shape(
            schema.get("items", {}), root
        )
        return f"[{inside}]"
    if properties := schema.get("properties"):
        return "{" + ", ".join(f'"{name}": {shape(one, root)}' for name, one in properties.items()) + "}"
    if schema.get("type") == "object":
        more = schema.get("additionalProperties")
        return "{name: " + shape(more, root) + "}" if isinstance(more, dict) and more else "{...}"
    return str(schema.get("type", "anything"))


def pages() -> dict[Path, str]:
    recorded = json.loads(ANSWERS.read_text())
    return {TARGET: index(), **{FOLDER / f"{name}.md": page(task, recorded[name]) for name, task in TASKS.items()}}


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
