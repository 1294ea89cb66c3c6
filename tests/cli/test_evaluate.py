"""`pipeserve eval`, as a process, on a tiny model; `test_map.py` asks it of a server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import pipeline
from typer.testing import CliRunner

from app.cli import cli
from tests.cli.test_commands import pipeserve
from tests.models import WORDS

NUM_ROWS = 200


@pytest.fixture(scope="module")
def data(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts with a label that says what the model answers, but for every tenth."""
    folder = tmp_path_factory.mktemp("eval")
    texts = [" ".join(WORDS[(row * 5 + step * step) % len(WORDS)] for step in range(9)) for row in range(NUM_ROWS)]
    classify = pipeline("text-classification", model=str(models_dir / "sequence-classification"), device="cpu")
    rows = [{"text": text, **classify(text)[0]} for text in texts]
    stars = {"NEGATIVE": 1, "NEUTRAL": 2, "POSITIVE": 3}
    for number, row in enumerate(rows):
        right = stars[row["label"]]
        row["stars"] = right if number % 10 else right % 3 + 1
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "data.jsonl"


NAMES = ("--label-name", "1=NEGATIVE", "--label-name", "2=NEUTRAL", "--label-name", "3=POSITIVE")


@pytest.mark.slow
def test_accuracy_is_that_of_the_data(models_dir: Path, data: Path) -> None:
    """9 of 10, with an interval about it; a table for people; the cost beside it."""
    arguments = (str(models_dir / "sequence-classification"), "--data", str(data), "-c", "text")
    done = pipeserve("eval", *arguments, "--label-column", "stars", *NAMES)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if line.strip()]
    assert lines[1][:2] == ["accuracy", "0.9000"]
    assert 0.8 < float(lines[1][2].strip("[,")) < 0.9 < float(lines[1][3].strip("]")) < 1
    assert lines[2][0] == "f1"
    assert "rows/s" in lines[3]
    assert "200 rows; 95 % intervals" in done.stdout


@pytest.mark.slow
def test_variant_is_compared_row_by_row(models_dir: Path, data: Path) -> None:
    """The same model in int8: almost the same answers, less memory or more, and how sure the difference is."""
    arguments = [str(models_dir / "sequence-classification"), "--data", str(data), "-c", "text"]
    arguments += ["--label-column", "stars", *NAMES, "--metric", "accuracy", "--against", "quantization=int8", "--json"]
    done = pipeserve("eval", *arguments)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [one["name"].split(" ")[1:] for one in found["variants"]] == [[], ["quantization=int8"]]
    assert all(one["memory_bytes"] > 2**20 and one["rows_per_s"] > 0 for one in found["variants"])
    (accuracy,) = found["metrics"]
    first, second = (one["value"] for one in accuracy["estimates"])
    assert first == pytest.approx(0.9)
    assert accuracy["difference"]["value"] == pytest.approx(second - first)
    assert found["agreement"] > 0.9


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--label-column", "gone"), 'no column "gone"'),
        (("--label-column", "stars", "--metric", "wer"), "--metric wer: text-classification has accuracy"),
        (("--label-column", "stars", "--against", "quantisation=int8"), "quantisation: no entry has such a key"),
        (("--label-column", "stars", "--against", "backend=tensorflow"), "backend: tensorflow is none"),
    ],
)
def test_mistakes_are_sentences_before_anything_is_started(
    models_dir: Path, data: Path, arguments: tuple[str, ...], words: str
) -> None:
    """On stderr."""
    model = str(models_dir / "sequence-classification")
    done = CliRunner().invoke(cli, ["eval", model, "--data", str(data), "-c", "text", *arguments])
    assert (done.exit_code, words in done.stderr) == (1, True), done.output
