"""What could compute an entry: its variations, made from the table of backends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from app.catalog import ModelSpec, with_right_keys
from app.declaration.backends import AUTO, BACKENDS, TORCH, Backend
from app.errors import NotAvailable
from app.tasks.completion import GENERATING_TASKS
from app.tasks.custom import NAME as CUSTOM

_MANY_FORWARDS = frozenset(
    {
        *GENERATING_TASKS,
        "automatic-speech-recognition",
        "image-to-text",
        "summarization",
        "text-to-audio",
        "translation",
    }
)
_DEFAULTS: Mapping[str, Any] = {field.encode_name: field.default for field in msgspec.structs.fields(ModelSpec)}


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """keys: what an entry would say to be computed so, `backend` first. spec: what its worker loads. is_eligible: false
    for the reference where the entry's own keys rule it out."""

    keys: Mapping[str, Any]
    spec: ModelSpec
    is_eligible: bool = True

    @property
    def name(self) -> str:
        return name_of(self.keys)


def name_of(keys: Mapping[str, Any]) -> str:
    """Such as `torch bfloat16`."""
    return " ".join(key if value is True else str(value) for key, value in keys.items())


def with_keys(spec: ModelSpec, keys: Mapping[str, Any], backends: Mapping[str, Backend] = BACKENDS) -> ModelSpec:
    """The entry as it is when it says this, in the backend's environment if it names none."""
    return msgspec.structs.replace(spec, **{"env": spec.env or backends[keys["backend"]].env, **keys})


def check_tunable(spec: ModelSpec) -> None:
    """Raises NotAvailable, with a sentence, for what has nothing to choose from."""
    many = next((task for task in spec.tasks if task in _MANY_FORWARDS), None)
    if many is not None:
        raise NotAvailable(f"{spec.id} is for {many}: tune is for tasks with one forward, this one takes many.")
    if spec.has_handler or CUSTOM in spec.tasks:
        raise NotAvailable(f"{spec.id} is served by its handler.py, which computes as it likes: nothing is to choose.")
    if spec.device_map is not None or len(spec.devices) > spec.replicas:
        raise NotAvailable(f"{spec.id} is spread over several devices, which only torch does: nothing is to choose.")
    if spec.backend not in (AUTO, TORCH.name):
        raise NotAvailable(f"{spec.id} says `backend: {spec.backend}`; write `backend: {AUTO}` to have one chosen.")


def plain(spec: ModelSpec) -> Candidate:
    """What serves `backend: auto` without a stored choice."""
    keys = {"backend": TORCH.name}
    return Candidate(keys=keys, spec=with_keys(spec, keys))


def reference(spec: ModelSpec, backends: Mapping[str, Backend] = BACKENDS) -> Candidate:
    """Plain torch in float32: what all outputs are compared with."""
    varied = {key: _DEFAULTS[key] for backend in backends.values() for keys in backend.candidates for key in keys}
    keys = {"backend": TORCH.name, "dtype": "float32"}
    exact = msgspec.structs.replace(spec, **{**varied, "quantization": None, **keys})
    return Candidate(keys=keys, spec=exact, is_eligible=_is_within(spec, keys) and spec.quantization is None)


def candidates(
    spec: ModelSpec,
    backends: Mapping[str, Backend] = BACKENDS,
    check: Callable[[ModelSpec], ModelSpec] = with_right_keys,
) -> list[Candidate]:
    """The plain path first, then the reference, then whatever else can do the tasks within the entry's own keys.

    check: gives an entry back with its `problem`, as far as it is known before a worker starts.
    """
    found = {candidate.name: candidate for candidate in (plain(spec), reference(spec, backends))}
    for backend in backends.values():
        if spec.takes_adapters and backend is not TORCH:
            continue  # adapters are PEFT's: they change torch's modules
        for varied in backend.candidates:
            keys = {"backend": backend.name, **varied}
            candidate = Candidate(keys=keys, spec=with_keys(spec, keys, backends))
            if _is_within(spec, keys) and check(candidate.spec).problem is None:
                found.setdefault(candidate.name, candidate)
    if check(plain(spec).spec).problem is not None:
        del found[plain(spec).name]
    return list(found.values())


def _is_within(spec: ModelSpec, keys: Mapping[str, Any]) -> bool:
    """Whether they leave alone what the entry itself says."""
    return all(key == "backend" or getattr(spec, key) in (_DEFAULTS[key], value) for key, value in keys.items())
