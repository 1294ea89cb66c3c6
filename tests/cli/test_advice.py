"""What `pipeserve check` says of whom an entry trusts."""

from __future__ import annotations

import json
from pathlib import Path

from app.catalog import AdapterSpec, ModelSpec
from app.cli.advice import advice_on
from app.declaration.about import commit_of
from tests.cli.test_commands import pipeserve

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_what_can_change_unseen_is_named() -> None:
    """Models and adapters of the Hub at no revision, or at a branch or tag; not at a commit, and no folders."""
    specs = [
        ModelSpec(id="a", model="acme/a"),
        ModelSpec(id="b", model="acme/b", revision="main"),
        ModelSpec(id="c", model="acme/c", revision=COMMIT, adapters=(AdapterSpec(id="sql", path="acme/sql"),)),
        ModelSpec(id="d", model="/models/d", adapters=(AdapterSpec(id="own", path="/adapters/own"),)),
    ]
    (advice,) = advice_on(specs)
    assert advice == "not pinned to a commit by `revision:`, so what the Hub has at the download: a, b, c:sql."


def test_what_cannot_be_pinned_is_named() -> None:
    """A tokenizer of another repository has no revision of its own."""
    spec = ModelSpec(id="a", model="/models/a", tokenizer="acme/words", vocoder="/models/vocoder")
    assert list(advice_on([spec])) == [
        "what the Hub has at the download, unless a folder stands there: tokenizer acme/words of a."
    ]


def test_code_and_pickles_are_named() -> None:
    """And that code which is not pinned can be any."""
    specs = [
        ModelSpec(id="a", model="acme/a", trust_remote_code=True),
        ModelSpec(id="b", model="acme/b", trust_remote_code=True, revision=COMMIT),
        ModelSpec(id="c", model="/models/c", allow_pickle=True),
    ]
    assert list(advice_on(specs))[:3] == [
        "a: `trust_remote_code` runs Python code from acme/a, whatever that will be: it is not pinned.",
        "b: `trust_remote_code` runs Python code from acme/b.",
        "c: `allow_pickle` loads pickles where there are no safetensors, which hold nothing but numbers.",
    ]


def test_nothing_is_advised_about_folders() -> None:
    """Nobody but the operator changes them."""
    assert list(advice_on([ModelSpec(id="a", model="/models/a")])) == []


def test_a_snapshot_is_named_after_its_commit() -> None:
    """In the Hub's cache; other folders are not."""
    assert commit_of(Path("/hub/snapshots") / COMMIT) == COMMIT
    assert commit_of(Path("/models/mine")) is None


def test_advice_is_an_error_if_one_wants_it_to_be(tmp_path: Path) -> None:
    """`--strict`, for CI."""
    file = tmp_path / "models.yaml"
    file.write_text(json.dumps({"models": [{"task": "ner", "model": "acme/far"}]}))
    done = pipeserve("check", str(file))
    assert done.returncode == 0 and done.stdout.splitlines()[-1].startswith("advice  not pinned"), done.stdout
    assert pipeserve("check", str(file), "--strict").returncode == 1
    file.write_text(json.dumps({"models": [{"task": "ner", "model": "acme/far", "revision": COMMIT}]}))
    assert pipeserve("check", str(file), "--strict").returncode == 0
