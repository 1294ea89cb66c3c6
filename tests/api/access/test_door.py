"""Nobody without a key gets in, on any route, in any dialect; with one, only as far as it goes."""

from __future__ import annotations

import base64
import logging
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.routing import BaseRoute, Mount, Route

from app.api.access.caller import is_loopback
from app.api.access.door import OPEN_PATHS
from app.logs import AUDIT_LOGGER
from app.settings import Settings
from tests.api.access.conftest import SECRETS, VARIABLE_SECRET, LockedServer
from tests.api.conftest import LiveServer
from tests.server import metric

CLASSIFY = "/v1/text-classification"
TEXT = {"inputs": "a text"}
CHALLENGE = 'Bearer realm="pipeserve"'
ADMIN_ROUTES = [
    ("POST", "/v1/models/reviews/load"),
    ("POST", "/v1/models/reviews/unload"),
    ("POST", "/v1/models/reviews/pin"),
    ("POST", "/v1/models/reviews/unpin"),
    ("POST", "/v1/models/acme/labels/load"),
    ("POST", "/v1/models/reload"),
    ("POST", "/v2/repository/models/reviews/load"),
    ("POST", "/v2/repository/models/reviews/unload"),
    ("POST", "/v2/repository/models/reviews/unload/"),
    ("POST", "/v1/load_lora_adapter"),
    ("POST", "/v1/unload_lora_adapter"),
    ("POST", "/models/reviews/v1/load_lora_adapter"),
    ("POST", "/models/reviews/v1/unload_lora_adapter"),
    ("POST", "/models/reviews/v1/unload_lora_adapter/"),
]


def _asked(routes: list[BaseRoute]) -> Iterator[tuple[str, str]]:
    """A request for each route and method, with something in the place of its parameters."""
    for route in routes:
        if (included := getattr(route, "original_router", None)) is not None:  # how FastAPI keeps routers
            yield from _asked(included.routes)
        elif isinstance(route, Route):  # FastAPI's are such, too
            path = re.sub(r"\{\w+(:path)?\}", "reviews", route.path)
            for method in route.methods or ():
                yield method, path
        elif isinstance(route, Mount):
            yield "GET", f"{route.path}/swagger-ui.css"


def test_every_route_needs_a_key_but_those_of_health(locked: LockedServer) -> None:
    """The app's own list of routes, walked with no key, with one that nobody has, and with one that was revoked."""
    asked = sorted(set(_asked(locked.app.router.routes)))
    assert len(asked) > 150
    open_paths = set()
    for method, path in asked:
        for headers in ({}, {"authorization": "Bearer nobody's"}):
            response = locked.client.request(method, path, headers=headers)
            if path in OPEN_PATHS:
                assert response.status_code == 200, (method, path)
                open_paths.add(path)
            else:
                assert response.status_code == 401, (method, path)
                assert response.headers["www-authenticate"].startswith(CHALLENGE)
    assert open_paths == OPEN_PATHS
    assert not locked.fleet.jobs


def test_what_is_not_there_needs_a_key_too(locked: LockedServer) -> None:
    """Nobody learns by asking which routes and models there are."""
    for method, path in (("GET", "/evil"), ("POST", "/v1/evil"), ("PUT", "/livez/"), ("OPTIONS", CLASSIFY)):
        assert locked.as_(None, method, path).status_code == 401
    assert locked.as_("infer", "GET", "/evil").status_code == 404


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {SECRETS['infer']}"},
        {"authorization": f"bearer  {SECRETS['infer']}"},
        {"x-api-key": SECRETS["infer"]},
        {"api-key": SECRETS["infer"]},
        {"authorization": "Bearer of-a-proxy", "x-api-key": SECRETS["infer"]},
        {"authorization": f"Bearer {VARIABLE_SECRET}"},
    ],
)
def test_keys_come_as_the_clients_send_them(locked: LockedServer, headers: dict[str, str]) -> None:
    """OpenAI's, Anthropic's and Azure's headers, and the variable's keys."""
    assert locked.post(CLASSIFY, TEXT, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": SECRETS["infer"]},
        {"authorization": f"Basic {base64.b64encode(b'x:' + SECRETS['infer'].encode()).decode()}"},
        {"authorization": f"Bearer {SECRETS['infer']}x"},
        {"authorization": f"Bearer {SECRETS['infer'][:-1]}"},
        {"authorization": "Bearer"},
        {"x-api-key": ""},
        {"cookie": f"key={SECRETS['infer']}"},
    ],
)
def test_what_is_no_key_is_refused(locked: LockedServer, headers: dict[str, str]) -> None:
    """A browser's Basic included, which it would send with another site's requests."""
    assert locked.post(CLASSIFY, TEXT, headers=headers).status_code == 401
    assert locked.get(f"{CLASSIFY}?api_key={SECRETS['infer']}").status_code == 401


