"""Tokens as text, as they come: what is written is never taken back, and in the end it is all of the text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_INCOMPLETE = "\ufffd"


class TextWriter:
    """Writes one answer. tokenizer: only decodes.

    stops: texts that may end it; what may yet become one is held back. keeps_stop: whether the one that ended it is a
    part of the text. markers: special tokens whose text is written though others are skipped (those of tool calls).
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        stops: Sequence[str] = (),
        keeps_stop: bool = False,
        skips_special: bool = True,
        markers: frozenset[int] = frozenset(),
    ) -> None:
        self._tokenizer = tokenizer
        self._stops = stops
        self._keeps_stop = keeps_stop
        self._skips_special = skips_special
        self._markers = markers
        self._tokens: list[int] = []
        self._start = self._done = 0  # tokens[start:done] is the context of what comes
        self._held = ""

    def write(self, tokens: Sequence[int]) -> str:
        """What these tokens add that is certain to stay."""
        self._held += self._pieces(tokens)
        kept = max((_overlap(self._held, stop) for stop in self._stops), default=0)
        written = self._held[: len(self._held) - kept]
        self._held = self._held[len(written) :]
        return written

    def end(self, stop: str | None = None) -> str:
        """The rest. stop: the stop text that ended the answer."""
        rest = self._held + self._rest()
        self._held = ""
        place = rest.rfind(stop) if stop else -1  # an earlier one came before its time (min_tokens)
        if stop is None or place < 0:
            return rest
        return rest[: place + len(stop)] if self._keeps_stop else rest[:place]

    def _pieces(self, tokens: Sequence[int]) -> str:
        if not self._markers.intersection(tokens):
            return self._piece(tokens)
        text = ""
        first = 0
        for place, token in enumerate(tokens):
            if token in self._markers:
                text += self._piece(tokens[first:place]) + self._rest()
                text += self._tokenizer.decode([token], skip_special_tokens=False)
                self._start = self._done = len(self._tokens)
                first = place + 1
        return text + self._piece(tokens[first:])

    def _piece(self, tokens: Sequence[int]) -> str:
        """Some tokens before are decoded along: many tokenizers write a word otherwise at the start of a text."""
        self._tokens += tokens
        longer = self._decoded(self._tokens[self._start :])
        if longer.endswith(_INCOMPLETE):
            return ""
        before = self._decoded(self._tokens[self._start : self._done])
        self._start, self._done = self._done, len(self._tokens)
        return longer[len(before) :]

    def _rest(self) -> str:
        before = self._decoded(self._tokens[self._start : self._done])
        longer = self._decoded(self._tokens[self._start :])
        self._start, self._done = self._done, len(self._tokens)
        return longer[len(before) :]

    def _decoded(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=self._skips_special) if tokens else ""
        return text


def _overlap(text: str, stop: str) -> int:
    """The longest end of the text that a stop text begins with, or the whole stop and what is behind it."""
    place = text.find(stop)
    if place >= 0:
        return len(text) - place
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0


class TokenTexts:
    """What each token adds to a text; nothing while a character is not complete."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._writer = TextWriter(tokenizer, skips_special=False)

    def of(self, token: int, *, is_last: bool = False) -> str:
        text = self._writer.write([token])
        return text + self._writer.end() if is_last else text


def bytes_of(tokenizer: Any, token: int) -> bytes | None:
    """The bytes of a token that is a part of a character; None where that is not to be known.

    SentencePiece writes them `<0xE2>`; GPT-2's byte-level BPE has a letter for each byte.
    """
    name = tokenizer.convert_ids_to_tokens(token)
    if not isinstance(name, str):
        return None
    if len(name) == 6 and name.startswith("<0x") and name.endswith(">"):
        return bytes([int(name[3:5], 16)])
    if all(letter in _BYTE_OF_LETTER for letter in name):
        return bytes(_BYTE_OF_LETTER[letter] for letter in name)
    return None


def _letters() -> dict[str, int]:
    """GPT-2's letters: the printable bytes are themselves, the others follow from 256 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}


_BYTE_OF_LETTER = _letters()
