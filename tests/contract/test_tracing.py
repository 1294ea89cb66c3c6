"""Traces of a real server with real workers, at a collector on loopback."""

from __future__ import annotations

import itertools
import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2 as httpx
import openai
import orjson
import pytest

from tests.contract.conftest import StartServer, write_catalog
from tests.server import RunningServer, metric, wait_until
from tests.tracing.collector import Collector, ReceivedSpan

REVIEWS: dict[str, Any] = {"id": "reviews", "task": "text-classification", "model": "sequence-classification"}
VECTORS: dict[str, Any] = {"id": "vectors", "task": "feature-extraction", "model": "sentence-encoder"}
URL = "/v1/text-classification"
BROKEN_HANDLER = """
class EndpointHandler:
    def __init__(self, path):
        pass

    def __call__(self, body):
        raise ZeroDivisionError("by nothing")
"""
SECRET = "a film that nobody may hear of"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


@pytest.fixture(scope="module")
def traced(
    collector: Collector, models_dir: Path, tiny_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    from tests import tiny  # torch

    folder = tmp_path_factory.mktemp("traced")
    broken = folder / "broken"
    broken.mkdir()
    (broken / "handler.py").write_text(BROKEN_HANDLER)
    (broken / "config.json").write_text("{}")
    chat = {"id": "chatml", "task": "text-generation", "model": str(tiny.build("chatml", tiny_dir))}
    catalog = write_catalog(
        folder / "models.yaml",
        models_dir,
        [REVIEWS, VECTORS, chat, {"id": "broken", "model": str(broken), "trust_remote_code": True}],
    )
    variables = {**collector.variables, "OTEL_EXPORTER_OTLP_HEADERS": "x-key=sesame", "OTEL_SERVICE_NAME": "shop"}
    with RunningServer(catalog, "--log-format", "json", cache_dir=folder, variables=variables) as running:
        yield running


class Context:
    """What a client sends of a trace of its own."""

    def __init__(self, *, is_sampled: bool = True) -> None:
        number = next(_numbers)
        self.trace_id, self.span_id = f"{number:032x}", f"{number:016x}"
        self.headers = {"traceparent": f"00-{self.trace_id}-{self.span_id}-0{int(is_sampled)}"}

    def has(self, span: ReceivedSpan) -> bool:
        return span.trace_id == self.trace_id


def names(spans: list[ReceivedSpan]) -> list[str]:
    return [span.name for span in spans]


def test_request_is_a_span_of_the_clients_trace(traced: RunningServer, collector: Collector) -> None:
    """Under its route, with the status, the model, and the way through the fleet below it: the load first."""
    context = Context()
    answer = traced.post(URL, {"inputs": SECRET}, headers={**context.headers, "x-request-id": "r1"})
    request = collector.one("POST /v1/{task}", context.has)
    assert (request.kind, request.parent_id) == ("SERVER", context.span_id)
    assert request.resource["service.name"] == "shop"
    assert collector.headers[0]["x-key"] == "sesame"
    assert request.attributes == {
        "http.request.method": "POST",
        "url.path": URL,
        "url.scheme": "http",
        "http.route": "/v1/{task}",
        "http.response.status_code": 200,
        "pipeserve.request_id": "r1",
        "pipeserve.task": "text-classification",
        "pipeserve.model": "reviews",
    }
    (job,) = collector.below(request)
    assert job.name == "text-classification reviews"
    stages = collector.below(job)
    assert [name for name in names(stages) if name != "queue"] == ["load", "prepare", "forward", "finish"]
    assert all(before.ended_at <= after.began_at + 1_000_000 for before, after in itertools.pairwise(stages))
    assert request.began_at <= job.began_at <= stages[0].began_at and stages[-1].ended_at <= job.ended_at
    forward = next(span for span in stages if span.name == "forward")
    seconds = (forward.ended_at - forward.began_at) / 1e6
    assert seconds == pytest.approx(float(answer.headers["x-forward-time"]), abs=0.01)
    assert forward.attributes["pipeserve.batch.items"] == 1


def test_loaded_model_has_no_load(traced: RunningServer, collector: Collector) -> None:
    """And a wait before the first stage is always told."""
    traced.post(URL, {"inputs": SECRET})
    context = Context()
    traced.post(URL, {"inputs": SECRET}, headers=context.headers)
    (job,) = collector.below(collector.one("POST /v1/{task}", context.has))
    first, second, *_ = collector.below(job)
    assert (first.name, first.attributes) == ("queue", {"pipeserve.queue.for": "prepare"})
    assert second.name == "prepare"


def test_embeddings_have_the_words_of_the_conventions(traced: RunningServer, collector: Collector) -> None:
    """And nothing of what was sent stands in any span."""
    context = Context()
    body = {"model": "vectors", "input": [SECRET, "b"], "dimensions": 4}
    assert traced.post("/v1/embeddings", body, headers=context.headers).status_code == 200
    job = collector.one("embeddings vectors", context.has)
    assert job.attributes["gen_ai.operation.name"] == "embeddings"
    assert job.attributes["gen_ai.provider.name"] == "pipeserve"
    assert job.attributes["gen_ai.request.model"] == job.attributes["gen_ai.response.model"] == "vectors"
    assert job.attributes["gen_ai.embeddings.dimension.count"] == 4
    assert job.attributes["gen_ai.usage.input_tokens"] > 2
    assert job.attributes["pipeserve.inputs"] == 2
    assert SECRET not in repr(collector.spans)


def test_streamed_chat_tells_its_first_token_and_its_end(traced: RunningServer, collector: Collector) -> None:
    """prefill, decode and the stream to the client, beside how it was asked for and how it ended."""
    context = Context()
    with openai.OpenAI(base_url=f"{traced.url}/v1", api_key="none", max_retries=0) as client:
        parts = client.chat.completions.create(
            model="chatml",
            messages=[{"role": "user", "content": SECRET}],
            max_completion_tokens=12,
            temperature=0,
            seed=3,
            n=2,
            stream=True,
            extra_headers=context.headers,
        )
        assert len(list(parts)) > 2
    chat = collector.one("chat chatml", context.has)
    request = collector.one("POST /v1/chat/completions", context.has)
    assert chat.parent_id == request.span_id
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.max_tokens": 12,
        "gen_ai.request.temperature": 0.0,
        "gen_ai.request.seed": 3,
        "gen_ai.request.choice.count": 2,
        "gen_ai.request.stream": True,
        "gen_ai.response.finish_reasons": ["length", "length"],
        "gen_ai.usage.output_tokens": 24,
    }
    assert expected.items() <= chat.attributes.items()
    assert chat.attributes["gen_ai.usage.input_tokens"] > 5
    stages = {span.name: span for span in collector.below(chat)}
    assert {"queue", "prepare", "prefill", "decode", "finish", "stream"} <= stages.keys()
    assert stages["prefill"].ended_at <= stages["decode"].began_at + 1_000_000
    assert stages["stream"].ended_at == chat.ended_at
    first_s = chat.attributes["gen_ai.response.time_to_first_chunk"]
    assert first_s == pytest.approx((stages["stream"].began_at - request.began_at) / 1e9, abs=0.001)
    assert SECRET not in repr(collector.spans)


