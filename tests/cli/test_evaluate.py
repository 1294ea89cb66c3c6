"""`pipeserve eval`, as a process, on a tiny model; `test_map.py` asks it of a server."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from transformers import AutoModelForTokenClassification, AutoTokenizer, pipeline
from typer.testing import CliRunner

from app.cli import cli
from app.tasks.samples import PNG
from tests import tiny
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


def evaluated(*arguments: str) -> dict[str, float]:
    """The value of each metric."""
    done = pipeserve("eval", *arguments, "--resamples", "100", "--json")
    assert done.returncode == 0, done.stderr
    return {one["name"]: one["estimates"][0]["value"] for one in json.loads(done.stdout)["metrics"]}


def write_rows(file: Path, rows: list[dict[str, Any]]) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


@pytest.mark.slow
def test_tags_of_words_are_compared_with_entities(models_dir: Path, tmp_path: Path) -> None:
    """Tags that transformers gives each word's first token are all right; one entity that is longer is not."""
    folder = models_dir / "token-classification"
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForTokenClassification.from_pretrained(folder)
    rows = []
    for row in range(20):
        words = [WORDS[(row * 7 + step * step) % len(WORDS)] + "xq" * (step % 2) for step in range(8)]
        encoded = tokenizer(words, is_split_into_words=True, return_tensors="pt")
        with torch.inference_mode():
            ids = model(**encoded).logits[0].argmax(-1).tolist()
        places = encoded.word_ids()
        tags = [model.config.id2label[ids[places.index(number)]] for number in range(len(words))]
        rows.append({"tokens": words, "tags": begun(tags)})
    assert sum(tag[0] == "B" for row in rows for tag in row["tags"]) > 20
    arguments = (
        str(folder),
        "--data",
        write_rows(tmp_path / "a.jsonl", rows),
        "-c",
        "tokens",
        "--label-column",
        "tags",
    )
    options = ("-p", "is_split_into_words=true", "-p", "aggregation_strategy=first")
    assert evaluated(*arguments, *options) == {"f1": 1, "precision": 1, "recall": 1}
    number_of_entities = sum(tag[0] == "B" for row in rows for tag in row["tags"])
    changed = next(row for row in rows if row["tags"][-1] == "O" and row["tags"][-2] != "O")
    changed["tags"][-1] = "I" + changed["tags"][-2][1:]
    write_rows(tmp_path / "a.jsonl", rows)
    share = (number_of_entities - 1) / number_of_entities
    assert evaluated(*arguments, *options)["f1"] == pytest.approx(share)


def begun(tags: list[str]) -> list[str]:
    """Entities that begin with I begin with B, as the model's answers count them."""
    kinds = ["", *(tag[1:] for tag in tags)]
    return [
        "B" + tag[1:] if tag[0] == "I" and before != tag[1:] else tag for before, tag in zip(kinds, tags, strict=False)
    ]


@pytest.mark.slow
def test_word_error_rate_of_speech(tiny_dir: Path, tmp_path: Path) -> None:
    """Against what transformers hears, with one word more for one of the recordings."""
    model = str(tiny.build("wav2vec2-ctc", tiny_dir))
    (tmp_path / "sounds").mkdir()
    hear = pipeline("automatic-speech-recognition", model=model, device="cpu")
    rows, num_words = [], 0
    for number in range(4):
        file = tmp_path / "sounds" / f"{number}.wav"
        soundfile.write(file, np.sin(np.arange(8000 + 2000 * number) ** (1.1 + number / 50) / 40), 16_000)
        sound, rate = soundfile.read(file, dtype="float32")
        text = hear({"raw": sound, "sampling_rate": rate})["text"]
        num_words += len(text.split())
        rows.append({"file_name": file.name, "text": text})
    rows[0]["text"] += " silence"
    write_rows(tmp_path / "sounds" / "metadata.jsonl", rows)
    found = evaluated(model, "--data", str(tmp_path / "sounds"), "--label-column", "text")
    assert found["wer"] == pytest.approx(1 / (num_words + 1))
    assert 0 < found["cer"] < 1


@pytest.mark.slow
def test_mean_average_precision_of_detection(tiny_dir: Path, tmp_path: Path) -> None:
    """Against the boxes that transformers finds: all right, and fewer are when those of one picture lie elsewhere."""
    model = str(tiny.build("detr", tiny_dir))
    (tmp_path / "pictures").mkdir()
    detect = pipeline("object-detection", model=model, device="cpu")
    rows: list[dict[str, Any]] = []
    for number in range(4):
        file = tmp_path / "pictures" / f"{number}.png"
        Image.open(io.BytesIO(PNG)).rotate(90 * number).save(file)
        boxes = [{"label": one["label"], "box": one["box"]} for one in detect(str(file), threshold=0.0)]
        rows.append({"file_name": file.name, "objects": boxes})
    arguments = (model, "--data", str(tmp_path / "pictures"), "--label-column", "objects", "-p", "threshold=0")
    write_rows(tmp_path / "pictures" / "metadata.jsonl", rows)
    assert evaluated(*arguments) == {"map": pytest.approx(1), "map50": pytest.approx(1)}
    for one in rows[0]["objects"]:
        one["box"] = {"xmin": 0, "ymin": 0, "xmax": 1, "ymax": 1}
    write_rows(tmp_path / "pictures" / "metadata.jsonl", rows)
    assert 0 < evaluated(*arguments)["map"] < 0.9


@pytest.mark.slow
def test_retrieval_by_vectors_and_by_a_cross_encoder(models_dir: Path, tmp_path: Path) -> None:
    """The same rows: a text beside others that is the query itself is the nearest by vectors."""
    texts = [" ".join(WORDS[(row * 11 + step * step) % len(WORDS)] for step in range(6)) for row in range(30)]
    rows = [
        {"query": texts[row], "texts": [texts[(row + step) % 30] for step in (1, 2, 0, 3)], "relevance": [0, 0, 1, 0]}
        for row in range(30)
    ]
    data = ("--data", write_rows(tmp_path / "a.jsonl", rows), "--label-column", "relevance")
    vectors = (str(models_dir / "sentence-encoder"), "--task", "sentence-similarity")
    columns = ("--column", "source_sentence=query", "--column", "sentences=texts")
    found = evaluated(*vectors, *data, *columns, "--metric", "ndcg@10", "--metric", "mrr")
    assert found == {"ndcg@10": pytest.approx(1), "mrr": 1}
    found = evaluated(str(models_dir / "cross-encoder"), "--task", "text-ranking", *data)
    assert set(found) == {"ndcg@10", "mrr@10"}
    assert 0.25 < found["mrr@10"] < 1
