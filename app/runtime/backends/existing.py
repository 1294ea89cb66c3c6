"""Exports that a model's repository or folder holds already, as Optimum and sentence-transformers lay them out."""

from __future__ import annotations

from pathlib import Path

from app.catalog import ModelSpec
from app.declaration.exports import export_names
from app.errors import ModelFailed


def existing_export(spec: ModelSpec, folder: Path) -> Path | None:
    """The one to run; of several files the first. Raises ModelFailed where the entry names one that is not there."""
    for export in export_names(spec):
        if all((folder / name).is_file() for name in export):
            return folder / export[0]
    if spec.file_name is not None:
        there = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix in (".onnx", ".xml"))
        others = f"; it has {', '.join(there[:20])}" if there else ""
        raise ModelFailed(f"file_name: {spec.model} has no {spec.file_name}{others}.")
    return None
