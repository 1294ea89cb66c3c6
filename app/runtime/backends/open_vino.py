"""`backend: openvino`: OpenVINO computes, on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import openvino
import torch

from app.errors import ModelFailed

DISTRIBUTIONS = ("openvino",)
"""Whose versions an export depends on."""

_DTYPES = {
    "i64": torch.int64,
    "i32": torch.int32,
    "boolean": torch.bool,
    "f32": torch.float32,
    "f16": torch.float16,
}
_PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


class OpenVinoSession:
    """Implements `Session`."""

    def __init__(self, path: Path, *, num_threads: int, dtype: str) -> None:
        """As `compile_options`."""
        self.num_threads = num_threads
        core, options = openvino.Core(), compile_options(num_threads=num_threads, dtype=dtype)
        try:
            self._compiled = core.compile_model(core.read_model(path), "CPU", options)
        except RuntimeError as error:
            _, _, cause = str(error).strip().rpartition("\n")  # the lines before it name places in OpenVINO's sources
            raise ModelFailed(f"OpenVINO cannot load {path.name}: {cause}") from error
        self._request = self._compiled.create_infer_request()
        self.inputs = {one.any_name: _dtype(one.any_name, one.element_type) for one in self._compiled.inputs}
        self.outputs = tuple(one.any_name for one in self._compiled.outputs)

    def run(self, inputs: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        arrays = {name: value.numpy() for name, value in inputs.items()}
        # Outputs are copied: the request's own memory holds the next forward's before these are finished.
        found = self._request.infer(arrays, share_inputs=True, share_outputs=False)
        return {name: torch.from_numpy(found[name]) for name in self.outputs}


def open_session(path: Path, *, num_threads: int, device: str, dtype: str) -> OpenVinoSession:
    """dtype: "float32" or "bfloat16". Raises ModelFailed for a device or dtype that it does not compute with here."""
    if device != "cpu":
        raise ModelFailed(f"device: backend openvino computes on the CPU, not on {device}.")
    return OpenVinoSession(path, num_threads=num_threads, dtype=dtype)


def compile_options(*, num_threads: int, dtype: str) -> dict[str, Any]:
    """dtype: said always, for OpenVINO's own choice is bfloat16 where the CPU has it. Raises
    ModelFailed where it has not."""
    precision = _PRECISIONS[dtype]
    if precision == "bf16" and "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise ModelFailed("dtype: OpenVINO computes in bfloat16 only on CPUs with AVX-512 or AMX instructions for it.")
    return {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": num_threads,
        "ENABLE_CPU_PINNING": False,  # the API process and other workers use the same cores
        "PERFORMANCE_HINT": "LATENCY",  # one stream: the worker runs one forward at a time
    }


def _dtype(name: str, kind: openvino.Type) -> torch.dtype:
    found = _DTYPES.get(kind.get_type_name())
    if found is None:
        raise ModelFailed(f"The exported network's input {name} is of {kind.get_type_name()}, which is not served.")
    return found
