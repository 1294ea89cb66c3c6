"""`/v1/models` and what stands below a model's URL."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import openai
import orjson
import pytest

from app import errors
from app.activity import STEP_S
from app.catalog import AdapterSpec, Catalog, ModelSpec
from app.media.limits import MediaLimits
from tests.api.conftest import LiveServer, read_nothing_new
from tests.api.fake_fleet import MODELS


def test_list_has_openai_shape_and_more(server: LiveServer) -> None:
    """Every declared model is there, loaded or not."""
    body = server.get("/v1/models").json()
    assert body["object"] == "list"
    assert [card["id"] for card in body["data"]] == [spec.id for spec in MODELS]
    first = body["data"][0]
    assert first["object"] == "model" and first["owned_by"] == "acme" and isinstance(first["created"], int)
    assert (first["state"], first["tasks"], first["in_flight"]) == ("unloaded", ["text-classification"], 2)


def test_openai_client_lists_and_retrieves(server: LiveServer) -> None:
    """With the real client, ids with slashes included, and its own error for an unknown one."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == [spec.id for spec in MODELS]
        assert client.models.retrieve("acme/labels/large").id == "acme/labels/large"
        with pytest.raises(openai.NotFoundError, match="nobody") as caught:
            client.models.retrieve("nobody")
    assert caught.value.code == "model_not_found"


def test_list_may_be_of_some_states(server: LiveServer) -> None:
    """Several are allowed; one that is none is refused by name."""
    server.fleet.states |= {"reviews": "ready", "mask": "loading", "ner": "failed"}
    listed = server.get("/v1/models?state=ready&state=loading").json()
    assert [card["id"] for card in listed["data"]] == ["reviews", "mask"]
    assert server.get("/v1/models?state=unloading").json()["data"] == []
    response = server.get("/v1/models?state=reday")
    assert (response.status_code, response.json()["error"]["param"]) == (400, "state")
    assert '"reday" is none; there are unresolved, unloaded, loading' in response.json()["error"]["message"]


def test_list_is_paged_on_request(server: LiveServer) -> None:
    """As OpenAI's other lists, in any number of pages; adapters are on them."""
    spec = server.fleet.specs["reviews"]
    adapter = AdapterSpec(id="sql", path="acme/sql")
    server.fleet.specs["reviews"] = msgspec.structs.replace(spec, adapters=(adapter,))
    whole = [card["id"] for card in server.get("/v1/models").json()["data"]]
    assert whole[:3] == ["reviews", "sql", "acme/labels/large"]
    for limit in (1, 2, len(whole) - 1, len(whole)):
        found: list[str] = []
        has_more = True
        while has_more:
            after = f"&after={found[-1]}" if found else ""
            page = server.get(f"/v1/models?limit={limit}{after}").json()
            found += [card["id"] for card in page["data"]]
            has_more = page["has_more"]
        assert found == whole


@pytest.mark.parametrize("query", ["limit=0", "limit=-1", "limit=many", "limit=²", "after=nobody"])
def test_wrong_page_is_refused(server: LiveServer, query: str) -> None:
    """By the name of the parameter."""
    response = server.get(f"/v1/models?{query}")
    assert (response.status_code, response.json()["error"]["param"]) == (400, query.partition("=")[0])


def test_states_are_listed_page_by_page(server: LiveServer) -> None:
    """Also behind a model that is in another state by now."""
    server.fleet.states |= {"reviews": "ready", "mask": "ready", "vectors": "ready"}
    first = server.get("/v1/models?state=ready&limit=1").json()
    assert [card["id"] for card in first["data"]] == ["reviews"] and first["has_more"]
    server.fleet.states["reviews"] = "unloaded"
    second = server.get("/v1/models?state=ready&limit=2&after=reviews").json()
    assert [card["id"] for card in second["data"]] == ["mask", "vectors"] and not second["has_more"]


def test_folder_of_a_local_model_is_not_told(server: LiveServer) -> None:
    """Its last name is enough."""
    response = server.get("/v1/models/ner")
    assert "/srv" not in response.text
    assert (response.json()["model"], response.json()["owned_by"]) == ("ner", "local")


def test_alias_finds_the_model(server: LiveServer) -> None:
    """As in every other place where a model is named."""
    assert server.get("/v1/models/rev").json()["id"] == "reviews"


