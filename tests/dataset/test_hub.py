"""Data sets of a Hub of our own, as the `datasets` library asks for them: in a process that knows no other Hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.tasks.samples import PNG
from tests.fake_hub import FakeHub, serve

_CARD = """---
configs:
- {config_name: small, default: true, data_files: [{split: test, path: small/test.jsonl}]}
- {config_name: large, data_files: [{split: train, path: large/*.jsonl}, {split: test, path: small/test.jsonl}]}
---
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FakeHub]:
    """`acme/reviews`: two configurations, and a revision v2 of another row; `acme/pictures`: files in folders."""
    reviews, second, pictures = (tmp_path / name for name in ("reviews", "second", "pictures"))
    texts = {"small/test.jsonl": "ab", "large/0.jsonl": "abc", "large/1.jsonl": "de"}
    for name, rows in texts.items():
        (reviews / name).parent.mkdir(parents=True, exist_ok=True)
        (reviews / name).write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    (reviews / "README.md").write_text(_CARD)
    second.mkdir()
    (second / "test.jsonl").write_text('{"text": "new"}\n')
    for name in ("cat/1.png", "dog/2.png"):
        (pictures / name).parent.mkdir(parents=True)
        (pictures / name).write_bytes(PNG)
    served = FakeHub({"datasets/acme/reviews": reviews, "datasets/acme/pictures": pictures})
    served.others[("datasets/acme/reviews", "v2")] = second
    with serve(served):
        yield served


def run(script: str, hub: FakeHub, home: Path) -> None:
    variables = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}
    header = """
import sys
from app.dataset.hub import Part
from app.dataset.sources import open_source
from app.errors import PipeserveError

def texts(**part):
    source = open_source("acme/reviews", Part(**part))
    found = [row.values["text"] for row in source.rows()]
    assert [row.number for row in source.rows()] == list(range(source.num_rows)), "read again, from the first on"
    assert source.columns == ("text",) and source.num_rows == len(found)
    return "".join(found)

def refused(**part):
    try:
        texts(**part)
    except PipeserveError as error:
        return error.message
"""
    subprocess.run([sys.executable, "-c", header + script], check=True, timeout=100, env={**os.environ, **variables})


def test_configuration_split_and_revision_say_which_rows(hub: FakeHub, tmp_path: Path) -> None:
    """Downloaded or streamed they are the same; what is not there is a sentence, and torch stays out of the command."""
    script = """
for streams in (False, True):
    assert texts(streams=streams) == "ab", "of the only split of the default"
    assert texts(config="large", split="train", streams=streams) == "abcde"
    assert texts(config="large", split="train", streams=streams, limit=2) == "ab"
    assert texts(revision="v2", streams=streams) == "new"
assert texts(config="large", split="train[1:3]") == "bc"
one, same, other = (
    open_source("acme/reviews", Part(revision=name, streams=streams)).identity
    for name, streams in (("main", True), ("main", False), ("v2", True)))
assert one == same != other, "a run goes on with what is the same, however it is read"
assert "has the splits train, test: choose one" in refused(config="large")
assert "has the splits test: choose" in refused(split="train")
assert "BuilderConfig 'medium' not found" in refused(config="medium")
assert "acme/reviews" in refused(revision="v3")
assert "torch" not in sys.modules
"""
    run(script, hub, tmp_path / "home")
    hub.requests.clear()
    limited = 'assert texts(config="large", split="train", streams=True, limit=1) == "a"'
    run(limited, hub, tmp_path / "other")
    assert any("large/0" in path for path in hub.requests)
    assert not any("large/1" in path for path in hub.requests), "of a stream only what is read"


@pytest.mark.slow
def test_downloaded_data_need_no_hub(hub: FakeHub, tmp_path: Path) -> None:
    """A second time it is not asked for any file; when it is away, what was downloaded is read."""
    run('assert texts() == "ab"', hub, tmp_path / "home")
    hub.repositories.clear()
    offline = 'import os; os.environ["HF_HUB_OFFLINE"] = "1"\nassert texts() == "ab"'
    run(offline, hub, tmp_path / "home")


@pytest.mark.slow
def test_pictures_are_read_from_the_data_set_and_nowhere_else(hub: FakeHub, tmp_path: Path) -> None:
    """From the cache's folder of this data set, or from the Hub; their labels have the folders' names."""
    (tmp_path / "secret").write_bytes(b"secret")
    script = f"""
from app.dataset.rows import BadRow
from app.tasks.samples import PNG
for streams, elsewhere in ((False, {str(tmp_path / "secret")!r}), (True, "hf://datasets/acme/reviews@main/README.md")):
    source = open_source("acme/pictures", Part(streams=streams))
    assert source.label_names("label") == ("cat", "dog")
    files = [row.values["image"] for row in source.rows()]
    assert [row.values["label"] for row in source.rows()] == [0, 1]
    assert all(one["bytes"] is None and source.files.read(one["path"]) == PNG for one in files)
    try:
        source.files.read(elsewhere)
    except BadRow:
        continue
    raise AssertionError("a file of somebody else's was read")
"""
    run(script, hub, tmp_path / "home")
