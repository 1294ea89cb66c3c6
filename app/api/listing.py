"""Which models `GET /v1/models` lists: all, those in some states, or a page of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from starlette.datastructures import QueryParams

from app.api.openapi import parameter
from app.catalog import ModelSpec
from app.errors import InvalidInput
from app.fleet.requests import ModelsAPI, ModelStatus
from app.telemetry import STATES

_MAX_SHOWN = 64  # characters of a value that is wrong

LISTING_EXTRA = {
    "parameters": [
        {
            **parameter("state", "query", "Only models in this state; it may stand several times."),
            "schema": {"type": "array", "items": {"type": "string", "enum": list(STATES)}},
        },
        parameter(
            "limit", "query", "At most so many; unset: all. `has_more` says whether there are more.", type="integer"
        ),
        parameter("after", "query", "Those that come after this id: the last one of the page before."),
        parameter("after_id", "query", "Anthropic's name for the same."),
    ]
}


@dataclass(frozen=True, slots=True)
class Listing:
    """limit, after: as in OpenAI's lists. None: all, from the first on, in any state."""

    states: frozenset[str] | None = None
    limit: int | None = None
    after: str | None = None


def read_listing(query: QueryParams) -> Listing:
    """Raises InvalidInput. Parameters of other names are left to whoever sends them: some clients add their version."""
    if "before_id" in query:
        raise InvalidInput("before_id: pages go forward here; ask for the next one by after_id.", param="before_id")
    states = query.getlist("state")
    for state in states:
        if state not in STATES:
            raise InvalidInput(f'state: "{state[:_MAX_SHOWN]}" is none; there are {", ".join(STATES)}.', param="state")
    after = query.get("after", query.get("after_id"))
    return Listing(frozenset(states) or None, _read_limit(query.get("limit")), after)


def _read_limit(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
        raise InvalidInput(f'limit: "{text[:_MAX_SHOWN]}" is no number of models, 1 or more.', param="limit")
    return int(text)


def page_of(fleet: ModelsAPI, listing: Listing) -> tuple[list[ModelStatus], bool]:
    """The models, behind each its adapters, in the order of their declaration; and whether there are more. What is not
    on the page costs next to nothing. Raises InvalidInput."""
    found: Iterable[ModelStatus]
    if listing.states is None:
        found = (fleet.status(spec.name) for spec in _specs_after(fleet, listing.after))
    else:
        found = (one for status in fleet.statuses(listing.states) for one in status.with_adapters())
        if listing.after is not None:  # which may be in another state by now
            behind = {spec.name for spec in _specs_after(fleet, listing.after)}
            found = (status for status in found if status.spec.name in behind)
    if listing.limit is None:
        return list(found), False
    page = list(islice(found, listing.limit + 1))
    return page[: listing.limit], len(page) > listing.limit


def _specs_after(fleet: ModelsAPI, after: str | None) -> Iterator[ModelSpec]:
    specs = (one for spec in fleet.entries() for one in (spec.with_adapters() if spec.adapters else (spec,)))
    if after is not None and not any(_listed_id(spec) == after for spec in specs):
        raise InvalidInput(f'after: there is no model "{after[:_MAX_SHOWN]}" here (any more).', param="after")
    return specs


def _listed_id(spec: ModelSpec) -> str:
    return spec.id if spec.adapter is None else spec.adapter.id
