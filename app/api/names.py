"""Model names in URLs and bodies. Ids may hold slashes, so a path is read with the declared names in hand."""

from __future__ import annotations

from collections.abc import Iterable

from app.catalog import ModelSpec
from app.errors import NotServed

PLACEHOLDERS = frozenset({"", "dummy", "tgi"})
"""What clients send as `model` when the URL is all that they know."""


def named(name: str | None) -> str | None:
    """None where the client named no model of ours: nothing, a placeholder, or the server's own URL."""
    if name is None or name in PLACEHOLDERS or name.startswith(("http://", "https://")):
        return None
    return name


class DeclaredNames:
    """The ids and aliases of the catalog."""

    def __init__(self, models: Iterable[ModelSpec]) -> None:
        self._ids = {name: spec.id for spec in models for name in (*spec.aliases, spec.id)}

    def split(self, path: str) -> tuple[str, str]:
        """The id of the longest declared name that the path begins with, and the rest of the path. Raises NotServed."""
        path = path.strip("/")
        name = path
        while name not in self._ids:
            name, slash, _ = name.rpartition("/")
            if not slash:
                raise NotServed(f'There is no model "{path}" here; {self._what_there_is()}', param="model")
        return self._ids[name], path[len(name) + 1 :]

    def _what_there_is(self) -> str:
        ids = list(dict.fromkeys(self._ids.values()))
        shown = ", ".join(ids[:20])
        if not ids:
            return "none is declared."
        return f"there are {shown}{', ...' if len(ids) > 20 else ''}; GET /v1/models lists them."
