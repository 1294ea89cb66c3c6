"""Models with a handler of their own, behind the running server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import InferenceClient

from app.tasks.samples import PNG
from tests.contract.conftest import StartServer, write_catalog
from tests.fake_hub import FakeHub, serve
from tests.handlers import handler_folder
from tests.server import RunningServer

BODY = {"inputs": "some text", "parameters": {"a": 1}, "anything": [None, {"b": 2}]}
CLASSIFIER = """
class EndpointHandler:
    def __init__(self, path=""):
        pass

    def __call__(self, data):
        return [[{"label": data["inputs"], "score": 1.0}]]
"""


@pytest.fixture(scope="module")
def server(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("handlers")
    echo = str(handler_folder(folder / "echo"))
    labels = str(handler_folder(folder / "labels", CLASSIFIER))
    lacking = str(handler_folder(folder / "lacking", "import a_library_that_nobody_has"))
    entries: list[dict[str, Any]] = [
        {"id": "acme/echo", "model": echo, "trust_remote_code": True},
        {"id": "labels", "model": labels, "task": "text-classification", "trust_remote_code": True},
        {"id": "lacking", "model": lacking, "trust_remote_code": True},
        {"id": "untrusted", "model": echo},
        {"id": "plain", "model": "sequence-classification", "task": "text-classification"},
    ]
    catalog = write_catalog(folder / "models.yaml", models_dir, entries)
    with RunningServer(catalog, cache_dir=folder) as running:
        yield running


def echoed(body: dict[str, Any], kind: str, size: int | None) -> dict[str, Any]:
    rest = {name: value for name, value in body.items() if name != "inputs"}
    return {"type": kind, "size": size, "rest": rest, "words": ["some", "words"], "limit": 7}


def test_whole_body_goes_through(server: RunningServer) -> None:
    """Fields of any name; a body need not have inputs; the answer has the headers of every answer."""
    answer = server.post("/models/acme/echo", BODY)
    assert answer.status_code == 200, answer.text
    assert answer.json() == echoed(BODY, "str", 9)
    assert answer.headers["x-model"] == "acme/echo" and answer.headers["x-batch-size"] == "1"
    table = {"table": {"a": [1, 2]}}
    assert server.post("/models/acme/echo", table).json() == echoed(table, "NoneType", None)


def test_file_is_the_inputs(server: RunningServer) -> None:
    """A raw body that is no JSON, and a form's file with its other fields."""
    with server.client() as client:
        raw = client.post("/models/acme/echo", content=PNG, headers={"content-type": "image/png"})
        assert raw.json() == echoed({}, "bytes", len(PNG))
        form = client.post("/models/acme/echo", files={"file": PNG}, data={"note": "mine"})
        assert form.json() == echoed({"note": "mine"}, "bytes", len(PNG))


def test_declared_task_has_its_own_routes(server: RunningServer) -> None:
    """By the task's route, the pipeline's, the client's method; without a task there is only the model's URL."""
    for path in ("/v1/text-classification/labels", "/models/labels", "/models/labels/pipeline/text-classification"):
        assert server.post(path, {"inputs": "a", "more": 1}).json() == [[{"label": "a", "score": 1.0}]]
    assert server.post("/v1/text-classification", {"inputs": "a", "model": "labels"}).json()[0][0]["label"] == "a"
    assert server.post("/models/labels/pipeline/fill-mask", {"inputs": "a"}).status_code == 404
    assert server.post("/v1/text-classification/acme/echo", BODY).status_code == 404
    cards = {card["id"]: card for card in server.get("/v1/models").json()["data"]}
    assert cards["acme/echo"]["tasks"] == ["custom"] and cards["labels"]["tasks"] == ["text-classification"]


@pytest.mark.usefixtures("hub_is_online")
def test_client_of_hugging_face_asks_a_handler(server: RunningServer) -> None:
    """Its method for the declared task."""
    (label,) = InferenceClient(model=f"{server.url}/models/labels", token="none").text_classification("a film")
    assert (label.label, label.score) == ("a film", 1.0)


