"""The choices that `pipeserve tune` stored, and what `backend: auto` is by them. Neither torch nor numpy."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from app.catalog import ModelSpec, TunedSpec, with_right_keys
from app.declaration.backends import AUTO, BACKENDS, TORCH
from app.environments.places import Environments
from app.fingerprint import fingerprint
from app.fleet.memory import Devices, cached_folder, measure_devices
from app.fleet.threads import available_cores, granted_alone
from app.installed import versions_of
from app.tuning.candidates import name_of, with_keys
from app.tuning.measured import Measured

logger = logging.getLogger(__name__)

FILE = "tuning.json"
LIBRARIES = ("torch", "transformers", "onnxruntime", "openvino", "torchao")
"""Another version of one of these computes faster or slower, or rounds otherwise."""


class Circumstances(msgspec.Struct, frozen=True, kw_only=True):
    """What a choice was measured under; in others it says nothing. versions: of the LIBRARIES that are installed."""

    files: str  # their fingerprint
    processor: str
    cores: int
    threads: int
    versions: dict[str, str]

    def changes(self, now: Circumstances) -> list[str]:
        """What is different now, as sentences' parts."""
        found = []
        if self.files != now.files:
            found.append("the model's files are others")
        for name in ("processor", "cores", "threads"):
            before, after = getattr(self, name), getattr(now, name)
            if before != after:
                found.append(f"{name}: {before} then, {after} now")
        for library in sorted({*self.versions, *now.versions}):
            before, after = self.versions.get(library, "none"), now.versions.get(library, "none")
            if before != after:
                found.append(f"{library}: {before} then, {after} now")
        return found


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """keys: of an entry. speedup: over plain torch, by the aim. difference: of the outputs; bound: what was allowed.
    rows: all that was measured for it."""

    model: str
    revision: str | None
    tasks: list[str]
    device: str
    keys: dict[str, Any]
    at: str  # ISO 8601, to the second
    circumstances: Circumstances
    aim: str = "both"
    speedup: float | None = None
    difference: float | None = None
    bound: float | None = None
    rows: list[Measured] = []

    @property
    def name(self) -> str:
        return name_of(self.keys)


