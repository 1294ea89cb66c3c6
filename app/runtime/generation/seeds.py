"""Chance that can be repeated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int | None, device: torch.device) -> Iterator[None]:
    """What is drawn within depends on the seed alone, and what is drawn after it does not depend on it. None: as ever.

    torch has one generator per device for all rows of a forward: a seeded row is computed by itself.
    """
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
