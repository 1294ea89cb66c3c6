"""`pipeserve pull`, from a Hub of our own: what a load would download, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.test_commands import pipeserve
from tests.fake_hub import FakeHub, serve
from tests.models import build


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FakeHub]:
    model = build("sequence-classification", tmp_path / "built")
    (model / "pytorch_model.bin").write_bytes(b"not needed")
    with serve(FakeHub({"acme/reviews": model, "acme/words": model})) as served:
        yield served


def pull(hub: FakeHub, home: Path, *arguments: str) -> tuple[int, str]:
    done = pipeserve("pull", *arguments, HF_ENDPOINT=hub.url, HF_HOME=str(home), HF_HUB_OFFLINE="0")
    return done.returncode, done.stdout + done.stderr


def test_entries_are_there_for_a_server_without_a_hub(hub: FakeHub, tmp_path: Path) -> None:
    """By id, or all of the file; a second time nothing is downloaded."""
    catalog = tmp_path / "models.yaml"
    entries = [{"id": "reviews", "task": "text-classification", "model": "acme/reviews", "tokenizer": "acme/words"}]
    catalog.write_text(json.dumps({"models": [*entries, {"task": "ner", "model": str(tmp_path / "gone")}]}))
    code, told = pull(hub, tmp_path / "home", "--models", str(catalog))
    assert (code, "ok      reviews: " in told) == (0, True), (code, told)
    downloaded = hub.downloaded()
    assert "model.safetensors" in downloaded
    assert "pytorch_model.bin" not in downloaded
    assert {path.split("/resolve/")[0] for path in hub.requests if "/resolve/" in path} == {
        "/acme/reviews",
        "/acme/words",
    }
    assert len(list((tmp_path / "home").rglob("model.safetensors"))) == 1
    hub.requests.clear()
    assert pull(hub, tmp_path / "home", "reviews", "--models", str(catalog))[0] == 0
    assert "model.safetensors" not in hub.downloaded()


def test_what_cannot_be_had_is_told_and_the_rest_is_there(hub: FakeHub, tmp_path: Path) -> None:
    """Repositories need no models.yaml; with --json it is told as data."""
    code, told = pull(hub, tmp_path / "home", "acme/none", "acme/reviews", "--models", str(tmp_path / "no"), "--json")
    none, reviews = json.loads(told[told.index("[\n") :])
    assert (code, none["id"], "acme/none does not exist" in none["problem"]) == (1, "acme/none", True)
    assert (Path(reviews["folder"]) / "model.safetensors").is_file()


def test_wrong_name_is_a_sentence(hub: FakeHub, tmp_path: Path) -> None:
    """As `check` has it."""
    code, told = pull(hub, tmp_path, "not a name")
    assert code == 1
    assert "Traceback" not in told
    assert "not a name" in told
