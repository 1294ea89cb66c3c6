"""Exports made by hand, which need no exporter and say by their answers which of them computed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import openvino
from onnx import TensorProto, helper, numpy_helper

from tests.models import build as build_text

NUM_TOKENS = 3
"""Of the texts that the classifier takes; ONNX Runtime fails for all others."""


def classifier(path: Path, logits: tuple[float, ...] = (0.0, 1.0, 2.0), output: str = "logits") -> Path:
    """Says the same of each text of `NUM_TOKENS` tokens. Its inputs are not those of BERT: it has no token types."""
    constants = [
        numpy_helper.from_array(np.ones((1, NUM_TOKENS), np.float32), "row"),
        numpy_helper.from_array(np.array([0], np.int64), "first"),
        numpy_helper.from_array(np.array([-1], np.int64), "end"),
        numpy_helper.from_array(np.array([logits], np.float32), "weights"),
        numpy_helper.from_array(np.array([1], np.int64), "axes"),
        numpy_helper.from_array(np.array(0, np.float32), "zero"),
    ]
    nodes = [
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["input_ids"], ["ids"], to=TensorProto.FLOAT),
        helper.make_node("Concat", ["mask", "row"], ["longer"], axis=0),
        helper.make_node("Slice", ["longer", "first", "end", "first"], ["ones"]),
        helper.make_node("ReduceMean", ["ones", "axes"], ["one"], keepdims=1),
        helper.make_node("ReduceMean", ["ids", "axes"], ["mean"], keepdims=1),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["one", "nothing"], ["two"]),
        helper.make_node("MatMul", ["two", "weights"], [output]),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
        for name in ("input_ids", "attention_mask")
    ]
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", len(logits)])]
    graph = helper.make_graph(nodes, "classifier", inputs, outputs, constants)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def encoder(path: Path, *, size: int, output: str) -> Path:
    """Each token's vector is its id, `size` times."""
    constants = [
        numpy_helper.from_array(np.ones((1, 1, size), np.float32), "ones"),
        numpy_helper.from_array(np.array([2], np.int64), "last"),
    ]
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["ids"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["ids", "mask"], ["seen"]),
        helper.make_node("Unsqueeze", ["seen", "last"], ["columns"]),
        helper.make_node("Mul", ["columns", "ones"], [output]),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
        for name in ("input_ids", "attention_mask")
    ]
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", "tokens", size])]
    graph = helper.make_graph(nodes, "encoder", inputs, outputs, constants)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def hearer(path: Path, *, num_labels: int) -> Path:
    """A sound's logits are its mean. Its only input are the samples."""
    constants = [
        numpy_helper.from_array(np.ones((1, num_labels), np.float32), "ones"),
        numpy_helper.from_array(np.array([1], np.int64), "axes"),
    ]
    nodes = [
        helper.make_node("ReduceMean", ["input_values", "axes"], ["mean"], keepdims=1),
        helper.make_node("MatMul", ["mean", "ones"], ["logits"]),
    ]
    inputs = [helper.make_tensor_value_info("input_values", TensorProto.FLOAT, ["batch", "samples"])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", num_labels])]
    graph = helper.make_graph(nodes, "hearer", inputs, outputs, constants)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def as_intermediate(exported: Path, path: Path) -> Path:
    """The same in OpenVINO's own format, of two files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    openvino.save_model(openvino.Core().read_model(exported), path, compress_to_fp16=False)
    return path


def without_weights(name: str, cache: Path, folder: Path, build: Callable[[str, Path], Path] = build_text) -> Path:
    """A copy of a tiny model that has nothing to compute with."""
    return Path(shutil.copytree(build(name, cache), folder, ignore=shutil.ignore_patterns("*.safetensors")))
