"""What `pipeserve check` advises: nothing is wrong, but somebody is trusted, and the operator should know whom."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from app.catalog import PREPROCESSORS, ModelSpec

_COMMIT = re.compile(r"[0-9a-f]{40}")


def advice_on(specs: Iterable[ModelSpec]) -> Iterator[str]:
    """Sentences: about single entries, then one about all whose files may change on the Hub unseen."""
    specs = list(specs)
    for spec in specs:
        yield from (f"{spec.id}: {sentence}" for sentence in _trusted(spec))
    unpinned = [name for spec in specs for name in _unpinned(spec)]
    if unpinned:
        yield f"not pinned to a commit by `revision:`, so what the Hub has at the download: {', '.join(unpinned)}."
    unpinnable = [name for spec in specs for name in _unpinnable(spec)]
    if unpinnable:
        yield f"what the Hub has at the download, unless a folder stands there: {', '.join(unpinnable)}."


def _trusted(spec: ModelSpec) -> Iterator[str]:
    if spec.trust_remote_code:
        moves = ", whatever that will be: it is not pinned" if _can_move(spec.model, spec.revision) else ""
        yield f"`trust_remote_code` runs Python code from {spec.model}{moves}."
    if spec.allow_pickle:
        yield "`allow_pickle` loads pickles where there are no safetensors, which hold nothing but numbers."


def _unpinned(spec: ModelSpec) -> Iterator[str]:
    if _can_move(spec.model, spec.revision):
        yield spec.id
    for adapter in spec.adapters:
        if _can_move(adapter.path, adapter.revision):
            yield f"{spec.id}:{adapter.id}"


def _unpinnable(spec: ModelSpec) -> Iterator[str]:
    for key in PREPROCESSORS:
        place = getattr(spec, key)
        if place is not None and _can_move(place, None):
            yield f"{key} {place} of {spec.id}"


def _can_move(place: str, revision: str | None) -> bool:
    """Whether others can change what is there: the Hub's branches and tags, no commits, no folders of one's own."""
    return not Path(place).is_absolute() and (revision is None or _COMMIT.fullmatch(revision) is None)
