"""Every route is held to /openapi.json: no answer that the document does not describe, whatever is sent."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2 as httpx
import pytest

from app.access.keys import VARIABLE
from tests.server import REPOSITORY

CONFIG = Path(__file__).parent / "schemathesis.toml"
SHORT = ("--phases", "examples,fuzzing", "--max-examples", "2", "--generation-deterministic")
LONG = ("--phases", "examples,coverage,fuzzing", "--max-examples", "20", "--seed", "1")
KEY = "sk-of-whoever-holds-the-server-to-its-document"


@contextmanager
def serving(*, keys: str = "") -> Iterator[str]:
    command = [sys.executable, "-m", "tests.hostile.every", "0"]
    environment = {**os.environ, VARIABLE: keys}
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().removeprefix("serving on ").strip()
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as url:
        yield url


def assert_holds(url: str, *options: str, document: Path | None = None) -> None:
    """document: of that server, where it shows it to nobody."""
    command = [str(Path(sys.executable).parent / "schemathesis"), "--config-file", str(CONFIG), "--no-color", "run"]
    command += [f"{url}/openapi.json" if document is None else str(document), "--url", url, "--warnings", "off"]
    ended = subprocess.run(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=REPOSITORY
    )
    assert ended.returncode == 0, ended.stdout[-20_000:]


def test_every_route_answers_as_documented(url: str) -> None:
    """The documented examples, and a few requests made from each route's schema, sound and unsound ones."""
    assert_holds(url, *SHORT)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_route_answers_as_documented_for_long(url: str) -> None:
    """More of them, and every boundary of every schema."""
    assert_holds(url, *LONG)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_route_answers_a_key_as_documented() -> None:
    """One for inference, so that the routes of administrators refuse it as the document says."""
    with serving(keys=KEY) as url:
        assert_holds(url, *SHORT, "--header", f"Authorization: Bearer {KEY}")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_route_answers_nobody_as_documented(tmp_path: Path) -> None:
    """Who has no key hears that one is needed, on whatever route, whatever is sent, in the route's own dialect."""
    document = tmp_path / "openapi.json"
    with serving(keys=KEY) as url:
        headers = {"authorization": f"Bearer {KEY}"}
        document.write_bytes(httpx.get(f"{url}/openapi.json", headers=headers).content)
        assert_holds(url, *SHORT, document=document)
