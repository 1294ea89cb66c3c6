"""What may compute a model (`backend:`), as far as it is known before a worker starts. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Backend:
    """quantizations: values of `quantization:`, each with what it is. tasks: that it computes; None: all. env: the
    environment that its workers live in, where the entry names none; None: the server's own. candidates: what
    `pipeserve tune` tries of it, as keys of an entry. dtypes: that it computes in; None: all. refuses: keys that mean
    nothing for it. device: where its models go if the entry does not say; None: to an accelerator where there is one.
    computes_on: devices that it can be told to; None: all. optimizations: values of `optimization:`, each with what it
    is."""

    name: str
    what: str
    quantizations: Mapping[str, str] = field(default_factory=dict)
    tasks: frozenset[str] | None = None
    env: str | None = None
    candidates: tuple[Mapping[str, Any], ...] = ({},)
    dtypes: frozenset[str] | None = None
    refuses: tuple[str, ...] = ()
    device: str | None = None
    computes_on: frozenset[str] | None = None
    optimizations: Mapping[str, str] = field(default_factory=dict)

    def problem(
        self,
        *,
        tasks: Iterable[str],
        quantization: str | None,
        optimization: str | None = None,
        dtype: str = "auto",
        device: str | None = None,
    ) -> tuple[str, str] | None:
        """Why it cannot compute an entry, as the key at fault and a sentence; None: as far as is known, it can."""
        if quantization is not None and quantization not in self.quantizations:
            known = ", ".join(self.quantizations) or "none"
            return "quantization", f'quantization: {self.name} has no "{quantization}"; there is {known}.'
        if optimization is not None and optimization not in self.optimizations:
            known = ", ".join(self.optimizations) or "none"
            return "optimization", f"optimization: {self.name} has no {optimization}; there is {known}."
        if optimization is not None and quantization is not None:
            return "optimization", "optimization: what is optimized cannot be quantized; choose one of the two."
        if self.dtypes is not None and dtype not in ("auto", *self.dtypes):
            return (
                "dtype",
                f"dtype: {self.name} does not compute in {dtype}; it does in {', '.join(sorted(self.dtypes))}.",
            )
        if self.computes_on is not None and device is not None and device not in self.computes_on:
            return "device", f"device: {self.name} computes on {', '.join(sorted(self.computes_on))}, not on {device}."
        for task in tasks:
            if self.tasks is not None and task not in self.tasks:
                return "backend", f"backend: {self.name} cannot do {task}; it does {', '.join(sorted(self.tasks))}."
        return None


TORCH = Backend(
    name="torch",
    what="transformers' own models",
    candidates=({}, {"dtype": "float32"}, {"dtype": "bfloat16"}, {"dtype": "float16"}),
)
OPTIMUM = Backend(
    name="optimum",
    what="Optimum's models on ONNX Runtime, on the CPU, in an environment of their own",
    quantizations={"int8": "dynamic: weights and what they are multiplied with in 8 bits"},
    optimizations={
        "O1": "ONNX Runtime's general optimizations",
        "O2": "also fused operations",
        "O3": "also an approximated GELU",
    },
    tasks=frozenset(
        {
            "audio-classification",
            "automatic-speech-recognition",
            "feature-extraction",
            "fill-mask",
            "image-classification",
            "image-feature-extraction",
            "image-segmentation",
            "image-to-text",
            "question-answering",
            "sentence-similarity",
            "summarization",
            "text-classification",
            "text-generation",
            "text-ranking",
            "text2text-generation",
            "token-classification",
            "translation",
            "zero-shot-classification",
        }
    ),
    env="optimum",
    candidates=(),
    dtypes=frozenset({"float32"}),
    refuses=(
        "adapters",
        "adapters_folder",
        "adapters_allow",
        "attn_implementation",
        "devices",
        "device_map",
        "kv_cache",
    ),
    device="cpu",
    computes_on=frozenset({"cpu"}),
)
VLLM = Backend(
    name="vllm",
    what="vLLM's engine, for texts that are generated, in an environment of its own",
    tasks=frozenset({"text-generation"}),
    env="vllm",
    candidates=(),
    refuses=("adapters", "adapters_folder", "adapters_allow", "attn_implementation", "auto_class", "device_map"),
)
BACKENDS: dict[str, Backend] = {backend.name: backend for backend in (TORCH, OPTIMUM, VLLM)}

AUTO = "auto"
"""Not a backend: whichever `pipeserve tune` found best for the model on this machine, torch until it has."""


def env_of(backend: str) -> str | None:
    """The environment of its workers, where the entry names none."""
    return None if backend == AUTO else BACKENDS[backend].env


def row_of(backend: str) -> Backend:
    """Of `auto`, that of torch, which computes until there is a choice."""
    return TORCH if backend == AUTO else BACKENDS[backend]


def problem_of(
    backend: str,
    *,
    tasks: Iterable[str],
    quantization: str | None,
    optimization: str | None = None,
    dtype: str = "auto",
    device: str | None = None,
) -> tuple[str, str] | None:
    """As `Backend.problem`; `auto` can do what one of them can."""
    tasks = tuple(tasks)
    tried = BACKENDS.values() if backend == AUTO else (BACKENDS[backend],)
    found = [
        one.problem(tasks=tasks, quantization=quantization, optimization=optimization, dtype=dtype, device=device)
        for one in tried
    ]
    if None in found:
        return None
    if backend != AUTO:
        return found[0]
    return "quantization", f'quantization: no backend has "{quantization}" for {", ".join(tasks)}.'
