"""tokenize and decode: what a model's tokenizer makes of a text, and back. The device computes nothing for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from app.errors import InvalidInput, NotAvailable
from app.runtime.base import UNWATCHED, Item, Watch
from app.runtime.parts import OwnStages, Parts
from app.runtime.tokenizing import BAD_INPUT, check_tokens


class _TokenizerStages(OwnStages):
    """The answer is made in `prepare`; its item only carries it past the device."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        if parts.tokenizers is None:
            raise NotAvailable("This model has no tokenizer of its own.")
        self._tokenizers = parts.tokenizers
        self._own: PreTrainedTokenizerBase | None = None

    @property
    def _tokenizer(self) -> PreTrainedTokenizerBase:
        if self._own is None:
            self._own = self._tokenizers.take()
        return self._own

    def release(self) -> None:
        if self._own is not None:
            self._tokenizers.give_back(self._own)
            self._own = None

    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        return [[Item(self._answer(one, f"inputs[{index}]", parameters), 1)] for index, one in enumerate(inputs)]

    def _answer(self, one_input: Any, param: str, parameters: dict[str, Any]) -> Any:
        raise NotImplementedError

    def forward(self, items: Sequence[Item], watch: Watch = UNWATCHED) -> list[Any]:
        return [None for _ in items]

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> Any:
        return items[0].features


class TokenizeStages(_TokenizerStages):
    def _answer(self, one_input: str, param: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
        tokenizer = self._tokenizer
        has_places = tokenizer.is_fast
        try:
            encoding = tokenizer(
                one_input,
                add_special_tokens=parameters.get("add_special_tokens") is not False,
                return_offsets_mapping=has_places,
                truncation=False,
                verbose=False,
            )
        except BAD_INPUT as error:
            raise InvalidInput(f"{param} cannot be tokenized: {error}", param=param) from error
        ids = encoding["input_ids"]
        places = encoding["offset_mapping"] if has_places else [None] * len(ids)
        special = set(tokenizer.all_special_ids)
        return [
            _token(one_input, token, name, place, is_special=token in special)
            for token, name, place in zip(ids, tokenizer.convert_ids_to_tokens(ids), places, strict=True)
        ]


def _token(text: str, token: int, name: str, place: tuple[int, int] | None, *, is_special: bool) -> dict[str, Any]:
    """A special token stands for no part of the text; a slow tokenizer does not say for which part a token stands."""
    if place is None or (is_special and place[0] == place[1]):
        return {"id": token, "text": name, "special": is_special, "start": None, "stop": None}
    start, stop = place
    return {"id": token, "text": text[start:stop], "special": is_special, "start": start, "stop": stop}


class DecodeStages(_TokenizerStages):
    def _answer(self, one_input: list[int], param: str, parameters: dict[str, Any]) -> str:
        check_tokens(one_input, len(self._tokenizer), param)
        skips = parameters.get("skip_special_tokens") is not False
        text = self._tokenizer.decode(one_input, skip_special_tokens=skips)
        assert isinstance(text, str), "One list of tokens is one text. This is a bug."
        return text
