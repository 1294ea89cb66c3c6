"""The spans that are made of one request, with the SDK's own exporter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import SpanKind, StatusCode

from app.api.errors import is_failure
from app.channel.messages import BatchDone, StageTime, Timings
from app.errors import BackendFailed, Cancelled, Overloaded, WorkerLost
from app.fleet.journal import NOBODYS, Journal
from app.fleet.requests import JobResult
from app.tasks.completion import Choice, Completion
from app.tracing.job import MAX_FORWARDS
from app.tracing.request import RequestTrace
from app.tracing.spans import Tools

TASK = "text-classification"
RESULT = JobResult(
    outputs=[b"1"],
    timings=Timings(queue_s=0, prepare_s=0, forward_s=0, finish_s=0),
    load_wait_s=0,
    total_s=0,
    batch_size=1,
    num_tokens=5,
)
PARENT = {b"traceparent": b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01", b"tracestate": b"vendor=1"}


class Traces:
    """Begins requests at second 100 of a clock that tests move, and reads their spans."""

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        self.now = 100.0
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        tracer = provider.get_tracer("test")
        self.tools = Tools(tracer=tracer, batches=tracer, is_failure=is_failure, clock=lambda: self.now)

    def begin(self, headers: Mapping[bytes, bytes] | None = None, method: str = "POST") -> RequestTrace:
        return RequestTrace(
            self.tools, method=method, path="/v1/x", scheme="http", headers=headers or {}, began_at=self.now
        )

    def job(
        self, request: RequestTrace, task: str = TASK, inputs: Sequence[Any] = ("a",), **parameters: Any
    ) -> Journal:
        return request.journal(task, "m", inputs, parameters)

    def end(self, request: RequestTrace, status: int | None = 200, code: str | None = None) -> list[ReadableSpan]:
        """Its spans, in the order of their beginnings; the request's own and its job's come first."""
        request.end(route="/v1/{task}", status=status, code=code, attributes={})
        spans = self._exporter.get_finished_spans()
        self._exporter.clear()
        depth: dict[int | None, int] = {}
        for span in reversed(spans):  # a parent ends last
            depth[span.context.span_id] = depth.get(None if span.parent is None else span.parent.span_id, 0) + 1
        return sorted(spans, key=lambda span: (span.start_time or 0, depth[span.context.span_id]))


@pytest.fixture
def traces() -> Traces:
    return Traces()


def batch(began_at: float, seconds: float = 1.0, **changes: Any) -> BatchDone:
    made = BatchDone(task=TASK, num_items=4, tokens=10, padded_tokens=12, forward_s=seconds, began_at=began_at)
    return msgspec.structs.replace(made, **changes)


def names(spans: Sequence[ReadableSpan]) -> list[str]:
    return [span.name for span in spans]


def seconds(request: RequestTrace, span: ReadableSpan) -> tuple[float, float]:
    """When it was, in seconds since the request began."""
    zero = request.scribe.ns(request.began_at)
    assert span.start_time is not None and span.end_time is not None
    return round((span.start_time - zero) / 1e9, 6), round((span.end_time - zero) / 1e9, 6)


def test_way_of_a_job_is_told_with_its_times(traces: Traces) -> None:
    """Waiting for its model, for a worker, for the device, and what was computed."""
    request = traces.begin()
    job = traces.job(request)
    job.began(is_stream=False)
    job.waits_for_load()
    traces.now += 1
    job.granted()
    job.sent(alone=False)
    job.forwarded(batch(103.5), [job])
    job.computed([StageTime("prepare", 102.0, 103.0), StageTime("finish", 104.5, 105.0)])
    traces.now = 106.0
    job.ended(RESULT, None)
    traces.now = 107.0
    spans = traces.end(request)
    assert [(span.name, *seconds(request, span)) for span in spans] == [
        ("POST /v1/{task}", 0, 7),
        ("text-classification m", 0, 6),
        ("load", 0, 1),
        ("queue", 1, 2),
        ("prepare", 2, 3),
        ("queue", 3, 3.5),
        ("forward", 3.5, 4.5),
        ("finish", 4.5, 5),
    ]
    told = [dict(span.attributes or {}) for span in spans]
    assert told[3] == {"pipeserve.queue.for": "prepare"} and told[5] == {"pipeserve.queue.for": "forward"}
    assert told[6]["pipeserve.batch.items"] == 4 and not spans[6].links
    assert all(span.status.status_code is StatusCode.UNSET for span in spans)


def test_clients_context_is_taken_up_and_given_on(traces: Traces) -> None:
    """Other servers are told of the span that asks them, and nothing of the client's baggage."""
    request = traces.begin({**PARENT, b"baggage": b"user=me"})
    with request.fetching("https://user:key@files.example.org:8443/secret?key=1") as headers:
        told = dict(headers)
    own, fetch = traces.end(request)
    assert own.kind is SpanKind.SERVER and own.parent is not None
    assert f"{own.context.trace_id:032x}" == "1" * 32 and f"{own.parent.span_id:016x}" == "2" * 16
    assert fetch.kind is SpanKind.CLIENT and fetch.parent is not None
    assert fetch.parent.span_id == own.context.span_id
    assert told == {
        b"traceparent": f"00-{'1' * 32}-{fetch.context.span_id:016x}-01".encode(),
        b"tracestate": b"vendor=1",
    }
    assert fetch.attributes == {
        "http.request.method": "GET",
        "server.address": "files.example.org",
        "server.port": 8443,
    }


