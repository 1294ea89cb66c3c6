"""What a loaded model is made of, and what all stages that compute with it share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from app.media.limits import MediaLimits
from app.runtime.adapters import Adapters
from app.runtime.base import UNWATCHED, Item, Watch
from app.runtime.generation.engine import WholeEngine
from app.runtime.tokenizing import Tokenizers


@dataclass(kw_only=True)
class Parts:
    """A model on its device with its preprocessors, those that its tasks need. Shared by threads: never changed.

    A processor whose tokenizer is called must be a copy of one's own (`copy.deepcopy`); image processors and feature
    extractors keep no state. limit: tokens that model and tokenizer take, None if there is no limit. engine: what
    generates texts, where a task of the model's does. adapters: where the model may have some.
    """

    model: PreTrainedModel
    folder: Path
    tokenizers: Tokenizers | None = None
    limit: int | None = None
    image_processor: Any = None
    feature_extractor: Any = None
    video_processor: Any = None
    processor: Any = None
    vocoder: Any = None
    media: MediaLimits = field(default_factory=MediaLimits)
    engine: WholeEngine | None = None
    adapters: Adapters | None = None

    @cached_property
    def device(self) -> Any:
        return self.model.device

    @property
    def max_length(self) -> int | None:
        """Tokens of one text, prompt and answer: as many as the model takes and as there is memory for."""
        longest = None if self.engine is None else self.engine.longest
        limits = [one for one in (self.limit, longest) if one is not None]
        return min(limits, default=None)

    @property
    def vocabulary_size(self) -> int:
        """Logits of a model that generates: often more than its tokenizer has tokens."""
        return int(self.model.get_output_embeddings().weight.shape[0])

    def require_tokenizers(self) -> Tokenizers:
        """For tasks that are nothing without a tokenizer; the loader has seen to it that there is one."""
        assert self.tokenizers is not None, "A text task was loaded without a tokenizer. This is a bug."
        return self.tokenizers


class OwnStages(ABC):
    """One task on one loaded model, for one thread: see `Stages`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._model = parts.model

    @abstractmethod
    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]: ...

    @abstractmethod
    def forward(self, items: Sequence[Item], watch: Watch = UNWATCHED) -> list[Any]: ...

    @abstractmethod
    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> Any: ...

    def release(self) -> None:  # noqa: B027  # most have nothing to hand on
        """Hand on what another thread's stages may use: these are not used any more."""


def tokenizer_of(parts: Parts) -> Any:
    """For decoding alone: threads share it."""
    if parts.tokenizers is not None:
        return parts.tokenizers.shared
    return getattr(parts.processor, "tokenizer", parts.processor)
