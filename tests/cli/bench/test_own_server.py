"""`pipeserve bench` without a server: it starts one of its own, which ends with it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from app.cli import cli
from app.cli.bench.own_server import own_server
from app.cli.server import Trouble
from tests.cli.test_commands import REPOSITORY


def test_folder_is_measured_by_a_server_of_its_own(models_dir: Path, tmp_path: Path) -> None:
    """A model that is in no models.yaml, of its example; and no process is left."""
    model = str(models_dir / "sequence-classification")
    arguments = ["bench", model, "--requests", "8", "--concurrency", "2", "--cache-dir", str(tmp_path), "--json"]
    before = psutil.Process().children(recursive=True)  # servers that other tests share
    done = CliRunner().invoke(cli, arguments, env={"PIPESERVE_API_KEYS": "not-for-this-server-0123456789"})
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert (report["model"], report["task"], report["data"]) == ("sequence-classification", "text-classification", None)
    assert report["levels"][0]["load"]["num_answered"] == 8
    assert report["levels"][0]["mean_batch_items"] >= 1
    assert set(psutil.Process().children(recursive=True)) <= set(before)


def test_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    """In its own words."""
    (tmp_path / "models.yaml").write_text("models: [{taks: ner}]")
    with pytest.raises(Trouble, match='did not start: .*unknown key "taks"'):
        with own_server(tmp_path / "models.yaml", tmp_path / "cache"):
            pass


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_server_outlives_the_command(models_dir: Path, tmp_path: Path, number: signal.Signals) -> None:
    """However it ends; Ctrl-C is an exit code of its own."""
    model = str(models_dir / "sequence-classification")
    command = [sys.executable, "-m", "app", "bench", model, "--duration", "60s", "--cache-dir", str(tmp_path)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as running:
        own, until = psutil.Process(running.pid), time.monotonic() + 60
        while not any("worker" in " ".join(child.cmdline()) for child in own.children(recursive=True)):
            assert time.monotonic() < until, "no worker came"
            time.sleep(0.05)
        children = own.children(recursive=True)
        running.send_signal(number)
        assert running.wait(40) == (130 if number is signal.SIGINT else -signal.SIGKILL)
    assert not psutil.wait_procs(children, timeout=30)[1]
