"""`python -m bench.declared`: what a request costs by how many models are declared, in microseconds of the event loop.

The whole way through the app and the fleet, before a worker that answers at once: neither a socket nor a model is in
it. Of the rounds the lowest. Besides: what a scrape of `/metrics`, a reload of the same entries and a list of the
loaded ones hold up, and what `GET /v1/models` and `/metrics` weigh after these requests, which used two models.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry

from app.api.application import Application
from app.api.listing import Listing, page_of
from app.catalog import Catalog, ModelSpec
from app.logs import configure_logging
from app.main import build_app
from app.settings import Settings
from app.telemetry import Telemetry
from bench.processes import say
from tests.fleet.fakes import House, spec_of

URL = "/v1/text-classification"


def entries(number: int) -> tuple[ModelSpec, ...]:
    return tuple(spec_of(f"acme/model-{index}", keep_alive_s=-1) for index in range(number))


async def request(app: Application, body: bytes, expected: int, *, method: str = "POST", url: str = URL) -> int:
    """Returns the bytes of the answer's body."""
    num_bytes = 0

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        nonlocal num_bytes
        assert message.get("status", expected) == expected, message
        num_bytes += len(message.get("body", b""))

    headers = [(b"host", b"x"), (b"content-length", b"%d" % len(body)), (b"user-agent", b"bench")]
    scope = {"type": "http", "method": method, "path": url, "raw_path": url.encode(), "query_string": b""}
    await app({**scope, "headers": headers, "client": ("127.0.0.1", 1)}, receive, send)
    return num_bytes


async def lowest(work: Callable[[], Awaitable[object]], times: int, rounds: int) -> float:
    """Microseconds of CPU each."""
    found = []
    for _ in range(rounds):
        began_at = time.process_time()
        for _ in range(times):
            await work()
        found.append((time.process_time() - began_at) / times * 1e6)
    return min(found)


async def measure(number: int, rounds: int, times: int) -> str:
    specs = entries(number)
    catalog, telemetry = Catalog(models=specs), Telemetry(CollectorRegistry())
    async with House(*specs, answers=True) as house:
        app = build_app(Settings(), catalog, house.fleet, telemetry)
        last = b'{"inputs": "a text", "model": "%s"}' % specs[-1].id.encode()
        bodies = ((b'{"inputs": "a text"}', 200), (last, 200), (b'{"inputs": "a text", "model": "nobody"}', 404))
        told = []
        for body, status in bodies:
            await request(app, body, status)
            told.append(f"{await lowest(partial(request, app, body, status), times, rounds):.0f}")

        async def scrape() -> None:
            telemetry.refresh(house.fleet.changed_statuses())

        async def reload() -> None:
            house.fleet.reload(catalog)

        async def list_loaded() -> None:
            page_of(house.fleet, Listing(frozenset({"ready"})))

        await scrape()
        told += [f"{await lowest(work, 1, rounds) / 1000:.1f}" for work in (scrape, reload, list_loaded)]
        sizes = [await request(app, b"", 200, method="GET", url=url) for url in ("/v1/models", "/metrics")]
        told += [f"{size / 1e6:.2f}" for size in sizes]
    return f"| {number:,} | {' | '.join(told)} |"


async def run(numbers: list[int], rounds: int, times: int) -> None:
    say(
        "| declared | no model named, µs | the last, µs | an unknown one, µs | scrape, ms | reload, ms | loaded, ms"
        " | list, MB | metrics, MB |"
    )
    say("|---|---|---|---|---|---|---|---|---|")
    for number in numbers:
        say(await measure(number, rounds, times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, nargs="+", default=[10, 1_000, 100_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=500, help="of one round")
    options = parser.parse_args()
    configure_logging(level="warning", form="text")
    asyncio.run(run(options.models, options.rounds, options.requests))


if __name__ == "__main__":
    main()
