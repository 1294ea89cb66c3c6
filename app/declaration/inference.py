"""Which tasks a model is for, read from its small files: config, card, sentence-transformers' modules. No torch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from app.tasks.architectures import ARCHITECTURES
from app.tasks.registry import ALIASES, TASKS

CONFIG, MODULES, CARD = "config.json", "modules.json", "README.md"
FILES = (CONFIG, MODULES, CARD)
MAX_FILE_BYTES = 4 * 2**20

IMPLIED_TASKS: dict[str, tuple[str, ...]] = {"feature-extraction": ("sentence-similarity",)}
"""What a model of a task answers as well. A text-classification model of inference (NLI) also does zero-shot."""

FindFile = Callable[[str], Path | None]
"""Name -> where the file lies, None if the model does not have it here."""


class ModelFilesError(Exception):
    """`str(error)` is a sentence: a file of the model is not what it should be."""


def infer_task(find: FindFile) -> str:
    """The model's own task, a name of TASKS. Raises ModelFilesError when it cannot be told, or is not served here."""
    config = read_json(find, CONFIG)
    if config is None:
        raise ModelFilesError("there is no config.json, so this is not a transformers model.")
    architectures = config.get("architectures")
    known = [ARCHITECTURES[name] for name in architectures or () if name in ARCHITECTURES]
    if find(MODULES) is not None and "text-classification" not in known:
        return "feature-extraction"
    tag = _pipeline_tag(find)
    if tag is not None and tag in TASKS and _fits(tag, known):
        return tag
    if not known:
        raise ModelFilesError(f"its task cannot be told from its architectures ({architectures}); declare `task:`.")
    if known[0] not in TASKS:
        raise ModelFilesError(f"it is a model for {known[0]}, which this version does not serve.")
    return known[0]


def implied_tasks(tasks: tuple[str, ...], find: FindFile) -> tuple[str, ...]:
    """Tasks beyond the declared ones that the same weights answer."""
    implied = [other for task in tasks for other in IMPLIED_TASKS.get(task, ())]
    if "text-classification" in tasks and _is_inference_model(find):
        implied.append("zero-shot-classification")
    return tuple(dict.fromkeys(task for task in implied if task not in tasks))


def head_of(task: str) -> str | None:
    """The Auto class whose weights the task needs; None if any model's body will do."""
    (auto_class,) = TASKS[task].auto_classes
    return None if auto_class == "AutoModel" else auto_class


def read_json(find: FindFile, name: str) -> dict[str, Any] | None:
    text = _read(find, name)
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ModelFilesError(f"its {name} is not JSON: {error}.") from None
    if name == CONFIG and not isinstance(value, dict):
        raise ModelFilesError(f"its {name} is not an object.")
    return value if isinstance(value, dict) else {}


def _read(find: FindFile, name: str) -> str | None:
    path = find(name)
    if path is None:
        return None
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ModelFilesError(f"its {name} is larger than {MAX_FILE_BYTES} bytes.")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelFilesError(f"its {name} cannot be read: {error}.") from None


def _pipeline_tag(find: FindFile) -> str | None:
    """What the model card's front matter says, if it says anything."""
    text = _read(find, CARD)
    if text is None or not text.startswith("---"):
        return None
    try:
        front = yaml.safe_load(text.split("---", 2)[1])
    except yaml.YAMLError:
        return None  # cards are written by hand; the config says as much
    tag = front.get("pipeline_tag") if isinstance(front, dict) else None
    return ALIASES.get(tag, tag) if isinstance(tag, str) else None


def _fits(tag: str, known: list[str]) -> bool:
    """A card's word counts where the weights can do it: zero-shot on a classifier, similarity on any body."""
    head = head_of(tag)
    return head is None or not known or any(task in TASKS and head_of(task) == head for task in known)


def _is_inference_model(find: FindFile) -> bool:
    try:
        config = read_json(find, CONFIG) or {}
    except ModelFilesError:
        return False
    labels = config.get("label2id")
    return isinstance(labels, dict) and any(str(label).lower().startswith("entail") for label in labels)
