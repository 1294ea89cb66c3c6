"""What is different about an entry that was read again, and what that means for workers that were started before."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from app.catalog import ModelSpec
from app.media.limits import MediaLimits

NOT_FOR_WORKERS = frozenset({
    "aliases",
    "queue",
    "priority",
    "keep_alive_s",
    "pinned",
    "preload",
    "memory_bytes",
    "cache_bytes",
    "parameters",
    "moderation",
    "tuned",
    "adapters",
    "adapters_folder",
    "adapters_allow",
    "scaling",
    "ray",
})  # fmt: skip
"""Keys that only this process looks at: they count at once. All others were told to the model's workers."""
_FOUND_OUT = frozenset({"tasks", "implied_tasks", "has_handler", "batch", "problem"})
"""What may be different because of the model's files, though the entry is the same."""


@dataclass(frozen=True, slots=True)
class Difference:
    """keys: of the entry. needs_load: its workers cannot go on as the entry is now."""

    keys: frozenset[str]
    needs_load: bool


def difference(declared: ModelSpec, served: ModelSpec, spec: ModelSpec) -> Difference:
    """declared: as it was read before. served: the same, with what was found out since. spec: as it is read now."""
    before = declared
    was_known = declared.is_resolved and declared.problem is None
    if spec.is_resolved and served.is_resolved and served.problem is None and not was_known:
        before = msgspec.structs.replace(served, adapters=declared.adapters)
    if before == spec:
        return Difference(frozenset(), needs_load=False)
    keys = {name for name in ModelSpec.__struct_fields__ if getattr(before, name) != getattr(spec, name)}
    if spec.has_handler is None:
        keys.discard("has_handler")  # not looked for yet
    if spec.problem is not None and before.problem is None and keys <= _FOUND_OUT:
        keys.clear()  # its files are away: a worker goes on without them, and a load says so
    return Difference(frozenset(keys), _needs_load(keys, before, spec))


def _needs_load(keys: set[str], before: ModelSpec, spec: ModelSpec) -> bool:
    if keys - NOT_FOR_WORKERS - {"media"} or before.takes_adapters != spec.takes_adapters:
        return True
    if _decoded(before.media) != _decoded(spec.media):
        return True
    known = {one.id: one for one in before.adapters}
    return any(known.get(one.id, one) != one for one in spec.adapters)


def _decoded(media: MediaLimits) -> MediaLimits:
    """As far as workers heed it: URLs are fetched by this process."""
    return msgspec.structs.replace(media, allow_urls=False, allow_hosts=())


def with_changes(found: ModelSpec, asked: ModelSpec, now: ModelSpec) -> ModelSpec:
    """What was found out about an entry, with what became another of it meanwhile."""
    changes = {
        name: getattr(now, name)
        for name in ModelSpec.__struct_fields__
        if getattr(now, name) != getattr(asked, name)
    }  # fmt: skip
    return msgspec.structs.replace(found, **changes)