def test_wrong_keys_lock_nobody_out(locked: LockedServer) -> None:
    """After a hundred of them the right one works at once."""
    for number in range(100):
        assert locked.get("/v1/models", headers={"x-api-key": f"guess-{number}"}).status_code == 401
    assert locked.as_("infer", "GET", "/v1/models").status_code == 200


def test_errors_have_the_shape_of_the_dialect(locked: LockedServer) -> None:
    """401 and 403, as each client reads errors."""
    told = locked.error_of(locked.post(CLASSIFY, TEXT))
    assert told[:2] == (401, "unauthorized") and "Authorization: Bearer" in told[2]
    openai = locked.post("/v1/chat/completions", {}, headers={"authorization": "Bearer x"})
    assert openai.json()["error"] == {
        "message": "This API key is not valid here.", "type": "invalid_request_error", "param": None,
        "code": "invalid_api_key",
    }  # fmt: skip
    anthropic = locked.post("/v1/messages", {}).json()
    assert anthropic["error"]["type"] == "authentication_error" and anthropic["request_id"]
    assert "API key" in locked.post("/api/chat", {}).json()["error"]
    assert "API key" in locked.get("/v2/models/reviews").json()["error"]
    forbidden = locked.as_("metrics", "POST", "/v1/messages", content=b"{}")
    assert forbidden.status_code == 403 and forbidden.json()["error"]["type"] == "permission_error"
    denied = locked.as_("infer", "POST", "/v1/models/reviews/load")
    assert denied.json()["error"]["code"] == "insufficient_permissions"


def test_expired_key_is_told_so(locked: LockedServer) -> None:
    """By 401, which makes clients look at their keys."""
    status, _, text = locked.error_of(locked.as_("expired", "POST", CLASSIFY, json=TEXT))
    assert (status, text) == (401, 'The API key "expired" has expired.')


def test_request_is_refused_before_its_body_is_read(locked: LockedServer) -> None:
    """The answer is there while the client has sent nothing but headers."""
    with locked.connect() as connection:
        connection.sendall(b"POST /v1/fill-mask HTTP/1.1\r\nhost: x\r\ncontent-length: 99999\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 401")


# Scopes


@pytest.mark.parametrize(("method", "path"), ADMIN_ROUTES)
def test_admin_routes_need_the_scope(locked: LockedServer, method: str, path: str) -> None:
    """However their path is written; the body is not read for one who lacks it."""
    for name in ("infer", "metrics"):
        response = locked.as_(name, method, path, content=b"no JSON")
        assert response.status_code == 403, (name, response.text)
        assert "scope" in response.text
    assert locked.fleet.states["reviews"] == "unloaded"
    assert locked.as_("admin", method, path, content=b"").status_code not in (401, 403)


def test_infer_only_goes_without_admin(locked: LockedServer) -> None:
    """And an administrator's key computes nothing, but sees what is served."""
    assert locked.as_("infer", "POST", CLASSIFY, json=TEXT).status_code == 200
    status, code, text = locked.error_of(locked.as_("admin", "POST", CLASSIFY, json=TEXT))
    assert (status, code) == (403, "forbidden") and "scope infer" in text
    assert locked.as_("admin", "GET", "/v1/models").status_code == 200
    assert len(locked.fleet.jobs) == 1


def test_metrics_need_their_scope(locked: LockedServer) -> None:
    """Or `admin`; with it alone nothing else can be had but pages."""
    assert [locked.as_(name, "GET", "/metrics").status_code for name in ("metrics", "admin", "infer")] == [
        200,
        200,
        403,
    ]
    paths = ("/v1/models", CLASSIFY, "/info", "/v2/models/reviews", "/v1/usage")
    assert {locked.as_("metrics", "GET", path).status_code for path in paths} == {403}
    assert locked.as_("metrics", "POST", "/", json=TEXT).status_code == 403
    assert {locked.as_("metrics", "GET", path).status_code for path in ("/", "/openapi.json", "/docs")} == {200}


