"""Texts -> rows of token ids, many in one call, and the check that they are not too long."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.pipelines.base import PipelineException

from app.errors import InputTooLarge, InvalidInput

Row = dict[str, Any]
"""One row of a forward: a list of one value per token for each of the tokenizer's outputs, `input_ids` among them."""

BAD_INPUT = (ValueError, TypeError, KeyError, IndexError, PipelineException)
"""What transformers raises for an input or parameter that it cannot take; they have no common base."""

_UNLIMITED = 1_000_000
"""Tokenizers that know no limit have a `model_max_length` of 1e30."""


class Tokenizers:
    """One tokenizer, and copies of it for those who encode.

    Encoding sets truncation and padding inside a fast tokenizer, so two threads that share one get wrong results
    without an error; decoding and looking at the vocabulary may be shared. A copy costs 35 ms for BERT's vocabulary
    and much more for multilingual ones, so it is made when first needed, and a copy that is no longer needed goes to
    the next who asks. (A deque's operations are atomic.)
    """

    def __init__(self, shared: PreTrainedTokenizerBase, adapt: Callable[[PreTrainedTokenizerBase], None]) -> None:
        """adapt: changes that only encoding sees, made to each copy."""
        self.shared = shared
        self._adapt = adapt
        self._spare: deque[PreTrainedTokenizerBase] = deque()

    def take(self) -> PreTrainedTokenizerBase:
        """A tokenizer that belongs to the caller's thread."""
        try:
            return self._spare.popleft()
        except IndexError:
            tokenizer = copy.deepcopy(self.shared)
            self._adapt(tokenizer)
            return tokenizer

    def give_back(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._spare.append(tokenizer)


class Encoder:
    """Encodes for one thread, with a tokenizer of its own. limit: tokens that the model takes, None if unlimited."""

    def __init__(self, tokenizers: Tokenizers, limit: int | None) -> None:
        self._tokenizers = tokenizers
        self.limit = limit

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self._tokenizers.take()

    def release(self) -> None:
        """Hand the tokenizer on: this encoder is not used any more."""
        if "tokenizer" in self.__dict__:
            self._tokenizers.give_back(self.__dict__.pop("tokenizer"))

    def encode(
        self,
        texts: Sequence[Any],
        pairs: Sequence[str] | None = None,
        *,
        owners: Sequence[int] | None = None,
        truncate: bool = False,
        strategy: str = "longest_first",
        side: str | None = None,
        stride: int | None = None,
        **options: Any,
    ) -> list[Row]:
        """One row per text, special tokens included, or more with a stride (then with `overflow_to_sample_mapping`).

        texts: where the first is a list of token ids, all are; these are taken as they are. owners: for each text, the
        index of the input that it comes from (its own index unless given), for errors.
        Raises InputTooLarge unless truncate, and InvalidInput, both with `param` such as `inputs[2]`.
        """
        if texts and _is_tokens(texts[0]):
            return [self._row_of(ids, _owner(owners, index), truncate, side) for index, ids in enumerate(texts)]
        if (truncate or stride is not None) and self.limit is not None:
            options |= {"truncation": strategy, "max_length": self.limit}
        if stride is not None:
            options |= {"stride": stride, "return_overflowing_tokens": True}
        self.tokenizer.truncation_side = side or self._tokenizers.shared.truncation_side
        try:
            rows = self._rows(texts, pairs, options)
        except BAD_INPUT as error:
            raise self._culprit(error, texts, pairs, owners, options) from error
        for index, row in enumerate(rows):
            self._check(row, _owner(owners, row.get("overflow_to_sample_mapping", index)))
        return rows

    def _row_of(self, ids: list[int], owner: int, truncate: bool, side: str | None) -> Row:
        """Tokens as a text of one part."""
        check_tokens(ids, len(self._tokenizers.shared), f"inputs[{owner}]")
        if truncate and self.limit is not None and len(ids) > self.limit:
            is_left = (side or self._tokenizers.shared.truncation_side) == "left"
            ids = ids[-self.limit :] if is_left else ids[: self.limit]
        filling = {"input_ids": ids, "attention_mask": [1] * len(ids)}
        row = {name: filling.get(name, [0] * len(ids)) for name in self._tokenizers.shared.model_input_names}
        self._check(row, owner)
        return row

    def _rows(self, texts: Sequence[Any], pairs: Sequence[str] | None, options: dict[str, Any]) -> list[Row]:
        encoding = self.tokenizer(list(texts), None if pairs is None else list(pairs), verbose=False, **options)
        names = list(encoding)
        rows: list[Row] = [dict(zip(names, values, strict=True)) for values in zip(*encoding.values(), strict=True)]
        if options.get("is_split_into_words"):
            for index, row in enumerate(rows):
                row["word_ids"] = encoding.word_ids(index)
        return rows

    def _culprit(
        self,
        error: Exception,
        texts: Sequence[Any],
        pairs: Sequence[str] | None,
        owners: Sequence[int] | None,
        options: dict[str, Any],
    ) -> InvalidInput:
        """Whose text could not be encoded: found by encoding one by one."""
        for index, text in enumerate(texts):
            try:
                self._rows([text], None if pairs is None else [pairs[index]], options)
            except BAD_INPUT as found:
                param = f"inputs[{_owner(owners, index)}]"
                return InvalidInput(f"{param} cannot be tokenized: {found}", param=param)
        return InvalidInput(f"inputs cannot be tokenized: {error}", param="inputs")

    def _check(self, row: Row, owner: int) -> None:
        num_tokens, param = len(row["input_ids"]), f"inputs[{owner}]"
        if num_tokens == 0:
            raise InvalidInput(f"{param} holds nothing that the model's tokenizer knows.", param=param)
        if self.limit is not None and num_tokens > self.limit:
            raise InputTooLarge(
                f"{param} has {num_tokens} tokens; the limit is {self.limit}. Send truncate: true to have it cut.",
                param=param,
            )


def check_tokens(ids: Sequence[int], size: int, param: str) -> None:
    """Raises InvalidInput for a token that a vocabulary of this size does not have."""
    unknown = next((token for token in ids if not 0 <= token < size), None)
    if unknown is not None:
        raise InvalidInput(
            f"{param}: there is no token {unknown}; the vocabulary has {size}. Tokens are those of this model's own"
            " tokenizer.",
            param=param,
        )


def _is_tokens(one: Any) -> bool:
    return isinstance(one, list) and bool(one) and isinstance(one[0], int)


def _owner(owners: Sequence[int] | None, index: int) -> int:
    return index if owners is None else owners[index]


def position_offset(model: PreTrainedModel) -> int:
    """The position of the first token: 0, or where RoBERTa and its kin begin to count, after the padding's index."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            return module.padding_idx + 1
    return 0


def token_limit(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The tokens, special ones included, that both the model and its tokenizer take; None if neither has a limit."""
    limits = []
    positions = getattr(model.config, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:  # XLNet says -1
        limits.append(positions - position_offset(model))
    if tokenizer.model_max_length < _UNLIMITED:
        limits.append(int(tokenizer.model_max_length))
    return min(limits, default=None)
