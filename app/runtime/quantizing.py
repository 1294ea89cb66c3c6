"""Weights in fewer bits: `quantization:` of an entry, and checkpoints that are quantised already."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel, TorchAoConfig

from app.catalog import ModelSpec
from app.declaration.quantised import method_of, problem_of_checkpoint
from app.errors import ModelFailed, NotAvailable
from app.runtime.packing import PackedLinear, computes, pack
from app.runtime.placement import Placement

INT8 = "int8"
"""The one that is ours: of a model that is there, on a CPU. The others are transformers' own, made as it loads."""

_LEVELS = 127
_LEVELS_WITHOUT_VNNI = 63
"""A product of 8 × 8 bits, twice, overflows the 16 bits in which a CPU without VNNI adds them up. Of weights, which
have a scale for each output, the eighth bit is missed least (docs/lab-log.md)."""
_LEAST_FEATURES = 16
"""Smaller layers (a classifier's last) take no time: they stay exact."""
_SMALLEST = 1e-12


class Int8Linear(PackedLinear):
    """Weights of 8 bits with a scale for each output, multiplied with rows of 8 bits, each with a scale of its own: so
    no row's result depends on its neighbours."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer, torch.float32)
        weight = layer.weight.detach().float()
        levels = _LEVELS if torch.cpu._is_vnni_supported() else _LEVELS_WITHOUT_VNNI
        scales = (weight.abs().amax(1) / levels).clamp(min=_SMALLEST).double()
        zeros = torch.zeros(len(scales), dtype=torch.long)
        # Two inputs more, of weight 0: 1 and -1. With them the range of scaled rows is the same in every batch.
        padded = nn.functional.pad(weight, (0, 2))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch will make such tensors in another way one day
            quantised = torch.quantize_per_channel(padded, scales, zeros, 0, torch.qint8)
        self._packed: Any = torch.ops.quantized.linear_prepack(quantised, None)
        self._bias = None if layer.bias is None else layer.bias.detach().float()

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        exact = rows.float()
        largest = exact.abs().amax(-1, keepdim=True).clamp_(min=_SMALLEST)
        scaled = exact.new_empty(*exact.shape[:-1], self.in_features + 2)
        torch.div(exact, largest, out=scaled[..., :-2])
        scaled[..., -2] = 1
        scaled[..., -1] = -1
        # False: the range of the rows is not reduced, the weights' is.
        product: torch.Tensor = torch.ops.quantized.linear_dynamic(scaled, self._packed, False)
        result = product.mul_(largest) if self._bias is None else torch.addcmul(self._bias, product, largest)
        return result.to(rows.dtype)


def quantise(model: PreTrainedModel) -> None:
    """`int8`, in place of the model's linear layers; the weights are let go. Raises NotAvailable or ModelFailed."""
    if "fbgemm" not in torch.backends.quantized.supported_engines:
        raise NotAvailable(f"quantization: {INT8} needs FBGEMM, which torch has for x86 processors with AVX2.")
    torch.backends.quantized.engine = "fbgemm"  # of the layers that are packed from now on
    if not pack(model, int8_layer):
        raise ModelFailed(f"quantization: {INT8}: a {type(model).__name__} has no linear layers to quantise.")


def int8_layer(layer: nn.Linear) -> PackedLinear | None:
    return Int8Linear(layer) if min(layer.in_features, layer.out_features) >= _LEAST_FEATURES else None


def loading_options(spec: ModelSpec, config: Any, placement: Placement) -> dict[str, Any]:
    """Keywords of `from_pretrained` for what is quantised as it is loaded. Raises NotAvailable or ModelFailed for what
    cannot be quantised here, or not again."""
    device = placement.devices[0].type
    stored = getattr(config, "quantization_config", None)
    if stored is not None:
        told = stored if isinstance(stored, dict) else stored.to_dict()
        method = method_of({"quantization_config": told}) or "a method that its config does not name"
        if spec.quantization is not None:
            raise ModelFailed(f"quantization: this checkpoint is quantised already, with {method}; leave it out.")
        if (problem := problem_of_checkpoint(method, is_accelerated=device != "cpu")) is not None:
            raise NotAvailable(problem)
    elif spec.quantization is None or spec.quantization == INT8:
        if spec.quantization == INT8 and device != "cpu":
            raise NotAvailable(
                f"quantization: {INT8} computes on a CPU, and this model is on {placement.names[0]}: choose another,"
                " or `device: cpu`."
            )
        return {}
    # The quantisers place weights as they make them; a model that is quantised cannot be moved or converted.
    options: dict[str, Any] = {"device_map": {"": placement.devices[0]}} if placement.device_map is None else {}
    if spec.dtype == "auto" and device == "cpu" and not computes(getattr(config, "dtype", None) or torch.float32):
        options["dtype"] = torch.float32
    return options if stored is not None else {**options, "quantization_config": _config_of(spec.quantization)}


def _config_of(name: str | None) -> Any:
    if name == "int8-weights":
        from torchao.quantization import Int8WeightOnlyConfig

        return TorchAoConfig(Int8WeightOnlyConfig())
    # It says at every product of a layer that float32 is rounded to float16: so it is documented.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    if name == "bitsandbytes-8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    if name == "bitsandbytes-4bit":
        return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    raise RuntimeError(f"nothing here is quantised as {name}. This is a bug.")


def is_quantised_by_transformers(model: PreTrainedModel) -> bool:
    """Whether its layers are another library's, to be left as they are."""
    return getattr(model, "hf_quantizer", None) is not None
