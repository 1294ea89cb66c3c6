"""`python -P -m app.runtime.machine`: the devices that torch sees here, and what they compute in, as JSON.

For processes that do not import torch."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import msgspec
import psutil
import torch

from app.runtime.packing import computes

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """kind: what the hardware calls itself. memory_bytes: all of it. dtypes: that it computes in without converting."""

    name: str
    kind: str
    memory_bytes: int
    dtypes: list[str]


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """cuda: the version that torch was built for; None: for none."""

    torch: str
    cuda: str | None
    devices: list[Device]


def machine() -> Machine:
    return Machine(torch=str(torch.__version__), cuda=torch.version.cuda, devices=[*_accelerators(), _cpu()])


def _cpu() -> Device:
    return Device(
        name="cpu",
        kind=torch.backends.cpu.get_cpu_capability(),
        memory_bytes=psutil.virtual_memory().total,
        dtypes=_names(dtype for dtype in _DTYPES if computes(dtype)),
    )


def _accelerators() -> list[Device]:
    found = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
        dtypes = [one for one in _DTYPES if has_bfloat16 or one != torch.bfloat16]
        found.append(
            Device(
                name=f"cuda:{index}",
                kind=f"{properties.name}, compute capability {properties.major}.{properties.minor}",
                memory_bytes=properties.total_memory,
                dtypes=_names(dtypes),
            )
        )
    if torch.backends.mps.is_available():
        memory_bytes = torch.mps.recommended_max_memory()
        found.append(Device(name="mps", kind="Apple's GPU", memory_bytes=memory_bytes, dtypes=_names(_DTYPES)))
    return found


def _names(dtypes: Iterable[torch.dtype]) -> list[str]:
    return [str(dtype).removeprefix("torch.") for dtype in dtypes]


def main() -> None:
    # Libraries print while they are imported: the last line is ours.
    sys.stdout.write(f"\n{msgspec.json.encode(machine()).decode()}\n")


if __name__ == "__main__":
    main()
