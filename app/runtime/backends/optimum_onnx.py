"""Optimum's ORTModel classes: ONNX Runtime, in the environment "optimum" (transformers 4.57)."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path
from typing import Any

import onnx
from onnxruntime import SessionOptions
from optimum import onnxruntime
from optimum.exporters.onnx import onnx_export_from_model
from optimum.onnxruntime import AutoOptimizationConfig, AutoQuantizationConfig, ORTOptimizer, ORTQuantizer
from transformers import PretrainedConfig, PreTrainedModel

from app.catalog import ModelSpec
from app.errors import NotAvailable
from app.runtime.backends.optimum import Head

EXPORTER = "onnx"
DISTRIBUTIONS = ("optimum", "optimum-onnx", "onnx", "onnxruntime")
"""Whose versions an export depends on."""

_CPUINFO = Path("/proc/cpuinfo")


def open_model(head: Head, root: Path, below: str, config: PretrainedConfig, *, num_threads: int, dtype: str) -> Any:
    """root: with a configuration. below: the folder in it that the ONNX files are in. dtype: float32 alone."""
    options = SessionOptions()
    options.intra_op_num_threads = num_threads
    model = getattr(onnxruntime, f"ORTModel{head.name}").from_pretrained(
        root, subfolder=below, config=config, session_options=options, local_files_only=True
    )
    model.base_model = model  # which what embeds asks for
    return model


def write(spec: ModelSpec, part: Path, head: Head, eager: PreTrainedModel) -> None:
    """An export of the model into that folder, changed as the entry says. Raises NotAvailable."""
    # An optimizer and a quantizer take a decoder with and one without keys and values apart, not merged.
    changes = spec.optimization is not None or spec.quantization is not None
    onnx_export_from_model(
        eager, output=part, task=head.export_task, do_validation=False, no_post_process=changes and head.has_past
    )
    if spec.optimization is not None:
        _optimize(part, spec.optimization)
    if spec.quantization is not None:
        _quantize(part)


def _optimize(part: Path, level: str) -> None:
    names = sorted(path.name for path in part.glob("*.onnx"))
    done = part / "optimized"
    try:
        optimizer = ORTOptimizer.from_pretrained(part, file_names=names)
        optimizer.optimize(AutoOptimizationConfig.with_optimization_level(level), save_dir=done, file_suffix="")
    except NotImplementedError as error:
        raise NotAvailable(f"optimization: {level}: Optimum cannot optimize this model: {error}") from error
    _replace_files(part, done)


def _quantize(part: Path) -> None:
    done = part / "quantized"
    for name in sorted(path.name for path in part.glob("*.onnx")):
        quantizer = ORTQuantizer.from_pretrained(part, file_name=name)
        quantizer.quantize(_quantization(), save_dir=done, file_suffix="")
    if not any(precision_of(path, "float32") == "int8" for path in done.glob("*.onnx")):
        raise NotAvailable("quantization: int8: this network has no products of matrices, which alone are quantized.")
    _replace_files(part, done)


def _quantization() -> Any:
    """Dynamic int8 in the form that this machine computes fastest. Of matrix products alone: weights of convolutions
    may be computed (wav2vec2), which cannot be quantized."""
    flags = _CPUINFO.read_text() if _CPUINFO.exists() else ""
    if platform.machine() in ("arm64", "aarch64"):
        made = AutoQuantizationConfig.arm64
    elif "avx512_vnni" in flags:
        made = AutoQuantizationConfig.avx512_vnni
    elif "avx512f" in flags:
        made = AutoQuantizationConfig.avx512
    else:
        made = AutoQuantizationConfig.avx2
    return made(is_static=False, per_channel=True, operators_to_quantize=["MatMul", "Gemm"])


def precision_of(path: Path, dtype: str) -> str:
    """What an ONNX file computes in, as in `TOLERANCES`. dtype: of what says nothing else."""
    graph = onnx.load(str(path), load_external_data=False).graph
    if any("Integer" in node.op_type or "QuantizeLinear" in node.op_type for node in graph.node):
        return "int8"
    if any(weight.data_type == onnx.TensorProto.FLOAT16 for weight in graph.initializer):
        return "float16"
    return dtype


def _replace_files(part: Path, done: Path) -> None:
    """ONNX files by the ones in `done`, which goes."""
    for path in [*part.glob("*.onnx"), *part.glob("*.onnx_data"), *part.glob("*.onnx.data")]:
        path.unlink()
    for path in done.iterdir():
        if ".onnx" in path.name:
            path.rename(part / path.name)
    shutil.rmtree(done)
