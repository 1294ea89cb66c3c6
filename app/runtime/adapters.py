"""LoRA and PEFT's other adapters on one copy of a model's weights.

Low-rank updates of linear layers (LoRA, rsLoRA, ranks and scales by layer) are added by the layer that stands around
each linear layer (`AdaptedLinear`), to all tokens of a forward or to some: tokens of several adapters, and of none,
share a forward. Whatever else PEFT puts into a model (DoRA, IA3, embeddings, a trained head) takes the place of the
module that it stands for while its adapter is at work: such an adapter has its forwards for itself.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from app.catalog import AdapterKey, AdapterSpec
from app.errors import ModelFailed, NotServed
from app.runtime.adapter_files import AdapterParts, AdapterReader, Unfit


@dataclass(eq=False, slots=True)
class Adapter:
    """One that is loaded; two of them are never equal, whatever their names."""

    spec: AdapterSpec
    parts: AdapterParts

    @property
    def key(self) -> AdapterKey:
        return self.spec.key


@dataclass(slots=True)
class _AtWork:
    """Which adapters the next forward adds. places: of each one's tokens; None: all."""

    parts: list[tuple[Adapter, torch.Tensor | None]] = field(default_factory=list)


class AdaptedLinear(nn.Module):
    """A linear layer, packed or not, with what the adapters at work add to it."""

    def __init__(self, layer: nn.Module, name: str, at_work: _AtWork) -> None:
        super().__init__()
        self.layer = layer
        self._name = name
        self._at_work = at_work

    def __getattr__(self, name: str) -> Any:
        """Models look at a layer's weight and sizes. `layer`: packing puts another in its place."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.layer(rows)
        for adapter, places in self._at_work.parts:
            update = adapter.parts.low_rank.get(self._name)
            if update is None:
                continue
            if places is None:
                result = update.added(rows, result)
            else:
                result[:, places] = update.added(rows[:, places], result[:, places])
        return result


class Adapters:
    """Those of one model. One thread loads; `drop`, `is_loaded` and `get` are any thread's; what is at work belongs to
    the device thread. get_folder: of an adapter's files, downloaded where they are not here."""

    def __init__(
        self,
        model: PreTrainedModel,
        get_folder: Callable[[AdapterSpec], Path],
        *,
        dtype: torch.dtype,
        allow_pickle: bool = False,
    ) -> None:
        """dtype: in which the model will compute. The weights are not packed yet."""
        self._model = model
        self._get_folder = get_folder
        self._at_work = _AtWork()
        self._loaded: dict[AdapterKey, Adapter] = {}
        self._dropped: set[AdapterKey] = set()
        self._mixing: frozenset[str] = frozenset()  # layers that see a packed row's tokens one by one, in order
        self.problems: dict[str, str] = {}  # of declared adapters, by name
        self._names = _surround(model, self._at_work)
        # The model's own, whatever stands in their places while another thread loads.
        self._modules = dict(model.named_modules())
        self._reader = AdapterReader(model, self._own, self._names, dtype=dtype, allow_pickle=allow_pickle)
        importlib.import_module("peft")  # slow: not while others compute

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
        return any(one.parts.need_weights for one in self._loaded.values())

    def load(self, spec: AdapterSpec) -> Adapter:
        """Raises ModelFailed with what is wrong with the adapter, NotServed for one that was dropped."""
        if spec.key in self._loaded or spec.key in self._dropped:
            return self.get(spec)
        if spec.problem is not None:
            raise ModelFailed(f'The adapter "{spec.id}" cannot be used: {spec.problem}')
        folder = self._get_folder(spec)
        try:
            parts = self._reader.read(folder)
        except Unfit as error:
            raise ModelFailed(f'The adapter "{spec.id}" cannot be used: {error}') from error
        if spec.key not in self._dropped:
            self._loaded[spec.key] = Adapter(spec, parts)
        return self.get(spec)

    def drop(self, key: AdapterKey) -> None:
        """Sequences that have it go on with it; nothing begins with it any more."""
        self._dropped.add(key)
        self._loaded.pop(key, None)

    def is_loaded(self, key: AdapterKey) -> bool:
        return key in self._loaded

    def get(self, spec: AdapterSpec) -> Adapter:
        """Raises NotServed for one that was dropped."""
        adapter = self._loaded.get(spec.key)
        if adapter is None:
            raise NotServed(f'The adapter "{spec.id}" was unloaded.', param="model")
        return adapter

    def _own(self, name: str) -> nn.Module:
        own = self._modules[name]
        layer: nn.Module = own.layer if isinstance(own, AdaptedLinear) else own
        return layer

    def learn_mixing(self, forward: Callable[[int], object]) -> None:
        """Find out which layers may add other adapters to other tokens. forward: of one packed row of so many tokens,
        with the logits of the last."""
        num_tokens = 3
        seen: dict[str, list[torch.Size]] = {}
        handles = [
            self._modules[name].register_forward_pre_hook(
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
        return adapter is None or (not adapter.parts.replaced and self._mixing.issuperset(adapter.parts.low_rank))

    @contextmanager
    def active(self, adapter: Adapter | None) -> Iterator[None]:
        """Within, all of a forward is the adapter's."""
        if adapter is None:
            yield
            return
        before = {name: self._modules[name] for name in adapter.parts.replaced}
        self._at_work.parts = [(adapter, None)]
        try:
            self._put(adapter.parts.replaced)
            yield
        finally:
            self._put(before)
            self._at_work.parts = []

    def _put(self, modules: Mapping[str, nn.Module]) -> None:
        for name, module in modules.items():
            parent, _, leaf = name.rpartition(".")
            setattr(self._modules[parent], leaf, module)

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
