"""The file of keys: what may stand in it, how it is written, how a server follows it."""

from __future__ import annotations

import asyncio
import logging
import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.access.key_file import KeyFile, KeyFileProblem, KeyForm, changing, read_keys
from app.access.keys import ADMIN, INFER, Allowance, Key

HASH = "sha256:" + "ab" * 32
OTHER_HASH = "sha256:" + "cd" * 32


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.yaml"


def test_every_field_is_read(path: Path) -> None:
    """Aliases of tasks are the tasks; a date is its beginning in UTC."""
    path.write_text(
        f"""keys:
  - name: ci
    hash: {HASH}
    scopes: [infer, admin]
    models: ["acme/*"]
    tasks: [ner]
    requests_per_minute: 60
    tokens_per_minute: 1000
    concurrent: 4
    priority: high
    weight: 2
    expires: 2027-01-31
"""
    )
    (key,) = read_keys(path)
    assert key == Key(
        name="ci",
        digest=b"\xab" * 32,
        scopes=frozenset({INFER, ADMIN}),
        models=("acme/*",),
        tasks=("token-classification",),
        allowance=Allowance(requests_per_minute=60, tokens_per_minute=1000, concurrent=4),
        priority=1,
        weight=2.0,
        expires_at=1801353600.0,
    )


def test_json_is_read_too(path: Path) -> None:
    """It is YAML."""
    path.write_text(f'{{"keys": [{{"name": "ci", "hash": "{HASH}", "expires": "2027-01-31T12:00:00+02:00"}}]}}')
    (key,) = read_keys(path)
    assert key.expires_at == 1801389600.0 and key.scopes == {INFER}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("keys: [", "keys.yaml:"),
        ("[]", "the file: it must be a mapping"),
        ("{}", "keys is missing"),
        (f"keys:\n- hash: {HASH}", "keys.0.name is missing"),
        (f"keys:\n- name: a b\n  hash: {HASH}", r"keys.yaml:2: keys.0.name: 'a b' cannot name a key"),
        (f"keys:\n- name: env-1\n  hash: {HASH}", "PIPESERVE_API_KEYS"),
        ("keys:\n- name: a\n  hash: secret", "keys.yaml:3: keys.0.hash: it must be `sha256:`"),
        (
            f"keys:\n- name: a\n  hash: {HASH}\n  scope: [infer]",
            'keys.yaml:4: unknown key "scope" .did you mean "scopes"',
        ),
        (f"keys:\n- name: a\n  hash: {HASH}\n  scopes: [root]", "keys.0.scopes.0: it must be"),
        (f"keys:\n- name: a\n  hash: {HASH}\n  scopes: []", "must not be empty"),
        (f"keys:\n- name: a\n  hash: {HASH}\n  tasks: [fill-masks]", 'did you mean "fill-mask"'),
        (f"keys:\n- name: a\n  hash: {HASH}\n  concurrent: 0", "keys.0.concurrent"),
        (f"keys:\n- name: a\n  hash: {HASH}\n  expires: soon", "'soon' is no time"),
        (f"keys:\n- name: a\n  hash: {HASH}\n- name: a\n  hash: {OTHER_HASH}", "the name of the key"),
        (f"keys:\n- name: a\n  hash: {HASH}\n- name: b\n  hash: {HASH}", "the hash of the key"),
    ],
)
def test_what_is_wrong_is_a_sentence_with_its_place(path: Path, text: str, sentence: str) -> None:
    """File, line, key."""
    path.write_text(text)
    with pytest.raises(KeyFileProblem, match=sentence) as problem:
        read_keys(path)
    assert str(problem.value).startswith(str(path))
    assert "secret" not in str(problem.value)


def test_file_that_is_not_there_says_how_it_is_made(path: Path) -> None:
    """A server that was told of it does not start without it."""
    with pytest.raises(KeyFileProblem, match="pipeserve keys create"):
        read_keys(path)


def test_written_file_is_its_owners_alone_and_reads_as_it_was(path: Path) -> None:
    """Whatever the umask and the mode that it had."""
    forms = [
        KeyForm(name="a", hash=HASH),
        KeyForm.model_validate(
            {"name": "b", "hash": OTHER_HASH, "scopes": ["admin"], "priority": "low", "expires": "2027-01-31T12:00:00"}
        ),
    ]
    path.write_text("keys: []")
    path.chmod(0o644)
    with changing(path) as found:
        found.extend(forms)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_keys(path) == tuple(form.key() for form in forms)
    assert [one.name for one in path.parent.iterdir()] == ["keys.yaml"]


def test_change_that_fails_leaves_the_file_alone(path: Path) -> None:
    """Nothing half-written, nothing left beside it; a broken file is not overwritten either."""
    path.write_text("keys: []")
    with pytest.raises(RuntimeError), changing(path) as forms:
        forms.append(KeyForm(name="a", hash=HASH))
        raise RuntimeError
    path.with_name("broken.yaml").write_text("keys: {")
    with pytest.raises(KeyFileProblem), changing(path.with_name("broken.yaml")):
        pass
    assert path.read_text() == "keys: []"
    assert path.with_name("broken.yaml").read_text() == "keys: {"


def test_link_stays_a_link(path: Path) -> None:
    """What it leads to is written."""
    real = path.with_name("real.yaml")
    real.write_text("keys: []")
    path.symlink_to(real)
    with changing(path) as forms:
        forms.append(KeyForm(name="a", hash=HASH))
    assert path.is_symlink() and len(read_keys(real)) == 1


def write(path: Path, text: str) -> None:
    path.write_text(text)


class Told:
    """What the watch says."""

    def __init__(self) -> None:
        self.keys: list[list[str]] = []
        self.event = asyncio.Event()

    def __call__(self, keys: Sequence[Key]) -> None:
        self.keys.append([key.name for key in keys])
        self.event.set()

    async def next(self) -> list[str]:
        await asyncio.wait_for(self.event.wait(), 20)
        self.event.clear()
        return self.keys[-1]


@asynccontextmanager
async def watched(path: Path) -> AsyncIterator[Told]:
    file, told = KeyFile(path), Told()
    file.read()
    task = asyncio.create_task(file.watch(told, every_s=0.01))
    try:
        yield told
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_changes_are_followed(path: Path) -> None:
    """A file in its place, a link that leads elsewhere; nothing is told while nothing changes."""
    write(path, "keys: []")
    async with watched(path) as told:
        with changing(path) as forms:
            forms.append(KeyForm(name="a", hash=HASH))
        assert await told.next() == ["a"]
        other = path.with_name("other.yaml")
        write(other, f"keys:\n- name: b\n  hash: {HASH}\n")
        link = path.with_name("link")
        link.symlink_to(other)
        link.replace(path)
        assert await told.next() == ["b"]
        await asyncio.sleep(0.1)
    assert told.keys == [["a"], ["b"]]


async def test_broken_file_changes_nothing_and_says_why(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Once; when it is mended it counts."""
    caplog.set_level(logging.ERROR)
    write(path, "keys: []")
    async with watched(path) as told:
        write(path, "keys: [{}]")
        for _ in range(500):
            if caplog.records:
                break
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert [record.getMessage() for record in caplog.records] == [
            f"{path}:1: keys.0.name is missing. The keys stay as they were."
        ]
        write(path, f"keys:\n- name: c\n  hash: {HASH}\n")
        assert await told.next() == ["c"]