def test_browser_gets_the_pages_by_its_own_prompt(locked: LockedServer) -> None:
    """It knows Basic alone: the key is the password."""
    assert "Basic" in locked.get("/docs").headers["www-authenticate"]
    assert "Basic" not in locked.get("/v1/models").headers["www-authenticate"]
    credentials = base64.b64encode(f"me:{SECRETS['infer']}".encode()).decode()
    for path in ("/docs", "/openapi.json", "/docs/assets/swagger-ui.css"):
        assert locked.get(path, headers={"authorization": f"Basic {credentials}"}).status_code == 200
    assert locked.get("/docs", headers={"authorization": "Basic !"}).status_code == 401


# Models and tasks


def test_key_sees_only_its_models(locked: LockedServer) -> None:
    """In every list and on every page about models."""
    mine = {"reviews", "acme/labels"}
    assert {one["id"] for one in locked.as_("reviews", "GET", "/v1/models").json()["data"]} == mine
    tasks = locked.as_("reviews", "GET", "/").json()["tasks"]
    assert {name for names in tasks.values() for name in names} == mine
    index = locked.as_("reviews", "POST", "/v2/repository/index").json()
    assert {one["name"] for one in index} == mine
    assert locked.as_("reviews", "GET", "/api/tags").json()["models"] == []
    assert locked.as_("reviews", "GET", "/info").json()["model_id"] == "reviews"
    for path in ("/v1/models/mask", "/models/mask/health", "/models/mask/info", "/v2/models/mask", "/info?model=mask"):
        response = locked.as_("reviews", "GET", path)
        assert response.status_code == 403, path
        assert "it may use reviews, acme/labels" in response.text
    unknown = locked.as_("reviews", "GET", "/v1/models/nothing")
    assert unknown.status_code == 404 and "mask" not in unknown.text and "reviews" in unknown.text


def test_key_uses_only_its_models(locked: LockedServer) -> None:
    """Whatever the route; where none is named, the first that it may use answers."""
    refused: list[tuple[str, dict[str, Any]]] = [
        ("/v1/fill-mask/mask", TEXT),
        ("/models/mask", TEXT),
        ("/v1/chat/completions", {"model": "tiny-text-generation", "messages": [{"role": "user", "content": "x"}]}),
        ("/v1/embeddings", {"model": "vectors", "input": "x"}),
        ("/api/embed", {"model": "vectors", "input": "x"}),
        ("/models/vectors/embed", TEXT),
        ("/v2/models/mask/infer", {"inputs": []}),
        ("/v1/models/mask/load", {}),
        ("/v2/repository/models/mask/unload", {}),
    ]
    for path, body in refused:
        response = locked.as_("reviews", "POST", path, json=body)
        assert response.status_code == 403, (path, response.text)
    for path in ("/v1/text-classification/nothing", "/v1/fill-mask?model=nothing", "/models/nothing"):
        unknown = locked.as_("reviews", "POST", path, json=TEXT)
        assert unknown.status_code == 404 and "vectors" not in unknown.text, path
    assert not locked.fleet.jobs and locked.fleet.states["mask"] == "unloaded"
    assert locked.as_("reviews", "POST", "/v1/zero-shot-classification", json={
        "inputs": "a", "parameters": {"candidate_labels": ["b"]}
    }).headers["x-model"] == "acme/labels"  # fmt: skip
    assert locked.as_("reviews", "POST", "/models/rev", json=TEXT).status_code == 200


def test_key_uses_only_its_tasks(locked: LockedServer) -> None:
    """Models that serve none of them are not there for it."""
    assert locked.as_("masks", "POST", "/v1/fill-mask", json={"inputs": "a [MASK]"}).status_code == 200
    status, _, text = locked.error_of(locked.as_("masks", "POST", CLASSIFY, json=TEXT))
    assert status == 403 and "its tasks are fill-mask" in text
    assert locked.as_("masks", "POST", "/v1/embeddings", json={"input": "x"}).status_code == 403
    assert {one["id"] for one in locked.as_("masks", "GET", "/v1/models").json()["data"]} == {"mask"}


