"""tokenize and decode: what a model's tokenizer makes of a text, and back. The device computes nothing for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from app.errors import InvalidInput, NotAvailable
from app.runtime.base import UNWATCHED, Item, Watch
from app.runtime.chat.reading import ChatReader
from app.runtime.multimodal.files import has_files
from app.runtime.parts import OwnStages, Parts, tokenizer_of
from app.runtime.tokenizing import BAD_INPUT, Tokenizers, check_tokens


class _TokenizerStages(OwnStages):
    """The answer is made in `prepare`; its item only carries it past the device."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        tokenizer = tokenizer_of(parts)
        if not isinstance(tokenizer, PreTrainedTokenizerBase):
            raise NotAvailable("This model has no tokenizer of its own.")
        self._tokenizers = parts.tokenizers or Tokenizers(tokenizer, lambda own: None)
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
    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._chats = ChatReader(parts)

    def _answer(self, one_input: Any, param: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
        if isinstance(one_input, str):
            has_special = parameters.get("add_special_tokens") is not False
            tokens = self._of_text(one_input, param, has_special=has_special)
        elif has_files(one_input["messages"]):
            ids = self._chats.row(one_input, param)["input_ids"][0].tolist()
            tokens = self._shown("", ids, [None] * len(ids))
        else:
            text = self._chats.format.render(one_input, param=f"{param}.messages")
            tokens = self._of_text(text, f"{param}.messages", has_special=bool(one_input.get("add_special_tokens")))
        if parameters.get("names"):
            names = self._tokenizer.convert_ids_to_tokens([token["id"] for token in tokens])
            return [{**token, "text": name} for token, name in zip(tokens, names, strict=True)]
        return tokens

    def _of_text(self, text: str, param: str, *, has_special: bool) -> list[dict[str, Any]]:
        tokenizer = self._tokenizer
        has_places = tokenizer.is_fast
        try:
            encoding = tokenizer(
                text,
                add_special_tokens=has_special,
                return_offsets_mapping=has_places,
                truncation=False,
                verbose=False,
            )
        except BAD_INPUT as error:
            raise InvalidInput(f"{param} cannot be tokenized: {error}", param=param) from error
        ids = encoding["input_ids"]
        return self._shown(text, ids, encoding["offset_mapping"] if has_places else [None] * len(ids))

    def _shown(self, text: str, ids: list[int], places: Sequence[tuple[int, int] | None]) -> list[dict[str, Any]]:
        special = set(self._tokenizer.all_special_ids)
        return [
            _token(text, token, name, place, is_special=token in special)
            for token, name, place in zip(ids, self._tokenizer.convert_ids_to_tokens(ids), places, strict=True)
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
