"""The commands that ask a server, as a person types them, against a real one."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests import tiny
from tests.contract.conftest import write_catalog
from tests.contract.test_keys import create
from tests.server import REPOSITORY, RunningServer

ADMIN, READER = "ops", "website"


class House:
    """A server with keys, and the command line of who has one."""

    def __init__(self, server: RunningServer, secrets: dict[str, str]) -> None:
        self.server = server
        self._secrets = secrets

    def pipeserve(self, *arguments: str, key: str = ADMIN, text: str = "") -> subprocess.CompletedProcess[str]:
        variables = {"PIPESERVE_URL": self.server.url, "PIPESERVE_API_KEY": self._secrets.get(key, "")}
        return subprocess.run(
            [sys.executable, "-m", "app", *arguments],
            cwd=REPOSITORY,
            env={**os.environ, **variables},
            input=text,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )

    def told(self, *arguments: str, **options: Any) -> str:
        done = self.pipeserve(*arguments, **options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *arguments: str, **options: Any) -> str:
        """In one sentence."""
        done = self.pipeserve(*arguments, **options)
        assert done.returncode != 0 and "Traceback" not in done.stderr, done.stderr
        return done.stderr


@pytest.fixture(scope="module")
def house(models_dir: Path, tiny_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    entries: list[dict[str, Any]] = [
        {"id": "reviews", "task": "text-classification", "model": "sequence-classification"},
        {"id": "chat", "task": "text-generation", "model": str(tiny.build("chatml", tiny_dir))},
        {"id": "depth", "task": "depth-estimation", "model": str(tiny.build("dpt", tiny_dir))},
        {"id": "gone", "task": "ner", "model": str(folder / "gone")},
    ]
    keys = folder / "keys.yaml"
    secrets = {ADMIN: create(keys, ADMIN, "--scope", "infer", "--scope", "admin"), READER: create(keys, READER)}
    catalog = write_catalog(folder / "models.yaml", models_dir, entries)
    with RunningServer(catalog, "--keys-file", str(keys), cache_dir=folder) as server:
        yield House(server, secrets)


def test_models_are_listed_shown_loaded_and_stopped(house: House) -> None:
    """A table for people, and the server's own JSON."""
    assert [line.split()[0] for line in house.told("list").splitlines()[1:]] == ["reviews", "chat", "depth", "gone"]
    assert "There is no folder" in house.told("list", "--state", "failed")
    (card,) = json.loads(house.told("list", "--task", "depth-estimation", "--json"))
    assert card["id"] == "depth"
    assert "reviews is ready on cpu" in house.told("load", "reviews", "--pin")
    row = house.told("ps").splitlines()[1].split()
    assert (row[:3], row[-1]) == (["reviews", "ready", "cpu"], "pinned")
    assert house.told("unpin", "reviews") == "reviews is not pinned, and ready.\n"
    assert "float32" in house.told("show", "reviews")
    assert house.told("stop", "reviews") == "reviews is unloaded.\n"
    assert json.loads(house.told("ps", "--json")) == []


def test_one_answer_for_one_input(house: House, tmp_path: Path) -> None:
    """A text, JSON, a file of it, or what comes in; by the model, or by the task."""
    expected = house.told("run", "reviews", "a good film")
    assert json.loads(expected)[0][0]["label"]
    file = tmp_path / "review.txt"
    file.write_text("a good film")
    assert house.told("run", "sentiment-analysis", str(file)) == expected
    assert house.told("run", "reviews", text="a good film\n") == expected
    assert len(json.loads(house.told("run", "reviews", '["a", "b"]', "-p", "top_k=1"))) == 2


def test_picture_is_written_beside_its_input(house: House, tmp_path: Path) -> None:
    """Or where it is to go; in JSON it is base64."""
    picture = tmp_path / "street.png"
    Image.new("RGB", (64, 48), "teal").save(picture)
    told = json.loads(house.told("run", "depth", str(picture)))
    assert told["depth"] == str(tmp_path / "street.depth-estimation.png")
    assert (tmp_path / "street.depth-estimation.png").read_bytes()[:4] == b"\x89PNG"
    house.told("run", "depth", str(picture), "--out", str(tmp_path / "deep.png"))
    assert (tmp_path / "deep.png").is_file()
    answer = json.loads(house.told("run", "depth", str(picture), "--json"))
    assert base64.b64decode(answer["depth"])[:4] == b"\x89PNG"


