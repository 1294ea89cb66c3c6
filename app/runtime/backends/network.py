"""A compiled network in the place of a transformers model: the stages call it and read it the same way."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from inspect import Parameter, Signature
from typing import Any, Protocol

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from app.errors import ModelFailed

logger = logging.getLogger(__name__)


class Session(Protocol):
    """What a library made of an exported network. Used on the device thread alone.

    inputs, outputs: their names in the file; inputs with the dtype that each must have. num_threads: for good, no
    library can change them.
    """

    num_threads: int
    inputs: Mapping[str, torch.dtype]
    outputs: tuple[str, ...]

    def run(self, inputs: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """inputs: all of them, contiguous, on CPU. The answer's tensors, on CPU, are the caller's to keep."""
        ...


class ExportedNetwork(nn.Module):
    """Inputs and outputs are on CPU wherever the session computes.

    skeleton: the transformers model without weights (on the meta device), asked for whatever does not compute: its
    config, its limits, the lengths of its outputs.
    """

    def __init__(
        self,
        session: Session,
        skeleton: PreTrainedModel,
        outputs: Mapping[str, str],
        open_again: Callable[[int], Session],
    ) -> None:
        """outputs: the names that the stages ask for -> those in the file, in the order of transformers' output.
        open_again: the same file with so many threads; raises ModelFailed."""
        super().__init__()
        self._session = session
        self._open_again = open_again
        self._outputs = dict(outputs)
        object.__setattr__(self, "_skeleton", skeleton)  # not a submodule: its weights are nowhere
        self.device = torch.device("cpu")
        self.dtype = torch.float32  # of floating inputs
        self.forward = _with_signature(self._compute, session)  # the collator reads it

    @property
    def config(self) -> PretrainedConfig:
        return self._skeleton.config

    @property
    def input_names(self) -> tuple[str, ...]:
        """Stages ask whether there is an attention mask among them."""
        return tuple(self._session.inputs)

    @property
    def base_model(self) -> ExportedNetwork:
        return self

    def can_generate(self) -> bool:
        return False

    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self._skeleton.parameters())

    def named_modules(self, *arguments: Any, **options: Any) -> Any:
        return self._skeleton.named_modules(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        if name == "_skeleton":
            raise AttributeError(name)
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self._skeleton, name)

    def set_num_threads(self, num_threads: int) -> None:
        """Computes with as many from now on, if that is more than so far. For fewer it is left as it is: to open a
        network takes as long as a large forward, at every turn of a neighbour, and threads that wait for a core do not
        slow it down as those of OpenMP do (docs/lab-log.md)."""
        if num_threads <= self._session.num_threads:
            return
        try:
            self._session = self._open_again(num_threads)
        except ModelFailed as error:  # the file is gone, say: what is open computes on
            logger.warning("goes on with %d compute threads: %s", self._session.num_threads, error)

    def _compute(self, **inputs: Any) -> ModelOutput:
        given = {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor)}
        found = self._session.run(self._as_in_the_file(given))
        return ModelOutput({name: found[stored] for name, stored in self._outputs.items()})

    def _as_in_the_file(self, given: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        unknown = {name for name in given.keys() - self._session.inputs.keys() if not _hides_nothing(name, given[name])}
        if unknown:
            raise ValueError(f"The exported network has no input {', '.join(sorted(unknown))}. This is a bug.")
        inputs = {}
        for name, dtype in self._session.inputs.items():
            value = given[name] if name in given else _default(name, given)
            inputs[name] = value.to(dtype).contiguous()
        return inputs


def in_place_of(
    skeleton: PreTrainedModel, session: Session, outputs: Mapping[str, str], open_again: Callable[[int], Session]
) -> ExportedNetwork:
    """Named as the model's class, which transformers' pipelines look for in their lists."""
    named: type[ExportedNetwork] = type(type(skeleton).__name__, (ExportedNetwork,), {})
    return named(session, skeleton, outputs, open_again)


def _with_signature(compute: Any, session: Session) -> Any:
    def forward(**inputs: Any) -> ModelOutput:
        output: ModelOutput = compute(**inputs)
        return output

    parameters = [Parameter(name, Parameter.KEYWORD_ONLY) for name in session.inputs]
    forward.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    return forward


def _hides_nothing(name: str, value: torch.Tensor) -> bool:
    """A mask of an image or a sound without padding: many exports have no input for it."""
    return name.endswith("_mask") and bool(value.all())


def _default(name: str, given: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """What transformers itself takes for an input that a tokenizer does not give."""
    tokens = given.get("input_ids")
    if tokens is not None and name == "token_type_ids":
        return torch.zeros_like(tokens)
    if tokens is not None and name == "position_ids":
        return torch.arange(tokens.shape[1])[None].expand_as(tokens)
    raise ValueError(f"The exported network wants the input {name}, which this model's preprocessor does not make.")


def outputs_for(wanted: tuple[str, ...], session: Session, *, file_name: str, task: str) -> dict[str, str]:
    """Where the file has what the stages ask for. wanted: with "?" what they can do without. Raises ModelFailed."""
    found = {}
    for name in wanted:
        names = (name.removesuffix("?"), *_OTHER_NAMES.get(name.removesuffix("?"), ()))
        stored = next((one for one in names if one in session.outputs), None)
        if stored is not None:
            found[names[0]] = stored
        elif not name.endswith("?"):
            raise ModelFailed(
                f"{file_name} gives {', '.join(session.outputs)}; {task} needs {names[0]}: name another export of the"
                " model by file_name."
            )
    if not found:
        raise ModelFailed(
            f"{file_name} gives {', '.join(session.outputs)}, nothing that {task} reads: name another export of the"
            " model by file_name."
        )
    return found


_OTHER_NAMES = {"last_hidden_state": ("token_embeddings",)}  # sentence-transformers'