# Limits


def test_requests_a_minute_are_limited_and_told(locked: LockedServer) -> None:
    """OpenAI's headers stand in every answer, and `Retry-After` in a 429."""
    answers = [locked.as_("slow", "POST", CLASSIFY, json=TEXT) for _ in range(3)]
    assert [one.status_code for one in answers] == [200, 200, 429]
    assert [one.headers["x-ratelimit-remaining-requests"] for one in answers] == ["1", "0", "0"]
    assert {one.headers["x-ratelimit-limit-requests"] for one in answers} == {"2"}
    assert re.fullmatch(r"\d+\.\d{3}s", answers[0].headers["x-ratelimit-reset-requests"])
    assert 1 <= int(answers[2].headers["retry-after"]) <= 30
    assert locked.error_of(answers[2])[1] == "overloaded"
    assert "x-ratelimit-limit-tokens" not in answers[0].headers
    openai = locked.as_("slow", "POST", "/v1/embeddings", json={"input": "x"})
    assert openai.status_code == 429 and openai.json()["error"]["code"] == "rate_limit_exceeded"


def test_tokens_a_minute_are_limited(locked: LockedServer) -> None:
    """Counted from what answers say: the fake fleet's have five each. Streams count as well."""
    first = locked.as_("few", "POST", CLASSIFY, json=TEXT)
    assert first.headers["x-ratelimit-remaining-tokens"] == "3"
    streamed = locked.as_("few", "POST", "/v1/text-generation", json={"inputs": "a", "stream": True})
    assert streamed.status_code == 200 and "there" in streamed.text
    refused = locked.as_("few", "POST", CLASSIFY, json=TEXT)
    assert refused.status_code == 429 and "8 tokens a minute" in refused.text
    assert "retry-after" in refused.headers


def test_requests_at_a_time_are_limited(locked: LockedServer, wait_until: Callable[[Callable[[], bool]], None]) -> None:
    """One that is answered, or whose client has left, makes room for the next."""
    locked.fleet.holds = True
    answers: list[int] = []
    asking = threading.Thread(target=lambda: answers.append(locked.as_("one", "POST", CLASSIFY, json=TEXT).status_code))
    asking.start()
    wait_until(lambda: len(locked.fleet.jobs) == 1)
    assert locked.as_("one", "POST", CLASSIFY, json=TEXT).status_code == 429
    assert locked.as_("infer", "GET", "/v1/models").status_code == 200
    locked.fleet.holds = False
    locked.fleet.release()
    asking.join(20)
    assert answers == [200]
    assert locked.as_("one", "POST", CLASSIFY, json=TEXT).status_code == 200


# What the fleet is told


def test_jobs_say_whose_they_are_and_how_urgent(locked: LockedServer) -> None:
    """The key's priority, unless `X-Priority` asks for less; more than that is refused."""
    for name, headers in (("all", {}), ("all", {"x-priority": "LOW"}), ("infer", {"x-priority": "normal"})):
        assert locked.as_(name, "POST", CLASSIFY, json=TEXT, headers=headers).status_code == 200
    told = [(job.client, job.priority, job.weight) for job in locked.fleet.jobs]
    assert told == [("all", 1, 2.0), ("all", -1, 2.0), ("infer", 0, 1.0)]
    refused = locked.as_("infer", "POST", CLASSIFY, json=TEXT, headers={"x-priority": "high"})
    assert refused.status_code == 403 and "normal at most" in refused.text
    assert locked.as_("infer", "POST", CLASSIFY, json=TEXT, headers={"x-priority": "9"}).status_code == 422


def test_without_keys_nobody_is_urgent(server: LiveServer) -> None:
    """Requests may stand back, but not push to the front."""
    assert server.post(CLASSIFY, TEXT, headers={"x-priority": "low"}).status_code == 200
    assert server.post(CLASSIFY, TEXT, headers={"x-priority": "high"}).status_code == 403
    assert [(job.client, job.priority, job.weight) for job in server.fleet.jobs] == [("", -1, 1.0)]


# Usage


