"""Downloads from a Hub of our own: which files, which progress, which sentence when it fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from app.errors import ModelFailed
from app.fetching import fetch, fetch_adapter
from tests.fake_hub import COMMIT, TOKEN, FakeHub, Trouble, serve
from tests.models import build
from tests.unprivileged import as_nobody, public_folder

REPOSITORY = Path(__file__).resolve().parents[1]
FETCH = """
import json, sys
from app.channel.messages import Progress
from app.errors import PipeserveError
from app.fetching import fetch
options = json.loads(sys.argv[1])
reports = []
try:
    answer = {"folder": str(fetch(report=lambda one: reports.append([one.phase, one.done, one.total]), **options))}
except PipeserveError as error:
    answer = {"error": error.message, "code": error.code}
print(json.dumps({**answer, "reports": reports}))
"""
"""In a process of its own: huggingface_hub reads its environment when it is imported."""


EXPORTS = {
    "onnx/model.onnx": ["onnx/model.onnx", "onnx/model.onnx_data"],
    "openvino/openvino_model.xml": ["openvino/openvino_model.bin", "openvino/openvino_model.xml"],
}
"""By the file that is asked for: all that belong to it."""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHub]:
    cache = tmp_path_factory.mktemp("hub")
    tiny = build("sentence-encoder", cache)
    for name in ("pytorch_model.bin", "onnx/model.onnx", "model.fp16.safetensors", "code.py", "README.md"):
        (tiny / name).parent.mkdir(exist_ok=True)
        (tiny / name).write_bytes(b"not needed")
    pickled = build("encoder", cache)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    empty = cache / "empty"
    empty.mkdir()
    (empty / "config.json").write_text("{}")
    handler = cache / "handler"
    handler.mkdir()
    for name in ("handler.py", "weights.joblib", "data/words.txt"):
        (handler / name).parent.mkdir(exist_ok=True)
        (handler / name).write_text("anything")
    repositories = {"acme/tiny": tiny, "acme/gated": tiny, "acme/pickled": pickled, "acme/empty": empty}
    repositories["acme/handler"] = handler
    repositories["acme/adapter"] = adapter_folder(cache / "adapter", "adapter_model.bin", "optimizer.pt", "README.md")
    exported = cache / "exported"
    for name in ("config.json", "model.safetensors", *EXPORTS["onnx/model.onnx"], "onnx/model_fp16.onnx"):
        (exported / name).parent.mkdir(parents=True, exist_ok=True)
        (exported / name).write_text("{}")
    for name in EXPORTS["openvino/openvino_model.xml"]:
        (exported / name).parent.mkdir(parents=True, exist_ok=True)
        (exported / name).write_text("anything")
    repositories["acme/exported"] = exported
    with serve(FakeHub(repositories, gated=frozenset({"acme/gated"}))) as serving:
        yield serving


def adapter_folder(folder: Path, *more: str) -> Path:
    """The files alone, none of which can be read."""
    folder.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors", *more):
        (folder / name).write_text("anything")
    return folder


def fetched(hub: FakeHub, home: Path, model: str, environment: dict[str, str] | None = None, **options: Any) -> Any:
    defaults = {"revision": None, "is_offline": False, "allow_pickle": False, "with_code": False, "with_weights": True}
    changes = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_TOKEN": ""}
    hub.requests.clear()
    done = subprocess.run(
        [sys.executable, "-c", FETCH, json.dumps({"model": model, **defaults, **options})],
        cwd=REPOSITORY,
        env={**os.environ, **changes, **(environment or {})},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return json.loads(done.stdout)


def test_only_what_is_needed_is_downloaded_and_cached(hub: FakeHub, tmp_path: Path) -> None:
    """Safetensors before pickle, the module folders, no other formats; the second time nothing, not even online."""
    given = fetched(hub, tmp_path, "acme/tiny")
    folder = Path(given["folder"])
    assert folder.name == COMMIT
    assert {"config.json", "model.safetensors", "1_Pooling/config.json", "vocab.txt"} <= set(hub.downloaded())
    unneeded = {"pytorch_model.bin", "onnx/model.onnx", "model.fp16.safetensors", "code.py", "README.md"}
    assert not unneeded & set(hub.downloaded())
    fetched(hub, tmp_path, "acme/tiny")
    assert hub.downloaded() == []
    for environment, options in (({"HF_HUB_OFFLINE": "1"}, {}), ({}, {"is_offline": True})):
        assert fetched(hub, tmp_path, "acme/tiny", environment, **options)["folder"] == str(folder)
        assert hub.requests == []


@pytest.mark.parametrize("export", EXPORTS)
def test_export_stands_for_the_weights(hub: FakeHub, tmp_path: Path, export: str) -> None:
    """It comes with the files that hold its weights, and neither safetensors nor other variants do. Offline, it is
    found again; a model without it has its weights downloaded."""
    folder = fetched(hub, tmp_path, "acme/exported", instead=[["onnx/none.onnx"], [export]])["folder"]
    assert hub.downloaded() == sorted(["config.json", *EXPORTS[export]])
    again = fetched(hub, tmp_path, "acme/exported", is_offline=True, instead=[[export]])
    assert again["folder"] == folder
    assert "weights" in fetched(hub, tmp_path, "acme/exported", is_offline=True)["error"]
    fetched(hub, tmp_path, "acme/exported", instead=[["onnx/none.onnx"]])
    assert hub.downloaded() == ["model.safetensors"]


@pytest.mark.skipif(huggingface_hub.__version__ < "1", reason="before 1.0 it counts files, not bytes")
def test_bytes_are_reported(hub: FakeHub, tmp_path: Path) -> None:
    """Up to the total, which is the sum of the files."""
    given = fetched(hub, tmp_path, "acme/tiny")
    total = sum(path.stat().st_size for path in Path(given["folder"]).rglob("*") if path.is_file())
    assert given["reports"][-1] == ["download", total, total]
    done = [report[1] for report in given["reports"]]
    assert done == sorted(done)


def test_unreachable_hub_answers_from_the_cache(hub: FakeHub, tmp_path: Path) -> None:
    """A model that was downloaded before does not need the Hub."""
    unreachable = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    first = fetched(hub, tmp_path, "acme/tiny", unreachable)
    assert "acme/tiny is not in the local cache, and http://127.0.0.1:9 cannot be reached" in first["error"]
    folder = fetched(hub, tmp_path, "acme/tiny")["folder"]
    assert fetched(hub, tmp_path, "acme/tiny", unreachable)["folder"] == folder


def test_silent_hub_is_not_waited_for(hub: FakeHub, tmp_path: Path) -> None:
    """Longer than huggingface_hub's own limit says, which it does not use for all that it asks."""
    hub.trouble = Trouble(silence_s=3.0)
    try:
        given = fetched(hub, tmp_path, "acme/tiny", {"HF_HUB_ETAG_TIMEOUT": "1"})
    finally:
        hub.trouble = Trouble()
    assert "acme/tiny is not in the local cache" in given["error"]