def events_of(text: str) -> list[tuple[str, Any]]:
    found = []
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n")
        found.append((name.removeprefix("event: "), orjson.loads(data.removeprefix("data: "))))
    return found


def test_load_tells_its_progress(server: LiveServer) -> None:
    """Server-sent events: bytes, phases, then the ready model."""
    response = server.post("/v1/models/acme/labels/large/load")
    assert response.headers["content-type"].startswith("text/event-stream")
    events = events_of(response.text)
    assert [name for name, _ in events] == ["progress", "progress", "ready"]
    assert events[0][1] == {"phase": "download", "done": 1, "total": 2}
    assert (events[-1][1]["id"], events[-1][1]["state"]) == ("acme/labels/large", "ready")


@pytest.mark.parametrize(("query", "headers"), [("?wait=true", {}), ("", {"accept": "application/json"})])
def test_load_may_answer_with_the_card(server: LiveServer, query: str, headers: dict[str, str]) -> None:
    """For who wants to wait and not to read a stream."""
    assert server.post(f"/v1/models/reviews/load{query}", headers=headers).json()["state"] == "ready"


def test_load_that_cannot_begin_is_a_plain_error(server: LiveServer) -> None:
    """Nothing was streamed yet, so the status says it."""
    server.fleet.load_error = errors.ModelFailed("no such folder")
    response = server.post("/v1/models/reviews/load")
    assert response.status_code == 503
    assert response.json()["error"]["message"] == "no such folder"


def test_load_that_fails_later_is_an_event(server: LiveServer) -> None:
    """After the first event there is no second status."""
    server.fleet.load_error = errors.ModelFailed("broken weights")
    server.fleet.load_error_is_late = True
    name, data = events_of(server.post("/v1/models/reviews/load").text)[-1]
    assert name == "error"
    assert data["error"]["message"].startswith("broken weights")


def test_load_with_a_wrong_query_is_refused(server: LiveServer) -> None:
    """By name, in OpenAI's shape."""
    response = server.post("/v1/models/reviews/load?weight=1")
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "weight"


def test_unload_answers_the_card(server: LiveServer) -> None:
    """The model is unloaded when the answer comes."""
    server.fleet.states["acme/labels"] = "ready"
    assert server.post("/v1/models/acme/labels/unload").json()["state"] == "unloaded"


def test_reload_tells_what_became_of_the_entries(server: LiveServer) -> None:
    """Ids, and what needs a restart."""
    new = ModelSpec(id="new", model="acme/new", tasks=("fill-mask",))
    server.read = lambda: Catalog(models=(*MODELS[1:], new), max_queue_items=10_000)
    told = server.post("/v1/models/reload").json()
    assert (told["added"], told["changed"], told["removed"]) == (["new"], [], ["reviews"])
    assert told["unchanged"] == len(MODELS) - 1 and told["problems"] == {}
    assert "no single request may have more than 8192" in told["restart_needed"][0]
    assert server.get("/v1/models/new").status_code == 200
    assert server.get("/v1/models/reviews").status_code == 404
    assert 'pipeserve_reloads_total{outcome="ok"}' in server.get("/metrics").text


def test_reload_of_a_broken_file_says_why(server: LiveServer, caplog: pytest.LogCaptureFixture) -> None:
    """In the answer and in the log; nothing is changed."""

    def read() -> Catalog:
        raise errors.CatalogError('models.yaml:3: models[0] "reviews": unknown key "taks".')

    server.read = read
    response = server.post("/v1/models/reload")
    assert (response.status_code, response.json()["error"]["code"]) == (409, "catalog")
    assert response.json()["error"]["message"] == 'models.yaml:3: models[0] "reviews": unknown key "taks".'
    assert "nothing is changed: models.yaml:3" in caplog.text
    assert server.get("/v1/models/reviews").status_code == 200


def test_reload_changes_what_urls_are_fetched(server: LiveServer) -> None:
    """`media:` of the file counts from the next request on."""
    body = {"inputs": "http://127.0.0.1:1/cat.png"}
    assert "fetches no URLs" in server.post("/v1/image-classification", body).text
    server.read = lambda: Catalog(models=MODELS, media=MediaLimits(allow_urls=True))
    server.post("/v1/models/reload")
    assert "fetches no URLs" not in server.post("/v1/image-classification", body).text
    server.read = read_nothing_new
    server.post("/v1/models/reload")


