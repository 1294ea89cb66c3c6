"""Exports: those that a model's repository or folder may hold already, as Optimum and sentence-transformers lay them
out, and models that have none."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.catalog import ModelSpec

Export = tuple[str, ...]
"""Files that stand for a model's weights, all of them together; those of their own weights follow from them."""

_USUAL: dict[str, tuple[Export, ...]] = {
    "onnx": (("onnx/model.onnx",), ("model.onnx",)),
    "openvino": (("openvino/openvino_model.xml",), ("openvino_model.xml",)),
    "optimum": (
        ("onnx/encoder_model.onnx", "onnx/decoder_model_merged.onnx"),
        ("onnx/encoder_model.onnx", "onnx/decoder_model.onnx", "onnx/decoder_with_past_model.onnx"),
        ("onnx/model.onnx",),
        ("onnx/decoder_model_merged.onnx",),
        ("onnx/decoder_with_past_model.onnx",),
    ),
    "optimum-intel": tuple(
        tuple(f"{folder}openvino_{name}.xml" for name in names)
        for folder in ("openvino/", "")
        for names in (
            ("encoder_model", "decoder_model", "decoder_with_past_model"),
            ("encoder_model", "decoder_model"),
            ("model",),
        )
    ),
}


def makes_exports(backend: str) -> bool:
    """Whether it makes one where the model's files hold none."""
    return backend in _USUAL


def export_names(spec: ModelSpec) -> tuple[Export, ...]:
    """What the backend can run as it is, the best first; none where the entry wants one made for it."""
    if spec.file_name is not None:
        return ((spec.file_name,),)
    is_changed = spec.quantization is not None or spec.optimization is not None
    return () if is_changed else _USUAL.get(spec.backend, ())


def standing(exports: Sequence[Export], names: Collection[str]) -> list[str]:
    """Of these files the first export that is there whole, with its weights; empty: none is."""
    there = set(names)
    found = next((export for export in exports if there.issuperset(export)), ())
    return [name for file in found for name in _companions(file, names)]


def _companions(file: str, names: Collection[str]) -> list[str]:
    """The file and those of its weights: `model.onnx_data`, `model.onnx.data`, an IR's `.bin`."""
    weights = file.removesuffix(".xml") + ".bin"
    return [name for name in names if name.startswith(file) or (name == weights and file.endswith(".xml"))]


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
        " use backend: torch, optimum or optimum-intel."
    )
