"""The declared models as Ollama's clients know models."""

from __future__ import annotations

import hashlib
from typing import Any

from app.api.ollama.answers import timestamp
from app.catalog import ModelSpec
from app.errors import NotServed
from app.fleet.requests import ModelsAPI, ModelStatus
from app.tasks.completion import GENERATING_TASKS

LATEST = ":latest"
NEVER_S = 100 * 365 * 86400.0
"""What `expires_at` is from now, where a model is never unloaded."""
_EMBEDDING_TASK = "feature-extraction"
_VISION_TASKS = ("image-text-to-text", "any-to-any")
_UNITS = ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "K"))


def known_name(fleet: ModelsAPI, name: str | None) -> str | None:
    """Without the `:latest` that Ollama's clients put behind names, unless it is a part of the declared one."""
    if name is None or not name.endswith(LATEST):
        return name
    try:
        fleet.status(name)
    except NotServed:
        return name.removesuffix(LATEST)
    return name


def is_for_ollama(spec: ModelSpec) -> bool:
    """It generates text or makes vectors."""
    return not spec.has_handler and any(task in (*GENERATING_TASKS, _EMBEDDING_TASK) for task in spec.all_tasks)


def tag_of(status: ModelStatus, *, modified_at: float) -> dict[str, Any]:
    spec = status.spec
    return {
        "name": spec.name,
        "model": spec.name,
        "modified_at": timestamp(modified_at),
        "size": status.memory_bytes or 0,
        "digest": _digest(spec),
        "details": _details(status),
    }


def running_of(status: ModelStatus, *, now: float) -> dict[str, Any]:
    """One that is loaded."""
    spec, size = status.spec, status.memory_bytes or 0
    expires_at = status.unloads_at
    if expires_at is None:  # it is in use, or never unloaded
        expires_at = now + (NEVER_S if spec.keep_alive_s < 0 or status.pinned else spec.keep_alive_s)
    return {
        "name": spec.id,
        "model": spec.id,
        "size": size,
        "digest": _digest(spec),
        "details": _details(status),
        "expires_at": timestamp(expires_at),
        "size_vram": 0 if (status.device or "cpu").startswith("cpu") else size,
        "context_length": status.max_length or 0,
    }


def shown(status: ModelStatus, *, modified_at: float) -> dict[str, Any]:
    spec = status.spec
    info: dict[str, Any] = {"general.architecture": "transformers", "general.basename": spec.name}
    if status.num_parameters is not None:
        info["general.parameter_count"] = status.num_parameters
    if status.max_length is not None:
        info["transformers.context_length"] = status.max_length
    if status.embedding_size is not None:
        info["transformers.embedding_length"] = status.embedding_size
    return {
        "modelfile": "",
        "parameters": "\n".join(f"{name} {value}" for name, value in spec.parameters.items()),
        "template": "",
        "modified_at": timestamp(modified_at),
        "details": _details(status),
        "model_info": info,
        "capabilities": _capabilities(spec),
    }


def _capabilities(spec: ModelSpec) -> list[str]:
    """Whether a model thinks stands in its template, which is not read here."""
    told = []
    if any(task in GENERATING_TASKS for task in spec.all_tasks):
        told += ["completion", "tools"]
    if any(task in _VISION_TASKS for task in spec.all_tasks):
        told.append("vision")
    if _EMBEDDING_TASK in spec.all_tasks:
        told.append("embedding")
    return told


def _details(status: ModelStatus) -> dict[str, Any]:
    family = status.spec.tasks[0] if status.spec.tasks else ""
    return {
        "parent_model": "" if status.spec.adapter is None else status.spec.id,
        "format": "safetensors",
        "family": family,
        "families": list(status.spec.all_tasks),
        "parameter_size": _short(status.num_parameters),
        "quantization_level": (status.dtype or "").upper(),
    }


def _short(number: int | None) -> str:
    """Such as 1.5B."""
    for unit, letter in _UNITS:
        if number is not None and number >= unit:
            return f"{number / unit:.1f}{letter}"
    return "" if number is None else str(number)


def _digest(spec: ModelSpec) -> str:
    """Of the declaration: the same as long as it is."""
    return hashlib.sha256(f"{spec.name}\n{spec.model}\n{spec.revision}".encode()).hexdigest()
