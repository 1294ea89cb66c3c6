"""What a shell offers for MODEL and TASK when Tab is pressed: read from files, as pydantic alone takes longer to import
than a person waits."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer

_TASK = re.compile(r"^TASK = Task\(\n    name=\"([^\"]+)\"", re.MULTILINE)
_UNLISTED = "\n    is_listed=False,"


def model_names(context: typer.Context, incomplete: str) -> list[str]:
    """Ids and aliases of models.yaml: of --models, or of PIPESERVE_MODELS."""
    file = context.params.get("models") or os.environ.get("PIPESERVE_MODELS") or "models.yaml"
    return [name for name in dict.fromkeys(_names_in(Path(file))) if name.startswith(incomplete)]


def task_names(incomplete: str) -> list[str]:
    return [name for name in _tasks() if name.startswith(incomplete)]


def models_and_tasks(context: typer.Context, incomplete: str) -> list[str]:
    return [*model_names(context, incomplete), *task_names(incomplete)]


def _names_in(file: Path) -> Iterator[str]:
    """None of a file that is not there, or is wrong: `pipeserve check` says why."""
    import yaml

    try:
        # The one of libyaml is ten times as fast, where it was built.
        declared = yaml.load(file.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, yaml.YAMLError):
        return
    entries = declared.get("models") if isinstance(declared, dict) else None
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict):
            yield from filter(_is_name, [entry.get("id") or entry.get("model"), *_listed(entry.get("aliases"))])


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_name(value: Any) -> bool:
    return isinstance(value, str)


def _tasks() -> Iterator[str]:
    """As `app.tasks.registry` finds them, without importing them."""
    package = find_spec("app.tasks")
    assert package is not None and package.submodule_search_locations is not None
    for folder in package.submodule_search_locations:
        for file in sorted(Path(folder).glob("*.py")):
            text = file.read_text(encoding="utf-8")
            if (found := _TASK.search(text)) and _UNLISTED not in text:
                yield found[1]