def test_model_is_pinned_and_unpinned(server: LiveServer) -> None:
    """By id or alias; the card says so, wherever it is shown. Nothing is loaded by it."""
    pinned = server.post("/v1/models/rev/pin").json()
    assert (pinned["id"], pinned["pinned"], pinned["state"]) == ("reviews", True, "unloaded")
    assert server.get("/v1/models/reviews").json()["pinned"] is True
    assert server.post("/v1/models/reviews/unpin").json()["pinned"] is False
    assert server.get("/v1/models").json()["data"][0]["pinned"] is False


@pytest.mark.parametrize("what", ["load", "unload", "pin", "unpin"])
def test_unknown_model_is_404(server: LiveServer, what: str) -> None:
    """A part of an id is no id."""
    response = server.post(f"/v1/models/acme/{what}")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"


def test_health_of_a_model(server: LiveServer) -> None:
    """Well unless it cannot start; then its reason."""
    assert server.get("/models/acme/labels/large/health").json() == {"status": "unloaded"}
    server.fleet.fail("reviews", "no such folder")
    assert server.error_of(server.get("/models/reviews/health")) == (503, "model_failed", "no such folder")


def test_info_of_a_model(server: LiveServer) -> None:
    """In Hugging Face's words."""
    info = server.get("/models/acme/labels/info").json()
    assert (info["model_id"], info["model_pipeline_tag"]) == ("acme/labels", "zero-shot-classification")


def test_details_of_a_model_whose_files_are_not_here(server: LiveServer) -> None:
    """Its card of `/v1/models`, and nothing else yet; names are found as everywhere."""
    details = server.get("/v1/models/rev/details").json()
    assert details["model"]["id"] == "reviews" and details["card"] is None and details["files"] == []
    assert server.get("/v1/models/acme/labels/large/details").json()["model"]["id"] == "acme/labels/large"
    assert server.get("/v1/models/nobody/details").status_code == 404


def test_details_name_other_entries_of_the_same_model(server: LiveServer) -> None:
    """Computed otherwise, say; not the model itself."""
    again = msgspec.structs.replace(server.fleet.specs["reviews"], id="reviews-int8", aliases=(), quantization="int8")
    server.fleet.specs["reviews-int8"], server.fleet.states["reviews-int8"] = again, "unloaded"
    details = server.get("/v1/models/reviews/details").json()
    assert [(one["id"], one["quantization"]) for one in details["variants"]] == [("reviews-int8", "int8")]
    assert details["tuning"] == []


def test_requests_of_the_last_hours_are_counted(server: LiveServer) -> None:
    """Those for inference, whatever became of them."""
    before = server.get("/v1/models/reviews").json()["recent_requests"]
    for _ in range(3):
        server.post("/v1/text-classification/reviews", {"inputs": "a"})
    assert server.get("/v1/models/rev").json()["recent_requests"] == before + 3


def test_activity_of_the_last_minutes_is_told(fresh_server: LiveServer) -> None:
    """Of an alias as of the model, once the step is over; failures are counted apart."""
    assert fresh_server.get("/v1/models/reviews/activity").json()["points"] == []
    for _ in range(3):
        fresh_server.post("/v1/text-classification/reviews", {"inputs": "a"})
    fresh_server.post("/v1/text-classification/reviews", {"inputs": 1})
    due = time.monotonic() + 3 * STEP_S
    points: list[dict[str, Any]] = []
    while sum(point["requests"] for point in points) < 4 and time.monotonic() < due:
        time.sleep(0.1)
        told = fresh_server.get("/v1/models/rev/activity").json()
        points = told["points"]
    assert (told["id"], told["state"], told["in_flight"]) == ("reviews", "unloaded", 2)
    assert sum(point["requests"] for point in points) == 4 and sum(point["failed"] for point in points) == 1
    assert points[0]["p50_s"] > 0
    assert fresh_server.get("/v1/models/nobody/activity").status_code == 404


def test_media_that_are_not_here_are_not_found(server: LiveServer) -> None:
    """The answer names the path; other parameters are refused."""
    response = server.get("/v1/models/rev/media?path=samples/cat.png")
    assert (response.status_code, response.json()["error"]["param"]) == (404, "path")
    assert "samples/cat.png" in response.json()["error"]["message"]
    assert server.get("/v1/models/rev/media").status_code == 404
    assert server.get("/v1/models/rev/media?file=cat.png").status_code == 400
