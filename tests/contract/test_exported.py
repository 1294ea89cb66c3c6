"""A backend that runs an export, over HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.conftest import StartServer
from tests.runtime.backends.files import as_intermediate, classifier, without_weights

ONE_WORD = {"inputs": "good"}
TOO_MANY = {"inputs": "a very long text about the film"}


def test_export_of_the_folder_is_served(start_server: StartServer, models_dir: Path, tmp_path: Path) -> None:
    """By either backend, and the model's page says by which. A failure of the library is that request's error, and
    the same worker answers the next."""
    folder = without_weights("sequence-classification", models_dir, tmp_path / "model")
    as_intermediate(classifier(folder / "onnx" / "model.onnx"), folder / "openvino" / "openvino_model.xml")
    backends = ("onnx", "openvino")
    task = "text-classification"
    server = start_server([{"id": one, "task": task, "model": str(folder), "backend": one} for one in backends])
    for backend in backends:
        answered = server.post(f"/models/{backend}", ONE_WORD)
        assert answered.status_code == 200, answered.text
        assert answered.json()[0][0]["label"] == "POSITIVE"
        card = server.get(f"/v1/models/{backend}").json()
        assert (card["backend"], card["dtype"], card["largest_difference"]) == (backend, "float32", None)
    pids = server.worker_pids("onnx")
    failed = server.post("/models/onnx", TOO_MANY)
    assert (failed.status_code, failed.json()["error_type"]) == (500, "backend")
    assert server.post("/models/onnx", ONE_WORD).json()[0][0]["label"] == "POSITIVE"
    assert server.worker_pids("onnx") == pids


@pytest.mark.slow
def test_export_is_made_in_the_worker_and_its_difference_shown(
    start_server: StartServer, models_dir: Path, tmp_path: Path
) -> None:
    """In the server's cache folder; the load's events tell of it."""
    server = start_server([{"id": "a", "model": str(models_dir / "sequence-classification"), "backend": "onnx"}])
    events = server.post("/v1/models/a/load", {}, headers={"Accept": "text/event-stream"}).text
    assert '"phase":"export"' in events
    assert 0 < server.get("/v1/models/a").json()["largest_difference"] < 1e-4
    assert list(tmp_path.rglob("made/onnx/*/model.onnx"))
