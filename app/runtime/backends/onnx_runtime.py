"""`backend: onnx`: ONNX Runtime computes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnxruntime
import torch

from app.errors import ModelFailed

DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")
"""Whose versions an export depends on."""

_DTYPES = {
    "tensor(int64)": torch.int64,
    "tensor(int32)": torch.int32,
    "tensor(bool)": torch.bool,
    "tensor(float)": torch.float32,
    "tensor(float16)": torch.float16,
    "tensor(double)": torch.float64,
}
_CUDA = "CUDAExecutionProvider"


class OnnxSession:
    """Implements `Session`."""

    def __init__(self, path: Path, *, num_threads: int, device: str) -> None:
        """device: "cpu", or "cuda:0" with onnxruntime-gpu."""
        self.num_threads = num_threads
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        # Threads that spin between two forwards take the cores of the API process and of other workers.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 4  # what fails is raised, and the worker logs it
        options.enable_mem_pattern = False  # it would keep a plan for each shape, and texts have many
        providers = _providers(device)
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=providers)
        except Exception as error:  # ONNX Runtime's have no common base
            raise ModelFailed(f"ONNX Runtime cannot load {path.name}: {error}") from error
        self.inputs = {one.name: _dtype(one.name, one.type) for one in self._session.get_inputs()}
        self.outputs = tuple(one.name for one in self._session.get_outputs())

    def run(self, inputs: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        found = self._session.run(list(self.outputs), {name: value.numpy() for name, value in inputs.items()})
        return {name: torch.from_numpy(value) for name, value in zip(self.outputs, found, strict=True)}


def open_session(path: Path, *, num_threads: int, device: str, dtype: str) -> OnnxSession:
    """dtype: as the file has it. Raises ModelFailed for a device that this onnxruntime does not compute on."""
    return OnnxSession(path, num_threads=num_threads, device=device)


def _providers(device: str) -> list[str | tuple[str, dict[str, str]]]:
    if device == "cpu":
        return ["CPUExecutionProvider"]
    kind, _, index = device.partition(":")
    if kind != "cuda" or _CUDA not in onnxruntime.get_available_providers():
        raise ModelFailed(
            f"device: this onnxruntime does not compute on {device}; onnxruntime-gpu does on CUDA's devices. Without"
            " `device` the model is computed on the CPU."
        )
    return [(_CUDA, {"device_id": index or "0"}), "CPUExecutionProvider"]


def _dtype(name: str, kind: str) -> torch.dtype:
    if kind not in _DTYPES:
        raise ModelFailed(f"The exported network's input {name} is a {kind}, which is not served.")
    return _DTYPES[kind]
