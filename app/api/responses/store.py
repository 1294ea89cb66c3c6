"""Responses that are kept for a while: to be told again, and gone on from."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from app.api.responses.items import Item

TTL_S = 3600.0
MAX_RESPONSES = 1000
MAX_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One response, as JSON. inputs: its own input items. context: all items before its output, its own included.
    owner: the name of the key that it was made with."""

    response: bytes
    inputs: bytes
    context: bytes
    owner: str = ""

    @property
    def num_bytes(self) -> int:
        return len(self.response) + len(self.inputs) + len(self.context)

    def input_items(self) -> list[Item]:
        return list(orjson.loads(self.inputs))

    def all_items(self) -> list[Item]:
        """What a response that goes on from this one begins with."""
        return [*orjson.loads(self.context), *orjson.loads(self.response)["output"]]


class ResponseStore:
    """In memory, owned by the event loop; the oldest are dropped where there are too many or they are too large.

    One that is larger than all that may be kept is not kept.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        ttl_s: float = TTL_S,
        max_responses: int = MAX_RESPONSES,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        """clock: seconds that only grow."""
        self._clock = clock
        self._ttl_s = ttl_s
        self._max_responses = max_responses
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._kept: OrderedDict[str, tuple[float, Kept]] = OrderedDict()

    def keep(self, response: dict[str, Any], inputs: list[Item], before: list[Item], *, owner: str = "") -> None:
        """before: the items of the response that it goes on from."""
        kept = Kept(
            response=orjson.dumps(response),
            inputs=orjson.dumps(inputs),
            context=orjson.dumps([*before, *inputs]),
            owner=owner,
        )
        if kept.num_bytes > self._max_bytes:
            return
        self._kept[response["id"]] = (self._clock() + self._ttl_s, kept)
        self._num_bytes += kept.num_bytes
        while len(self._kept) > self._max_responses or self._num_bytes > self._max_bytes:
            self.drop(next(iter(self._kept)))

    def find(self, response_id: str, *, owner: str = "") -> Kept | None:
        """None where it never was, has expired, was dropped, or is another's."""
        self._expire()
        found = self._kept.get(response_id)
        return None if found is None or found[1].owner != owner else found[1]

    def drop(self, response_id: str) -> None:
        """Nothing happens to one that is not there."""
        found = self._kept.pop(response_id, None)
        if found is not None:
            self._num_bytes -= found[1].num_bytes

    def _expire(self) -> None:
        """They stand in the order in which they expire."""
        while self._kept:
            response_id, (expires_at, _) = next(iter(self._kept.items()))
            if expires_at > self._clock():
                return
            self.drop(response_id)
