"""What holds for every command and sub-command: results as JSON, a server by its URL, and mistakes as sentences."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from app.cli import cli
from app.tasks.samples import PNG
from tests.serving import Quiet, serving

WITHOUT_JSON = {
    "serve": "it prints no result: it serves",
    "chat": "it talks with a person",
    "init": "its result is a file, and what it prints is a conversation",
    "schema": "what it prints is JSON",
    "ray-manifest": "what it prints is a file for kubectl",
}
OF_A_SERVER = {
    "bench", "chat", "eval", "list", "load", "map", "pin", "ps", "rm", "run", "show", "stop", "top", "unpin",
}  # fmt: skip
"""Those that ask one; all others are about this machine, or its files."""


def commands(group: Any = None, names: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command by what a person types, sub-commands too."""
    whole: Any = typer.main.get_command(cli)
    for name, command in (group or whole).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*names, name))
        else:
            yield " ".join((*names, name)), command


COMMANDS = dict(commands())


def flags(command: Any) -> set[str]:
    return {flag for parameter in command.params for flag in parameter.opts}


def test_every_result_can_be_had_as_json() -> None:
    """Those that have no `--json` are listed above, each with its reason."""
    assert {name for name, command in COMMANDS.items() if "--json" not in flags(command)} == set(WITHOUT_JSON)


def test_every_command_of_a_server_takes_its_url() -> None:
    """And its variable."""
    assert {name for name, command in COMMANDS.items() if "--url" in flags(command)} == OF_A_SERVER
    for name in OF_A_SERVER:
        (url,) = [parameter for parameter in COMMANDS[name].params if "--url" in parameter.opts]
        assert url.envvar == "PIPESERVE_URL", name


def test_every_command_and_option_says_what_it_is_for() -> None:
    """In `--help`."""
    for name, command in COMMANDS.items():
        assert command.help, name
        for parameter in command.params:
            if parameter.name not in ("help", "log_level", "log_format", "temperature"):
                assert parameter.help, f"{name} {parameter.name}"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files as people have them: a catalogue, some data, and some that are wrong."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "models.yaml").write_text("models: [{id: a, task: ner, model: ./gone}, {id: b, task: text-generation}]")
    (folder / "broken.yaml").write_text("models: [{task: ner")
    (folder / "binary.yaml").write_bytes(PNG)
    (folder / "list.yaml").write_text("[1, 2]")
    (folder / "data.csv").write_text("text\nhello\n")
    (folder / "empty.csv").write_text("")
    return folder


class Stranger(Quiet):
    """A server of somebody else's, whose every page is HTML; below /json, JSON that nobody asked for."""

    def do_GET(self) -> None:
        body = b'{"hello": "world"}' if self.path.startswith("/json/") else b"<html>Welcome!</html>"
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET


@pytest.fixture(scope="module")
def stranger() -> Iterator[str]:
    with serving(Stranger) as url:
        yield url


