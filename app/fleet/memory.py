"""What devices have and what models need, in bytes."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
from huggingface_hub.constants import HF_HUB_CACHE

from app.catalog import ModelSpec
from app.declaration.backends import row_of
from app.declaration.exports import export_names, standing

logger = logging.getLogger(__name__)

MARGIN = 0.1  # of what is free: left for the API process and everybody else
_HEADROOM = 1.2  # what a loaded model takes beside its weights
_MAX_HEADER_BYTES = 100 * 2**20
_NVIDIA_SMI_TIMEOUT_S = 10.0
_DTYPE_BITS = {
    "F64": 64, "I64": 64, "U64": 64, "C64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16,
    "U16": 16, "I8": 8, "U8": 8, "BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4,
}  # fmt: skip
_FLOATS = ("F64", "F32", "F16", "BF16")
_BITS_OF_CHOICE = {"float64": 64, "float32": 32, "float16": 16, "bfloat16": 16}
_BITS_OF_EXPORTS = {"onnx": 32, "openvino": 32, "optimum": 32, "optimum-intel": 32}  # whatever the checkpoint's are
_BITS_OF_QUANTIZATION = {"int8": 8, "int8-weights": 8, "bitsandbytes-8bit": 8, "bitsandbytes-4bit": 4.5}
"""Of a linear layer's weight on the torch backend, its scales included."""
_EMBEDDINGS = re.compile(r"embed|\bwte\b|\bwpe\b|\bshared\b|relative_attention_bias")
"""In names of weights that have two axes, as those of linear layers, and are never quantised."""


@dataclass(frozen=True, kw_only=True)
class DeviceMemory:
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, kw_only=True)
class Devices:
    """budgets: bytes; None: no limit is known. accelerators: those that are known here; a worker may see others (mps,
    or CUDA where nvidia-smi is missing)."""

    budgets: Mapping[str, int | None]
    accelerators: tuple[str, ...] = ()

    def place(self, spec: ModelSpec) -> list[tuple[str, ...]]:
        """The devices of each replica, as they are declared. Where none are, each replica has one accelerator, in
        turn, and a model with a `device_map` has all of them."""
        if isinstance(spec.device_map, dict):
            return [tuple(dict.fromkeys(spec.device_map.values()))] * spec.replicas
        own = spec.device or row_of(spec.backend).device
        devices = spec.devices or ((own,) if own else self.accelerators or ("cpu",))
        size = len(devices) // spec.replicas if spec.devices or spec.device_map is not None else 1
        if size <= 1:
            return [(devices[number % len(devices)],) for number in range(spec.replicas)]
        return [devices[number * size : (number + 1) * size] for number in range(spec.replicas)]


def placed(spec: ModelSpec, devices: tuple[str, ...]) -> ModelSpec:
    """The entry as a replica on these devices gets it."""
    if isinstance(spec.device_map, dict) or (spec.device is None and not spec.devices and devices == ("cpu",)):
        return spec  # its map says all; a worker that is told no device looks for an accelerator itself
    if len(devices) == 1:
        return msgspec.structs.replace(spec, device=devices[0], devices=(), device_map=None)
    return msgspec.structs.replace(spec, device=None, devices=devices)


def measure_devices(budget: Mapping[str, int | float]) -> Devices:
    """What there is now, and how much of it models may take. budget: as the catalog says, by device."""
    return share_out(find_devices(), budget)


def find_devices() -> dict[str, DeviceMemory]:
    return {"cpu": cpu_memory(), **cuda_memory(os.environ)}


def share_out(found: Mapping[str, DeviceMemory], budget: Mapping[str, int | float]) -> Devices:
    budgets: dict[str, int | None] = {
        device: int(memory.free_bytes * (1 - MARGIN)) if memory.total_bytes else None
        for device, memory in found.items()
    }
    for device, limit in budget.items():
        if isinstance(limit, int):
            budgets[device] = limit
        elif device in found:
            budgets[device] = int(found[device].total_bytes * limit)
    return Devices(budgets=budgets, accelerators=tuple(device for device in found if device != "cpu"))


# The host


def cpu_memory(root: Path = Path("/")) -> DeviceMemory:
    """The host's memory, or less where control groups limit this process. Zeros where the system does not say."""
    try:
        info = _numbers((root / "proc/meminfo").read_text())
    except OSError:
        return DeviceMemory(total_bytes=0, free_bytes=0)
    total = info.get("MemTotal:", 0) * 1024
    free = info.get("MemAvailable:", 0) * 1024
    for limit, used in _cgroup_limits(root):
        total, free = min(total, limit), min(free, max(0, limit - used))
    return DeviceMemory(total_bytes=total, free_bytes=free)


