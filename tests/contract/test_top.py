"""`pipeserve top`: the command against a real server with keys, in a pipe and in a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from typer.testing import CliRunner, Result

from app.cli import cli
from bench.processes import free_port
from tests.contract.conftest import write_catalog
from tests.server import REPOSITORY, RunningServer, wait_until
from tests.serving import Quiet, serving

REVIEWS: dict[str, Any] = {
    "id": "acme/reviews", "task": "text-classification", "model": "sequence-classification", "keep_alive": "5m",
}  # fmt: skip
ENTRIES = [
    REVIEWS,
    {"id": "words", "task": "fill-mask", "model": "masked-lm"},
    {"id": "gone", "task": "fill-mask", "model": "./gone"},
]


def key_of(path: Path, name: str, *scopes: str) -> str:
    arguments = ["keys", "create", name, "--keys-file", str(path)]
    made = CliRunner().invoke(cli, [*arguments, *(part for scope in scopes for part in ("--scope", scope))])
    assert made.exit_code == 0, made.output
    return made.stdout.strip()


class House:
    """A server with keys, and the command that watches it. It may be started again on its port."""

    def __init__(self, folder: Path, models_dir: Path) -> None:
        keys = folder / "keys.yaml"
        self.admin, self.metrics = key_of(keys, "ops", "admin", "infer"), key_of(keys, "prometheus", "metrics")
        self._arguments = ("--port", str(free_port()), "--keys-file", str(keys))
        self._catalog = write_catalog(folder / "models.yaml", models_dir, ENTRIES)
        self._folder = folder
        self.server = self.start()

    def start(self) -> RunningServer:
        self.server = RunningServer(self._catalog, *self._arguments, cache_dir=self._folder)
        return self.server

    def ask(self) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.admin}"}
        return self.server.post("/models/acme/reviews", {"inputs": "a good film"}, headers=headers)

    def top(self, *arguments: str, key: str, url: str | None = None) -> Result:
        """In a pipe."""
        return CliRunner().invoke(cli, ["top", "--interval", "100ms", *arguments], env=self.variables(key, url))

    def variables(self, key: str, url: str | None = None) -> dict[str, str]:
        address = url or self.server.url
        return {**os.environ, "PIPESERVE_URL": address, "PIPESERVE_API_KEY": key, "TERM": "xterm"}


@pytest.fixture(scope="module")
def house(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = House(tmp_path_factory.mktemp("top"), models_dir)
    assert made.ask().status_code == 200
    yield made
    made.server.stop()


def test_document_for_scripts(house: House) -> None:
    """All that the table has, in one JSON document; a model that is not loaded only on request."""
    done = house.top("--json", key=house.admin)
    assert (done.exit_code, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert [model["id"] for model in told["models"]] == ["acme/reviews", "gone"]
    reviews, gone = told["models"]
    assert (reviews["state"], reviews["devices"], reviews["replicas"]) == ("ready", ["cpu"], 1)
    assert reviews["memory_bytes"] > 2**20 and 0 < reviews["unloads_in_s"] < 302
    assert reviews["rates"]["requests_per_s"] == 0 and reviews["rates"]["p99_s"] is None
    assert gone["state"] == "failed" and "There is no folder" in gone["reason"]
    (cpu,) = told["devices"]
    assert cpu["device"] == "cpu" and cpu["budget_bytes"] > cpu["used_bytes"] == reviews["memory_bytes"]
    assert told["server"]["memory_bytes"] > 2**20 and told["interval_s"] >= 0.1


def test_table_in_a_pipe(house: House) -> None:
    """One, whole, without colours; a key for metrics alone sees all but idleness and reasons."""
    done = house.top("--all", key=house.metrics)
    assert (done.exit_code, done.stderr) == (0, "")
    assert re.search(r"^acme/reviews +ready +cpu +1 +[\d.]+ MiB .* - +-$", done.stdout, re.MULTILINE)
    assert re.search(r"^words +unloaded", done.stdout, re.MULTILINE)
    assert "need a key with the scope infer or admin" in done.stdout and "\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("key", "told"),
    [("", "wants a key: set PIPESERVE_API_KEY to one with the scope admin"), ("wrong", "wants a key")],
)
def test_wrong_key_is_a_sentence(house: House, key: str, told: str) -> None:
    """With the name of what to set."""
    done = house.top("--once", key=key)
    assert (done.exit_code, done.stdout) == (1, "")
    assert told in done.stderr and done.stderr.count("\n") == 1


def test_no_server_is_a_sentence(house: House) -> None:
    """With the address, and how to name another."""
    url = f"http://127.0.0.1:{free_port()}"
    done = house.top(key="", url=url)
    assert done.exit_code == 1
    assert (
        done.stderr
        == f"{url} does not answer: Connection refused. Is it running? --url or PIPESERVE_URL names another.\n"
    )


class Stranger(Quiet):
    def do_GET(self) -> None:
        status = 200 if self.path.startswith("/a/") else 404
        self.send_response(status)
        self.end_headers()
        self.wfile.write(b"up 1\n")


@pytest.fixture
def stranger() -> Iterator[str]:
    with serving(Stranger) as url:
        yield url


def test_other_server_is_a_sentence(house: House, stranger: str) -> None:
    """Whether it has metrics or not."""
    done = house.top(key="", url=stranger)
    assert (done.exit_code, done.stderr) == (1, f"{stranger} is no Pipeserve server: it has no /metrics.\n")
    done = house.top(key="", url=f"{stranger}/a/")
    assert done.stderr == f"{stranger}/a is no Pipeserve server: its /metrics has no pipeserve_build_info.\n"


@pytest.mark.parametrize(
    "arguments", [("--url", "ftp://x"), ("--interval", "soon"), ("--interval", "0"), ("--sort", "x")]
)
def test_wrong_options_are_named(house: House, arguments: tuple[str, str]) -> None:
    """As those of every command."""
    done = house.top(*arguments, key="")
    assert done.exit_code == 2 and arguments[0] in done.stderr


class Terminal:
    """The command in a terminal of 100 columns and 20 lines; `shown` is all that it has drawn."""

    def __init__(self, variables: dict[str, str]) -> None:
        """Its size is its own: a runner of tests may say another in variables."""
        variables = {name: value for name, value in variables.items() if name not in ("COLUMNS", "LINES")}
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 200, 0, 0))
        command = [sys.executable, "-m", "app", "top", "--interval", "100ms"]
        self.process = subprocess.Popen(
            command, cwd=REPOSITORY, env=variables, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)
        self.shown = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                part = os.read(self._master, 65536)
            except OSError:  # the command has ended
                return
            self.shown += part.decode(errors="replace")

    def press(self, key: str) -> None:
        self.shown = ""
        os.write(self._master, key.encode())

    def wait_for(self, text: str) -> None:
        wait_until(lambda: text in self.shown, what=repr(text))

    def end(self) -> int:
        status = self.process.wait(20)
        self._reader.join(10)
        os.close(self._master)
        return status


@pytest.fixture
def terminal(house: House) -> Iterator[Callable[[], Terminal]]:
    started: list[Terminal] = []

    def start() -> Terminal:
        started.append(Terminal(house.variables(house.admin)))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


def test_table_in_a_terminal_outlives_the_server(house: House, terminal: Callable[[], Terminal]) -> None:
    """Keys are listened to; a server that is away is told, and looked for until it is back; the terminal is left as it
    was."""
    seen = terminal()
    seen.wait_for("acme/reviews")
    assert seen.shown.startswith("\x1b[?1049h")
    assert house.ask().status_code == 200
    seen.wait_for("requests 0/s")
    seen.press("a")
    seen.wait_for("words")
    seen.press("ss")
    seen.wait_for("\x1b[1;4mTOK/S IN")
    house.server.stop()
    seen.shown = ""
    seen.wait_for("does not answer: Connection refused. It is asked again; these figures are")
    house.start()
    assert house.server.url
    seen.shown = ""
    wait_until(lambda: "up for" in seen.shown and "asked again" not in seen.shown[-4000:], what="the server again")
    seen.press("q")
    assert seen.end() == 0
    assert seen.shown.endswith("\x1b[?1049l")


def test_interrupt_ends_it_quietly(terminal: Callable[[], Terminal]) -> None:
    """Ctrl-C in the terminal, as for every other command."""
    seen = terminal()
    seen.wait_for("models")
    seen.process.send_signal(2)
    assert seen.end() == 0
    assert "Traceback" not in seen.shown and seen.shown.endswith("\x1b[?1049l")
