"""Lists a page at a time, as OpenAI's API has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl

from starlette.types import Scope

from app.errors import InvalidInput


def read_list_query(scope: Scope, names: Sequence[str]) -> dict[str, str]:
    """The last of each; `include` may stand there several times. Raises InvalidInput."""
    query: dict[str, str] = {}
    for name, value in parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True):
        if name not in names:
            raise InvalidInput(f"{name}: no such query parameter; there are {', '.join(names)}.", param=name)
        query[name] = value
    return query


def page_of(newest_last: list[dict[str, Any]], query: dict[str, str], *, max_items: int, usual: int) -> dict[str, Any]:
    """The newest first, unless `order` is asc. Items have an `id`. usual: how many without `limit`. Raises
    InvalidInput."""
    items = newest_last
    order, limit, after = query.get("order", "desc"), query.get("limit", str(usual)), query.get("after")
    if order not in ("asc", "desc"):
        raise InvalidInput("order must be asc or desc.", param="order")
    if not limit.isascii() or not limit.isdecimal() or not 1 <= int(limit[:8]) <= max_items:
        raise InvalidInput(f"limit must be a number from 1 to {max_items}.", param="limit")
    if order == "desc":
        items = items[::-1]
    if after is not None:
        place = next((index for index, one in enumerate(items) if one["id"] == after), None)
        if place is None:
            raise InvalidInput("after: there is no such item.", param="after")
        items = items[place + 1 :]
    shown = items[: int(limit)]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(items) > len(shown),
    }
