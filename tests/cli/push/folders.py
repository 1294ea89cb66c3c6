"""Folders as trainings and downloads leave them, without either: what they hold is looked at, never computed."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

WEIGHTS = b"weights"
CONFIG = {"architectures": ["BertForSequenceClassification"], "model_type": "bert"}


def write_model(folder: Path, **files: bytes) -> Path:
    """files: more of them, by name; "__" is a dot, "_in_" a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    for name, content in files.items():
        write(folder / name.replace("_in_", "/").replace("__", "."), content)
    return folder


def write_adapter(folder: Path, base: str) -> Path:
    """With the card that PEFT writes, which names the base as it was loaded."""
    folder.mkdir(parents=True)
    config = {"base_model_name_or_path": base, "peft_type": "LORA", "task_type": "SEQ_CLS"}
    metadata = f"base_model: {base}\ntags:\n- base_model:adapter:{base}"
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "adapter_model.safetensors").write_bytes(b"adapted")
    (folder / "README.md").write_text(f"---\n{metadata}\n---\n\n# A model\n")
    return folder


def cache(home: Path, repository: str, commit: str = "c" * 40, *, ref: str | None = "main", **files: bytes) -> Path:
    """A snapshot of a model in the Hub's cache, as a download leaves it: links to blobs, one for equal files. files: as
    of `write_model`."""
    folder = home / "hub" / f"models--{repository.replace('/', '--')}"
    snapshot = write_model(folder / "snapshots" / commit, **files)
    for path in [path for path in snapshot.rglob("*") if path.is_file()]:
        blob = folder / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        blob.parent.mkdir(exist_ok=True)
        path.rename(blob)
        path.symlink_to(os.path.relpath(blob, path.parent))
    if ref is not None:
        write(folder / "refs" / ref, commit.encode())
    return snapshot


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
