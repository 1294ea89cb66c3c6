# ruff: noqa: E501  # rows of Markdown tables are one line each
"""The API reference of the site, in Markdown, from the document that a server has at /openapi.json."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry

from app.catalog import Catalog
from app.main import build_app
from app.settings import Settings
from app.tasks.registry import ALIASES, TASKS
from app.telemetry import Telemetry

BELOW = "/models/{model_id}"
TASK_PATHS = frozenset(f"/v1/{name}" for name in (*TASKS, *ALIASES))
INTRODUCTION = """# API reference

Every route, made from the document that each server has at `/openapi.json` (version {version}; the same file: [openapi.json](openapi.json)). A server's `/docs` shows it with forms that send requests. What the routes are for: [HTTP API](api.md); the tasks with answers: [Tasks](tasks.md).

Routes for inference take these as well:

{shared}

"""


def document() -> dict[str, Any]:
    """OpenAPI's, of a server that serves no model. It asks no fleet: there is none."""
    fleet: Any = None
    return build_app(Settings(), Catalog(models=()), fleet, Telemetry(CollectorRegistry())).openapi()


def page(api: dict[str, Any]) -> str:
    schemas = api["components"]["schemas"]
    shared = _shared_parameters(api)
    tags: dict[str, list[str]] = {}
    used: set[str] = set()
    for path, methods in api["paths"].items():
        if _is_repeated(path, api["paths"]):
            continue
        for method, operation in methods.items():
            tag = operation["tags"][0]
            text = "\n".join(_operation(path, method, operation, shared, api["paths"], schemas))
            tags.setdefault(tag, []).append(text)
            used |= _referenced(operation)
    while more := {name for one in used for name in _referenced(schemas[one])} - used:
        used |= more
    parts = [INTRODUCTION.format(version=api["info"]["version"], shared=_table(shared.values()))]
    parts += [f"## {tag[0].upper()}{tag[1:]}\n\n" + "\n".join(texts) for tag, texts in tags.items()]
    parts.append("## Schemas\n")
    parts += [_schema(name, schemas[name]) for name in sorted(used)]
    return "\n".join(parts)


def _is_repeated(path: str, paths: dict[str, Any]) -> bool:
    """What stands below a model's URL, or ends in a model, and is told with the route that it repeats."""
    is_below = path.startswith(BELOW + "/") and path.removeprefix(BELOW) in paths
    return is_below or (path.endswith("/{model_id}") and path.removesuffix("/{model_id}") in TASK_PATHS)


def _repetitions(path: str, paths: dict[str, Any]) -> list[str]:
    return [other for other in (f"{path}/{{model_id}}", BELOW + path) if other in paths and _is_repeated(other, paths)]


def _shared_parameters(api: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Those of every task."""
    return {one["name"]: one for one in api["paths"]["/v1/fill-mask"]["post"]["parameters"]}


def _operation(
    path: str, method: str, operation: dict[str, Any], shared: dict[str, Any], paths: Any, schemas: Any
) -> Iterator[str]:
    yield f"### {method.upper()} {path} {{ #{method}-{path.strip('/').replace('/', '-').replace('{', '').replace('}', '') or 'root'} }}\n"
    yield _text(operation.get("description") or operation.get("summary", "")) + "\n"
    if others := _repetitions(path, paths):
        yield "Also " + ", ".join(f"`{other}`" for other in others) + ".\n"
    if own := [one for one in operation.get("parameters", ()) if one["name"] not in shared]:
        yield _table(own)
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"Body, `{media_type}`: {_type(content.get('schema', {}))}\n"
        example = content.get("example")
        if example is not None and len(text := json.dumps(example, ensure_ascii=False)) <= 600:
            yield f"```json\n{text}\n```\n"
    for status, answer in operation["responses"].items():
        if str(status).startswith("2"):
            for media_type, content in answer.get("content", {}).items():
                yield f"Answer {status}, `{media_type}`: {_type(content.get('schema', {}))}\n"
    errors = [str(status) for status in operation["responses"] if str(status)[0] in "45"]
    if errors:
        yield f"Errors: {', '.join(errors)}.\n"


def _schema(name: str, schema: dict[str, Any]) -> str:
    parts = [f"### {name} {{ #{name.lower()} }}\n"]
    if "description" in schema:
        parts.append(_text(schema["description"]) + "\n")
    if "properties" in schema:
        required = schema.get("required", ())
        rows = [
            f"| `{key}`{' (required)' if key in required else ''} | {_type(one)} | {_cell(one.get('description', ''))} |"
            for key, one in schema["properties"].items()
        ]
        parts.append("\n".join(["| field | type | what |", "|---|---|---|", *rows]) + "\n")
    else:
        parts.append(_type(schema) + "\n")
    return "\n".join(parts)


def _table(parameters: Any) -> str:
    rows = [
        f"| `{one['name']}` | {one['in']} | {_type(one.get('schema', {}))} | {_cell(one.get('description', ''))} |"
        for one in parameters
    ]
    return "\n".join(["| name | in | type | what |", "|---|---|---|---|", *rows]) + "\n"


def _type(schema: dict[str, Any]) -> str:
    """In a phrase that a table's cell can hold."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(_type(one) for one in schema[key]))
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{_cell(json.dumps(one))}`" for one in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}" if schema.get("items") else "list"
    if isinstance(schema.get("type"), list):
        return " or ".join(schema["type"])
    return _cell(schema.get("type") or schema.get("description") or "anything")


def _referenced(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"].rpartition("/")[2]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(_referenced(one) for one in value.values()))
    return set().union(*(_referenced(one) for one in value)) if isinstance(value, list) else set()


def _text(text: str) -> str:
    return html.escape(text, quote=False)


def _cell(text: str) -> str:
    return _text(text).replace("\n", " ").replace("|", "\\|")
