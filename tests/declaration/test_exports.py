"""Which of a repository's files stand for a model's weights."""

from __future__ import annotations

from typing import Any

import pytest

from app.catalog import ModelSpec
from app.declaration.exports import export_names, standing

WRITER = ["onnx/encoder_model.onnx", "onnx/decoder_model.onnx", "onnx/decoder_with_past_model.onnx"]
MERGED = ["onnx/encoder_model.onnx", "onnx/decoder_model_merged.onnx", "onnx/decoder_model_merged.onnx_data"]
SPEAKER = ["openvino_encoder_model.bin", "openvino_encoder_model.xml", "openvino_decoder_model.bin"]


def found(backend: str, names: list[str], **keys: Any) -> list[str]:
    spec = ModelSpec(id="a", model="acme/a", tasks=("translation",), backend=backend, **keys)
    return sorted(standing(export_names(spec), [*names, "config.json", "model.safetensors", "README.md"]))


@pytest.mark.parametrize(
    ("backend", "names", "chosen"),
    [
        ("optimum", [*WRITER[1:], *MERGED, "onnx/decoder_model_quantized.onnx"], MERGED),
        ("optimum", WRITER, WRITER),
        ("optimum", WRITER[:2], []),  # it would write without keys and values
        ("optimum", ["onnx/model.onnx", "onnx/model_fp16.onnx"], ["onnx/model.onnx"]),
        ("optimum", ["openvino/openvino_model.xml"], []),
        ("optimum-intel", [*SPEAKER, "openvino_decoder_model.xml"], [*SPEAKER, "openvino_decoder_model.xml"]),
        ("optimum-intel", SPEAKER, []),
        ("torch", ["onnx/model.onnx"], []),
    ],
)
def test_export_is_whole_or_none(backend: str, names: list[str], chosen: list[str]) -> None:
    """All of its files with their weights, and no other variants."""
    assert found(backend, names) == sorted(chosen)


@pytest.mark.parametrize("keys", [{"quantization": "int8"}, {"optimization": "O2"}])
def test_what_is_to_be_changed_is_exported_anew(keys: dict[str, str]) -> None:
    """Nothing says how a repository's own files were made."""
    assert found("optimum", ["onnx/model.onnx"], **keys) == []