def test_sagemaker_asks_a_handler(server: RunningServer) -> None:
    """/invocations takes any body; other servers' dialects say that a handler has its own."""
    assert server.post("/invocations?model=acme/echo", BODY).json() == echoed(BODY, "str", 9)
    assert server.post("/invocations?model=labels", {"inputs": "a"}).json() == [[{"label": "a", "score": 1.0}]]
    assert server.post("/predict", {"inputs": "a", "model": "labels"}).status_code == 404
    infer = {"inputs": [{"name": "inputs", "datatype": "BYTES", "shape": [1], "data": ["a"]}]}
    refused = server.post("/v2/models/labels/infer", infer)
    assert refused.status_code == 404 and "no tensors" in refused.json()["error"]
    assert server.get("/v2/models/acme/echo").json()["inputs"] == []
    assert server.post("/v2/models/acme/echo/infer", infer).status_code == 404


@pytest.mark.parametrize(
    ("inputs", "status", "kind"),
    [
        ("refuse", 422, "validation"),
        ("fail", 500, "backend"),
        ("parse", 500, "backend"),
        ("object", 500, "backend"),
        ("nan", 500, "backend"),
        ("exit", 500, "worker_lost"),
    ],
)
def test_error_is_that_requests_alone(server: RunningServer, inputs: str, status: int, kind: str) -> None:
    """A ValueError of the handler is its word to the client, all else is hidden; the next request is answered."""
    answer = server.post("/models/acme/echo", {"inputs": inputs})
    assert (answer.status_code, answer.json()["error_type"]) == (status, kind), answer.text
    assert "secret" not in answer.text
    assert ("must not be refused" in answer.text) is (inputs == "refuse")
    assert server.post("/models/acme/echo", BODY).status_code == 200


@pytest.mark.parametrize("body", [b"", b"[1]", b'"text"', b'{"inputs": '])
def test_body_that_is_no_object_is_malformed(server: RunningServer, body: bytes) -> None:
    """A handler is called with an object."""
    with server.client() as client:
        assert client.post("/models/acme/echo", content=body).status_code == 400


def test_entry_that_cannot_start_says_what_to_do(server: RunningServer) -> None:
    """Code that may not run, and a library that is not there; the other entries serve."""
    untrusted = server.post("/models/untrusted", BODY)
    assert untrusted.status_code == 503 and "trust_remote_code: true" in untrusted.json()["error"]
    lacking = server.post("/models/lacking", BODY)
    assert lacking.status_code == 501 and "a_library_that_nobody_has" in lacking.json()["error"]
    assert "requirements.txt" in lacking.json()["error"]
    assert server.post("/models/plain", {"inputs": "a good film"}).status_code == 200


@pytest.mark.parametrize("task", [None, "text-classification"])
def test_handler_of_the_hub_is_found_out_and_downloaded(
    start_server: StartServer, tmp_path: Path, task: str | None
) -> None:
    """Its repository has no config; with a declared task the first request finds the handler as well."""
    folder = handler_folder(tmp_path / "model", CLASSIFIER)
    with serve(FakeHub({"acme/handler": folder})) as hub:
        variables = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "hub")}
        variables["HF_HUB_DISABLE_XET"] = "1"
        entry = {"id": "far", "model": "acme/handler", "trust_remote_code": True, **({"task": task} if task else {})}
        server = start_server([entry], variables=variables)
        path = f"/v1/{task}/far" if task else "/models/far"
        answer = server.post(path, {"inputs": "a", "more": 1})
        assert answer.status_code == 200, answer.text
        assert answer.json() == [[{"label": "a", "score": 1.0}]]
        untrusted = start_server([{"id": "far", "model": "acme/handler"}], variables=variables)
        assert "trust_remote_code" in untrusted.post("/models/far", BODY).json()["error"]
    offline = start_server([entry], variables={**variables, "HF_HUB_OFFLINE": "1"})
    assert offline.post(path, {"inputs": "a"}).status_code == 200
