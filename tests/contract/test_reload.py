"""Another models.yaml for a server that is in use: SIGHUP, and `POST /v1/models/reload`."""

from __future__ import annotations

import os
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner

from app.cli import cli
from tests.contract.conftest import StartServer, write_catalog
from tests.server import RunningServer, metric, wait_until

REVIEWS: dict[str, Any] = {"id": "reviews", "task": "text-classification", "model": "sequence-classification"}
VECTORS: dict[str, Any] = {"id": "vectors", "task": "feature-extraction", "model": "sentence-encoder"}
WORDS: dict[str, Any] = {"id": "words", "task": "fill-mask", "model": "masked-lm"}
REVIEW, VECTOR = {"inputs": "a good film"}, {"inputs": "a"}


class Declared:
    """The models.yaml of a running server, which an operator writes anew."""

    def __init__(self, server: RunningServer, path: Path, models_dir: Path) -> None:
        self.server = server
        self.path = path
        self._models_dir = models_dir
        self._num_reloads = 0

    def write(self, *entries: dict[str, Any]) -> None:
        """At once, as whoever mounts files does: it is never read in part."""
        write_catalog(self.path.with_suffix(".new"), self._models_dir, list(entries)).replace(self.path)

    def reload(self, *entries: dict[str, Any]) -> None:
        """By SIGHUP, until it is done."""
        self.write(*entries)
        self.hang_up("ok")

    def hang_up(self, outcome: str) -> None:
        before = self.count(outcome)
        self.server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.count(outcome) == before + 1, what=f"a reload that is {outcome}")

    def count(self, outcome: str) -> float:
        return metric(self.server.get("/metrics").text, "pipeserve_reloads_total", outcome=outcome)


def started(start_server: StartServer, tmp_path: Path, models_dir: Path, **variables: str) -> Declared:
    server = start_server([REVIEWS, VECTORS], variables=variables)
    assert server.url  # it has read its file
    return Declared(server, tmp_path / "models-0.yaml", models_dir)


def test_reload_under_load_loses_no_request(start_server: StartServer, tmp_path: Path, models_dir: Path) -> None:
    """The model in use is another again and again, one comes, one goes, the file is broken: each request is answered,
    and right; who asks for the model that is gone is told so."""
    declared = started(start_server, tmp_path, models_dir)
    server = declared.server
    expected = server.post("/v1/text-classification", REVIEW).json()
    server.post("/v1/feature-extraction", VECTOR)
    (first,) = server.worker_pids("reviews")
    is_over = threading.Event()
    answered: list[tuple[int, Any]] = []  # by the model that stays

    def client(model: str, body: dict[str, Any], answers: list[tuple[int, Any]]) -> list[tuple[int, Any]]:
        with server.client() as http:
            while not is_over.is_set():
                answer = http.post(f"/models/{model}", json=body)
                answers.append((answer.status_code, answer.json()))
        return answers

    def wait_for_more() -> None:
        wanted = len(answered) + 12
        wait_until(lambda: len(answered) >= wanted, 60, what="more answers")

    with ThreadPoolExecutor(8) as pool:
        reviews = [pool.submit(client, "reviews", REVIEW, answered) for _ in range(6)]
        vectors = [pool.submit(client, "vectors", VECTOR, []) for _ in range(2)]
        try:
            for max_items in (2, 4, 8):
                declared.reload({**REVIEWS, "batch": {"max_items": max_items}}, VECTORS, WORDS)
                wait_for_more()
            declared.path.write_text("models: [{id: reviews, taks: ner}]")
            declared.hang_up("failed")
            declared.reload({**REVIEWS, "batch": {"max_items": 8}}, WORDS)
            wait_until(lambda: not server.worker_pids("vectors"), what="the end of the removed model's worker")
            wait_for_more()
        finally:
            is_over.set()
        of_removed = [call.result() for call in vectors]
        assert all(call.result() is answered for call in reviews)
    for status, answer in answered:
        assert status == 200, answer
        assert answer[0][0]["label"] == expected[0][0]["label"]
        assert answer[0][0]["score"] == pytest.approx(expected[0][0]["score"], abs=1e-5)
    for answers in of_removed:
        statuses = [status for status, _ in answers]
        num_served = statuses.count(200)
        assert num_served and statuses == [200] * num_served + [404] * (len(statuses) - num_served)
    assert first not in server.worker_pids("reviews")
    assert [card["id"] for card in server.get("/v1/models").json()["data"]] == ["reviews", "words"]
    assert server.post("/models/words", {"inputs": "a [MASK] film"}).status_code == 200
    assert any("ERROR" in line and "nothing is changed" in line and 'unknown key "taks"' in line for line in server.log)
    text = server.get("/metrics").text
    assert 'model="vectors"' not in text
    assert metric(text, "pipeserve_evictions_total", model="reviews", reason="reload") >= 3


def test_reload_by_request_says_what_check_says(start_server: StartServer, tmp_path: Path, models_dir: Path) -> None:
    """Of a file that is wrong; of one that is right, what became of its entries."""
    declared = started(start_server, tmp_path, models_dir)
    declared.path.write_text("models:\n- {id: reviews, task: text-clasification}\n")
    refused = declared.server.post("/v1/models/reload", None)
    said = CliRunner().invoke(cli, ["check", str(declared.path)])
    assert (refused.status_code, said.exit_code) == (409, 1)
    assert refused.json()["error"]["message"] == said.stderr.strip()
    declared.write({**REVIEWS, "aliases": ["films"]}, {"id": "gone", "task": "ner", "model": "./nowhere"})
    told = declared.server.post("/v1/models/reload", None).json()
    assert (told["added"], told["changed"], told["removed"], told["unchanged"]) == (
        ["gone"],
        ["reviews"],
        ["vectors"],
        0,
    )
    assert "There is no folder" in told["problems"]["gone"]
    assert declared.server.post("/models/films", REVIEW).status_code == 200
    assert any("pipeserve.audit POST /v1/models/reload 200" in line for line in declared.server.log)


def test_service_manager_is_told(start_server: StartServer, tmp_path: Path, models_dir: Path) -> None:
    """Ready, reloading and ready again, stopping, and now and then that the event loop turns; by no worker."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        # A long time: words of the watchdog that nobody reads meanwhile fill the socket's queue of ten.
        variables = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "60000000"}
        declared = started(start_server, tmp_path, models_dir, **variables)

        def next_but_watchdog() -> str:
            while (heard := manager.recv(4096).decode()) == "WATCHDOG=1":
                pass
            return heard

        assert next_but_watchdog() == f"READY=1\nSTATUS=serving on {declared.server.url}"
        assert manager.recv(4096) == b"WATCHDOG=1"
        declared.reload(REVIEWS)
        assert next_but_watchdog().startswith("RELOADING=1\nMONOTONIC_USEC=")
        assert next_but_watchdog() == f"READY=1\nSTATUS=serving on {declared.server.url}"
        declared.server.post("/v1/text-classification", REVIEW)
        (worker,) = declared.server.worker_pids("reviews")
        assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC"} & set(psutil.Process(worker).environ())
        os.kill(declared.server.process.pid, signal.SIGTERM)
        assert next_but_watchdog() == "STOPPING=1"
