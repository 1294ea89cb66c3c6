"""Where a model goes: one device, or several by transformers' `device_map` (accelerate moves what layers exchange)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from transformers import PreTrainedModel

from app.catalog import ModelSpec
from app.errors import ModelFailed, NotAvailable, OutOfMemory

_ROOM = 0.9
"""Of what a device has free, for weights; the rest is for keys and values and for what is computed."""


@dataclass(frozen=True, slots=True)
class Placement:
    """device_map: how the model is spread over the devices; None: it is on the only one."""

    devices: tuple[torch.device, ...]
    device_map: str | dict[str, torch.device] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(str(device) for device in self.devices)

    def options(self, free_bytes: Callable[[torch.device], int]) -> dict[str, Any]:
        """Keywords of `from_pretrained` (transformers 4.57 to 5)."""
        if self.device_map is None:
            return {}
        if isinstance(self.device_map, dict):
            return {"device_map": {name: _key(device) for name, device in self.device_map.items()}}
        # Devices that are not named get nothing: neither another model's GPU, nor the host's memory, nor its disk.
        limits = {_key(device): int(_ROOM * free_bytes(device)) for device in self.devices}
        return {"device_map": self.device_map, "max_memory": limits}

    def check(self, model: PreTrainedModel) -> None:
        """Whether the model that was loaded is where it should be. Raises ModelFailed or OutOfMemory."""
        if self.device_map is None:
            return
        if isinstance(self.device_map, dict):
            _check_names(self.device_map, model)
            return
        allowed = {_key(device) for device in self.devices}
        for name, device in model.hf_device_map.items():
            if device not in allowed:
                where = ", ".join(self.names)
                raise OutOfMemory(f'Its weights do not fit on {where}: there is no room from "{name}" on.')


def _check_names(device_map: dict[str, torch.device], model: torch.nn.Module) -> None:
    """Each module is the model's, and each weight has a device."""
    parameters = [name for name, _ in model.named_parameters()]
    known = {name for name, _ in model.named_modules()}.union(parameters)
    for name in device_map:
        if name not in known:
            raise ModelFailed(f'device_map: the model has no "{name}".')
    for parameter in parameters:
        if not any(name in ("", parameter) or parameter.startswith(f"{name}.") for name in device_map):
            raise ModelFailed(f'device_map: it gives no device to "{parameter}".')


def placement_of(spec: ModelSpec) -> Placement:
    """As the entry says, on devices that are here. Raises NotAvailable for others."""
    if isinstance(spec.device_map, dict):
        device_map = {name: existing_device(device) for name, device in spec.device_map.items()}
        return Placement(tuple(dict.fromkeys(device_map.values())), device_map)
    if spec.devices:
        devices = tuple(existing_device(device) for device in spec.devices)
    elif spec.device is not None:
        devices = (existing_device(spec.device),)
    else:
        seen = _accelerators() or (torch.device("cpu"),)
        devices = seen if spec.device_map is not None else seen[:1]
    return Placement(devices) if len(devices) == 1 else Placement(devices, spec.device_map or "auto")


def existing_device(name: str) -> torch.device:
    """Raises NotAvailable if it is not here."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelFailed(f'"{name}" is not a device.') from error
    if device.type in ("cuda", "xpu"):
        device = torch.device(device.type, device.index or 0)
        count = getattr(torch, device.type).device_count()
        if device.index >= count:
            raise NotAvailable(
                f"There is no device {name} here: {count} {device.type.upper()} devices are seen{_why_none(device)}."
                " Without `device` the entry takes what there is."
            )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise NotAvailable("There is no device mps here.")
    return device


def _why_none(device: torch.device) -> str:
    if device.type == "cuda" and torch.version.cuda is None and torch.version.hip is None:
        return f" by torch {torch.__version__}, which is built without CUDA"
    return ""


def _accelerators() -> tuple[torch.device, ...]:
    if torch.cuda.is_available():
        return tuple(torch.device("cuda", index) for index in range(torch.cuda.device_count()))
    return (torch.device("mps"),) if torch.backends.mps.is_available() else ()


def _key(device: torch.device) -> int | str:
    """accelerate counts accelerators, and names the host."""
    return device.type if device.index is None else device.index


def free_bytes(device: torch.device) -> int:
    """What the device has left, or what the host has."""
    if device.type in ("cuda", "xpu"):
        return int(getattr(torch, device.type).mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
