"""The environments that this package knows how to build: NAME.txt beside this file has the requirements of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

WORKER_MODULES = ("app.worker.__main__", "app.runtime.loading")
"""What every environment must be able to import: the worker."""


@dataclass(frozen=True)
class Shipped:
    """modules: the libraries' that a worker there imports, besides its own code."""

    name: str
    what: str
    modules: tuple[str, ...]

    @property
    def requirements(self) -> Path:
        return Path(__file__).with_name(f"{self.name}.txt")


SHIPPED = {
    one.name: one
    for one in (
        Shipped(
            name="optimum",
            what="Optimum on ONNX Runtime, for `backend: optimum`",
            modules=("optimum.onnxruntime", "optimum.exporters.onnx"),
        ),
        Shipped(
            name="optimum-intel",
            what="optimum-intel on OpenVINO, for `backend: optimum-intel`",
            modules=("optimum.intel.openvino", "optimum.exporters.openvino"),
        ),
        Shipped(
            name="vllm",
            what="vLLM's CPU build, for `backend: vllm`",
            modules=("vllm.sampling_params",),
        ),
    )
}


def modules_of(name: str) -> tuple[str, ...]:
    """What `check` imports in the environment of that name."""
    return WORKER_MODULES + (SHIPPED[name].modules if name in SHIPPED else ())