def test_usage_is_counted_by_key_and_model(locked: LockedServer) -> None:
    """In `/v1/usage`, where a key sees itself and an administrator everybody, and in the metrics."""

    def used() -> dict[str, Any]:
        found = {one["key"]: one for one in locked.as_("admin", "GET", "/v1/usage").json()["data"]}
        assert set(found) == {*SECRETS, "env-1"}
        mine: dict[str, Any] = found["infer"]
        return mine

    before = used()
    locked.as_("infer", "POST", CLASSIFY, json=TEXT)
    locked.as_("infer", "POST", "/v1/fill-mask", json={"inputs": ["a [MASK]", "b [MASK]"]})
    locked.as_("infer", "POST", CLASSIFY, json={})
    after = used()
    assert after["requests"] - before["requests"] == 3
    assert after["jobs"] - before["jobs"] == 2
    assert after["input_tokens"] - before["input_tokens"] == 10
    # Two of the seven items of a batch whose forward took 3 ms, and once one of them.
    assert after["seconds"] - before["seconds"] == pytest.approx(2 * 0.006 + 0.003 * 3 / 7, abs=1e-5)
    assert set(after["models"]) >= {"reviews", "mask"}
    assert [one["key"] for one in locked.as_("infer", "GET", "/v1/usage").json()["data"]] == ["infer"]
    text = locked.as_("metrics", "GET", "/metrics").text
    assert metric(text, "pipeserve_key_requests_total", key="infer") == used()["requests"]
    assert metric(text, "pipeserve_key_tokens_total", key="infer", kind="input") == after["input_tokens"]
    assert metric(text, "pipeserve_refused_keys_total", reason="missing") >= 1


def test_usage_says_what_is_left_and_who_is_out(locked: LockedServer) -> None:
    """Limits of those keys that have some; an expired one is not valid."""
    found = {one["key"]: one for one in locked.as_("admin", "GET", "/v1/usage").json()["data"]}
    assert found["one"]["limits"] == {"concurrent": {"limit": 1, "remaining": 1}}
    assert found["slow"]["limits"]["requests"]["limit"] == 2
    assert found["infer"]["limits"] == {}
    assert found["infer"]["is_valid"] and not found["expired"]["is_valid"]


def test_server_without_keys_has_no_usage(server: LiveServer) -> None:
    """There is nobody to count it for."""
    assert server.get("/v1/usage").status_code == 404


# What is written


def test_administrators_are_audited(locked: LockedServer, caplog: pytest.LogCaptureFixture) -> None:
    """Who, what, from where, and what came of it; who was refused too. Nobody else."""
    caplog.set_level(logging.INFO, AUDIT_LOGGER)
    locked.as_("all", "POST", "/v1/models/rev/unload")
    locked.as_("infer", "POST", "/v1/models/rev/load")
    locked.as_("reviews", "POST", "/v2/repository/models/mask/unload")
    locked.as_("infer", "POST", CLASSIFY, json=TEXT)
    lines = [record for record in caplog.records if record.name == AUDIT_LOGGER]
    assert [record.getMessage() for record in lines] == [
        "POST /v1/models/rev/unload 200",
        "POST /v1/models/rev/load 403",
        "POST /v2/repository/models/mask/unload 403",
    ]
    fields = [getattr(record, "fields", {}) for record in lines]
    assert [(one["key"], one["from"], one.get("code")) for one in fields] == [
        ("all", "127.0.0.1", None),
        ("infer", "127.0.0.1", "forbidden"),
        ("reviews", "127.0.0.1", "forbidden"),
    ]
    assert fields[0]["model"] == "reviews" and all(one["request_id"] for one in fields)


def test_key_for_some_models_does_not_reload(locked: LockedServer) -> None:
    """What is in models.yaml concerns all of them, and the answer would name them."""
    refused = locked.as_("reviews", "POST", "/v1/models/reload")
    assert refused.status_code == 403 and "for some models or tasks" in refused.text
    assert locked.as_("all", "POST", "/v1/models/reload").status_code == 200


def test_document_says_that_a_key_is_needed(locked: LockedServer, server: LiveServer) -> None:
    """In any of three ways, and where it is not; a server without keys says nothing of it."""
    document = locked.as_("infer", "GET", "/openapi.json").json()
    schemes = document["components"]["securitySchemes"]
    assert {name for one in document["security"] for name in one} == set(schemes) == {"bearer", "x-api-key", "api-key"}
    free = {path for path, operations in document["paths"].items() for one in operations.values() if "security" in one}
    assert free == OPEN_PATHS
    assert "/v1/usage" in document["paths"]
    plain = server.get("/openapi.json").json()
    assert "security" not in plain and "securitySchemes" not in plain["components"]


