"""A row of the table that `pipeserve tune` makes, as it is printed in JSON, stored, and shown on a model's page."""

from __future__ import annotations

from typing import Any

import msgspec


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate. latency_s, inputs_per_s: by shape, as far as they were measured. speedup: over plain torch.
    problem: why it could not be measured, or was given up."""

    name: str
    keys: dict[str, Any]
    dtype: str | None
    latency_s: dict[str, float]
    inputs_per_s: dict[str, float]
    speedup: float | None
    memory_bytes: int | None
    load_s: list[float]
    difference: float | None
    cosine_distance: float | None
    is_allowed: bool
    problem: str | None