def _cgroup_limits(root: Path) -> Iterator[tuple[int, int]]:
    """Limit and use of this process's memory control groups and of those above them."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            yield from _walk(root / "sys/fs/cgroup", path, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            yield from _walk(
                root / "sys/fs/cgroup/memory", path, "memory.limit_in_bytes", "memory.usage_in_bytes",
                "total_inactive_file",
            )  # fmt: skip


def _walk(top: Path, path: str, limit_name: str, used_name: str, cache_name: str) -> Iterator[tuple[int, int]]:
    group = top / path.strip("/")
    while group.is_relative_to(top) and ".." not in group.parts:
        try:
            limit = (group / limit_name).read_text().strip()
            if limit.isdigit():
                cached = _numbers((group / "memory.stat").read_text()).get(cache_name, 0)
                yield int(limit), max(0, int((group / used_name).read_text()) - cached)
        except (OSError, ValueError):
            pass  # the root group has no limit; a container may not see its own path
        group = group.parent


def _numbers(text: str) -> dict[str, int]:
    """Lines such as `MemTotal: 123 kB` or `inactive_file 123`."""
    pairs = (line.split()[:2] for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


# CUDA


def cuda_memory(environ: Mapping[str, str]) -> dict[str, DeviceMemory]:
    """By device as torch counts them, from nvidia-smi where there is one."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    query = [program, "--query-gpu=index,uuid,memory.total,memory.free", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=True, timeout=_NVIDIA_SMI_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError) as error:
        logger.warning("nvidia-smi does not answer, no GPU memory is known: %s", error)
        return {}
    return parse_nvidia_smi(done.stdout, environ.get("CUDA_VISIBLE_DEVICES"))


def parse_nvidia_smi(output: str, visible: str | None) -> dict[str, DeviceMemory]:
    """visible: CUDA_VISIBLE_DEVICES, indices or UUIDs; the first that does not exist hides all after it."""
    devices: list[tuple[str, str, DeviceMemory]] = []
    for line in output.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 4 and fields[2].isdigit() and fields[3].isdigit():
            memory = DeviceMemory(total_bytes=int(fields[2]) * 2**20, free_bytes=int(fields[3]) * 2**20)
            devices.append((fields[0], fields[1], memory))
    if visible is None:
        return {f"cuda:{number}": memory for number, (_, _, memory) in enumerate(devices)}
    chosen: list[DeviceMemory] = []
    for name in (part.strip() for part in visible.split(",")):
        found = [memory for index, uuid, memory in devices if name and (index == name or uuid.startswith(name))]
        if not found:
            break
        chosen.append(found[0])
    return {f"cuda:{number}": memory for number, memory in enumerate(chosen)}


# What a model needs


class Measurements:
    """What models were measured to take, kept from run to run in one JSON file. Used from one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bytes: dict[str, int] | None = None

    def of(self, spec: ModelSpec, devices: tuple[str, ...]) -> dict[str, int] | None:
        known = self._read()
        try:
            return {device: known[_key(spec, device, devices)] for device in devices}
        except KeyError:
            return None

    def keep(self, spec: ModelSpec, taken: Mapping[str, int]) -> None:
        """A folder that cannot be written costs a warning, not the model."""
        known = self._read()
        measured = {_key(spec, device, tuple(taken)): num_bytes for device, num_bytes in taken.items()}
        if measured.items() <= known.items():
            return
        known |= measured
        fresh = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_bytes(msgspec.json.encode(known))
            fresh.replace(self._path)
        except OSError as error:
            logger.warning("the measured memory of %s is not kept: %s", spec.id, error)

    def _read(self) -> dict[str, int]:
        if self._bytes is None:
            try:
                self._bytes = msgspec.json.decode(self._path.read_bytes(), type=dict[str, int])
            except FileNotFoundError:
                self._bytes = {}
            except (OSError, msgspec.MsgspecError) as error:
                logger.warning("the memory measurements in %s cannot be read: %s", self._path, error)
                self._bytes = {}
        return self._bytes


def _key(spec: ModelSpec, device: str, devices: tuple[str, ...]) -> str:
    """devices: all that the model is spread over, in order."""
    where = (device,) if len(devices) == 1 else (device, ",".join(devices))
    options = (spec.quantization, spec.file_name, "compiled" if spec.compile else None)
    computed = (spec.dtype, spec.backend, *filter(None, options))
    return " ".join((spec.model, spec.revision or "-", *computed, *where))


class Memory(Protocol):
    """What the fleet asks about memory. Asked on the event loop, answered from elsewhere."""

    async def devices(self) -> Devices: ...

    def share_out_anew(self, budget: Mapping[str, int | float]) -> Mapping[str, int | None]:
        """The budgets of the devices as they were before any model was loaded, by another `budget:`."""
        ...

    async def estimate(self, spec: ModelSpec, devices: tuple[str, ...]) -> Mapping[str, int] | None:
        """Bytes that one replica takes on each of its devices; None: unknown."""
        ...

    async def keep(self, spec: ModelSpec, taken: Mapping[str, int]) -> None:
        """One replica was measured, on all of its devices."""
        ...


class MachineMemory:
    """A model's need: measured, else declared, else from its files, else unknown. All reading is done in threads."""

    def __init__(self, budget: Mapping[str, int | float], cache_dir: Path) -> None:
        self._budget = budget
        self._found: dict[str, DeviceMemory] = {}  # at the start
        self._measurements = Measurements(cache_dir / "memory.json")
        self._turn = asyncio.Lock()

    async def devices(self) -> Devices:
        self._found = await asyncio.to_thread(find_devices)
        return share_out(self._found, self._budget)

    def share_out_anew(self, budget: Mapping[str, int | float]) -> Mapping[str, int | None]:
        return share_out(self._found, budget).budgets

    async def estimate(self, spec: ModelSpec, devices: tuple[str, ...]) -> dict[str, int] | None:
        async with self._turn:
            return await asyncio.to_thread(self._estimate, spec, devices)

    async def keep(self, spec: ModelSpec, taken: Mapping[str, int]) -> None:
        async with self._turn:
            await asyncio.to_thread(self._measurements.keep, spec, taken)

    def _estimate(self, spec: ModelSpec, devices: tuple[str, ...]) -> dict[str, int] | None:
        """In equal parts, until it is measured what lies where."""
        measured = self._measurements.of(spec, devices)
        if measured is not None:
            return measured
        whole = spec.memory_bytes if spec.memory_bytes is not None else weights_estimate(spec)
        return None if whole is None else dict.fromkeys(devices, math.ceil(whole / len(devices)))


