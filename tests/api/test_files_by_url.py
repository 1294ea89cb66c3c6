"""The files of a request's URLs: so many, so few at a time, and together no more than a body."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from app.api.access.caller import anybody
from app.api.call import Call
from app.api.record import RequestRecord
from app.api.tasks import TaskAnswerer
from app.errors import InputTooLarge, InvalidInput
from app.tasks.registry import find_task
from tests.api.fake_fleet import FakeFleet

TASK = find_task("image-classification")


class Internet:
    """Every file has sixty bytes, and comes when all that may come at a time are on their way."""

    def __init__(self) -> None:
        self.num_open = self.most_open = 0
        self.headers: list[dict[bytes, bytes]] = []

    async def fetch(self, url: str, *, param: str, headers: Sequence[tuple[bytes, bytes]] = ()) -> bytes:
        self.headers.append(dict(headers))
        self.num_open += 1
        self.most_open = max(self.most_open, self.num_open)
        for _ in range(10):
            await asyncio.sleep(0)
        self.num_open -= 1
        return url.encode().ljust(60, b".")


async def asked(net: Internet, *urls: str, max_body_bytes: int = 10_000) -> list[Any]:
    fleet = FakeFleet()
    answerer = TaskAnswerer(max_body_bytes=max_body_bytes, max_inputs=100, fetch_file=net.fetch, clock=lambda: 0.0)

    async def receive() -> Any:
        await asyncio.Event().wait()

    record = RequestRecord(request_id="1", headers={}, began_at=0.0, caller=anybody(fleet, host="127.0.0.1"))
    spec = fleet.find(TASK.name, None)
    job, _ = await answerer.job_of(TASK, spec, {"inputs": list(urls)}, Call(), record, receive)
    return job.inputs


async def test_files_take_the_places_of_their_urls() -> None:
    """Each is fetched once, four at a time."""
    net = Internet()
    urls = [f"http://files.example.org/{index % 10}" for index in range(20)]
    assert await asked(net, *urls) == [url.encode().ljust(60, b".") for url in urls]
    assert net.most_open == 4


async def test_files_together_are_no_larger_than_a_body() -> None:
    """Thirty-two of the largest would fill the memory."""
    with pytest.raises(InputTooLarge, match="120 bytes; the limit is 100"):
        await asked(Internet(), "http://a/1", "http://a/2", max_body_bytes=100)


async def test_urls_are_counted_before_any_is_fetched() -> None:
    """Thirty-two at most."""
    net = Internet()
    with pytest.raises(InvalidInput, match="33 URLs; the limit is 32"):
        await asked(net, *(f"http://a/{index}" for index in range(33)))
    assert net.most_open == 0
