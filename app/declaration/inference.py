"""Which tasks a model is for, read from its small files: config, card, sentence-transformers' modules. No torch."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.tasks.architectures import ARCHITECTURES
from app.tasks.registry import ALIASES, ALL_TASKS, TASKS

CONFIG, MODULES, CARD, HANDLER = "config.json", "modules.json", "README.md", "handler.py"
FILES = (CONFIG, MODULES, CARD, HANDLER)
MAX_FILE_BYTES = 4 * 2**20
_MODULE_FOLDER = re.compile(r"\d+_\w+")
_PIPELINE_TAG = re.compile(r"""^pipeline_tag:\s*["']?([\w-]+)["']?\s*(?:#.*)?$""", re.MULTILINE)

FindFile = Callable[[str], Path | None]
"""Name -> where the file lies, None if the model does not have it here."""


class ModelFilesError(Exception):
    """`str(error)` is a sentence: a file of the model is not what it should be."""


def infer_task(find: FindFile) -> str:
    """The model's own task, a name of TASKS. Raises ModelFilesError when it cannot be told, or is not served here."""
    architectures = architectures_of(read_config(find))
    known = [task for name in architectures for task in ARCHITECTURES.get(name, ())]
    if find(MODULES) is not None and "text-classification" not in known:
        return "fill-mask" if "fill-mask" in known and _is_sparse_encoder(find) else "feature-extraction"
    tag = _pipeline_tag(find)
    if tag is not None and tag in TASKS and _fits(tag, known):
        return tag
    if not known:
        named = ", ".join(architectures) or "none is named"
        raise ModelFilesError(f"its task cannot be told from its architectures ({named}); declare `task:`.")
    return known[0]


def has_handler(find: FindFile, *, declares_task: bool, trust_remote_code: bool) -> bool:
    """Whether the model's own handler.py serves it. Raises ModelFilesError where one is there that may not run, and
    nothing else says what the model is to be served by."""
    if find(HANDLER) is None:
        return False
    if not trust_remote_code and not declares_task:
        raise ModelFilesError(
            f"it has a {HANDLER}, which is code and runs only if you declare `trust_remote_code: true`; to serve the"
            " model without it, declare its `task:`."
        )
    return trust_remote_code


def check_tasks(tasks: tuple[str, ...], find: FindFile) -> None:
    """Raises ModelFilesError when the model's config cannot be read, or shows another head than a declared task needs.

    Only what is certain: a masked language model and a causal one may share their weights, a class that transformers
    does not list may be anything. What is left is seen at the load.
    """
    architectures = architectures_of(read_config(find))
    known = [task for name in architectures for task in ARCHITECTURES.get(name, ())]
    if not known or any(name not in ARCHITECTURES for name in architectures):
        return
    for task in tasks:
        if task != "fill-mask" and not _fits(task, known):
            raise ModelFilesError(f"a {architectures[0]} cannot do {task}; it is for {' or '.join(known)}.")


def implied_tasks(tasks: tuple[str, ...], find: FindFile) -> tuple[str, ...]:
    """Tasks beyond the declared ones that the same weights answer. Text-classification by a model of natural language
    inference also does zero-shot, and by one with a single label (a cross-encoder's score) text-ranking."""
    implied = [other for task in tasks for other in ALL_TASKS[task].implies]
    if "text-classification" in tasks and _is_inference_model(find):
        implied.append("zero-shot-classification")
    if "text-classification" in tasks and len(labels_of(find)) == 1:
        implied.append("text-ranking")
    return tuple(dict.fromkeys(task for task in implied if task not in tasks))


def heads_of(task: str) -> frozenset[str]:
    """The Auto classes whose weights the task needs one of; none if any model's body will do."""
    auto_classes = ALL_TASKS[task].auto_classes
    return frozenset() if "AutoModel" in auto_classes else frozenset(auto_classes)


def read_config(find: FindFile) -> dict[str, Any]:
    """The transformer's config: at the top or, in early models of sentence-transformers, in their first module."""
    config = _read_json(find, CONFIG)
    if config is None and isinstance(modules := _read_json(find, MODULES), list) and modules:
        folder = str(modules[0].get("path")) if isinstance(modules[0], dict) else ""
        config = _read_json(find, f"{folder}/{CONFIG}") if _MODULE_FOLDER.fullmatch(folder) else None
    if config is None:
        raise ModelFilesError("there is no config.json, so this is not a transformers model.")
    if not isinstance(config, dict):
        raise ModelFilesError("its config.json is not an object.")
    return config


def architectures_of(config: dict[str, Any]) -> list[str]:
    """As the config names them; maybe none."""
    named = config.get("architectures")
    return [name for name in named if isinstance(name, str)] if isinstance(named, list) else []


def _read_json(find: FindFile, name: str) -> Any:
    """None where the model does not have the file."""
    text = _read(find, name)
    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelFilesError(f"its {name} is not JSON: {error}.") from None


def _read(find: FindFile, name: str) -> str | None:
    path = find(name)
    if path is None:
        return None
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ModelFilesError(f"its {name} is larger than {MAX_FILE_BYTES} bytes.")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ModelFilesError(f"its {name} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise ModelFilesError(f"its {name} cannot be read: {error}.") from None


def _pipeline_tag(find: FindFile) -> str | None:
    """What the model card's front matter says, if it says anything. People write cards by hand: a broken one is none,
    the config says as much."""
    try:
        text = _read(find, CARD) or ""
    except ModelFilesError:
        return None
    front = text.split("---", 2)[1] if text.startswith("---") else ""
    found = _PIPELINE_TAG.search(front)
    return None if found is None else ALIASES.get(found[1], found[1])


def _fits(tag: str, known: list[str]) -> bool:
    """Whether the weights can do it: zero-shot on a classifier, similarity on any body."""
    heads = heads_of(tag)
    return not heads or not known or any(task in TASKS and heads & heads_of(task) for task in known)


def _is_sparse_encoder(find: FindFile) -> bool:
    """Whether sentence-transformers' modules make SPLADE's vectors, for which the masked language model's head is."""
    modules = _read_json(find, MODULES)
    kinds = [str(one.get("type")) for one in modules if isinstance(one, dict)] if isinstance(modules, list) else []
    return any(kind.endswith(".SpladePooling") for kind in kinds)


def _is_inference_model(find: FindFile) -> bool:
    return any(isinstance(label, str) and label.lower().startswith("entail") for label in labels_of(find))


def labels_of(find: FindFile) -> set[str]:
    """Those that the config names, by whichever of its two tables; none where it cannot be read."""
    try:
        config = read_config(find)
    except ModelFilesError:
        return set()
    to_number, to_label = config.get("label2id"), config.get("id2label")
    labels = set(to_number) if isinstance(to_number, dict) else set()
    return labels | ({str(label) for label in to_label.values()} if isinstance(to_label, dict) else set())
