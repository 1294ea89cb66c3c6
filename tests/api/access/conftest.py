"""A server with keys, before a fleet that is a script."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
import yaml

from app.access.key_file import hash_of
from app.access.keys import keys_of_variable
from app.settings import Settings
from tests.api.conftest import MAX_BODY_BYTES, LiveServer

SECRETS = {name: f"secret-of-{name}-which-stands-nowhere-else" for name in (
    "all", "infer", "admin", "metrics", "expired", "slow", "few", "one", "reviews", "masks", "low",
)}  # fmt: skip
"""By the names of the keys."""
VARIABLE_SECRET = "a-secret-from-the-environment-variable"

ENTRIES: list[dict[str, Any]] = [
    {"name": "all", "scopes": ["infer", "admin", "metrics"], "priority": "high", "weight": 2},
    {"name": "infer"},
    {"name": "admin", "scopes": ["admin"]},
    {"name": "metrics", "scopes": ["metrics"]},
    {"name": "expired", "expires": "2020-01-01"},
    {"name": "slow", "requests_per_minute": 2},
    {"name": "few", "tokens_per_minute": 8},
    {"name": "one", "concurrent": 1},
    {"name": "reviews", "models": ["rev", "acme/labels"], "scopes": ["infer", "admin"]},
    {"name": "masks", "tasks": ["fill-mask"]},
    {"name": "low", "priority": "low"},
]


def write_keys(path: Path, entries: list[dict[str, Any]]) -> Path:
    stored = [{**one, "hash": hash_of(SECRETS[one["name"]])} for one in entries]
    path.write_text(yaml.safe_dump({"keys": stored}))
    return path


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {SECRETS[name]}"}


class LockedServer(LiveServer):
    """Requests say whose key they have."""

    def __enter__(self) -> LockedServer:
        super().__enter__()
        return self

    def as_(self, name: str | None, method: str, path: str, **keywords: Any) -> httpx.Response:
        """name: None for nobody."""
        headers = {**({} if name is None else bearer(name)), **keywords.pop("headers", {})}
        return self.client.request(method, path, headers=headers, **keywords)


@pytest.fixture(scope="session")
def _locked_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LockedServer]:
    path = write_keys(tmp_path_factory.mktemp("keys") / "keys.yaml", ENTRIES)
    settings = Settings(
        max_body_bytes=MAX_BODY_BYTES,
        keys=keys_of_variable(VARIABLE_SECRET),
        keys_file=path,
        cors_origins=("https://app.example",),
    )
    with LockedServer(settings) as running:
        yield running


@pytest.fixture
def locked(_locked_server: LockedServer) -> LockedServer:
    """One server for all tests, its fleet as new for each; what was used of a key's limits is not."""
    _locked_server.fleet.reset()
    return _locked_server
