"""Which files a model has: what changes the word, and what does not."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from app.fingerprint import fingerprint

LARGE_BYTES = 8 * 2**20


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "1_Pooling" / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(LARGE_BYTES))
    return folder


def test_copy_is_the_same(model: Path, tmp_path: Path) -> None:
    """Another place and other times."""
    copy = Path(shutil.copytree(model, tmp_path / "elsewhere" / model.name))
    os.utime(copy / "model.safetensors", (1, 1))
    assert fingerprint(copy) == fingerprint(model)


def test_what_computes_nothing_has_no_part_in_it(model: Path) -> None:
    """Words, pictures, and whatever is hidden."""
    before = fingerprint(model)
    (model / "README.md").write_text("words")
    (model / "curve.png").write_bytes(b"1")
    (model / ".git").mkdir()
    (model / ".git" / "config.json").write_text("[]")
    assert fingerprint(model) == before


@pytest.mark.parametrize("name", ["config.json", "1_Pooling/config.json", "handler.py", "onnx/model.onnx"])
def test_small_file_counts_by_its_content(model: Path, name: str) -> None:
    """Changed or new, also in folders."""
    before = fingerprint(model)
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_text("[]")
    assert fingerprint(model) != before


@pytest.mark.parametrize("start", [0, LARGE_BYTES // 2, LARGE_BYTES - 2**16])
def test_layer_of_a_large_file_counts(model: Path, start: int) -> None:
    """Of the same size, at an end or between."""
    before = fingerprint(model)
    with (model / "model.safetensors").open("r+b") as file:
        file.seek(start)
        file.write(b"1" * 2**16)
    assert fingerprint(model) != before


def test_large_file_counts_by_its_size(model: Path) -> None:
    """One byte more of what is there already."""
    before = fingerprint(model)
    (model / "model.safetensors").write_bytes(bytes(LARGE_BYTES + 1))
    assert fingerprint(model) != before


def test_snapshot_is_its_commit(tmp_path: Path) -> None:
    """Whatever lies in it: the Hub's cache never changes a snapshot's files."""
    folder = tmp_path / "models--org--name" / "snapshots" / "abc"
    folder.mkdir(parents=True)
    assert fingerprint(folder) == "org--name@abc"