def test_fetch_that_fails_is_an_error(traces: Traces) -> None:
    """By the class of what it raised."""
    request = traces.begin()
    with pytest.raises(ValueError, match="no"), request.fetching("http://a/"):
        raise ValueError("no")
    fetch = traces.end(request)[1]
    assert fetch.status.status_code is StatusCode.ERROR and fetch.attributes is not None
    assert fetch.attributes["error.type"] == "ValueError"


def test_what_is_not_sampled_costs_its_worker_nothing() -> None:
    """It has ids for the log all the same, and hands its client's on."""
    traces = Traces(ALWAYS_OFF)
    request = traces.begin(PARENT)
    assert traces.job(request) is NOBODYS
    with request.fetching("http://a/") as headers:
        assert dict(headers)[b"traceparent"].startswith(b"00-" + b"1" * 32) and headers[0][1].endswith(b"-00")
    assert request.ids["trace_id"] == "1" * 32
    assert traces.end(request) == []


@pytest.mark.parametrize(
    ("status", "code", "is_error", "error_type"),
    [
        (200, None, False, None),
        (429, Overloaded.code, False, None),
        (500, BackendFailed.code, True, "backend"),
        (502, None, True, "502"),
        (200, WorkerLost.code, True, "worker_lost"),  # in the midst of a stream
        (None, Cancelled.code, False, None),
    ],
)
def test_errors_are_the_servers_own(
    traces: Traces, status: int | None, code: str | None, is_error: bool, error_type: str | None
) -> None:
    """As OpenTelemetry's conventions have it for servers: 4xx and clients that left are none."""
    (span,) = traces.end(traces.begin(), status, code)
    assert span.attributes is not None
    assert (span.status.status_code is StatusCode.ERROR) is is_error
    assert span.attributes.get("error.type") == error_type
    assert span.attributes.get("pipeserve.code") == code
    assert span.attributes.get("http.response.status_code") == status
    assert [event.name for event in span.events] == (["client left"] if status is None else [])


def test_unknown_methods_are_not_names(traces: Traces) -> None:
    """A client's word is no part of a span's name."""
    (span,) = traces.end(traces.begin(method="BREW"))
    assert span.name == "HTTP /v1/{task}" and span.attributes is not None
    assert span.attributes["http.request.method"] == "_OTHER"


def test_worker_that_died_is_told_of(traces: Traces) -> None:
    """What it did is not known; why it ran again is an event."""
    request = traces.begin()
    job = traces.job(request)
    job.began(is_stream=False)
    job.granted()
    job.sent(alone=False)
    traces.now = 101.0
    job.returned("the process was killed")
    traces.now = 102.0
    job.sent(alone=True)
    job.computed([StageTime("prepare", 102.5, 103.0)])
    traces.now = 103.0
    job.ended(RESULT, None)
    _, own, lost, queue, prepare = traces.end(request)
    assert (lost.name, *seconds(request, lost)) == ("worker", 0, 1)
    assert lost.status.status_code is StatusCode.ERROR and lost.status.description == "the process was killed"
    (retry,) = own.events
    assert retry.attributes == {"pipeserve.reason": "the process was killed", "pipeserve.alone": True}
    assert (queue.name, *seconds(request, queue)) == ("queue", 1, 2.5)
    assert prepare.name == "prepare" and own.status.status_code is StatusCode.UNSET


def test_job_that_is_cancelled_in_its_worker_was_there(traces: Traces) -> None:
    """A worker is not asked what it did for somebody who left."""
    request = traces.begin()
    job = traces.job(request)
    job.began(is_stream=False)
    job.granted()
    job.sent(alone=False)
    traces.now = 101.0
    job.ended(None, Cancelled.code)
    assert names(traces.end(request, None, Cancelled.code)) == ["POST /v1/{task}", "text-classification m", "worker"]