@pytest.mark.parametrize(
    ("model", "options", "environment", "says"),
    [
        ("acme/gated", {}, {}, "is gated: accept its licence at"),
        ("acme/nothing", {}, {}, "does not exist on"),
        ("acme/tiny", {"revision": "old"}, {}, "has no revision old"),
        (
            "acme/tiny",
            {},
            {"HF_HUB_OFFLINE": "1"},
            "is not in the local cache, and the Hub is not to be asked (offline)",
        ),
        ("acme/pickled", {}, {}, "declare allow_pickle: true"),
        ("acme/empty", {}, {}, "has no weights"),
        ("not an id", {}, {}, "is neither a folder nor the id of a repository"),
        ("/no/such/folder", {}, {}, "The folder /no/such/folder does not exist."),
    ],
)
def test_failure_is_a_sentence(
    hub: FakeHub, tmp_path: Path, model: str, options: dict[str, Any], environment: dict[str, str], says: str
) -> None:
    """What is wrong and what to do about it; the entry is FAILED with it."""
    given = fetched(hub, tmp_path, model, environment, **options)
    assert given["code"] == "model_failed"
    assert says in given["error"]


def test_token_opens_what_is_gated(hub: FakeHub, tmp_path: Path) -> None:
    """HF_TOKEN, as everywhere."""
    assert "folder" in fetched(hub, tmp_path, "acme/gated", {"HF_TOKEN": TOKEN})


