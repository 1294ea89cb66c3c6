"""The stages of decision: transformers' pipeline, one request at a time.

Its prompts have marks in them that differ from request to request, so that nothing can be stacked; the pipeline says
itself that it does not batch.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch

from app.errors import InvalidInput, NotAvailable
from app.media.images import decode_image
from app.runtime.base import UNWATCHED, Item, Watch
from app.runtime.finite import require_finite
from app.runtime.parts import OwnStages, Parts
from app.runtime.tokenizing import BAD_INPUT


class DecisionStages(OwnStages):
    """One item per request, which may hold several questions."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        try:
            from transformers import DecisionPipeline  # noqa: F401  # transformers 4.57 has none
        except ImportError:
            raise NotAvailable("decision needs transformers 5.23 or newer.") from None

    @cached_property
    def _pipeline(self) -> Any:
        """Of this thread: it puts tokens of its own into its tokenizer."""
        from transformers import DecisionPipeline

        sees = hasattr(self._parts.processor, "image_processor")
        return DecisionPipeline(
            model=self._model,
            tokenizer=copy.deepcopy(self._parts.require_tokenizers().shared),
            processor=copy.deepcopy(self._parts.processor) if sees else None,
            device=self._parts.device,
            decision_config=str(self._parts.folder),
        )

    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        return [[self._item(one, f"inputs[{index}]")] for index, one in enumerate(inputs)]

    def _item(self, one_input: Mapping[str, Any], param: str) -> Item:
        assets = {
            name: decode_image(data, self._parts.media, param=f"{param}.assets.{name}")
            for name, data in (one_input.get("assets") or {}).items()
        }
        request = {**one_input, "assets": assets} if assets else dict(one_input)
        try:
            features = self._pipeline.preprocess(request)
        except (*BAD_INPUT, AttributeError) as error:
            raise InvalidInput(f"{param}: {error}", param=param) from error
        num_tokens = sum(int(inputs["input_ids"].shape[1]) for inputs, _ in features["prompts"])
        return Item(features, num_tokens, object())

    @torch.inference_mode()
    def forward(self, items: Sequence[Item], watch: Watch = UNWATCHED) -> list[Any]:
        """Scores of each question's options, on CPU."""
        return [self._pipeline.forward(dict(item.features)) for item in items]

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> dict[str, Any]:
        (output,) = outputs
        for scores in output["scores"]:
            for score in scores:
                require_finite(score)
        answers: dict[str, Any] = self._pipeline.postprocess(output)
        return answers
