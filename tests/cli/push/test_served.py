"""An export that was made here, pushed, and served from the repository as its card says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from app.catalog import ModelSpec, read_entry
from app.runtime.base import LoadedModel
from app.runtime.loading import load_model
from tests.cli.several import run_several
from tests.fake_hub import TOKEN, FakeHub, serve
from tests.runtime.compute import answer

TEXT = "the movie was a great film"


def load(spec: ModelSpec, cache_dir: Path) -> LoadedModel:
    return load_model(spec, num_threads=1, progress=lambda progress: None, cache_dir=cache_dir)


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "keys"), [("onnx", {}), ("onnx", {"quantization": "int8"}), ("openvino", {})])
def test_pushed_export_answers_as_the_one_that_was_made(
    models_dir: Path, tmp_path: Path, backend: str, keys: dict[str, str]
) -> None:
    """With the entry of the card, and no weights: nothing is made anew."""
    folder = models_dir / "sequence-classification"
    entry = {"id": "reviews", "model": str(folder), "task": "text-classification", "backend": backend, **keys}
    (tmp_path / "models.yaml").write_text(yaml.safe_dump({"models": [entry]}))
    made = answer(load(read_entry(entry, tmp_path), tmp_path / "cache").stages("text-classification"), TEXT)
    command = ["push", "reviews", "--to", "ada/reviews", "--models", str(tmp_path / "models.yaml")]
    with serve(FakeHub({})) as hub:
        done = run_several(
            {"push": command},
            HF_ENDPOINT=hub.url,
            HF_HUB_DISABLE_XET="1",
            HF_HUB_OFFLINE="0",
            HF_TOKEN=TOKEN,
            PIPESERVE_CACHE_DIR=str(tmp_path / "cache"),
        )
        done["push"].told()
        pushed = hub.repositories["ada/reviews"]
        told = re.search(r"```yaml\n(.*?)```", (pushed / "README.md").read_text(), re.DOTALL)
        assert told is not None
        (served,) = yaml.safe_load(told[1])["models"]
        assert served["model"] == "ada/reviews"
        assert not list(pushed.rglob("*.safetensors"))
        spec = read_entry({**served, "model": str(pushed)}, tmp_path)
        assert answer(load(spec, tmp_path / "other").stages("text-classification"), TEXT) == made
    assert not (tmp_path / "other").exists()