@pytest.mark.parametrize("is_granted", [True, False])
def test_job_that_no_worker_had_has_waited(traces: Traces, is_granted: bool) -> None:
    """For its model, or for a worker of it."""
    request = traces.begin()
    job = traces.job(request)
    job.began(is_stream=False)
    if is_granted:
        job.granted()
    else:
        job.waits_for_load()
    traces.now = 101.0
    job.ended(None, "deadline_exceeded")
    *_, waited = traces.end(request, 504, "deadline_exceeded")
    assert (waited.name, *seconds(request, waited)) == ("queue" if is_granted else "load", 0, 1)


def test_requests_of_a_batch_are_linked(traces: Traces) -> None:
    """The batch is a trace of its own, that names the requests and is named by their forwards."""
    requests = [traces.begin(), traces.begin()]
    jobs = [traces.job(request) for request in requests]
    for job in jobs:
        job.began(is_stream=False)
        job.granted()
        job.sent(alone=False)
    jobs[0].forwarded(batch(100.0, reason="out_of_memory"), jobs)
    for job in jobs:
        job.ended(RESULT, None)
    spans = traces.end(requests[0]) + traces.end(requests[1])
    (shared,) = [span for span in spans if span.name == "batch m"]
    assert shared.parent is None and shared.attributes is not None
    assert [link.context for link in shared.links] == [request.context for request in requests]
    assert shared.attributes["error.type"] == "out_of_memory"
    forwards = [span for span in spans if span.name == "forward"]
    assert [link.context for span in forwards for link in span.links] == [shared.context] * 2


def test_forwards_of_a_large_request_are_counted(traces: Traces) -> None:
    """The first of them have spans."""
    request = traces.begin()
    job = traces.job(request, inputs=["a"] * 1000)
    job.began(is_stream=False)
    for index in range(MAX_FORWARDS + 10):
        job.forwarded(batch(100.0 + index), [job])
    job.ended(RESULT, None)
    spans = traces.end(request)
    assert names(spans).count("forward") == MAX_FORWARDS
    own = next(span for span in spans if span.name == "text-classification m")
    assert own.attributes is not None and own.attributes["pipeserve.forwards"] == MAX_FORWARDS + 10


@pytest.mark.parametrize(("is_kept", "cache"), [(True, "hit"), (False, "shared")])
def test_answers_that_others_gave_are_marked(traces: Traces, is_kept: bool, cache: str) -> None:
    """They were kept, or an equal request was being computed."""
    request = traces.begin()
    job = traces.job(request)
    if not is_kept:
        job.began(is_stream=False)
        job.granted()
        job.shared()
    job.ended(msgspec.structs.replace(RESULT, is_kept=is_kept), None)
    own = traces.end(request)[1]
    assert own.attributes is not None and own.attributes["pipeserve.cache"] == cache


@pytest.mark.parametrize(
    ("task", "one", "name"),
    [
        ("completion", {"messages": []}, "chat m"),
        ("completion", {"prompt": "a"}, "text_completion m"),
        ("text-generation", "a", "text_completion m"),
        ("feature-extraction", "a", "embeddings m"),
        ("image-classification", b"", "image-classification m"),
    ],
)
def test_operations_have_the_names_of_the_conventions(traces: Traces, task: str, one: Any, name: str) -> None:
    """And what is none of theirs that of its task."""
    request = traces.begin()
    traces.job(request, task, [one])
    assert names(traces.end(request)) == ["POST /v1/{task}", name]


def test_generated_text_is_told_by_its_numbers(traces: Traces) -> None:
    """Its parameters, what it read and wrote, why it ended; not what was said."""
    request = traces.begin()
    parameters = {
        "max_tokens": 9,
        "temperature": 1,
        "top_k": 3,
        "n": 1,
        "stop": ["secret"],
        "seed": None,
        "logprobs": True,
    }
    job = traces.job(request, "completion", [{"prompt": "secret"}], **parameters)
    choice = Choice(text="secret", finish_reason="stop")
    answer = msgspec.json.encode(Completion(choices=(choice, choice), num_prompt_tokens=4, num_cached_tokens=2))
    job.ended(msgspec.structs.replace(RESULT, outputs=[answer], num_generated=7), None)
    own = traces.end(request)[1]
    assert own.attributes == {
        "pipeserve.task": "completion",
        "pipeserve.model": "m",
        "pipeserve.inputs": 1,
        "pipeserve.tokens": 5,
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "pipeserve",
        "gen_ai.request.model": "m",
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.temperature": 1.0,
        "gen_ai.request.top_k": 3.0,
        "gen_ai.response.model": "m",
        "gen_ai.usage.input_tokens": 4,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.usage.cache_read.input_tokens": 2,
        "gen_ai.response.finish_reasons": ("stop", "stop"),
    }
