"""An adapter's files -> what it adds to a model's layers, and what it puts in the place of others.

PEFT reads them into a hollow copy of the model, which has its modules and no weights; the model itself stays as it is.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel

_KEY = "adapter"
"""Every adapter's name within PEFT: each is alone in its hollow copy."""
_CHANGE_THE_MODEL = ("pissa", "corda", "olora", "loftq", "lora_ga")
"""Beginnings of LoRA after which the model's own weights are others (PEFT 0.21)."""
_MAX_REASON_CHARS = 300


class Unfit(Exception):
    """Why an adapter cannot be used: the end of a sentence."""


@dataclass(frozen=True, slots=True)
class LowRank:
    """What an adapter adds to a linear layer's result. down: [rank, in], up: [out, rank]."""

    down: torch.Tensor
    up: torch.Tensor
    bias: torch.Tensor | None
    scaling: float

    def added(self, rows: torch.Tensor, result: torch.Tensor) -> torch.Tensor:
        """In the order and the types in which PEFT's layer computes (0.21)."""
        update = F.linear(F.linear(rows.to(self.down.dtype), self.down), self.up, self.bias)
        return (result + update * self.scaling).to(result.dtype)


@dataclass(frozen=True, slots=True)
class AdapterParts:
    """low_rank: by the linear layer's name. replaced: modules that stand for the model's own, by name."""

    low_rank: Mapping[str, LowRank]
    replaced: Mapping[str, nn.Module]

    @property
    def need_weights(self) -> bool:
        """Whether they compute with a linear layer's weights, which packing lets go of."""
        return any(isinstance(getattr(one, "base_layer", None), nn.Linear) for one in self.replaced.values())


class AdapterReader:
    """For one model. own: a module of the model by its name, as it is without adapters. linear: names of the layers to
    which low-rank updates are added. dtype: in which the model computes."""

    def __init__(
        self,
        model: PreTrainedModel,
        own: Callable[[str], nn.Module],
        linear: frozenset[str],
        *,
        dtype: torch.dtype,
        allow_pickle: bool = False,
    ) -> None:
        self._kind, self._config = type(model), copy.deepcopy(model.config)
        self._device, self._dtype = model.device, dtype
        self._own = own
        self._linear = linear
        self._allow_pickle = allow_pickle

    def read(self, folder: Path) -> AdapterParts:
        """Any thread. Raises Unfit, and out-of-memory errors as they are."""
        from peft import PeftConfig

        try:
            config = PeftConfig.from_pretrained(str(folder))
        except Exception as error:  # the boundary to files that others made: whatever it raises is why they fail
            raise Unfit(f"its adapter_config.json cannot be read: {_first_line(error)}") from error
        _check_kind(config)
        made_for = f"it was made for {config.base_model_name_or_path or 'another model'}"
        try:
            model = self._filled(folder, config)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # as above
            raise Unfit(f"it does not fit this model ({made_for}): {_first_line(error)}") from error
        return self._parts(model, made_for)

    def _filled(self, folder: Path, config: Any) -> nn.Module:
        """A hollow copy with what PEFT puts into it."""
        from peft import PeftModel

        # PEFT warns of what is missing, which is looked at later, and of what transformers is to change.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            peft = PeftModel.from_pretrained(
                self._hollow(),
                str(folder),
                adapter_name=_KEY,
                config=config,
                low_cpu_mem_usage=True,
                torch_device="cpu",
                use_safetensors=None if self._allow_pickle else True,
            )
        model: nn.Module = peft.get_base_model()
        return model

    def _hollow(self) -> PreTrainedModel:
        """The model's modules around weights of one number each: PEFT finds names, shapes and device. In float32, in
        which PEFT has an adapter's weights compute: a lower type would round them first."""
        with torch.device("meta"):
            model: PreTrainedModel = self._kind(copy.deepcopy(self._config))
        for module in model.modules():
            for name, weight in module.named_parameters(recurse=False):
                hollow = torch.zeros(()).expand(weight.shape)
                module.register_parameter(name, nn.Parameter(hollow, requires_grad=False))
            for name, weight in module.named_buffers(recurse=False):
                module.register_buffer(name, torch.zeros((), dtype=weight.dtype).expand(weight.shape))
        return model.eval()

    def _parts(self, model: nn.Module, made_for: str) -> AdapterParts:
        from peft.tuners.tuners_utils import BaseTunerLayer
        from peft.utils.other import AuxiliaryTrainingWrapper, ModulesToSaveWrapper

        low_rank: dict[str, LowRank] = {}
        replaced: dict[str, nn.Module] = {}
        inside: tuple[str, ...] = ()  # of modules that are taken as a whole
        for name, module in model.named_modules():
            if inside and name.startswith(inside):
                continue
            put: Any = module
            if isinstance(module, ModulesToSaveWrapper):
                replaced[name] = self._placed(put.modules_to_save[_KEY], made_for, self._dtype)
            elif isinstance(module, AuxiliaryTrainingWrapper):
                raise Unfit("it trains single tokens of the vocabulary, which this server does not compute.")
            elif isinstance(module, BaseTunerLayer):
                self._check_base(name, put.base_layer)
                if (update := self._low_rank(name, put, made_for)) is not None:
                    low_rank[name] = update
                else:
                    replaced[name] = self._around_own(name, put, made_for)
            else:
                continue
            inside = (*inside, f"{name}.")
        return AdapterParts(low_rank, replaced)

    def _low_rank(self, name: str, module: Any, made_for: str) -> LowRank | None:
        """If the layer is nothing but LoRA on a linear layer."""
        from peft.tuners.lora.layer import Linear

        if type(module) is not Linear or module.lora_variant or name not in self._linear:
            return None
        down: Any = module.lora_A[_KEY]
        up: Any = module.lora_B[_KEY]
        bias = None if up.bias is None else self._there(up.bias, made_for)
        scaling = float(module.scaling[_KEY])
        return LowRank(self._there(down.weight, made_for), self._there(up.weight, made_for), bias, scaling)

    def _there(self, weight: torch.Tensor, made_for: str) -> torch.Tensor:
        """On the model's device. Raises Unfit for one that the adapter's file does not have."""
        if _is_hollow(weight):
            raise Unfit(f"its weights lack some that its config speaks of ({made_for}).")
        return weight.detach().to(self._device)

    def _placed(self, module: nn.Module, made_for: str, dtype: torch.dtype | None = None) -> nn.Module:
        for weight in module.parameters():
            self._there(weight, made_for)
        return module.requires_grad_(False).to(self._device, dtype).eval()

    def _check_base(self, name: str, base: nn.Module) -> None:
        """A file may hold the model's own weights (PEFT saves embeddings to be safe), but no others."""
        given = base.state_dict()
        for key, weight in self._own(name).state_dict().items():
            if key not in given or _is_hollow(given[key]) or weight.is_meta:
                continue
            if not torch.equal(given[key].to(weight.dtype), weight.cpu()):
                raise Unfit(f"it changes the model's own weights of {name}.")

    def _around_own(self, name: str, module: nn.Module, made_for: str) -> nn.Module:
        """PEFT's layer around the model's own module."""
        module.base_layer = nn.Identity()
        self._placed(module, made_for)
        module.base_layer = own = self._own(name)
        if getattr(own, "weight", torch.empty(0)).is_meta:
            raise Unfit(
                "it computes with the model's weights as they are, and these are packed: declare the adapter in"
                " models.yaml, so that they are not."
            )
        return module


