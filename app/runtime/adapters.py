"""LoRA and PEFT's other adapters on one copy of a model's weights.

PEFT reads an adapter into a hollow copy of the model, which has its modules but no weights; what it put there is kept
by the adapter, and the model itself is never changed by PEFT. Low-rank updates of linear layers (LoRA, rsLoRA, ranks
and scales by layer) are added by the layer that stands around each linear layer (`AdaptedLinear`), to all tokens of a
forward or to some: tokens of several adapters, and of none, share a forward. Whatever else PEFT puts into a model
(DoRA, IA3, embeddings, a trained head) takes the place of the module that it stands for while its adapter is at work:
such an adapter has its forwards for itself.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from app.catalog import AdapterKey, AdapterSpec
from app.errors import ModelFailed, NotServed

_KEY = "adapter"
"""Every adapter's name within PEFT: each is alone in its hollow copy."""
_CHANGE_THE_MODEL = ("pissa", "corda", "olora", "loftq", "lora_ga")
"""Beginnings of LoRA after which the model's own weights are others (PEFT 0.21)."""
_MAX_REASON_CHARS = 300


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


@dataclass(eq=False, slots=True)
class Adapter:
    """low_rank: by the linear layer's name. replaced: modules that stand for the model's own, by name."""

    spec: AdapterSpec
    low_rank: Mapping[str, LowRank]
    replaced: Mapping[str, nn.Module]

    @property
    def key(self) -> AdapterKey:
        return self.spec.key


@dataclass(slots=True)
class _AtWork:
    """Which adapters the next forward adds. places: of each one's tokens; None: all."""

    parts: list[tuple[Adapter, torch.Tensor | None]] = field(default_factory=list)


class AdaptedLinear(nn.Module):
    """A linear layer, packed or not, with what the adapters at work add to it."""

    layer: Any  # a module; packing puts another in its place

    def __init__(self, layer: nn.Module, name: str, at_work: _AtWork) -> None:
        super().__init__()
        self.layer = layer
        self._name = name
        self._at_work = at_work

    @property
    def weight(self) -> torch.Tensor:
        """Models look at its shape and type."""
        weight: torch.Tensor = self.layer.weight
        return weight

    @property
    def bias(self) -> torch.Tensor | None:
        bias: torch.Tensor | None = self.layer.bias
        return bias

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.layer(rows)
        for adapter, places in self._at_work.parts:
            update = adapter.low_rank.get(self._name)
            if update is None:
                continue
            if places is None:
                result = update.added(rows, result)
            else:
                result[:, places] = update.added(rows[:, places], result[:, places])
        return result


