"""Files in answers go into a folder, and their names in their place."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from app.dataset.made_files import MadeFiles, is_manifest, makes_files
from app.dataset.writing import check_out, out_of
from app.errors import BackendFailed, InvalidInput
from app.tasks.registry import TASKS

FILE = b"a file"
BASE64 = base64.b64encode(FILE).decode()


@pytest.mark.parametrize(
    ("task", "answer", "kept", "names"),
    [
        ("image-to-image", {"image": BASE64}, {"file_name": "000007.png"}, ["000007.png"]),
        (
            "text-to-audio",
            {"audio": BASE64, "sampling_rate": 16000},
            {"file_name": "000007.wav", "sampling_rate": 16000},
            ["000007.wav"],
        ),
        (
            "depth-estimation",
            {"predicted_depth": [[1.5]], "depth": BASE64},
            {"predicted_depth": [[1.5]], "file_name": "000007.png"},
            ["000007.png"],
        ),
        (
            "image-segmentation",
            [{"label": "a", "mask": BASE64}, {"label": "b", "mask": BASE64}],
            [{"label": "a", "file_name": "000007.png"}, {"label": "b", "file_name": "000007-2.png"}],
            ["000007-2.png", "000007.png"],
        ),
        ("mask-generation", [], [], []),
    ],
)
def test_names_stand_in_the_place_of_files(task: str, answer: Any, kept: Any, names: list[str], tmp_path: Path) -> None:
    """Counted from 1; asked again, the same files are written."""
    made = MadeFiles(tmp_path, TASKS[task])
    for _ in range(2):
        assert json.loads(made.keep(6, json.dumps(answer).encode())) == kept
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert all(path.read_bytes() == FILE for path in tmp_path.iterdir())


def test_answer_without_a_file_is_the_models_fault(tmp_path: Path) -> None:
    """Its row is set aside, and nothing is written."""
    with pytest.raises(BackendFailed, match="is no file in base64"):
        MadeFiles(tmp_path, TASKS["image-to-image"]).keep(0, b'{"image": "\\u00e4"}')
    assert list(tmp_path.iterdir()) == []


def test_folder_is_said_by_its_slash_or_is_there(tmp_path: Path) -> None:
    """Its table is metadata.jsonl, or another one that is named; a folder that would be two levels new is refused."""
    assert out_of(f"{tmp_path}/new/") == tmp_path / "new" / "metadata.jsonl"
    assert out_of(str(tmp_path)) == tmp_path / "metadata.jsonl"
    assert out_of(f"{tmp_path}/a.csv") == tmp_path / "a.csv"
    assert is_manifest(tmp_path / "metadata.parquet")
    assert not is_manifest(tmp_path / "a.jsonl")
    check_out(tmp_path / "new" / "metadata.csv")
    for out, words in ((tmp_path / "a" / "b" / "metadata.jsonl", "no folder"), (tmp_path / "a", "and folders: ")):
        with pytest.raises(InvalidInput, match=words):
            check_out(out)
    assert makes_files(TASKS["text-to-audio"])
    assert not makes_files(TASKS["text-classification"])