def test_pickle_is_downloaded_where_it_is_allowed(hub: FakeHub, tmp_path: Path) -> None:
    """Only then, and only where there is nothing safer."""
    fetched(hub, tmp_path, "acme/pickled", allow_pickle=True)
    assert "pytorch_model.bin" in hub.downloaded()
    fetched(hub, tmp_path, "acme/tiny", allow_pickle=True)
    assert "pytorch_model.bin" not in hub.downloaded()


def test_tokenizer_comes_without_weights(hub: FakeHub, tmp_path: Path) -> None:
    """And code of the repository only where it is trusted."""
    fetched(hub, tmp_path, "acme/tiny", with_weights=False, with_code=True)
    assert "tokenizer.json" in hub.downloaded()
    assert "code.py" in hub.downloaded()
    assert "model.safetensors" not in hub.downloaded()


def test_repository_with_a_handler_comes_whole(hub: FakeHub, tmp_path: Path) -> None:
    """Whatever its files are; then from the cache. A model with code has its handler beside it."""
    folder = fetched(hub, tmp_path, "acme/handler", with_code=True, is_whole=True)["folder"]
    assert hub.downloaded() == hub.files("acme/handler")
    offline = {"HF_HUB_OFFLINE": "1"}
    assert fetched(hub, tmp_path, "acme/handler", offline, with_code=True, is_whole=True)["folder"] == folder


def test_adapter_comes_with_its_own_weights_alone(hub: FakeHub, tmp_path: Path) -> None:
    """The safe ones; then from the cache."""
    stems = ["adapter_model", "adapter_model"]
    folder = fetched(hub, tmp_path, "acme/adapter", stems=stems)["folder"]
    assert hub.downloaded() == ["adapter_config.json", "adapter_model.safetensors"]
    assert fetched(hub, tmp_path, "acme/adapter", {"HF_HUB_OFFLINE": "1"}, stems=stems)["folder"] == folder


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        ("adapter_config.json", "holds no adapter_config.json"),
        ("adapter_model.safetensors", "declare allow_pickle: true"),
        ("", ""),
    ],
)
def test_folder_of_an_adapter_is_complete(tmp_path: Path, missing: str, says: str) -> None:
    folder = adapter_folder(tmp_path / "one", "adapter_model.bin")
    options: dict[str, Any] = {"revision": None, "is_offline": True, "report": print}
    if not missing:
        assert fetch_adapter(str(folder), allow_pickle=False, **options) == folder
        return
    (folder / missing).unlink()
    with pytest.raises(ModelFailed, match=says):
        fetch_adapter(str(folder), allow_pickle=False, **options)
    if missing.endswith(".safetensors"):
        assert fetch_adapter(str(folder), allow_pickle=True, **options) == folder


def test_weights_that_may_not_be_read_are_told() -> None:
    """safetensors says of them that there is no such file."""
    with public_folder() as folder:
        weights = folder / "model.safetensors"
        weights.touch(0o600 if os.geteuid() == 0 else 0o000)

        def complaint() -> str:
            with pytest.raises(ModelFailed) as caught:
                fetch(
                    str(folder),
                    revision=None,
                    is_offline=True,
                    allow_pickle=False,
                    with_code=False,
                    with_weights=True,
                    report=lambda progress: None,
                )
            return str(caught.value)

        assert as_nobody(complaint) == f"{weights} cannot be read: it must be readable by the server's user."