class Adapters:
    """Those of one model. `load` and `drop` belong to the thread that loads, after the model itself was loaded; the
    rest to the device thread. get_folder: of an adapter's files, downloaded where they are not here."""

    def __init__(
        self, model: PreTrainedModel, get_folder: Callable[[AdapterSpec], Path], *, allow_pickle: bool = False
    ) -> None:
        self._model = model
        self._get_folder = get_folder
        self._allow_pickle = allow_pickle
        self._config = copy.deepcopy(model.config)
        self._at_work = _AtWork()
        self._loaded: dict[AdapterKey, Adapter] = {}
        self._dropped: set[AdapterKey] = set()
        self._mixing: frozenset[str] = frozenset()  # layers that see a packed row's tokens one by one, in order
        self.problems: dict[str, str] = {}  # of declared adapters, by name
        self._names = _surround(model, self._at_work)

    # Loading

    def load_declared(self, specs: Sequence[AdapterSpec]) -> None:
        """One that cannot be loaded is no harm to the model and the others."""
        for spec in specs:
            try:
                self.load(spec)
            except ModelFailed as error:
                self.problems[spec.id] = error.message

    @property
    def need_weights(self) -> bool:
        """Whether a loaded adapter computes with the linear layers' weights, which packing lets go of."""
        return any(_reads_weights(module) for one in self._loaded.values() for module in one.replaced.values())

    def load(self, spec: AdapterSpec) -> Adapter:
        """Raises ModelFailed with what is wrong with the adapter, NotServed for one that was dropped."""
        if spec.key in self._dropped:
            raise NotServed(f'The adapter "{spec.id}" was unloaded.', param="model")
        if spec.key in self._loaded:
            return self._loaded[spec.key]
        if spec.problem is not None:
            raise ModelFailed(f'The adapter "{spec.id}" cannot be used: {spec.problem}')
        folder = self._get_folder(spec)
        try:
            low_rank, replaced = self._read(folder)
        except _Unfit as error:
            raise ModelFailed(f'The adapter "{spec.id}" cannot be used: {error}') from error
        self._loaded[spec.key] = adapter = Adapter(spec, low_rank, replaced)
        return adapter

    def drop(self, key: AdapterKey) -> None:
        """Sequences that have it go on with it; nothing begins with it any more."""
        self._dropped.add(key)
        self._loaded.pop(key, None)

    def is_loaded(self, key: AdapterKey) -> bool:
        return key in self._loaded

    def get(self, spec: AdapterSpec) -> Adapter:
        """Any thread. Raises NotServed for one that was dropped."""
        adapter = self._loaded.get(spec.key)
        if adapter is None:
            raise NotServed(f'The adapter "{spec.id}" was unloaded.', param="model")
        return adapter

    def _read(self, folder: Path) -> tuple[dict[str, LowRank], dict[str, nn.Module]]:
        from peft import PeftConfig, PeftModel
        from peft.tuners.tuners_utils import BaseTunerLayer
        from peft.utils.other import AuxiliaryTrainingWrapper, ModulesToSaveWrapper

        try:
            config = PeftConfig.from_pretrained(str(folder))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise _Unfit(f"its adapter_config.json cannot be read: {_first_line(error)}") from error
        _check_kind(config)
        made_for = f"it was made for {config.base_model_name_or_path or 'another model'}"
        try:
            # PEFT warns of what is missing, which is looked at below, and of what transformers is to change.
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
        except (OSError, ValueError, TypeError, KeyError, RuntimeError, AttributeError, SafetensorError) as error:
            raise _Unfit(f"it does not fit this model ({made_for}): {_first_line(error)}") from error
        low_rank: dict[str, LowRank] = {}
        replaced: dict[str, nn.Module] = {}
        inside: tuple[str, ...] = ()
        for name, module in peft.get_base_model().named_modules():
            if name.startswith(inside) and inside:
                continue  # a part of one that was seen
            if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper):
                inside = (*inside, f"{name}.")
            if isinstance(module, BaseTunerLayer):
                self._check_base(name, module)
            if isinstance(module, ModulesToSaveWrapper):
                replaced[name] = self._placed(module.modules_to_save[_KEY], made_for, self._model.dtype)
            elif isinstance(module, AuxiliaryTrainingWrapper):
                raise _Unfit("it trains single tokens of the vocabulary, which this server does not compute.")
            elif isinstance(module, BaseTunerLayer) and (update := self._low_rank(name, module)) is not None:
                low_rank[name] = LowRank(
                    down=self._there(update.down, made_for),
                    up=self._there(update.up, made_for),
                    bias=None if update.bias is None else self._there(update.bias, made_for),
                    scaling=update.scaling,
                )
            elif isinstance(module, BaseTunerLayer):
                replaced[name] = self._around_own(name, cast(Any, module), made_for)
        return low_rank, replaced

    def _hollow(self) -> PreTrainedModel:
        """The model's modules around weights of one number each: PEFT finds names, shapes and device. In float32, in
        which PEFT has an adapter's weights compute: a lower type would round them first."""
        with torch.device("meta"):
            model: PreTrainedModel = type(self._model)(copy.deepcopy(self._config))
        for module in model.modules():
            for name, weight in module.named_parameters(recurse=False):
                hollow = torch.zeros(()).expand(weight.shape)
                module.register_parameter(name, nn.Parameter(hollow, requires_grad=False))
            for name, weight in module.named_buffers(recurse=False):
                module.register_buffer(name, torch.zeros((), dtype=weight.dtype).expand(weight.shape))
        return model.eval()

    def _low_rank(self, name: str, module: Any) -> LowRank | None:
        """If the layer is nothing but LoRA on a linear layer."""
        from peft.tuners.lora.layer import Linear

        if type(module) is not Linear or module.lora_variant or name not in self._names:
            return None
        down: Any = module.lora_A[_KEY]
        up: Any = module.lora_B[_KEY]
        return LowRank(down.weight, up.weight, up.bias, float(module.scaling[_KEY]))

    def _there(self, weight: torch.Tensor, made_for: str) -> torch.Tensor:
        """On the model's device. Raises _Unfit for one that the adapter's file does not have."""
        if _is_hollow(weight):
            raise _Unfit(f"its weights lack some that its config speaks of ({made_for}).")
        return weight.detach().to(self._model.device)

    def _placed(self, module: nn.Module, made_for: str, dtype: torch.dtype | None = None) -> nn.Module:
        for weight in module.parameters():
            self._there(weight, made_for)
        return module.requires_grad_(False).to(self._model.device, dtype).eval()

    def _own(self, name: str) -> nn.Module:
        own = self._model.get_submodule(name)
        layer: nn.Module = own.layer if isinstance(own, AdaptedLinear) else own
        return layer

    def _check_base(self, name: str, module: Any) -> None:
        """A file may hold the model's own weights (PEFT saves embeddings to be safe), but no others."""
        given = module.base_layer.state_dict()
        for key, weight in self._own(name).state_dict().items():
            if key not in given or _is_hollow(given[key]) or weight.is_meta:
                continue
            if not torch.equal(given[key].to(weight.dtype), weight.cpu()):
                raise _Unfit(f"it changes the model's own weights of {name}.")

    def _around_own(self, name: str, module: nn.Module, made_for: str) -> nn.Module:
        """PEFT's layer around the model's own module."""
        module.base_layer = nn.Identity()
        self._placed(module, made_for)
        module.base_layer = own = self._own(name)
        if getattr(own, "weight", torch.empty(0)).is_meta:
            raise _Unfit(
                "it computes with the model's weights as they are, and these are packed: declare the adapter in"
                " models.yaml, so that they are not."
            )
        return module

    def learn_mixing(self, forward: Callable[[int], object]) -> None:
        """Find out which layers may add other adapters to other tokens. forward: of one packed row of so many tokens,
        with the logits of the last."""
        num_tokens = 3
        seen: dict[str, list[torch.Size]] = {}
        handles = [
            self._model.get_submodule(name).register_forward_pre_hook(
                lambda module, inputs, name=name: seen.setdefault(name, []).append(inputs[0].shape[:-1])
            )
            for name in self._names
        ]
        try:
            forward(num_tokens)
        finally:
            for handle in handles:
                handle.remove()
        row = torch.Size((1, num_tokens))
        self._mixing = frozenset(name for name, shapes in seen.items() if shapes == [row])

    # At work

    def can_mix(self, adapter: Adapter | None) -> bool:
        """Whether its tokens may share a forward with those of others."""
        return adapter is None or (not adapter.replaced and self._mixing.issuperset(adapter.low_rank))

    @contextmanager
    def active(self, adapter: Adapter | None) -> Iterator[None]:
        """Within, all of a forward is the adapter's."""
        if adapter is None:
            yield
            return
        before = {name: self._model.get_submodule(name) for name in adapter.replaced}
        self._at_work.parts = [(adapter, None)]
        try:
            self._put(adapter.replaced)
            yield
        finally:
            self._put(before)
            self._at_work.parts = []

    def _put(self, modules: Mapping[str, nn.Module]) -> None:
        for name, module in modules.items():
            parent, _, leaf = name.rpartition(".")
            setattr(self._model.get_submodule(parent), leaf, module)

    @contextmanager
    def packed(self, runs: Sequence[tuple[Adapter | None, int]]) -> Iterator[None]:
        """Within, the tokens of a packed row are those of several adapters. runs: each one's number of tokens."""
        chosen = {adapter for adapter, _ in runs}
        if len(chosen) == 1:
            with self.active(chosen.pop()):
                yield
            return
        places: dict[Adapter, list[int]] = {}
        first = 0
        for adapter, num_tokens in runs:
            if adapter is not None:
                places.setdefault(adapter, []).extend(range(first, first + num_tokens))
            first += num_tokens
        self._at_work.parts = [
            (adapter, torch.tensor(own, device=self._model.device)) for adapter, own in places.items()
        ]
        try:
            yield
        finally:
            self._at_work.parts = []


