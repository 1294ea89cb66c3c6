"""Files -> what a model hears, and rows of sounds -> the tensors of one forward."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import pad

from app.errors import InputTooLarge, InvalidInput
from app.media.audio import Samples, decode_audio
from app.runtime.parts import Parts
from app.runtime.stacking import Row, shape_of, stack
from app.runtime.tokenizing import BAD_INPUT

MAX_SECONDS_AT_ONCE = 120.0
"""Of a sound that one forward hears as a whole: attention's cost grows with the square of it."""
_COST_S = 0.02
"""Of sound that counts as one token."""
_PADDABLE = frozenset({"hubert", "unispeech", "unispeech-sat", "wav2vec2", "wavlm"})
"""Models whose attention mask makes padding harmless, where their files say that they were trained with one."""


class Sounds:
    """What the stages of one model hear, for one thread."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._model = parts.model
        self._extractor = parts.feature_extractor
        self.sampling_rate: int = self._extractor.sampling_rate
        self._name: str = self._extractor.model_input_names[0]
        self.is_padded = _is_padded(parts)

    def decode(self, data: bytes, param: str) -> Samples:
        return decode_audio(data, self.sampling_rate, self._parts.media, param=param)

    def require_seconds(self, samples: Samples, param: str) -> None:
        """For sounds that are not cut. Raises InputTooLarge."""
        if self._extractor_cuts():
            return
        seconds = len(samples) / self.sampling_rate
        if seconds > MAX_SECONDS_AT_ONCE:
            raise InputTooLarge(
                f"{param}: the sound is {seconds:.0f} s long; this model hears {MAX_SECONDS_AT_ONCE:.0f} s at once.",
                param=param,
            )

    def _extractor_cuts(self) -> bool:
        """Whisper's, AST's and CLAP's make a window of fixed length of any sound."""
        return any(getattr(self._extractor, name, None) for name in ("n_samples", "max_length", "nb_max_samples"))

    def extract(self, extract: Callable[[], Mapping[str, Any]], param: str) -> dict[str, Any]:
        """The features that `extract` makes. Raises InvalidInput for sounds that are too short for the model."""
        try:
            with np.errstate(divide="ignore", invalid="ignore"):
                row = dict(extract())
        except (*BAD_INPUT, RuntimeError, ZeroDivisionError) as error:
            raise InvalidInput(f"{param}: the sound is too short for this model.", param=param) from error
        values = row[self._name]
        if not values.numel() or self._num_outputs(values) < 1:
            raise InvalidInput(f"{param}: the sound is too short for this model.", param=param)
        row[self._name] = torch.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)  # silence divided by its spread
        return row

    def _num_outputs(self, values: torch.Tensor) -> int:
        """Of the model, for a wave; spectrograms are known to be long enough."""
        lengths = getattr(self._wave_model(), "_get_feat_extract_output_lengths", None)
        if values.dim() != 2 or lengths is None:
            return 1
        return int(lengths(torch.tensor(values.shape[-1])))

    def _wave_model(self) -> Any:
        return getattr(self._model, "encoder", self._model)

    def num_outputs(self, row: Row) -> int:
        """How many outputs the row's own sound makes, without padding."""
        return self._num_outputs(row[self._name])

    def group(self, row: Row) -> Hashable:
        """Rows of one group may share a forward."""
        if not self.is_padded:
            return shape_of(row)
        return tuple(sorted(row))

    def cost(self, row: Row) -> int:
        """In units of 20 ms."""
        values = row[self._name]
        if values.dim() == 2:
            seconds = values.shape[-1] / self.sampling_rate
        else:
            hop = getattr(self._extractor, "hop_length", 160)
            seconds = max(values.shape[1:]) * hop / self.sampling_rate
        return max(1, int(math.ceil(seconds / _COST_S)))

    def stack(self, rows: Sequence[Row], *, is_padded: bool = False) -> dict[str, Any]:
        """One forward's inputs; shorter sounds are padded with silence where the attention mask hides it."""
        if is_padded or self.is_padded:
            longest = max(row[self._name].shape[-1] for row in rows)
            rows = [{name: pad(value, (0, longest - value.shape[-1])) for name, value in row.items()} for row in rows]
        return stack(rows, self._model.device, self._model.dtype)


def _is_padded(parts: Parts) -> bool:
    config = getattr(parts.model.config, "encoder", parts.model.config)
    return (
        config.model_type in _PADDABLE
        and config.feat_extract_norm == "layer"
        and bool(parts.feature_extractor.return_attention_mask)
        and _hears_masks(parts.model)
    )


def _hears_masks(model: Any) -> bool:
    """Exported networks may have been made without one; they say what they take."""
    return "attention_mask" in getattr(model, "input_names", ("attention_mask",))
