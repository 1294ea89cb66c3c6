"""Model names in URLs and bodies. Ids may hold slashes, so a path is read with the declared names in hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

from app.catalog import ModelSpec
from app.errors import InvalidInput, NotServed
from app.fleet.requests import ModelsAPI

_MAX_PARTS = 32
"""Of a path that may be a name: each further slash would be another look through all models."""
_MAX_NAMED = 20
PLACEHOLDERS = frozenset({"", "dummy", "tgi"})
"""What clients send as `model` when the URL is all that they know."""


def named(name: str | None) -> str | None:
    """None where the client named no model of ours: nothing, a placeholder, or the server's own URL."""
    if name is None or name in PLACEHOLDERS or name.startswith(("http://", "https://")):
        return None
    return name


def agreed(get: Callable[[str], ModelSpec], given: Sequence[str | None]) -> str | None:
    """The model that path, query and body name, None where none of them does; one that names an adapter as well says
    more than one that does not. Raises InvalidInput where they name several, and what `get` raises."""
    names = [name for name in map(named, given) if name is not None]
    if len(names) < 2:
        return names[0] if names else None
    chosen = get(names[0])
    for name in names[1:]:
        other = get(name)
        if other.id != chosen.id or None not in (chosen.adapter, other.adapter) and other.adapter != chosen.adapter:
            raise InvalidInput(f'model: "{names[0]}" and "{name}" are both asked for.', param="model")
        chosen = chosen if other.adapter is None else other
    return chosen.name


def split_name(fleet: ModelsAPI, path: str) -> tuple[str, str]:
    """The longest declared name that the path begins with, as `ModelSpec.name` has it, and the rest of the path.
    Raises NotServed."""
    path = path.strip("/")
    name = "/".join(path.split("/", _MAX_PARTS)[:_MAX_PARTS])
    while True:
        try:
            return fleet.get(name).name, path[len(name) + 1 :]
        except NotServed:
            if ":" in name and "/" not in name:
                raise  # it may be the adapter that is unknown
        name, slash, _ = name.rpartition("/")
        if not slash:
            raise NotServed(f'There is no model "{path}" here; {_what_there_is(fleet)}', param="model")


def _what_there_is(fleet: ModelsAPI) -> str:
    ids = [spec.id for spec in islice(fleet.entries(), _MAX_NAMED + 1)]
    if not ids:
        return "none is declared."
    more = ", ..." if len(ids) > _MAX_NAMED else ""
    return f"there are {', '.join(ids[:_MAX_NAMED])}{more}; GET /v1/models lists them."
