"""`pipeserve tune` on a model of the contest: its table, and the entry that serves the choice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.contestants import Model
from bench.environments import reason_of
from bench.processes import REPOSITORY, THREADS, end, say, write_catalog

MAX_DIFFERENCE = 0.02
"""What the tuner may lose: the largest difference of two logits, and of embeddings 1 - cosine as well."""

_TUNE_S = 1200.0


def tune(model: Model, scratch: Path, cache: Path, *, is_quick: bool) -> dict[str, Any]:
    """What it printed as JSON; or the reason why there is nothing. cache: where the choice is kept."""
    entry = {"id": "bench", "task": model.task, "model": str(model.folder), "threads": THREADS, "backend": "auto"}
    catalog = write_catalog(scratch, [entry])
    command = [sys.executable, "-m", "app", "tune", "bench", "--models", str(catalog), "--json"]
    command += ["--max-difference", str(MAX_DIFFERENCE), "--cache-dir", str(cache)]
    command += ["--rounds", "1", "--seconds", "0.5", "--batches", "1,8"] if is_quick else []
    variables = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    process = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        printed, complaints = process.communicate(timeout=_TUNE_S)
    except subprocess.TimeoutExpired:
        printed, complaints = "", f"it took more than {_TUNE_S / 60:.0f} minutes"
    finally:
        end(process)
    if not printed or process.returncode:
        reason = reason_of(complaints)
        say(f"  `pipeserve tune` could not run: {reason}")
        return {"reason": reason}
    found: dict[str, Any] = json.loads(printed)
    say(f"  `pipeserve tune` chose {found['choice']}")
    return found