@pytest.fixture(scope="module")
def nobody() -> Iterator[str]:
    """An address at which nobody listens, and nobody else will."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def pipeserve(home: Path, *arguments: str, text: str = "hello\n", **variables: str) -> Result:
    """In the folder of those files, in this process; where it raises, so does this."""
    variables = {"PIPESERVE_CACHE_DIR": str(home / "cache"), "HF_HUB_OFFLINE": "1", **variables}
    before = os.getcwd()
    os.chdir(home)
    try:
        return CliRunner().invoke(cli, list(arguments), input=text, env=variables, catch_exceptions=False)
    finally:
        os.chdir(before)


def assert_sentence(done: Result, *words: str) -> None:
    """On stderr, and nothing on stdout; short, and no traceback."""
    told = re.sub(r"[\s│╭╮╰╯─]+", " ", done.stderr)
    assert done.exit_code in (1, 2), (done.exit_code, done.output)
    assert "Traceback" not in told and done.stdout == "", done.output
    assert 10 < len(told) < 600, told
    for word in words:
        assert word in told, told


ASK: Sequence[tuple[str, ...]] = [
    ("bench", "a", "--requests", "1"),
    ("chat",),
    ("eval", "a", "--data", "data.csv", "--label-column", "text"),
    ("list",),
    ("load", "a"),
    ("map", "a", "--data", "data.csv", "--out", "out.csv"),
    ("pin", "a"),
    ("ps",),
    ("run", "a", "hello"),
    ("show", "a"),
    ("stop", "a"),
    ("top", "--once"),
    ("unpin", "a"),
]


def test_every_command_of_a_server_is_asked_below() -> None:
    """A new one is not forgotten. `rm` asks where there is something to remove: its mistakes are in tests/cli/rm."""
    assert {arguments[0] for arguments in ASK} == OF_A_SERVER - {"rm"}


@pytest.mark.parametrize("arguments", ASK, ids=lambda arguments: arguments[0])
def test_server_that_is_not_there(home: Path, nobody: str, arguments: tuple[str, ...]) -> None:
    """Its address is named, and what to look at."""
    assert_sentence(
        pipeserve(home, *arguments, "--url", nobody), nobody, "Is it running? --url or PIPESERVE_URL names another."
    )


@pytest.mark.parametrize(
    ("path", "arguments"),
    [
        *(("", one) for one in ASK),
        *(("/json", one) for one in ASK if one[0] in ("chat", "list", "load", "map", "show")),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else value,
)
def test_server_of_somebody_else(home: Path, stranger: str, path: str, arguments: tuple[str, ...]) -> None:
    """It answers, and not what was asked."""
    assert_sentence(pipeserve(home, *arguments, "--url", stranger + path), "is no Pipeserve server")


@pytest.mark.parametrize("arguments", ASK, ids=lambda arguments: arguments[0])
def test_address_that_is_none(home: Path, arguments: tuple[str, ...]) -> None:
    """As every wrong option."""
    assert_sentence(pipeserve(home, *arguments, "--url", "ftp://a"), "--url", "ftp://a")


READ: Sequence[tuple[str, ...]] = [
    ("bench", "a", "--models"),
    ("check",),
    ("eval", "a", "--data", "data.csv", "--label-column", "text", "--models"),
    ("map", "a", "--data", "data.csv", "--out", "out.csv", "--models"),
    ("pull", "--models"),
    ("push", "a", "--to", "ada/a", "--models"),
    ("ray-manifest", "--image", "mine:1", "--models"),
    ("rm", "a", "--models"),
    ("tune", "a", "--models"),
    ("tune", "--list", "--models"),
    ("keys", "list", "--keys-file"),
    ("keys", "revoke", "a", "--keys-file"),
    ("keys", "create", "a", "--keys-file"),
]


def test_every_reader_of_a_catalogue_is_tried_below() -> None:
    """A new one is not forgotten. `serve` would serve this process: its mistakes are in test_commands.py."""
    readers = {name for name, command in COMMANDS.items() if "--models" in flags(command)} - {"keys create", "serve"}
    assert {arguments[0] for arguments in READ} == {*readers, "check", "keys"}


@pytest.mark.parametrize(
    ("file", "arguments"),
    [
        *(("broken.yaml", one) for one in READ),
        *((file, one) for file in ("binary.yaml", "list.yaml", ".") for one in READ if one[0] in ("check", "keys")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value,
)
def test_file_that_is_wrong(home: Path, file: str, arguments: tuple[str, ...]) -> None:
    """The file is named, and stays as it is."""
    path = home / file
    before = path.read_bytes() if path.is_file() else b""
    assert_sentence(pipeserve(home, *arguments, file), file)
    assert before == (path.read_bytes() if path.is_file() else b"")


@pytest.mark.parametrize(
    "arguments", [one for one in READ if one[:2] not in (("keys", "list"), ("keys", "create"))], ids=" ".join
)
def test_file_that_is_not_there(home: Path, arguments: tuple[str, ...]) -> None:
    """The file is named. A file of keys that is not there has none."""
    assert_sentence(pipeserve(home, *arguments, "no-such-file.yaml"), "no-such-file.yaml")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("bench", "acme/none", "--requests", "1"), "acme/none"),
        (("bench", "a", "--concurrency", "many"), "--concurrency"),
        (("bench", "a", "--concurrency", "0"), "--concurrency"),
        (("bench", "a", "--concurrency", "1.5"), "--concurrency"),
        (("bench", "a", "--rate", "nan"), "--rate"),
        (("bench", "a", "--duration", "soon"), "--duration"),
        (("bench", "a", "--duration", "1s", "--requests", "1"), "not both"),
        (("eval", "a", "--data", "gone.csv", "--label-column", "x"), "gone.csv"),
        (("eval", "a", "--data", "data.csv", "--label-column", "x"), 'no column "x"'),
        (("map", "a", "--data", "gone.csv", "--out", "out.csv"), "gone.csv"),
        (("map", "a", "--data", "empty.csv", "--out", "out.csv"), "empty.csv"),
        (("map", "a", "--data", "data.csv", "--out", "out.txt"), "out.txt"),
        (("map", "a", "--data", "data.csv", "--out", "no/such/folder.csv"), "no/such"),
        (("map", "acme/none", "--data", "data.csv", "--out", "out.csv"), "acme/none"),
        (("run", "a", "-p", "nothing", "--url", "127.0.0.1:1"), "NAME=VALUE"),
        (("tune", "acme/none"), "acme/none"),
        (("tune", "b"), "one forward"),
        (("init", "no/such/models.yaml", "--task", "ner"), "no/such"),
        (("init", "new.yaml", "--task", "nerr"), "nerr"),
        (("keys", "create", "a", "--keys-file", "no/such/keys.yaml"), "no/such"),
        (("keys", "create", "a b"), "a b"),
        (("keys", "revoke", "nobody", "--keys-file", "no.yaml"), "nobody"),
        (("env", "create", "mine"), "--requirements"),
        (("env", "create", "mine", "--requirements", "gone.txt"), "gone.txt"),
        (("env", "create", "mine", "--requirements", "empty.csv", "--python", "/no/python"), "/no/python"),
        (("env", "check", "mine"), "mine"),
        (("env", "check", "mine", "--python", "/no/python"), "/no/python"),
        (("env", "remove", "mine"), "mine"),
        (("list", "--jsno"), "--jsno"),
        (("lst",), "lst"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_mistake_is_a_sentence(home: Path, arguments: tuple[str, ...], words: str) -> None:
    """It names what was wrong."""
    assert_sentence(pipeserve(home, *arguments), words)


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        (("check", "models.yaml"), 1),
        (("env", "list"), 0),
        (("keys", "list"), 0),
        (("keys", "create", "a"), 0),
        (("keys", "revoke", "a"), 0),
        (("pull",), 1),
        (("tune", "--list"), 0),
        (("version",), 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_json_stands_alone_on_stdout(home: Path, arguments: tuple[str, ...], exit_code: int) -> None:
    """Where something is wrong as well."""
    done = pipeserve(home, *arguments, "--json")
    assert done.exit_code == exit_code, done.output
    assert isinstance(json.loads(done.stdout), dict | list)