def weights_estimate(spec: ModelSpec, in_cache: Callable[[ModelSpec], Path | None] | None = None) -> int | None:
    """The safetensors headers × dtype × 1.2, or the size of the export that the backend will run × 1.2; None when there
    are no such files on disk. Never asks the network."""
    folder = Path(spec.model)
    if not os.path.isdir(folder):
        found = (in_cache or cached_folder)(spec)
        if found is None:
            return None
        folder = found
    linear_bits = _BITS_OF_QUANTIZATION.get(spec.quantization or "") if spec.backend == "torch" else None
    try:
        exports = _export_files(spec, folder)
        if exports:
            return math.ceil(sum(path.stat().st_size for path in exports) * _HEADROOM)
        float_bits = _BITS_OF_CHOICE.get(spec.dtype, _BITS_OF_EXPORTS.get(spec.backend))
        num_bits = sum(_weight_bits(path, float_bits, linear_bits) for path in _weight_files(folder))
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        logger.debug("no size of %s from its files: %s", spec.id, error)
        return None
    return math.ceil(num_bits / 8 * _HEADROOM) or None


def _export_files(spec: ModelSpec, folder: Path) -> list[Path]:
    """What the backend runs as it is, with its weights; empty: it has an export made, in float32."""
    exports = export_names(spec)
    parents = {(folder / name).parent for export in exports for name in export}
    names = [
        str(path.relative_to(folder)) for parent in parents if parent.is_dir() for path in sorted(parent.iterdir())
    ]
    return [folder / name for name in standing(exports, names)]


def cached_folder(spec: ModelSpec, cache: Path = Path(HF_HUB_CACHE)) -> Path | None:
    """The snapshot of a Hub model in the local cache.

    Read here, as its layout is documented, because huggingface_hub's own look-up imports an HTTP client.
    """
    revision = spec.revision or "main"
    repository = cache / f"models--{spec.model.replace('/', '--')}"
    try:
        revision = (repository / "refs" / revision).read_text().strip()
    except (OSError, ValueError):
        pass  # a commit's hash is its own name
    folder = repository / "snapshots" / revision
    return folder if os.path.isdir(folder) else None  # unlike Path.is_dir, also where it may not be looked into


def _weight_files(folder: Path) -> Iterable[Path]:
    """What transformers would read: one file, the shards of an index, else whatever is there."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if index.is_file():
        weight_map = msgspec.json.decode(index.read_bytes(), type=dict[str, Any])["weight_map"]
        return [folder / name for name in sorted(set(weight_map.values()))]
    return sorted(folder.glob("*.safetensors"))


def _weight_bits(path: Path, float_bits: int | None, linear_bits: float | None) -> float:
    """float_bits: what floating-point weights are converted to, linear_bits: those of linear layers among them; None:
    as they are stored."""
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        if not 0 < header_bytes <= _MAX_HEADER_BYTES:
            raise ValueError(f"{path.name} is not a safetensors file")
        header = msgspec.json.decode(file.read(header_bytes), type=dict[str, dict[str, Any]])
    total = 0.0
    for name, tensor in header.items():
        if name != "__metadata__":
            dtype, shape = str(tensor["dtype"]), tensor["shape"]
            bits: float = _DTYPE_BITS.get(dtype, 32)
            if dtype in _FLOATS:
                is_linear = len(shape) == 2 and _EMBEDDINGS.search(name) is None
                bits = (linear_bits if is_linear else None) or float_bits or bits
            total += math.prod(shape) * bits
    return total


def show_bytes(num_bytes: float) -> str:
    """For people: `1.5 GiB`."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.0f} {unit}" if unit == "bytes" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.1f} TiB"