def test_texts_are_written_as_they_come(house: House) -> None:
    """And a chat remembers what was said, until it is told to forget."""
    assert house.told("run", "chat", "hello", "-p", "max_new_tokens=5", "-p", "seed=1").strip()
    greedy = ("--temperature", "0", "--max-tokens", "4", "--system", "Be short.")
    told = house.told("chat", "chat", *greedy, text="hello\n/clear\nhello\n/exit\n")
    first, second = told.splitlines()[0], told.splitlines()[-1]
    assert first and second
    assert house.told("chat", text="") == ""


def test_server_is_measured(house: House) -> None:
    """A line for each number of clients, with what its metrics tell, in a table or as data."""
    arguments = ("bench", "reviews", "--requests", "24", "-p", "top_k=1")
    report = json.loads(house.told(*arguments, "--concurrency", "1,8", "--json"))
    assert (report["model"], report["task"], report["num_inputs"]) == ("reviews", "text-classification", 1)
    alone, together = report["levels"]
    for level, concurrency in ((alone, 1), (together, 8)):
        load = level["load"]
        assert (load["concurrency"], load["num_answered"], load["num_failed"]) == (concurrency, 24, 0)
        assert 0 < load["p50_ms"] <= load["p90_ms"] <= load["p99_ms"] and load["requests_per_s"] > 0
    assert alone["mean_batch_items"] == 1 <= together["mean_batch_items"] <= 8
    table = house.told(*arguments, "--rate", "200", key=READER).splitlines()
    assert table[0].split()[:3] == ["RATE", "REQUESTS/S", "P50"]
    assert table[1].split()[0] == "200" and table[1].split()[5:7] == ["0", "-"]  # its key is not for metrics


def test_streams_are_measured_with_inputs_of_a_file(house: House, tmp_path: Path) -> None:
    """Time to first token, and per token; what does not stream is told."""
    (tmp_path / "prompts.csv").write_text("text\nhello\nhow are you\n")
    asked = ("--data", str(tmp_path / "prompts.csv"), "--requests", "6", "--concurrency", "2", "--stream")
    report = json.loads(house.told("bench", "chat", *asked, "-p", "max_new_tokens=4", "--json"))
    (level,) = report["levels"]
    stream = level["load"]["stream"]
    assert (report["num_inputs"], level["load"]["num_answered"]) == (2, 6)
    assert 6 <= stream["num_tokens"] <= 24
    assert 0 < stream["ttft_p50_ms"] <= level["load"]["p99_ms"]
    assert "stream" in house.refused("bench", "reviews", *asked)


@pytest.mark.parametrize(
    ("arguments", "key", "sentence"),
    [
        (("show", "nothing"), ADMIN, 'There is no model "nothing"'),
        (("list", "--state", "bad"), ADMIN, "there are unresolved"),
        (("run", "reviews", ""), ADMIN, "inputs"),
        (("run", "nothing", "a"), ADMIN, 'There is no model "nothing"'),
        (("run", "depth", "/nothing.png"), ADMIN, "inputs"),
        (("run", "gone", "a"), ADMIN, "There is no folder"),
        (("stop", "reviews"), READER, "lacks the scope admin"),
        (("pin", "reviews"), READER, "lacks the scope admin"),
        (("list",), "", "wants a key"),
        (("bench", "reviews"), "", "wants a key"),
        (("bench", "gone"), ADMIN, "There is no folder"),
        (("chat", "nothing"), ADMIN, 'There is no model "nothing"'),
    ],
)
def test_what_cannot_be_done_is_a_sentence(house: House, arguments: tuple[str, ...], key: str, sentence: str) -> None:
    """With an exit code, and no traceback."""
    assert sentence in house.refused(*arguments, key=key, text="hello\n")


def test_server_that_is_not_there_is_a_sentence(house: House) -> None:
    """With what to do."""
    assert "--url or PIPESERVE_URL names another" in house.refused("ps", "--url", "127.0.0.1:1")
    assert "ftp://a" in house.refused("ps", "--url", "ftp://a")