class Choices:
    """In one JSON file, kept from run to run; written beside and renamed, so it is never there in part."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def all(self) -> dict[str, Choice]:
        """By key. A file that cannot be read is none, and a warning."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, Choice])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError) as error:
            logger.warning("the choices in %s cannot be read: %s", self._path, error)
            return {}

    def of(self, spec: ModelSpec) -> list[Choice]:
        """For the model as it is used here, whatever it was measured on. Reads the disk."""
        wanted = (spec.model, spec.revision, list(spec.tasks))
        return [choice for choice in self.all().values() if (choice.model, choice.revision, choice.tasks) == wanted]

    def keep(self, key: str, choice: Choice) -> None:
        """Raises OSError."""
        self._write({**self.all(), key: choice})

    def forget(self, keys: Collection[str]) -> None:
        """Raises OSError."""
        self._write({key: choice for key, choice in self.all().items() if key not in keys})

    def _write(self, choices: Mapping[str, Choice]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            fresh.write_bytes(msgspec.json.format(msgspec.json.encode(choices)))
            fresh.replace(self._path)
        finally:
            fresh.unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What this process sees of the machine."""

    processor: str
    cores: int
    devices: Devices
    versions: Mapping[str, str]
    environments: Environments

    @classmethod
    def here(cls, environments: Environments) -> Machine:
        return cls(
            processor=_processor(),
            cores=available_cores(),
            devices=measure_devices({}),
            versions=versions_of(LIBRARIES),
            environments=environments,
        )

    def device(self, spec: ModelSpec) -> str:
        """The kind that torch computes the entry on: cpu, cuda, ... (Some backends compute on the CPU only.)"""
        return str(self.devices.place(msgspec.structs.replace(spec, backend=TORCH.name))[0][0]).partition(":")[0]

    def circumstances(self, spec: ModelSpec) -> Circumstances:
        """spec: with its backend. Reads the model's files."""
        is_cpu = self.devices.place(spec)[0][0] == "cpu"
        threads = granted_alone(spec.threads if spec.threads or is_cpu else 1, self.cores)
        return Circumstances(
            files=_files(spec),
            processor=self.processor,
            cores=self.cores,
            threads=threads,
            versions=self._versions_of(spec),
        )

    def _versions_of(self, spec: ModelSpec) -> dict[str, str]:
        """With the environment of its workers, where these have one."""
        named = {} if spec.env is None else {f"environment {spec.env}": self.environments.mark(spec.env)}
        return {**self.versions, **named}

    def seen_from(self, then: Circumstances) -> Circumstances:
        """Those, as far as they are the machine's, as they are now."""
        named = {name: version for name, version in then.versions.items() if name not in LIBRARIES}
        now = {"processor": self.processor, "cores": self.cores, "versions": {**named, **self.versions}}
        return msgspec.structs.replace(then, **now)


def key_of(spec: ModelSpec, device: str) -> str:
    """What a choice is for: the model, what it is used for, where, and within which of the entry's own keys."""
    own = (spec.dtype, spec.quantization, spec.attn_implementation, spec.auto_class, spec.pooling, spec.normalize)
    shown = ("-" if value is None else str(value) for value in (spec.revision, ",".join(spec.tasks), device, *own))
    return " ".join((spec.model, *shown, *(["adapters"] if spec.takes_adapters else [])))


Decide = Callable[[ModelSpec], ModelSpec]


def decider(
    choices: Choices, environments: Environments, look: Callable[[Environments], Machine] = Machine.here
) -> Decide:
    """What turns entries that say `backend: auto` into what serves them. look: at the machine, once one does."""
    seen: list[Machine] = []

    def decide(spec: ModelSpec) -> ModelSpec:
        if spec.backend != AUTO or not spec.is_resolved or spec.problem is not None:
            return spec
        if not seen:
            seen.append(look(environments))
        return decided(spec, choices, seen[0])

    return decide


def decided(spec: ModelSpec, choices: Choices, machine: Machine) -> ModelSpec:
    """The stored choice, where there is one that was made under the same circumstances, else plain torch."""
    choice = choices.all().get(key_of(spec, machine.device(spec)))
    if choice is not None:
        try:
            return _chosen(spec, choice, machine)
        except _Unusable as error:
            logger.warning(
                "%s: its stored choice (%s, of %s) is not used, plain torch is: %s. `pipeserve tune` chooses anew.",
                spec.id, choice.name, choice.at, error,
            )  # fmt: skip
    return with_right_keys(msgspec.structs.replace(spec, backend=TORCH.name))


class _Unusable(Exception):
    """`str(error)` says why a stored choice cannot serve: the middle of a sentence."""


def _chosen(spec: ModelSpec, choice: Choice, machine: Machine) -> ModelSpec:
    """Raises _Unusable, also for what another version of this server wrote, or somebody by hand."""
    if unknown := set(choice.keys) - set(ModelSpec.__struct_fields__):
        raise _Unusable(f"it names {', '.join(sorted(unknown))}, which no entry has")
    if choice.keys.get("backend") not in BACKENDS:
        raise _Unusable("there is no such backend")
    found = msgspec.convert(msgspec.to_builtins(with_keys(spec, choice.keys)), ModelSpec)
    problem = with_right_keys(found).problem or (found.env and machine.environments.problem(found.env))
    if problem is not None:
        raise _Unusable(problem.rstrip("."))
    if changes := choice.circumstances.changes(machine.circumstances(found)):
        raise _Unusable("; ".join(changes))
    return msgspec.structs.replace(found, tuned=TunedSpec(keys=choice.keys, at=choice.at))


# The circumstances


def _processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Its name as the system tells it; "unknown" where it does not."""
    try:
        for line in cpuinfo.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Model"):
                return value.strip()
    except OSError:
        pass
    return "unknown"


def _files(spec: ModelSpec) -> str:
    """Their fingerprint; "-" where they are not on this disk."""
    folder = Path(spec.model) if Path(spec.model).is_absolute() else cached_folder(spec)
    return "-" if folder is None else fingerprint(folder)
