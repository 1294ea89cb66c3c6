"""`python -m bench.access`: what API keys cost a request, in microseconds of the event loop.

The whole way through the app, from ASGI's scope to the last byte of the answer, before a fleet that answers at once:
neither a socket nor a worker is in it, so that nothing hides the difference. In turns, so that all rows see the same
machine; of the rounds the lowest, which neighbours disturb least, and its difference from the first row.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import CollectorRegistry

from app.access.key_file import hash_of
from app.api.application import Application
from app.logs import configure_logging
from app.main import build_app
from app.settings import Settings
from app.telemetry import Telemetry
from bench.processes import say
from tests.api.fake_fleet import CATALOG, FakeFleet

BODY = b'{"inputs": "a text"}'
SECRET = "pipeserve-a-secret-for-this-benchmark-of-usual-length"
LIMITS = {"requests_per_minute": 10**9, "tokens_per_minute": 10**9, "concurrent": 10**6}


def app_with(folder: Path, name: str, key: dict[str, Any] | None, num_others: int = 0) -> Application:
    """key: of the request; None: a server without keys."""
    settings = Settings()
    if key is not None:
        made = [{"name": f"other-{number}", "hash": hash_of(f"{number}")} for number in range(num_others)]
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"keys": [{"name": "mine", "hash": hash_of(SECRET), **key}, *made]}))
        settings = Settings(keys_file=path)
    return build_app(settings, CATALOG, FakeFleet(), Telemetry(CollectorRegistry()))


def request_of(app: Application, secret: str | None, expected: int) -> Callable[[], Awaitable[None]]:
    headers = [(b"host", b"x"), (b"content-length", b"%d" % len(BODY)), (b"user-agent", b"bench")]
    if secret is not None:
        headers.append((b"authorization", b"Bearer " + secret.encode()))

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": BODY, "more_body": False}

    async def send(message: Any) -> None:
        assert message.get("status", expected) == expected, message

    async def request() -> None:
        path = "/v1/text-classification"
        scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b""}
        await app({**scope, "headers": headers, "client": ("127.0.0.1", 1)}, receive, send)

    return request


async def measure(request: Callable[[], Awaitable[None]], num_requests: int) -> float:
    """Microseconds of CPU per request."""
    began_at = time.process_time()
    for _ in range(num_requests):
        await request()
    return (time.process_time() - began_at) / num_requests * 1e6


async def run(rounds: int, num_requests: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = {
            "no keys": request_of(app_with(folder, "none", None), None, 200),
            "a key": request_of(app_with(folder, "key", {}), SECRET, 200),
            "one of 1,000 keys": request_of(app_with(folder, "many", {}, 1000), SECRET, 200),
            "with limits": request_of(app_with(folder, "limits", LIMITS), SECRET, 200),
            "with models and tasks": request_of(
                app_with(folder, "models", {"models": ["acme/*", "reviews"], "tasks": ["ner", "text-classification"]}),
                SECRET,
                200,
            ),
            "a wrong key (401)": request_of(app_with(folder, "wrong", {}), "wrong", 401),
        }
        seen: dict[str, list[float]] = {name: [] for name in rows}
        for number in range(rounds + 1):
            for name, request in rows.items():
                taken = await measure(request, num_requests)
                if number:  # the first round warms up
                    seen[name].append(taken)
        least = min(seen["no keys"])
        for name, taken_us in seen.items():
            lowest, median = min(taken_us), statistics.median(taken_us)
            say(f"{name:24} {lowest:7.1f} µs {lowest - least:+7.1f}   (median {median:.1f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--requests", type=int, default=1000)
    options = parser.parse_args()
    configure_logging(level="warning", form="text")
    asyncio.run(run(options.rounds, options.requests))


if __name__ == "__main__":
    main()
