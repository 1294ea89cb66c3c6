"""How a request looks to a model that reads the prompt in an encoder: its answer begins with a token of the decoder's,
and perhaps with one that says the language."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedModel

from app.errors import InvalidInput


class EncoderDecoder:
    """longest: new tokens that the decoder has positions for, its start token aside; None: no limit."""

    def __init__(self, model: PreTrainedModel) -> None:
        config = model.generation_config
        starts = (config.decoder_start_token_id, config.bos_token_id, 0)
        self._start = next(token for one in starts if (token := _single(one)) is not None)
        self._first = _single(config.forced_bos_token_id)
        self._last = _single(config.forced_eos_token_id)
        positions = getattr(model.config, "max_position_embeddings", None)
        self.longest: int | None = None if positions is None else positions - 1

    def max_tokens(self, given: int | None, param: str, *, default: int) -> int:
        """Raises InvalidInput for more than there is room for. default: of which there may be less."""
        if self.longest is None:
            return default if given is None else given
        if given is not None and given > self.longest:
            raise InvalidInput(f"{param}: this model writes {self.longest} tokens at most.", param=param)
        return min(default, self.longest) if given is None else given

    def fields(
        self, tokens: Sequence[int], max_tokens: int, *, first: int | None = None, closes: bool = False
    ) -> dict[str, Any]:
        """Of a `GenerationRequest`. tokens: what the encoder reads. first: the answer's first token, unset: the model's
        own, if it has one. closes: whether an answer that is cut ends with the model's last token, if it has one."""
        forced = {}
        if closes and self._last is not None:
            forced[max_tokens - 1] = self._last
        first = self._first if first is None else first
        if first is not None:
            forced[0] = first
        return {"prompt": [self._start], "read": tokens, "forced": forced, "max_tokens": max_tokens}


def _single(token: Any) -> int | None:
    """Configurations write one token as a number or a list."""
    if isinstance(token, list | tuple):
        token = token[0] if token else None
    return None if token is None else int(token)
