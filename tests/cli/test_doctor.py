"""`pipeserve doctor`: what is found, on this machine and on those that the test makes up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from app.cli.doctor.findings import devices
from tests.cli.test_commands import pipeserve
from tests.fake_hub import TOKEN, FakeHub, serve


def test_this_machine_is_told(tmp_path: Path) -> None:
    """Torch and its devices, what is installed, and where things are kept; nothing is broken, so it exits with 0."""
    done = pipeserve("doctor", "--cache-dir", str(tmp_path / "cache"))
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert any(line.startswith(f"ok      torch: {torch.__version__}") for line in lines)
    assert any(line.startswith("ok      cpu: ") and "float32" in line for line in lines)
    assert any(line.startswith("ok      extra onnx: installed") for line in lines)
    assert any(line.startswith("none    environment vllm: ") and "env create vllm" in line for line in lines)
    assert any(line.startswith("ok      hub: not asked") for line in lines)
    assert not (tmp_path / "cache").exists()


def test_found_as_data_and_broken_is_an_exit_code(tmp_path: Path) -> None:
    """A cache folder that is a file."""
    (tmp_path / "taken").touch()
    done = pipeserve("doctor", "--json", "--cache-dir", str(tmp_path / "taken" / "cache"))
    assert done.returncode == 1
    (found,) = [one for one in json.loads(done.stdout) if one["verdict"] == "FAILED"]
    assert found["about"] == "server's cache"
    assert "is not a folder" in found["told"]
    assert "PIPESERVE_CACHE_DIR" in found["fix"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU that torch sees is no finding")
def test_driver_without_a_gpu_is_broken(tmp_path: Path) -> None:
    """A torch for CPUs beside an NVIDIA driver is what people install by mistake."""
    driver = tmp_path / "proc/driver/nvidia/version"
    driver.parent.mkdir(parents=True)
    driver.touch()
    found = [one for one in devices(tmp_path) if one.about == "cuda"]
    assert [one.verdict for one in found] == ["FAILED"]


@pytest.mark.parametrize(
    ("token", "told"),
    [("", "without a token"), ("hf_bad", "does not know the token"), (TOKEN, "answers as ada")],
)
def test_hub_is_asked(tmp_path: Path, token: str, told: str) -> None:
    """Whether it answers, and whether it knows the token. In a process: its library reads these when it is imported."""
    code = "from app.cli.doctor.findings import hub; print(hub().told)"
    with serve(FakeHub({})) as hub:
        variables = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_TOKEN": token, "HF_HOME": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **variables}, capture_output=True, text=True, check=True
        )
    assert told in done.stdout
