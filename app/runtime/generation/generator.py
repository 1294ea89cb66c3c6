"""Around `model.generate`: rows that agree in their options share a call, each ends by itself, each can be left."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)

from app.runtime.base import Watch
from app.runtime.finite import require_finite
from app.runtime.generation.seeds import seeded
from app.runtime.generation.watching import Abandoned, WatchedRows

DEFAULT_MAX_NEW_TOKENS = 256


@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """values: keywords of `generate`. max_new_tokens: of this row. stop: texts that end an answer, and stay a part of
    it. seed: of what is drawn; a row with one is computed by itself, as torch draws for all rows of a call at once."""

    values: dict[str, Any] = field(default_factory=dict)
    max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS
    stop: tuple[str, ...] = ()
    seed: int | None = None
    wants_logprobs: bool = False
    depends_on_length: bool = False  # the model's last token is forced: rows of other lengths cannot share a call

    @property
    def group(self) -> Hashable:
        """Rows of equal groups may share a call; each ends at its own number of tokens. A beam search follows several
        rows side by side and weighs them by that number."""
        if self.seed is not None and self.values.get("do_sample"):
            return object()
        values = tuple(sorted((name, repr(value)) for name, value in self.values.items()))
        depends_on_length = self.depends_on_length or self.values.get("num_beams", 1) > 1
        length = self.max_new_tokens if depends_on_length else None
        return values, length, self.stop, self.wants_logprobs


@dataclass(frozen=True, slots=True)
class Generated:
    """One row: the new tokens, with the token that ended them, without padding. logprobs: of each, if asked for."""

    tokens: list[int]
    finish_reason: str  # eos_token, stop_sequence or length
    logprobs: list[float] | None = None


class Generator:
    """Generates with one model. Used on the device thread. tokenizer: for texts that end an answer; it only decodes."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._config = _without_length(model.generation_config)
        self._eos_ids = _as_list(model.generation_config.eos_token_id)
        self._pad_id = _pad_id(model, tokenizer)

    @torch.inference_mode()
    def generate(
        self, inputs: dict[str, Any], rows: Sequence[GenerationOptions], watch: Watch
    ) -> list[list[Generated]]:
        """For each row its answers, `num_return_sequences` of them; none for rows that nobody waits for.

        inputs: of all rows, on the model's device. rows: their options, of one group. Decoder-only models want
        `input_ids` padded on the left.
        """
        options, num_rows = rows[0], len(rows)
        limits = [row.max_new_tokens for row in rows]
        stopping = _Stopping(self._tokenizer, options.stop, limits)
        try:
            with seeded(options.seed, self._model.device):
                output = self._model.generate(
                    **inputs,
                    generation_config=self._config_for(options, max(limits)),
                    stopping_criteria=StoppingCriteriaList([WatchedRows(watch, num_rows), stopping]),
                )
        except Abandoned:
            return [[] for _ in range(num_rows)]
        answers = self._answers(output, stopping.prompt_length, rows)
        each = len(answers) // num_rows
        return [answers[row * each : (row + 1) * each] for row in range(num_rows)]

    def _config_for(self, options: GenerationOptions, max_new_tokens: int) -> GenerationConfig:
        """The model's own, with what the request says. Keywords beside a config would make transformers log."""
        config = copy.deepcopy(self._config)
        config.update(
            **options.values,
            max_new_tokens=max_new_tokens,
            pad_token_id=self._pad_id,
            return_dict_in_generate=True,
            output_logits=options.wants_logprobs,
        )
        return config

    def _answers(self, output: Any, prompt_length: int, rows: Sequence[GenerationOptions]) -> list[Generated]:
        options = rows[0]
        sequences = output.sequences[:, prompt_length:]
        logprobs = _logprobs(output, sequences) if options.wants_logprobs else None
        each = len(sequences) // len(rows)
        answers = []
        for index, sequence in enumerate(sequences.tolist()):
            tokens, reason = self._ended(sequence[: rows[index // each].max_new_tokens], options.stop)
            own = logprobs[index, : len(tokens)].tolist() if logprobs is not None else None
            answers.append(Generated(tokens, reason, own))
        return answers

    def _ended(self, row: Sequence[int], stop: tuple[str, ...]) -> tuple[list[int], str]:
        """The row up to its end, and why it ended. What stands behind a stop text is padding, which may look like an
        end token."""
        end = next((place for place, token in enumerate(row) if token in self._eos_ids), len(row))
        if stop and self._tokenizer is not None:
            count = _stopped_at(self._tokenizer, list(row[:end]), stop)
            if count is not None:
                return list(row[:count]), "stop_sequence"
        return (list(row), "length") if end == len(row) else (list(row[: end + 1]), "eos_token")


class _Stopping(StoppingCriteria):  # type: ignore[misc]  # transformers' types are not looked at
    """Ends a row whose text holds one of the stop texts, or that has its number of tokens.

    prompt_length: tokens at the start of the rows that are not their own: a prompt, a start token or none, which each
    kind of model has its own idea of. Known from the first step on.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase | None,
        stop: tuple[str, ...],
        limits: Sequence[int],
    ) -> None:
        self._limits = limits
        self._tokenizer = tokenizer
        self._stop = stop
        self.prompt_length = 0
        self._has_begun = False
        self._longest = max(map(len, stop), default=0)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        if not self._has_begun:
            self._has_begun, self.prompt_length = True, input_ids.shape[1] - 1
        each, num_tokens = input_ids.shape[0] // len(self._limits), input_ids.shape[1] - self.prompt_length
        ends = [num_tokens >= limit for limit in self._limits for _ in range(each)]
        if self._stop and self._tokenizer is not None:
            # No token is shorter than nothing: a stop text of n characters ends within its last n + 1 tokens.
            first = max(self.prompt_length, input_ids.shape[1] - self._longest - 1)
            for index, row in enumerate(input_ids[:, first:].tolist()):
                text = self._tokenizer.decode(row, skip_special_tokens=True)
                ends[index] = ends[index] or any(stop in text for stop in self._stop)
        return torch.tensor(ends, device=input_ids.device)


def _stopped_at(tokenizer: PreTrainedTokenizerBase, tokens: list[int], stop: tuple[str, ...]) -> int | None:
    """How many tokens it takes until the text holds a stop text."""
    if not any(one in tokenizer.decode(tokens, skip_special_tokens=True) for one in stop):
        return None
    low, high = 1, len(tokens)
    while low < high:
        middle = (low + high) // 2
        text = tokenizer.decode(tokens[:middle], skip_special_tokens=True)
        if any(one in text for one in stop):
            high = middle
        else:
            low = middle + 1
    return low


def _logprobs(output: Any, rows: torch.Tensor) -> torch.Tensor:
    """[rows, tokens] of the tokens that were chosen, from the model's own logits, before anything warped them."""
    logits = torch.stack(list(output.logits), dim=1).float()  # [rows, tokens, vocabulary]
    beams = getattr(output, "beam_indices", None)
    if beams is not None:  # of each token, the row that it was found in
        places = torch.arange(logits.shape[1], device=logits.device)
        logits = logits[beams[:, : logits.shape[1]].clamp(min=0), places]
    require_finite(logits)
    chosen = rows[:, : logits.shape[1], None]
    return logits.log_softmax(-1).gather(-1, chosen)[..., 0].cpu()


def _without_length(config: GenerationConfig) -> GenerationConfig:
    """Each call says how long its rows are; with a length of the model as well, transformers logs which one holds."""
    config = copy.deepcopy(config)
    config.max_length, config.max_new_tokens = GenerationConfig().max_length, None
    return config


def _as_list(value: Any) -> list[int]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _pad_id(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None) -> int | None:
    """The row's filling after its end; any token will do."""
    for candidate in (
        model.generation_config.pad_token_id,
        None if tokenizer is None else tokenizer.pad_token_id,
        *_as_list(model.generation_config.eos_token_id)[:1],
    ):
        if candidate is not None:
            return int(candidate)
    return None