def test_requests_of_one_batch_are_linked(traced: RunningServer, collector: Collector) -> None:
    """Each one's forward names the batch, whose span names the requests."""
    bodies = [{"inputs": ["a good film"] * 40} for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda body: traced.post(URL, body), bodies))
    wait_until(lambda: bool(collector.find("batch reviews")), what="a batch of several requests")
    batch = collector.find("batch reviews")[0]
    assert batch.parent_id == "" and len(batch.links) >= 2
    assert batch.attributes["pipeserve.batch.traced_jobs"] == len(batch.links)
    for trace_id, span_id in batch.links:
        # A default binds the loop's variable, which mypy cannot type in a lambda.
        request = collector.one("POST /v1/{task}", lambda span, trace_id=trace_id: span.trace_id == trace_id)  # type: ignore[misc]
        assert request.span_id == span_id
        forwards = collector.find("forward", lambda span, trace_id=trace_id: span.trace_id == trace_id)  # type: ignore[misc]
        assert (batch.trace_id, batch.span_id) in [link for forward in forwards for link in forward.links]


def test_what_the_client_does_not_sample_is_not_traced(traced: RunningServer, collector: Collector) -> None:
    """Nor are probes; the log has the client's trace all the same."""
    context = Context(is_sampled=False)
    traced.post(URL, {"inputs": "a"}, headers=context.headers)
    assert traced.get("/readyz").status_code == 200
    after = Context()
    traced.post(URL, {"inputs": "a"}, headers=after.headers)
    collector.one("POST /v1/{task}", after.has)
    assert not [span for span in collector.spans if context.has(span) or "readyz" in repr(span)]
    wait_until(lambda: any(context.trace_id in line for line in traced.log), what="its line in the log")


def test_mistakes_of_clients_are_no_errors(traced: RunningServer, collector: Collector) -> None:
    """As the conventions have it for a server: the code says what it was."""
    context = Context()
    assert traced.post(URL, {"inputs": "a", "parameters": {"top_k": "x"}}, headers=context.headers).status_code == 422
    request = collector.one("POST /v1/{task}", context.has)
    assert not request.is_error and "error.type" not in request.attributes
    assert (request.attributes["http.response.status_code"], request.attributes["pipeserve.code"]) == (
        422,
        "validation",
    )


