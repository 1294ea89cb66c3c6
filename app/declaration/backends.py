"""What may compute a model (`backend:`), as far as it is known before a worker starts. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.tasks.feature_extraction import EMBEDDING_TASKS


@dataclass(frozen=True, kw_only=True)
class Backend:
    """quantizations: values of `quantization:`, each with what it is; adapted_quantizations: those that adapters go
    with. compiled_tasks: that `compile:` is for. tasks: that it computes; None: all. env: the environment that its
    workers live in, where the entry names none; None: the server's own. candidates: what `pipeserve tune` tries of it,
    as keys of an entry. dtypes: that it computes in; None: all. refuses: keys that mean nothing for it. device: where
    its models go if the entry does not say; None: to an accelerator where there is one. computes_on: devices that it
    can be told to; None: all. optimizations: values of `optimization:`, each with what it is. computes_exports: a
    model's network as one file, with the outputs of one head or of none."""

    name: str
    what: str
    quantizations: Mapping[str, str] = field(default_factory=dict)
    adapted_quantizations: frozenset[str] = frozenset()
    compiled_tasks: frozenset[str] = frozenset()
    tasks: frozenset[str] | None = None
    env: str | None = None
    candidates: tuple[Mapping[str, Any], ...] = ({},)
    dtypes: frozenset[str] | None = None
    refuses: tuple[str, ...] = ()
    device: str | None = None
    computes_on: frozenset[str] | None = None
    optimizations: Mapping[str, str] = field(default_factory=dict)
    computes_exports: bool = False

    def problem(
        self,
        *,
        tasks: Sequence[str],
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
        with_a_head = [task for task in tasks if task not in EMBEDDING_TASKS]
        if self.computes_exports and 0 < len(with_a_head) < len(tasks):
            return "tasks", (
                f"tasks: an export for {self.name} gives either the vectors of texts or what"
                f" {' and '.join(with_a_head)} reads: declare an entry for each, or use backend: torch."
            )
        return None


_EXPORTED_TASKS = frozenset(
    {
        "audio-classification",
        "automatic-speech-recognition",
        "depth-estimation",
        "feature-extraction",
        "fill-mask",
        "image-classification",
        "image-feature-extraction",
        "image-segmentation",
        "object-detection",
        "question-answering",
        "sentence-similarity",
        "text-classification",
        "text-ranking",
        "token-classification",
        "zero-shot-classification",
    }
)
"""Tasks that call the whole model once for each batch, and whose answers were those of torch."""
_OF_TORCH = (
    "adapters",
    "adapters_folder",
    "adapters_allow",
    "attn_implementation",
    "devices",
    "device_map",
)
"""Keys that change or place the modules of a model in transformers."""
_NOT_FOR_OPTIMUM = (
    *_OF_TORCH,
    "file_name",
    "kv_cache",
)
_NOT_FOR_EXPORTS = (
    "auto_class",
    *_OF_TORCH,
)

TORCH = Backend(
    name="torch",
    what="transformers' own models",
    refuses=("file_name",),
    quantizations={
        "int8": "weights and what they are multiplied with in 8 bits, on a CPU",
        "int8-weights": "8 bits, by torchao",
        "bitsandbytes-8bit": "8 bits, by bitsandbytes",
        "bitsandbytes-4bit": "4 bits (nf4), by bitsandbytes",
    },
    adapted_quantizations=frozenset({"int8"}),
    # What one forward answers, of inputs that all have one form.
    compiled_tasks=frozenset(
        {
            "feature-extraction",
            "fill-mask",
            "image-classification",
            "image-feature-extraction",
            "question-answering",
            "sentence-similarity",
            "sparse-embedding",
            "text-classification",
            "text-ranking",
            "token-classification",
            "zero-shot-classification",
        }
    ),
    candidates=(
        {},
        {"dtype": "float32"},
        {"dtype": "bfloat16"},
        {"dtype": "float16"},
        {"quantization": "int8"},
        {"compile": True},
    ),
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
    candidates=({}, {"optimization": "O2"}, {"optimization": "O3"}, {"quantization": "int8"}),
    dtypes=frozenset({"float32"}),
    refuses=_NOT_FOR_OPTIMUM,
    device="cpu",
    computes_on=frozenset({"cpu"}),
)
OPTIMUM_INTEL = Backend(
    name="optimum-intel",
    what="optimum-intel's models on OpenVINO, for texts that are written, in an environment of their own",
    # What `openvino` cannot do, which needs no environment. (Speech it does by CTC models alone.) Not image-to-text:
    # a GPT-2 with cross attention fails at its second token (OpenVINO 2025.4: shape inference of a subgraph).
    tasks=frozenset(
        {
            "automatic-speech-recognition",
            "summarization",
            "text-generation",
            "text2text-generation",
            "translation",
        }
    ),
    env="optimum-intel",
    dtypes=frozenset({"float32", "bfloat16"}),
    refuses=_NOT_FOR_OPTIMUM,
    device="cpu",
    computes_on=frozenset({"cpu"}),
    candidates=({}, {"dtype": "bfloat16"}),
)
ONNX = Backend(
    name="onnx",
    what="ONNX Runtime, of an export",
    quantizations={"int8": "dynamic: weights and what they are multiplied with in 8 bits"},
    tasks=_EXPORTED_TASKS,
    computes_exports=True,
    dtypes=frozenset({"float32"}),
    refuses=_NOT_FOR_EXPORTS,
    device="cpu",
    candidates=({}, {"quantization": "int8"}),
)
OPENVINO = Backend(
    name="openvino",
    what="OpenVINO, of an export",
    tasks=_EXPORTED_TASKS,
    computes_exports=True,
    dtypes=frozenset({"float32", "bfloat16"}),
    refuses=_NOT_FOR_EXPORTS,
    device="cpu",
    candidates=({}, {"dtype": "bfloat16"}),
)
VLLM = Backend(
    name="vllm",
    what="vLLM's engine, for texts that are generated, in an environment of its own",
    tasks=frozenset({"text-generation"}),
    compiled_tasks=frozenset({"text-generation"}),
    env="vllm",
    candidates=(),
    refuses=(
        "adapters",
        "adapters_folder",
        "adapters_allow",
        "attn_implementation",
        "auto_class",
        "device_map",
        "file_name",
    ),
)
BACKENDS: dict[str, Backend] = {
    backend.name: backend for backend in (TORCH, ONNX, OPENVINO, OPTIMUM, OPTIMUM_INTEL, VLLM)
}

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
    tasks: Sequence[str],
    quantization: str | None,
    optimization: str | None = None,
    dtype: str = "auto",
    device: str | None = None,
) -> tuple[str, str] | None:
    """As `Backend.problem`; `auto` can do what one of them can."""
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