def _surround(model: nn.Module, at_work: _AtWork) -> frozenset[str]:
    """Put a layer around each linear layer; their names."""
    names = []
    for name, layer in list(model.named_modules()):
        if type(layer) in (nn.Linear, Conv1D):
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, AdaptedLinear(layer, name, at_work))
            names.append(name)
    return frozenset(names)


class _Unfit(Exception):
    """Why an adapter cannot be used: the end of a sentence."""


def _check_kind(config: Any) -> None:
    """Raises _Unfit for what changes more than the model's modules."""
    kind = getattr(config.peft_type, "value", config.peft_type)
    if config.is_prompt_learning or config.is_adaption_prompt:
        raise _Unfit(f"{kind} puts tokens of its own before the prompt, which this server does not compute.")
    if getattr(config, "bias", "none") != "none":
        raise _Unfit(f"it trains the model's own biases (bias: {config.bias}), which all adapters share.")
    if getattr(config, "layer_replication", None):
        raise _Unfit("it repeats layers of the model (layer_replication).")
    if getattr(config, "alora_invocation_tokens", None):
        raise _Unfit("it begins in the midst of a prompt (alora_invocation_tokens).")
    if getattr(config, "megatron_config", None):
        raise _Unfit("it is for Megatron's layers (megatron_config).")
    beginning = getattr(config, "init_lora_weights", False)
    if isinstance(beginning, str) and beginning.lower().startswith(_CHANGE_THE_MODEL):
        raise _Unfit(
            f"it began by changing the model's own weights (init_lora_weights: {beginning}): have PEFT save it as one"
            " that does not (path_initial_model_for_weight_conversion)."
        )
    if beginning:
        config.init_lora_weights = False  # the weights come from its file


def _is_hollow(weight: torch.Tensor) -> bool:
    return weight.is_meta or weight.untyped_storage().nbytes() < weight.numel() * weight.element_size()


def _reads_weights(module: nn.Module) -> bool:
    """Whether it is one of PEFT's layers around a linear layer."""
    return isinstance(getattr(module, "base_layer", None), nn.Linear)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # torch's list of what does not fit begins in its second line.
    found = next((line for line in lines if line.startswith(("size mismatch", "Unexpected"))), "")
    return (found or (lines[0] if lines else type(error).__name__))[:_MAX_REASON_CHARS]
