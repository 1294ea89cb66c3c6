"""Whether a server that runs has loaded what is to be removed."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from app.cli.server import Server, Trouble

_AWAKE = ("loading", "ready", "unloading")
_NO_SERVER = (200, 404, 405, 501)
"""Of what else may listen there: it is asked for a path that it does not have, or answers with what is none of ours."""


def loaded(url: str, places: Collection[str], ids: Collection[str], *, is_sure: bool) -> list[str]:
    """The ids of models that it has in memory, of these repositories or entries. is_sure: that there is a server; else
    none may listen there, or something else. Raises Trouble where it cannot be asked."""
    try:
        with Server(url) as server:
            cards = server.get("/v1/models", {"state": list(_AWAKE)})["data"]
    except Trouble as trouble:
        if not is_sure and (trouble.is_nobody or trouble.status in _NO_SERVER):
            return []
        raise
    except (LookupError, TypeError, ValueError):
        if is_sure:
            raise Trouble(f"{url} is no Pipeserve server.") from None
        return []
    return [card["id"] for card in cards if _is_awake(card) and _is_of(card, places, ids)]


def _is_awake(card: Any) -> bool:
    """Other servers have such a list, without states."""
    return isinstance(card, dict) and card.get("state") in _AWAKE


def _is_of(card: dict[str, Any], places: Collection[str], ids: Collection[str]) -> bool:
    return card["id"] in ids or card.get("model") in places or card.get("root") in places
