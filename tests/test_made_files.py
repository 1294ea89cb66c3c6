"""Entries of the cache folder are whole or not there, whatever ends the process that makes them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.errors import ModelFailed
from app.made_files import MANIFEST, Made, MadeFiles, Recipe

RECIPE = Recipe(source="model@1", task="fill-mask", backend="onnx", options={"dtype": "float32"}, versions={"a": "1"})


class Maker:
    """Writes one file and counts how often."""

    def __init__(self) -> None:
        self.num_made = 0

    def __call__(self, folder: Path) -> Mapping[str, Any]:
        self.num_made += 1
        (folder / "model.onnx").write_bytes(b"weights")
        return {"difference": 0.5}


def get(cache: Path, maker: Maker, recipe: Recipe = RECIPE) -> Made:
    return MadeFiles(cache).get(recipe, maker)


def names(cache: Path) -> list[str]:
    """All that is in the cache, locks aside."""
    files = (path for path in (cache / "made").rglob("*") if path.is_file() and path.suffix != ".lock")
    return sorted(path.name for path in files)


def test_entry_is_made_once(tmp_path: Path) -> None:
    """The second look finds the files and the facts of the first."""
    maker = Maker()
    first, second = get(tmp_path, maker), get(tmp_path, maker)
    assert (maker.num_made, first) == (1, second)
    assert (second.folder / "model.onnx").read_bytes() == b"weights"
    assert second.facts == {"difference": 0.5}


@pytest.mark.parametrize(
    "change",
    [
        {"source": "model@2"},
        {"task": "feature-extraction"},
        {"backend": "openvino"},
        {"options": {"dtype": "bfloat16"}},
        {"versions": {"a": "2"}},
    ],
)
def test_everything_it_depends_on_makes_another_entry(tmp_path: Path, change: dict[str, Any]) -> None:
    """Nothing is used that another version, revision or option made."""
    maker = Maker()
    assert get(tmp_path, maker).folder != get(tmp_path, maker, replace(RECIPE, **change)).folder
    assert maker.num_made == 2


@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "no manifest", "half a manifest"])
def test_damaged_entry_is_made_again(tmp_path: Path, damage: str) -> None:
    """By size, by hash, or because the manifest is not there."""
    maker = Maker()
    folder = get(tmp_path, maker).folder
    file, manifest = folder / "model.onnx", folder / MANIFEST
    match damage:
        case "cut":
            file.write_bytes(b"wei")
        case "changed":
            file.write_bytes(b"weighty")
        case "gone":
            file.unlink()
        case "no manifest":
            manifest.unlink()
        case "half a manifest":
            manifest.write_bytes(manifest.read_bytes()[:20])
    assert (get(tmp_path, maker).folder / "model.onnx").read_bytes() == b"weights"
    assert maker.num_made == 2


def test_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    """/dev/full answers ENOSPC to whoever writes."""

    def make(folder: Path) -> Mapping[str, Any]:
        (folder / "model.onnx").write_bytes(b"a first part")
        with open("/dev/full", "wb") as full:
            full.write(b"more" * 10_000)
        return {}

    with pytest.raises(
        ModelFailed, match=r"The disk of .* is full: .* Free some, or give --cache-dir another folder\."
    ):
        MadeFiles(tmp_path).get(RECIPE, make)
    assert names(tmp_path) == []


def test_full_disk_is_known_by_the_words_of_libraries_too(tmp_path: Path) -> None:
    """A C++ library's error has no errno."""

    def make(folder: Path) -> Mapping[str, Any]:
        raise RuntimeError("[ONNXRuntimeError] : 1 : FAIL : write failed: No space left on device")

    with pytest.raises(ModelFailed, match="is full"):
        MadeFiles(tmp_path).get(RECIPE, make)


def test_failed_making_leaves_nothing(tmp_path: Path) -> None:
    """Its error goes to whoever asked; the next one makes it anew."""

    def make(folder: Path) -> Mapping[str, Any]:
        (folder / "model.onnx").write_bytes(b"half")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        MadeFiles(tmp_path).get(RECIPE, make)
    assert names(tmp_path) == []
    get(tmp_path, Maker())


def test_cache_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    """A file lies where the folder is to be."""
    (tmp_path / "made").write_text("")
    with pytest.raises(ModelFailed, match="Give --cache-dir a folder that can be written"):
        get(tmp_path, Maker())


MAKING = """
import sys, time
from pathlib import Path
from app.made_files import MadeFiles, Recipe

def make(folder):
    (folder / "model.onnx").write_bytes(b"weights")
    print("making", flush=True)
    time.sleep(float(sys.argv[2]))
    return {}

recipe = Recipe(source="model@1", task="fill-mask", backend="onnx", options={"dtype": "float32"}, versions={"a": "1"})
MadeFiles(Path(sys.argv[1])).get(recipe, make)
print("done", flush=True)
"""


def start(cache: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(MAKING), str(cache), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_killed_making_is_never_used_and_is_cleaned(tmp_path: Path) -> None:
    """SIGKILL between the files and the manifest: the next process makes it again and removes what was left, the
    leftovers of other entries as well."""
    with start(tmp_path, 60) as process:
        assert process.stdout is not None and process.stdout.readline() == "making\n"
        process.send_signal(signal.SIGKILL)
    assert names(tmp_path) == ["model.onnx"]
    maker = Maker()
    get(tmp_path, maker, replace(RECIPE, task="another"))
    get(tmp_path, maker)
    assert maker.num_made == 2
    assert names(tmp_path) == [MANIFEST, MANIFEST, "model.onnx", "model.onnx"]


def test_two_processes_make_it_once(tmp_path: Path) -> None:
    """The second waits for the first and uses what it made; meanwhile a third entry's maker leaves theirs alone."""
    with start(tmp_path, 1) as first:
        assert first.stdout is not None and first.stdout.readline() == "making\n"
        get(tmp_path, Maker(), replace(RECIPE, task="another"))
        with start(tmp_path, 1) as second:
            assert second.stdout is not None
            assert second.stdout.read() == "done\n"
        assert first.stdout.read() == "done\n"


def test_what_is_kept_is_listed_and_removed(tmp_path: Path) -> None:
    """With its recipe and size, the last one first; what is damaged, or being made, is not there. A removed one is
    made again."""
    maker = Maker()
    get(tmp_path, maker)
    later = get(tmp_path, maker, replace(RECIPE, task="another"))
    os.utime(later.folder / MANIFEST, (2**32, 2**32))
    get(tmp_path, maker, replace(RECIPE, task="damaged")).folder.joinpath(MANIFEST).write_text("{}")
    (tmp_path / "made" / "onnx" / "a.part-1").mkdir()
    (tmp_path / "made" / "onnx" / "a.part-1" / MANIFEST).write_bytes((later.folder / MANIFEST).read_bytes())
    files = MadeFiles(tmp_path)
    last, first = files.all()
    assert (last.recipe.task, first.recipe, first.num_bytes) == ("another", RECIPE, len(b"weights"))
    files.remove(first)
    assert [kept.recipe.task for kept in files.all()] == ["another"]
    get(tmp_path, maker)
    assert maker.num_made == 4
    assert MadeFiles(tmp_path / "none").all() == []
