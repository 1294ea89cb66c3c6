"""What a model's generation_config says of sampling, where a request says nothing."""

from __future__ import annotations

from typing import Any

from transformers import GenerationConfig, PreTrainedModel

from app.runtime.generation.request import Sampling


def end_ids_of(model: PreTrainedModel, tokenizer: Any) -> list[int]:
    """The model's end tokens; its tokenizer's, where its files name none."""
    ids = model.generation_config.eos_token_id
    if ids is None:
        ids = getattr(tokenizer, "eos_token_id", None)
    if ids is None:
        return []
    return list(ids) if isinstance(ids, list | tuple) else [int(ids)]


_NEUTRAL: dict[str, Any] = {
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
}
_OF_DRAWING = ("top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")


class SamplingDefaults:
    """Only what the model's own file says counts: transformers' defaults (top_k 50) do not."""

    def __init__(self, config: GenerationConfig) -> None:
        said = config.to_diff_dict()
        self._draws = bool(said.get("do_sample", False))
        self._temperature = float(said.get("temperature") or 1.0)
        self._values = {name: said.get(name) for name in _NEUTRAL if said.get(name) is not None}

    def sampling(self, *, do_sample: bool | None, temperature: float | None, **given: Any) -> Sampling:
        """do_sample None: as the model does. temperature None: the model's own, else 1; 0: not drawn."""
        draws = self._draws if do_sample is None else do_sample
        temperature = self._temperature if temperature is None else temperature
        values = {name: value for name, value in given.items() if value is not None}
        for name, neutral in _NEUTRAL.items():
            values.setdefault(name, self._values.get(name, neutral))
        if not draws or temperature == 0:
            values |= {name: _NEUTRAL[name] for name in _OF_DRAWING}
            temperature = 0.0
        return Sampling(temperature=temperature, **values)
