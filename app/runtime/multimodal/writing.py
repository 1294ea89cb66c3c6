"""What the tasks share that write about files: rows of a processor, generated together where they agree."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from PIL.Image import Image

from app.errors import InputTooLarge, InvalidInput
from app.runtime.base import UNWATCHED, Item, Watch
from app.runtime.generation.generator import DEFAULT_MAX_NEW_TOKENS, Generated, GenerationOptions, Generator
from app.runtime.parts import OwnStages, Parts, tokenizer_of
from app.runtime.stacking import Row, shape_of, stack
from app.runtime.vision.images import cost_of

NOT_FOR_GENERATE = frozenset({"seed", "max_new_tokens", "max_length", "return_full_text", "generation_mode"})


@dataclass(frozen=True, slots=True)
class Page:
    """row: the model's inputs. given: what the request sent, for the answer."""

    row: Row
    options: GenerationOptions
    given: Any = None


class WritingStages(OwnStages):
    """Subclasses make pages of inputs, and answers of what was written."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._tokenizer = tokenizer_of(parts)

    @cached_property
    def _generator(self) -> Generator:
        return Generator(self._model, self._tokenizer)

    @cached_property
    def _processor(self) -> Any:
        """Of this thread: encoding sets truncation and padding inside its tokenizer."""
        return copy.deepcopy(self._parts.processor)

    def _chat_row(self, messages: list[dict[str, Any]]) -> Mapping[str, Any]:
        """Through the model's chat template; files stand decoded in their parts."""
        row: Mapping[str, Any] = self._processor.apply_chat_template(
            messages, tokenize=True, return_dict=True, return_tensors="pt", add_generation_prompt=True
        )
        return row

    def _page(self, row: Mapping[str, Any], options: GenerationOptions, given: Any, param: str) -> Item:
        tensors = {name: value for name, value in row.items() if isinstance(value, torch.Tensor)}
        num_tokens = int(tensors["input_ids"].shape[1]) if "input_ids" in tensors else 0
        limit = self._parts.limit or _positions(self._model)
        if limit is not None and num_tokens >= limit:
            raise InputTooLarge(
                f"{param} has {num_tokens} tokens, files included; the limit is {limit - 1}.", param=param
            )
        options = self._within(options, num_tokens)
        cost = cost_of(tensors) + num_tokens + options.max_new_tokens
        group: Hashable = (shape_of(tensors), options.group)
        return Item(Page(tensors, options, given), cost, group)

    def _options(self, parameters: Mapping[str, Any], **more: Any) -> GenerationOptions:
        values = {name: value for name, value in parameters.items() if name not in NOT_FOR_GENERATE}
        if values.get("temperature") == 0:
            values |= {"do_sample": False, "temperature": 1.0}
        limit = parameters.get("max_new_tokens") or parameters.get("max_length") or self._own_limit()
        return GenerationOptions(values=values, max_new_tokens=limit, seed=parameters.get("seed"), **more)

    def _within(self, options: GenerationOptions, num_tokens: int) -> GenerationOptions:
        """No more new tokens than there are positions. Raises InvalidInput where more are asked for by name."""
        decoder = getattr(self._model.config, "decoder", None)
        positions = (
            getattr(decoder, "max_position_embeddings", None) if decoder is not None else _positions(self._model)
        )
        if positions is None:
            return options
        room = max(1, positions - max(1, num_tokens))
        if options.max_new_tokens <= room:
            return options
        if options.max_new_tokens != self._own_limit():
            name = "parameters.max_new_tokens"
            raise InvalidInput(f"{name}: there is room for {room} tokens in this answer.", param=name)
        return replace(options, max_new_tokens=room)

    def _own_limit(self) -> int:
        """As the model's generation_config says; 20 is transformers' word for nothing."""
        config = self._model.generation_config
        if config.max_new_tokens is not None:
            return int(config.max_new_tokens)
        own = config.max_length
        return int(own) if own is not None and own != 20 else DEFAULT_MAX_NEW_TOKENS

    def forward(self, items: Sequence[Item], watch: Watch = UNWATCHED) -> list[Any]:
        """What was written on each page; [] where nobody waits for it."""
        pages: list[Page] = [item.features for item in items]
        inputs = stack([page.row for page in pages], self._model.device, self._model.dtype)
        return self._generator.generate(inputs, [page.options for page in pages], watch)

    def _text(self, written: Generated) -> str:
        text: str = self._tokenizer.decode(written.tokens, skip_special_tokens=True)
        return text.strip()


def about(image: Image, text: str) -> list[dict[str, Any]]:
    """A conversation that begins with a text about an image."""
    return [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": text}]}]


def _positions(model: Any) -> int | None:
    config = getattr(model.config, "text_config", model.config)
    positions = getattr(config, "max_position_embeddings", None)
    return positions if isinstance(positions, int) and positions > 0 else None
