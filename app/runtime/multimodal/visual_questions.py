"""visual-question-answering, which transformers 5 no longer has: heads that choose an answer, models that write one.

As the pipeline of transformers 4.57 answered: the best `top_k` labels by their sigmoid; what is written, as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL.Image import Image

from app.errors import InvalidInput, NotAvailable
from app.media.images import decode_image
from app.runtime.base import UNWATCHED, Item, Watch
from app.runtime.finite import require_finite
from app.runtime.generation.generator import Generated, GenerationOptions
from app.runtime.multimodal.writing import Page, WritingStages, about
from app.runtime.parts import Parts
from app.runtime.stacking import shape_of, stack
from app.runtime.tokenizing import Encoder
from app.runtime.vision.images import BAD_IMAGE, cost_of


class VisualQuestionStages(WritingStages):
    """One item per question."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._writes = bool(parts.model.can_generate())
        self._has_processor = hasattr(parts.processor, "image_processor")
        if not self._has_processor and (parts.image_processor is None or parts.tokenizers is None):
            raise NotAvailable("This model has neither a processor nor an image processor with a tokenizer.")
        self._encoder = None if parts.tokenizers is None else Encoder(parts.tokenizers, parts.limit)

    def release(self) -> None:
        """Hand the tokenizer on: these stages are not used any more."""
        if self._encoder is not None:
            self._encoder.release()

    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        if not self._writes and set(parameters) - {"top_k"}:
            name = f"parameters.{min(set(parameters) - {'top_k'})}"
            raise InvalidInput(f"{name}: this model chooses among known answers, it writes none.", param=name)
        items = []
        for index, one in enumerate(inputs):
            param = f"inputs[{index}]"
            image = decode_image(one["image"], self._parts.media, param=f"{param}.image")
            try:
                row = dict(self._row(image, one["question"]))
            except BAD_IMAGE as error:
                raise InvalidInput(f"{param}: the model's processor cannot take it: {error}.", param=param) from error
            items.append([self._item(row, parameters, param)])
        return items

    def _item(self, row: dict[str, Any], parameters: Mapping[str, Any], param: str) -> Item:
        if self._writes:
            given = {name: value for name, value in parameters.items() if name != "top_k"}
            return self._page(row, self._options(given, wants_logprobs=True), None, param)
        return Item(Page(row, GenerationOptions()), cost_of(row), shape_of(row))

    def _row(self, image: Image, question: str) -> Mapping[str, Any]:
        row: Mapping[str, Any]
        if self._has_processor and getattr(self._processor, "chat_template", None):
            row = self._chat_row(about(image, question))
        elif self._has_processor:
            row = self._processor(images=image, text=question, return_tensors="pt")
        else:
            assert self._encoder is not None, "Seen to when the stages were made. This is a bug."
            (tokens,) = self._encoder.encode([question], truncate=True)
            pixels = self._parts.image_processor(images=image, return_tensors="pt")
            row = {**{name: torch.tensor([values]) for name, values in tokens.items()}, **pixels}
        return row

    def forward(self, items: Sequence[Item], watch: Watch = UNWATCHED) -> list[Any]:
        """Logits of the known answers, float32 on CPU: [answers]; or what was written."""
        return super().forward(items, watch) if self._writes else list(self._logits(items))

    @torch.inference_mode()
    def _logits(self, items: Sequence[Item]) -> torch.Tensor:
        inputs = stack([item.features.row for item in items], self._model.device, self._model.dtype)
        logits: torch.Tensor = self._model(**inputs).logits.float().cpu()
        return logits

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> list[dict[str, Any]]:
        (output,) = outputs
        if self._writes:
            return [{"answer": self._text(one), "score": _probability(one)} for one in output]
        require_finite(output)
        top_k = min(parameters.get("top_k", 5), len(output))
        scores, chosen = output.sigmoid().topk(top_k)
        names = self._model.config.id2label
        return [
            {"answer": names[index], "score": score}
            for score, index in zip(scores.tolist(), chosen.tolist(), strict=True)
        ]


def _probability(written: Generated) -> float:
    """The mean of its tokens', in the sense of their product."""
    logprobs = written.logprobs or [0.0]
    return math.exp(sum(logprobs) / len(logprobs))
