"""The exports in the cache folder, as people call them: which were made of a model's files, and under which name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.made_files import Kept, Recipe

_NETWORKS = (".gguf", ".onnx", ".xml")
_PLAIN = (None, "auto", "float32")
_CHANGES = ("precision", "quantization", "optimization", "dtype")


def exports_of(folder: Path, cache_dir: Path) -> list[Kept]:
    """Those that were made of the files as they are in the folder, the last ones first. (What was kept of a comparison
    with an export of the folder's own holds no file.)"""
    from app.made_files import MadeFiles

    sources = fingerprints(folder)
    return [one for one in MadeFiles(cache_dir).all() if one.recipe.source in sources and has_network(one.folder)]


def name_of_export(recipe: Recipe) -> str:
    """Such as `onnx-int8`: the backend, and what makes it differ from the model in float32."""
    return named_export(recipe.backend, *(recipe.options.get(key) for key in _CHANGES))


def named_export(backend: str, *changes: Any) -> str:
    """changes: of an entry, the one that counts most first."""
    change = next((one for one in changes if one not in _PLAIN), None)
    return backend if change is None else f"{backend}-{change}"


def fingerprints(folder: Path) -> set[str]:
    """By which exports name the files that they were made of; of sentence-transformers also its transformer's."""
    from app.fingerprint import fingerprint

    places = [folder]
    try:
        places += [folder / str(module["path"]) for module in json.loads((folder / "modules.json").read_bytes())[:1]]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return {fingerprint(place) for place in places if place.is_dir()}


def has_network(folder: Path) -> bool:
    return any(path.suffix in _NETWORKS for path in folder.rglob("*"))
