"""Tiny random models of every task and of the main architectures of each, made offline in a moment: a module a family.

    folder = build("vit-classifier", cache)     # a key of BUILDERS

A module's BUILDERS says how its models are made, its TASKS which task each is for (a key of BUILDERS -> a task).
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path

BUILDERS: dict[str, Callable[[Path], None]] = {}
TASK_OF: dict[str, str] = {}

for _module in pkgutil.iter_modules(__path__):
    if _module.name == "adapters":  # which builds none by name, and needs PEFT, which other environments lack
        continue
    _family = importlib.import_module(f"{__name__}.{_module.name}")
    BUILDERS.update(getattr(_family, "BUILDERS", {}))
    TASK_OF.update(getattr(_family, "TASKS", {}))


def build(name: str, cache: Path) -> Path:
    """The folder of the model under `cache`, made if it is not there."""
    folder = cache / name
    if not (folder / "config.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        BUILDERS[name](folder)
    return folder
