"""Health, metrics, documents."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.tasks.registry import ALIASES, TASKS
from tests.api.conftest import LiveServer
from tests.api.fake_fleet import MODELS
from tests.server import metric

STATUSES = {"200", "400", "401", "403", "404", "405", "413", "415", "422", "429", "500", "501", "503", "504"}


def test_health_routes_answer(server: LiveServer) -> None:
    """Ready at once: no model has to be."""
    assert [server.get(path).status_code for path in ("/livez", "/readyz", "/health", "/")] == [200] * 4


def test_health_routes_answer_head_too(server: LiveServer) -> None:
    """Some load balancers ask so."""
    assert [server.client.head(path).status_code for path in ("/livez", "/readyz", "/health")] == [200] * 3


def test_draining_server_is_alive_and_not_ready(server: LiveServer) -> None:
    """Load balancers look elsewhere; new work gets 503, and every answer ends its connection."""
    server.fleet.is_accepting = False
    ready = server.get("/readyz")
    assert server.error_of(ready)[:2] == (503, "draining")
    assert "retry-after" in ready.headers
    assert server.get("/livez").status_code == server.get("/health").status_code == 200
    refused = server.post("/v1/text-classification", {"inputs": "a"})
    assert server.error_of(refused)[:2] == (503, "draining")
    assert refused.headers["connection"] == "close" and "retry-after" in refused.headers


def test_root_says_what_is_served(server: LiveServer) -> None:
    """Each task with its models, and where to read on."""
    body = server.get("/").json()
    assert body["tasks"]["text-classification"] == ["reviews", "acme/labels/large"]
    assert body["tasks"]["sentence-similarity"] == ["vectors"]
    assert all(server.get(link).status_code == 200 for link in body["links"].values())


def _series(text: str) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    return {
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_are_complete_before_the_first_request(fresh_server: LiveServer) -> None:
    """Requests for inference and their errors add to series that exist, and make none."""
    fresh_server.get("/metrics")
    before = fresh_server.get("/metrics").text
    for path in ("/v1/text-classification", "/models/reviews"):
        for raw in (b'{"inputs": "a"}', b"{", b"{}"):
            fresh_server.post(path, content=raw)
    after = fresh_server.get("/metrics").text
    new = {(name, labels) for name, labels in _series(after) - _series(before) if ("model", "") not in labels}
    assert not new
    labels = {"route": "/v1/{task}", "task": "text-classification", "model": "reviews"}
    assert metric(before, "pipeserve_requests_total", **labels, status="200") == 0
    assert metric(after, "pipeserve_requests_total", **labels, status="200") == 1
    assert metric(after, "pipeserve_failures_total", code="malformed") == 2
    assert metric(after, "pipeserve_request_seconds_count", model="reviews") >= 2
    for spec in MODELS:
        assert metric(before, "pipeserve_model_state", model=spec.id) == 1
        assert metric(before, "pipeserve_in_flight_items", model=spec.id) == 2


def test_some_metrics_are_asked_for_by_name(server: LiveServer) -> None:
    """As Prometheus' own clients allow it: `name[]`, as often as it takes."""
    text = server.get("/metrics?name[]=pipeserve_model_state&name%5B%5D=pipeserve_device_memory_budget_bytes").text
    assert metric(text, "pipeserve_model_state", model="reviews") == 1
    assert metric(text, "pipeserve_device_memory_budget_bytes", device="cpu") == 1000
    assert "pipeserve_queue_items" not in text


def test_names_from_clients_never_become_labels(fresh_server: LiveServer) -> None:
    """Neither models, nor tasks, nor paths."""
    for path in ("/v1/text-classification/evil", "/v1/text-classification?model=evil", "/v1/evil", "/models/evil/x"):
        fresh_server.post(path, {"inputs": "a", "model": "evil"})
    fresh_server.get("/evil")
    fresh_server.get("/v1/models/evil")
    text = fresh_server.get("/metrics").text
    assert "evil" not in text
    assert metric(text, "pipeserve_requests_total", status="404") >= 5


def test_metric_names_are_ours(server: LiveServer) -> None:
    """`pipeserve_<noun>_<unit>`, and no series that only says when another was made."""
    names = set(re.findall(r"^# TYPE (\S+)", server.get("/metrics").text, re.MULTILINE))
    assert names
    assert all(re.fullmatch(r"pipeserve_[a-z_]+", name) for name in names), names
    assert not [name for name in names if name.endswith("_created")]


def test_openmetrics_for_who_asks(server: LiveServer) -> None:
    """By `Accept`, as Prometheus does."""
    response = server.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    assert response.text.endswith("# EOF\n")


@pytest.fixture
def document(server: LiveServer) -> dict[str, Any]:
    found: dict[str, Any] = server.get("/openapi.json").json()
    return found


def test_document_has_a_path_per_task(document: dict[str, Any]) -> None:
    """With typed bodies, an example that runs, and every error."""
    for name in (*TASKS, *ALIASES):
        task = TASKS[ALIASES.get(name, name)]
        for path in (f"/v1/{name}", f"/v1/{name}/{{model_id}}"):
            operation = document["paths"][path]["post"]
            body = operation["requestBody"]["content"]["application/json"]
            assert body["example"] == task.example.body
            assert set(operation["responses"]) == STATUSES
            assert "x-queue-time" in operation["responses"]["200"]["headers"]


def test_document_has_every_route(server: LiveServer, document: dict[str, Any]) -> None:
    """What is routed is documented."""
    others = ("/", "/livez", "/readyz", "/health", "/metrics", "/v1/models", "/v1/models/{model_id}",
              "/v1/models/{model_id}/load", "/v1/models/{model_id}/unload", "/models/{model_id}",
              "/models/{model_id}/pipeline/{task}", "/models/{model_id}/health", "/models/{model_id}/info")  # fmt: skip
    assert set(others) <= set(document["paths"])


def test_references_of_the_document_lead_somewhere(document: dict[str, Any]) -> None:
    """And operation ids are unique; FastAPI's own error schema is not there."""
    schemas = document["components"]["schemas"]
    references = set(re.findall(r"'\$ref': '#/components/schemas/([^']+)'", repr(document)))
    assert references <= set(schemas)
    assert "HTTPValidationError" not in schemas
    assert "$defs" not in repr(document)
    ids = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(ids) == len(set(ids))


def test_document_says_which_parameters_there_are(document: dict[str, Any]) -> None:
    """Typed from the task's own validation, root parameters included."""
    schemas = document["components"]["schemas"]
    request = schemas["FeatureExtractionRequest"]
    assert request["required"] == ["inputs"] and request["additionalProperties"] is False
    assert "normalize" in request["properties"]
    assert "parameters" in schemas["ZeroShotClassificationRequest"]["required"]


def test_docs_need_no_other_server(server: LiveServer) -> None:
    """The page's scripts and styles come from here."""
    page = server.get("/docs").text
    links = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert links and "https://" not in page
    assert all(server.get(link).status_code == 200 for link in links)


def test_api_process_imports_no_torch() -> None:
    """The promise that keeps it fast to start and quick to answer."""
    code = "import sys, app.main; print([m for m in ('torch', 'transformers', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