# Pages of other sites


def test_preflight_needs_no_key(locked: LockedServer) -> None:
    """Where the operator named the site; the request that follows does need one, and its refusal can be read."""
    asked = {"origin": "https://app.example", "access-control-request-method": "POST",
             "access-control-request-headers": "authorization,content-type"}  # fmt: skip
    allowed = locked.client.options(CLASSIFY, headers=asked)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "https://app.example"
    assert "authorization" in allowed.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in allowed.headers
    refused = locked.post(CLASSIFY, TEXT, headers={"origin": "https://app.example"})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == "https://app.example"
    assert "retry-after" in refused.headers["access-control-expose-headers"]
    other = locked.client.options(CLASSIFY, headers={**asked, "origin": "https://evil.example"})
    assert other.status_code == 400 and "access-control-allow-origin" not in other.headers


def test_no_site_may_read_answers_by_default(server: LiveServer) -> None:
    """CORS is off: a preflight is a request like any other."""
    asked = {"origin": "https://app.example", "access-control-request-method": "POST"}
    assert server.client.options(CLASSIFY, headers=asked).status_code == 405
    assert "access-control-allow-origin" not in server.post(CLASSIFY, TEXT, headers=asked).headers


def test_answers_say_that_they_are_what_they_say(server: LiveServer) -> None:
    """And the page of documents cannot be put into another's."""
    for path in ("/livez", "/v1/models", "/evil"):
        assert server.get(path).headers["x-content-type-options"] == "nosniff"
    page = server.get("/docs").headers
    assert "frame-ancestors 'none'" in page["content-security-policy"] and page["x-frame-options"] == "DENY"


def test_response_is_its_makers(locked: LockedServer) -> None:
    """Whoever else learns its id neither reads it, nor goes on from it, nor deletes it."""
    body = {"model": "tiny-text-generation", "input": "hello"}
    made = locked.as_("infer", "POST", "/v1/responses", json=body).json()["id"]
    for method in ("GET", "DELETE"):
        assert locked.as_("all", method, f"/v1/responses/{made}").status_code == 404
    onward = {**body, "previous_response_id": made}
    assert locked.as_("all", "POST", "/v1/responses", json=onward).status_code == 400
    assert locked.as_("infer", "POST", "/v1/responses", json=onward).status_code == 200
    assert locked.as_("infer", "DELETE", f"/v1/responses/{made}").status_code == 200


# Servers without keys


def test_administering_without_keys_is_for_this_machine_alone() -> None:
    """Where others reach the server, they must show a key; everything else is theirs."""
    with LiveServer(Settings(host="0.0.0.0")) as server:
        for method, path in ADMIN_ROUTES:
            refused = server.client.request(method, path, content=b"no JSON")
            assert refused.status_code == 403 and "has no keys" in refused.text, path
        assert server.post(CLASSIFY, TEXT).status_code == 200
        assert server.get("/metrics").status_code == 200


def test_page_of_another_site_administers_nothing(server: LiveServer) -> None:
    """A browser on this machine reaches it, whoever wrote the page."""
    path = "/v1/models/reviews/unload"
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
        refused = server.post(path, headers={"origin": origin})
        assert refused.status_code == 403 and "another site" in refused.text
    assert server.post(path, headers={"origin": server.url}).status_code == 200
    assert server.post(path).status_code == 200


@pytest.mark.parametrize(
    ("host", "is_one"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("10.0.0.1", False), ("example.org", False)],
)  # fmt: skip
def test_loopback_addresses_are_known(host: str, is_one: bool) -> None:
    """Names that some resolver may have another mind about are none."""
    assert is_loopback(host) is is_one


def test_documents_can_be_switched_off() -> None:
    """`/docs`, its files and `/openapi.json`; `/` does not lead there."""
    with LiveServer(Settings(docs=False)) as server:
        for path in ("/docs", "/docs/assets/swagger-ui.css", "/openapi.json"):
            assert server.get(path).status_code == 404
        assert set(server.get("/").json()["links"]) == {"models", "metrics"}
