"""`pipeserve keys`."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from app.access.key_file import read_keys
from app.access.keys import ADMIN, INFER, Allowance, digest_of
from app.cli import cli


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.yaml"


def keys(*arguments: str, path: Path) -> Result:
    return CliRunner().invoke(cli, ["keys", *arguments], env={"PIPESERVE_KEYS_FILE": str(path)})


def test_secret_is_shown_once(path: Path) -> None:
    """Alone on stdout, so that a script can take it; neither the file nor the list has it."""
    made = keys("create", "ci", path=path)
    assert made.exit_code == 0, made.output
    secret = made.stdout.strip()
    assert re.fullmatch(r"pipeserve-[\w-]{43}", secret)
    (key,) = read_keys(path)
    assert key.digest == digest_of(secret.encode()) and key.scopes == {INFER}
    listed = keys("list", path=path).output
    assert listed.startswith("ci ") and secret not in listed + path.read_text()


def test_key_allows_what_was_said(path: Path) -> None:
    """Every option stands in the file, and in the list."""
    made = keys(
        "create", "ops", "--scope", "admin", "--scope", "infer", "--models", "acme/*", "--models", "chat",
        "--task", "ner", "--rpm", "60", "--tpm", "1000", "--concurrent", "4", "--priority", "high", "--weight", "2",
        "--expires", "30d", path=path,
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    (key,) = read_keys(path)
    assert key.scopes == {ADMIN, INFER}
    assert (key.models, key.tasks) == (("acme/*", "chat"), ("token-classification",))
    assert key.allowance == Allowance(requests_per_minute=60, tokens_per_minute=1000, concurrent=4)
    assert (key.priority, key.weight) == (1, 2.0)
    assert key.expires_at is not None
    assert 29.9 < (key.expires_at - datetime.now(UTC).timestamp()) / 86400 <= 30
    listed = keys("list", path=path).output
    for part in ("admin,infer", "models acme/*, chat", "60 requests/min", "1000 tokens/min", "4 at a time", "expires"):
        assert part in listed


def test_revoked_key_is_gone(path: Path) -> None:
    """And the others are not."""
    for name in ("a", "b"):
        keys("create", name, path=path)
    assert keys("revoke", "a", path=path).exit_code == 0
    assert [key.name for key in read_keys(path)] == ["b"]
    again = keys("revoke", "a", path=path)
    assert again.exit_code == 1 and 'there is no key "a"' in again.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("a b",), "cannot name a key"),
        (("env-1",), "PIPESERVE_API_KEYS"),
        (("a", "--task", "fill-masks"), "did you mean"),
        (("a", "--expires", "soon"), "is not a duration"),
        (("a", "--expires", "0"), "is over already"),
        (("a", "--scope", "root"), "root"),
        (("taken",), "there is a key"),
    ],
)
def test_what_cannot_be_made_is_refused(path: Path, arguments: tuple[str, ...], sentence: str) -> None:
    """With a sentence, and the file as it was."""
    keys("create", "taken", path=path)
    before = path.read_text()
    done = keys("create", *arguments, path=path)
    assert done.exit_code != 0 and sentence in re.sub(r"[\s│]+", " ", done.stderr)
    assert path.read_text() == before


def test_broken_file_is_told_and_left_alone(path: Path) -> None:
    """Its keys would be lost otherwise."""
    path.write_text("keys: {")
    for arguments in (("create", "a"), ("list",), ("revoke", "a")):
        done = keys(*arguments, path=path)
        assert done.exit_code == 1 and str(path) in done.stderr
    assert path.read_text() == "keys: {"


def test_certificate_of_a_key_is_asked_for() -> None:
    """A server that was meant to speak TLS does not start without it."""
    done = CliRunner().invoke(cli, ["serve", "--ssl-keyfile", "key.pem"])
    assert done.exit_code == 1 and "need --ssl-certfile" in done.stderr