def _check_kind(config: Any) -> None:
    """Raises Unfit for what changes more than the model's modules."""
    kind = getattr(config.peft_type, "value", config.peft_type)
    if kind == "XLORA":
        raise Unfit("it mixes other adapters, which it would fetch from wherever it names (X-LoRA).")
    if config.is_prompt_learning or config.is_adaption_prompt:
        raise Unfit(f"{kind} puts tokens of its own before the prompt, which this server does not compute.")
    if getattr(config, "bias", "none") != "none":
        raise Unfit(f"it trains the model's own biases (bias: {config.bias}), which all adapters share.")
    if getattr(config, "layer_replication", None):
        raise Unfit("it repeats layers of the model (layer_replication).")
    if getattr(config, "alora_invocation_tokens", None):
        raise Unfit("it begins in the midst of a prompt (alora_invocation_tokens).")
    if getattr(config, "megatron_config", None):
        raise Unfit("it is for Megatron's layers (megatron_config).")
    beginning = getattr(config, "init_lora_weights", False)
    if isinstance(beginning, str) and beginning.lower().startswith(_CHANGE_THE_MODEL):
        raise Unfit(
            f"it began by changing the model's own weights (init_lora_weights: {beginning}): have PEFT save it as one"
            " that does not (path_initial_model_for_weight_conversion)."
        )
    if beginning:
        config.init_lora_weights = False  # the weights come from its file


def _is_hollow(weight: torch.Tensor) -> bool:
    return weight.is_meta or weight.untyped_storage().nbytes() < weight.numel() * weight.element_size()


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # torch's list of what does not fit begins in its second line.
    found = next((line for line in lines if line.startswith(("size mismatch", "Unexpected"))), "")
    return (found or (lines[0] if lines else type(error).__name__))[:_MAX_REASON_CHARS]
