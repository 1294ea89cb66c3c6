"""The generation keys that every task which generates takes: flat among the parameters, or in an object."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from app.tasks.base import Parameters

NESTED = ("generation_parameters", "generate_parameters", "generate_kwargs")
"""Under these names the specification, the Python client and the pipelines put the keys into an object."""


class GenerationParameters(Parameters):
    """What `generate` is told; unset: as the model's own generation_config says. A key that stands in an object named
    `generation_parameters` (or `generate_kwargs`) means the same."""

    do_sample: bool | None = Field(default=None, description="Draw tokens by their probability.")
    temperature: float | None = Field(default=None, ge=0, le=100, description="Above 1: bolder draws, below: tamer.")
    top_k: int | None = Field(default=None, ge=0, description="Draw from the best so many tokens only; 0: from all.")
    top_p: float | None = Field(default=None, gt=0, le=1, description="Draw from the best that make up this much.")
    typical_p: float | None = Field(default=None, gt=0, le=1, description="Draw from the most typical of this mass.")
    epsilon_cutoff: float | None = Field(default=None, ge=0, lt=1, description="No token of a lower probability.")
    eta_cutoff: float | None = Field(default=None, ge=0, lt=1, description="The same, by the entropy of all.")
    seed: int | None = Field(default=None, ge=0, lt=2**63, description="The same seed draws the same answer.")
    max_length: int | None = Field(default=None, ge=1, description="Tokens at most, those that begin it included.")
    max_new_tokens: int | None = Field(default=None, ge=1, description="Tokens at most.")
    min_length: int | None = Field(default=None, ge=0, description="Tokens at least, those that begin it included.")
    min_new_tokens: int | None = Field(default=None, ge=0, description="Tokens at least.")
    num_beams: int | None = Field(default=None, ge=1, le=16, description="Texts that are followed side by side.")
    early_stopping: bool | Literal["never"] | None = Field(default=None, description="When a beam search may end.")
    length_penalty: float | None = Field(default=None, ge=-10, le=10, description="Above 0: longer beams win.")
    repetition_penalty: float | None = Field(default=None, gt=0, le=10, description="Above 1: fewer repetitions.")
    no_repeat_ngram_size: int | None = Field(default=None, ge=0, le=64, description="No such run of tokens twice.")
    use_cache: bool | None = Field(default=None, description="false: slower, with the same answer.")
    num_beam_groups: int | None = Field(
        default=None, description="Only 1: groups of beams are not part of transformers 5."
    )
    penalty_alpha: float | None = Field(
        default=None, description="Only 0: contrastive search is not part of transformers 5."
    )

    @model_validator(mode="before")
    @classmethod
    def _flatten(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        flat = dict(values)
        for name in NESTED:
            nested = flat.pop(name, None)
            if nested is None:
                continue
            if not isinstance(nested, dict):
                raise ValueError(f"{name} must be an object")
            for key, value in nested.items():
                if key not in GENERATION_KEYS and key not in cls.extra_keys():
                    raise ValueError(f"{name}.{key}: no such generation parameter")
                flat.setdefault(key, value)
        return flat

    @classmethod
    def extra_keys(cls) -> frozenset[str]:
        """Keys beside GENERATION_KEYS that may stand in the object as well."""
        return frozenset()

    @field_validator("num_beam_groups", "penalty_alpha")
    @classmethod
    def _refuse_what_is_gone(cls, value: Any, info: Any) -> None:
        if value not in (None, 1 if info.field_name == "num_beam_groups" else 0):
            raise ValueError("this is not part of transformers 5")


GENERATION_KEYS = frozenset(GenerationParameters.model_fields)
