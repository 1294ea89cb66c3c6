"""The worker's code under the transformers 4.57 of the environment "optimum": every task answers, or says why not."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.contract.test_optimum import python  # noqa: F401  # a fixture
from tests.server import REPOSITORY
from tests.tiny import TASK_OF

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

NEWER = {"any-to-any", "decision"}
"""Tasks that transformers 4.57 does not have."""
UNBUILT = {"blip", "mask2former", "mbart", "musicgen", "nllb"}
"""Models that `tests.tiny` builds with tokenizers of transformers 5, or with libraries that are not there."""
CODE = """
import json, sys
from pathlib import Path
from app.catalog import ModelSpec
from app.errors import NotAvailable
from app.runtime.loading import load_model
from tests import tiny
found = {}
for name in sys.argv[2:]:
    folder = tiny.build(name, Path(sys.argv[1]))
    spec = ModelSpec(id=name, model=str(folder), tasks=(tiny.TASK_OF[name],))
    try:
        load_model(spec, num_threads=1, progress=lambda progress: None).warm_up()
    except NotAvailable as error:
        found[name] = str(error)
    except Exception as error:
        found[name] = f"{type(error).__name__}: {error}"
print(json.dumps(found))
"""


def test_every_task_computes_or_says_that_it_needs_more(python: Path, tmp_path: Path) -> None:  # noqa: F811
    """Loaded and warmed up, in one process of the environment."""
    names = [name for name in TASK_OF if name not in UNBUILT]
    variables = {**os.environ, "PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1"}
    command = [str(python), "-P", "-c", CODE, str(tmp_path), *names]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.rstrip().rpartition("\n")[2])
    assert {TASK_OF[name] for name in found} == NEWER, found
    assert all("newer" in sentence for sentence in found.values()), found
