"""The stages of document-question-answering: spans of a document's words (LayoutLM), or an answer written (Donut)."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from transformers import DocumentQuestionAnsweringPipeline

from app.errors import InvalidInput, NotAvailable
from app.media.images import decode_image
from app.runtime.base import UNWATCHED, Item, Watch
from app.runtime.finite import require_finite
from app.runtime.generation.generator import GenerationOptions, Generator
from app.runtime.parts import OwnStages, Parts
from app.runtime.stacking import Row, shape_of, stack, unstack
from app.runtime.vision.images import BAD_IMAGE, cost_of

_PREPROCESS = ("doc_stride", "max_seq_len", "lang")
_POSTPROCESS = ("top_k", "max_answer_len", "handle_impossible_answer")
MAX_WINDOWS = 256


@dataclass(frozen=True, slots=True)
class Window:
    """row: the model's inputs. extras: what the pipeline's `postprocess` reads beside the output."""

    row: Row
    extras: dict[str, Any]
    options: GenerationOptions | None = None


class DocumentQuestionStages(OwnStages):
    """One item per window of the document; windows of equal length share a forward."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._writes = parts.model.config.model_type == "vision-encoder-decoder"

    @cached_property
    def _generator(self) -> Generator:
        return Generator(self._model, self._parts.require_tokenizers().shared)

    @cached_property
    def _pipeline(self) -> Any:
        """With a tokenizer of this thread: encoding sets truncation inside it."""
        return DocumentQuestionAnsweringPipeline(
            model=self._model,
            tokenizer=copy.deepcopy(self._parts.require_tokenizers().shared),
            image_processor=self._parts.image_processor,
            feature_extractor=None,
            device=self._parts.device,
        )

    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        return [self._items(one, parameters, f"inputs[{index}]") for index, one in enumerate(inputs)]

    def _items(self, one_input: Mapping[str, Any], parameters: Mapping[str, Any], param: str) -> list[Item]:
        image = decode_image(one_input["image"], self._parts.media, param=f"{param}.image")
        question = self._shortened(one_input["question"], parameters.get("max_question_len"))
        given: dict[str, Any] = {"image": image, "question": question}
        if "word_boxes" in parameters:
            given["word_boxes"] = parameters["word_boxes"]
        elif not self._writes:
            _require_tesseract()
        options = {name: parameters[name] for name in _PREPROCESS if name in parameters}
        try:
            windows = list(self._pipeline.preprocess(given, **options))
        except BAD_IMAGE as error:
            raise InvalidInput(f"{param}: the document cannot be read: {error}.", param=param) from error
        if len(windows) > MAX_WINDOWS:
            raise InvalidInput(f"{param}: the document has more than {MAX_WINDOWS} windows.", param=param)
        return [self._written_item(window) if self._writes else self._item(window) for window in windows]

    def _shortened(self, question: str, max_tokens: int | None) -> str:
        """To so many tokens (the pipeline names the parameter and fails on it)."""
        if max_tokens is None:
            return question
        tokenizer = self._pipeline.tokenizer
        ids = tokenizer(question, add_special_tokens=False)["input_ids"] if not self._writes else []
        return tokenizer.decode(ids[:max_tokens]) if len(ids) > max_tokens else question

    def _item(self, window: dict[str, Any]) -> Item:
        extras = {name: window.pop(name) for name in ("p_mask", "word_ids", "words", "is_last")}
        return Item(Window(window, extras), cost_of(window), shape_of(window))

    def _written_item(self, window: dict[str, Any]) -> Item:
        row = {"pixel_values": window["inputs"], "decoder_input_ids": window["decoder_input_ids"]}
        options = GenerationOptions(max_new_tokens=self._own_limit(window["decoder_input_ids"].shape[1]))
        return Item(Window(row, {}, options), cost_of(row), (shape_of(row), options.group))

    def _own_limit(self, num_prompt_tokens: int) -> int:
        config = self._model.generation_config
        most = config.max_new_tokens or (config.max_length or 20) - num_prompt_tokens
        positions = getattr(self._model.config.decoder, "max_position_embeddings", None)
        if config.max_new_tokens is None and (config.max_length in (None, 20)) and positions:
            most = positions - num_prompt_tokens
        return max(1, int(most))

    @torch.inference_mode()
    def forward(self, items: Sequence[Item], watch: Watch = UNWATCHED) -> list[Any]:
        """Logits of each window's starts and ends, or what was written."""
        windows: list[Window] = [item.features for item in items]
        inputs = stack([window.row for window in windows], self._model.device, self._model.dtype)
        if self._writes:
            return self._generator.generate(inputs, [one.options for one in windows if one.options], watch)
        return unstack(self._model(**inputs), len(items))

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> list[dict[str, Any]]:
        if self._writes:
            (written,) = outputs
            return [{"answer": self._answer(one.tokens)} for one in written]
        found = []
        for item, output in zip(items, outputs, strict=True):
            require_finite(output["start_logits"])
            require_finite(output["end_logits"])
            window: Window = item.features
            mask = window.row.get("attention_mask")
            logits = {name: output[name] for name in ("start_logits", "end_logits")}
            found.append({**logits, **window.extras, "attention_mask": mask})
        options = {name: parameters[name] for name in _POSTPROCESS if name in parameters}
        answers: list[dict[str, Any]] = self._pipeline.postprocess(found, **options)
        return [{**answer, "score": float(answer["score"])} for answer in answers]

    def _answer(self, tokens: Sequence[int]) -> str:
        """What stands before the end of the answer; all of it where the model never ended it."""
        text: str = self._parts.require_tokenizers().shared.decode(list(tokens), skip_special_tokens=False)
        return re.sub(r"<[^<>]*>", "", text.split("</s_answer>")[0]).strip()


def _require_tesseract() -> None:
    from transformers.pipelines.document_question_answering import TESSERACT_LOADED

    if not TESSERACT_LOADED:
        raise NotAvailable(
            "Reading the words of an image needs pytesseract and Tesseract, which are not installed; send the words as"
            " parameters.word_boxes."
        )
