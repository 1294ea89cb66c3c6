"""Exports: those that a model's repository or folder may hold already, as Optimum and sentence-transformers lay them
out, and models that have none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.catalog import ModelSpec

_USUAL = {
    "onnx": ("onnx/model.onnx", "model.onnx"),
    "openvino": ("openvino/openvino_model.xml", "openvino_model.xml"),
}


def export_names(spec: ModelSpec) -> tuple[str, ...]:
    """Files that the backend can run as they are, the best first; none where the entry wants one made for it."""
    if spec.file_name is not None:
        return (spec.file_name,)
    return () if spec.quantization is not None else _USUAL.get(spec.backend, ())


def companions(export: str, names: list[str]) -> list[str]:
    """Of these files the export and those of its weights: `model.onnx_data`, `model.onnx.data`, an IR's `.bin`."""
    weights = export.removesuffix(".xml") + ".bin"
    return [name for name in names if name.startswith(export) or (name == weights and export.endswith(".xml"))]


def problem_of_architecture(backend: str, tasks: Iterable[str], architectures: Sequence[str]) -> str | None:
    """Why no export computes the tasks by such a model. architectures: as its config names them; maybe none.

    An export is computed once for each batch. What hears a sound and then generates its text is computed many times.
    """
    if "automatic-speech-recognition" not in tasks or not architectures:
        return None
    if any(name.endswith("ForCTC") for name in architectures):
        return None
    return (
        f"backend: {backend} recognizes speech by CTC models alone, and {architectures[0]} is none:"
        " use backend: torch, or optimum."
    )
