"""`pipeserve tune` on a tiny model: as a process where it measures."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from app.tuning.candidates import name_of
from tests.cli.test_commands import REPOSITORY, here, pipeserve_within

QUICK = ("--rounds", "1", "--seconds", "0", "--batches", "1,2")


@pytest.fixture(scope="module")
def catalog(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tune")
    entries = [
        {"id": "reviews", "model": str(models_dir / "sequence-classification"), "backend": "auto"},
        {"id": "writes", "task": "text-generation", "model": "acme/writes", "backend": "auto"},
    ]
    file = folder / "models.yaml"
    file.write_text(json.dumps({"models": entries}))
    return file


@pytest.mark.slow  # the tuner's own tests do the same with fewer candidates
@pytest.mark.timeout(400)  # torch compiles a model, and an export is made: on a busy machine that takes minutes
def test_choice_is_measured_stored_shown_and_forgotten(catalog: Path) -> None:
    """The whole way of one entry; stdout is JSON alone, and `check` tells what `auto` stands for."""
    cache = str(catalog.parent / "cache")
    done = pipeserve_within(300, "tune", "reviews", "--models", str(catalog), "--json", "--cache-dir", cache, *QUICK)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    rows = {row["name"]: row for row in found["candidates"]}
    assert {"torch", "torch bfloat16", "torch float16"} <= set(rows)
    assert rows["torch"]["difference"] == 0
    assert rows["torch bfloat16"]["difference"] > found["bound"]
    assert set(rows["torch"]["latency_s"]) == {"1 × short", "1 × long", "2 × short", "2 × long"}
    assert rows["torch"]["memory_bytes"] > 2**20
    assert rows[name_of(found["choice"])]["is_allowed"]

    listed = here("tune", "--list", "--cache-dir", cache)
    assert "sequence-classification" in listed.stdout
    assert "used" in listed.stdout and "not used" not in listed.stdout
    checked = here("check", str(catalog), "--cache-dir", cache)
    assert re.search(r"computed by (torch|onnx|openvino)\b.* as tuned on 20", checked.stdout)

    forgotten = here("tune", "reviews", "--models", str(catalog), "--forget", "--cache-dir", cache)
    assert forgotten.stdout == "1 forgotten.\n"
    assert here("tune", "--list", "--cache-dir", cache).stdout == "Nothing is stored.\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("writes",), "tune is for tasks with one forward"),
        (("gone/model",), "gone/model"),
        (("reviews", "--task", "ner"), "leave --task out"),
        ((), "Name the MODEL"),
        (("reviews", "--texts", "no-such-file.txt"), "cannot be read"),
    ],
)
def test_what_cannot_be_tuned_is_a_sentence(catalog: Path, arguments: tuple[str, ...], words: str) -> None:
    """On stderr, and nothing is started."""
    done = here("tune", *arguments, "--models", str(catalog))
    assert done.exit_code == 1
    assert words in done.stderr
    assert isinstance(done.exception, SystemExit)


def test_ctrl_c_leaves_no_process_and_no_file(catalog: Path, tmp_path: Path) -> None:
    """Once a worker is there; the exit code is that of an interrupted command."""
    command = [sys.executable, "-m", "app", "tune", "reviews", "--models", str(catalog), "--seconds", "60"]
    running = subprocess.Popen(
        [*command, "--cache-dir", str(tmp_path)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs, which these tests may be, have Ctrl-C ignored, and hand that down.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    own = psutil.Process(running.pid)
    until = time.monotonic() + 60
    while not any("worker: reviews" in " ".join(child.cmdline()) for child in own.children()):
        assert time.monotonic() < until, "no worker came"
        time.sleep(0.05)
    children = own.children(recursive=True)
    running.send_signal(signal.SIGINT)
    output, errors = running.communicate(timeout=120)  # a worker that imports torch ends after that
    assert running.returncode == 130, errors
    assert "nothing is stored" in errors
    assert output == ""
    gone, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    assert len(gone) >= 2
    assert list(tmp_path.iterdir()) == []