def test_log_line_of_a_request_names_its_trace_and_its_times(traced: RunningServer) -> None:
    """One JSON object: what, by which model, how long each part took."""
    context = Context()
    traced.post(URL, {"inputs": "a"}, headers={**context.headers, "x-request-id": "logged"})
    wait_until(lambda: any('"logged"' in line for line in traced.log), what="its line in the log")
    (line,) = [orjson.loads(line) for line in traced.log if '"logged"' in line]
    assert line["trace_id"] == context.trace_id and len(line["span_id"]) == 16
    assert (line["method"], line["path"], line["status"]) == ("POST", URL, 200)
    assert (line["task"], line["model"]) == ("text-classification", "reviews")
    times = [line[f"{part}_ms"] for part in ("load", "queue", "prepare", "forward", "finish")]
    assert all(time >= 0 for time in times) and line["total_ms"] >= sum(times[2:])


def test_failure_in_a_worker_is_found_by_its_request(traced: RunningServer, collector: Collector) -> None:
    """The client is told an id; the worker's line has it, with the traceback; the trace is an error."""
    context = Context()
    answer = traced.post("/models/broken", {"inputs": "a"}, headers={**context.headers, "x-request-id": "doomed"})
    assert answer.status_code == 500 and "doomed" in answer.text
    wait_until(lambda: any("ZeroDivisionError" in line for line in traced.log), what="the worker's line")
    (line,) = [orjson.loads(line) for line in traced.log if "ZeroDivisionError" in line]
    assert line["request_id"] == "doomed" and line["process"].startswith("worker[")
    assert line["level"] == "error" and "by nothing" in line["traceback"]
    request = collector.one("POST /models/{model}", context.has)
    (job,) = collector.below(request)
    assert request.is_error and job.is_error
    assert request.attributes["error.type"] == job.attributes["error.type"] == "backend"


def test_client_that_leaves_is_told_of(traced: RunningServer, collector: Collector) -> None:
    """Its trace ends without a status, with an event, and is no error."""
    context = Context()
    with pytest.raises(httpx.ReadTimeout), traced.client() as client:
        client.post(URL, json={"inputs": ["a good film " * 15] * 2000}, headers=context.headers, timeout=0.3)
    request = collector.one("POST /v1/{task}", context.has)
    assert "client left" in request.events and not request.is_error
    (job,) = collector.below(request)
    assert job.attributes["pipeserve.code"] == "cancelled" and not job.is_error


def test_request_that_ran_again_says_why(traced: RunningServer, collector: Collector) -> None:
    """The worker that died has a span with its reason, the retry is an event; the request itself went well."""
    traced.post(URL, {"inputs": "a"})
    (worker,) = traced.worker_pids("reviews")
    context = Context()
    with ThreadPoolExecutor(1) as pool:
        body = {"inputs": ["a good film " * 15] * 1000}
        answer = pool.submit(traced.post, URL, body, headers=context.headers)
        wait_until(
            lambda: metric(traced.get("/metrics").text, "pipeserve_in_flight_items", model="reviews") >= 1,
            what="the request in flight",
        )
        os.kill(worker, signal.SIGKILL)
        assert answer.result().status_code == 200
    request = collector.one("POST /v1/{task}", context.has)
    assert not request.is_error
    (job,) = collector.below(request)
    assert "SIGKILL" in job.events["retry"]["pipeserve.reason"]
    lost = collector.one("worker", context.has)
    assert lost.is_error and "SIGKILL" in lost.reason and lost.attributes["error.type"] == "worker_lost"
    assert job.attributes["pipeserve.forwards"] >= 16
    assert {"prepare", "forward", "finish"} <= set(names(collector.below(job)))


def test_collector_that_is_down_is_one_sentence(start_server: StartServer) -> None:
    """Serving goes on, and the stop is no longer than ever."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "50", "OTEL_EXPORTER_OTLP_TIMEOUT": "3"}
    server = start_server([REVIEWS], variables=variables)
    for _ in range(20):
        assert server.get("/v1/models").status_code == 200
    wait_until(lambda: any("no traces" in line for line in server.log), what="the sentence")
    assert server.get("/v1/models").status_code == 200
    assert server.stop() == 0
    (sentence,) = [line for line in server.log if "no traces" in line]
    assert f"could not be sent to {url}/v1/traces ([Errno 111] Connection refused)" in sentence
    log = "".join(server.log)
    assert "Traceback" not in log and "Transient" not in log
