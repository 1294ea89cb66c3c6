"""What may compute a model (`backend:`), as far as it is known before a worker starts. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Backend:
    """quantizations: values of `quantization:`, each with what it is. tasks: that it computes; None: all. env: the
    environment that its workers live in, where the entry names none; None: the server's own. candidates: what
    `pipeserve tune` tries of it, as keys of an entry."""

    name: str
    what: str
    quantizations: Mapping[str, str] = field(default_factory=dict)
    tasks: frozenset[str] | None = None
    env: str | None = None
    candidates: tuple[Mapping[str, Any], ...] = ({},)

    def problem(self, *, tasks: Iterable[str], quantization: str | None) -> tuple[str, str] | None:
        """Why it cannot compute an entry, as the key at fault and a sentence; None: as far as is known, it can."""
        if quantization is not None and quantization not in self.quantizations:
            known = ", ".join(self.quantizations) or "none"
            return "quantization", f'quantization: {self.name} has no "{quantization}"; there is {known}.'
        for task in tasks:
            if self.tasks is not None and task not in self.tasks:
                return "backend", f"backend: {self.name} cannot do {task}; it does {', '.join(sorted(self.tasks))}."
        return None


TORCH = Backend(
    name="torch",
    what="transformers' own models",
    candidates=({}, {"dtype": "float32"}, {"dtype": "bfloat16"}, {"dtype": "float16"}),
)
BACKENDS: dict[str, Backend] = {backend.name: backend for backend in (TORCH,)}

AUTO = "auto"
"""Not a backend: whichever `pipeserve tune` found best for the model on this machine, torch until it has."""


def env_of(backend: str) -> str | None:
    """The environment of its workers, where the entry names none."""
    return None if backend == AUTO else BACKENDS[backend].env


def problem_of(backend: str, *, tasks: Iterable[str], quantization: str | None) -> tuple[str, str] | None:
    """As `Backend.problem`; `auto` can do what one of them can."""
    if backend != AUTO:
        return BACKENDS[backend].problem(tasks=tasks, quantization=quantization)
    tasks = tuple(tasks)
    found = [one.problem(tasks=tasks, quantization=quantization) for one in BACKENDS.values()]
    if None in found:
        return None
    return "quantization", f'quantization: no backend has "{quantization}" for {", ".join(tasks)}.'
