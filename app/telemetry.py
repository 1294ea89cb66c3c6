"""Every metric of the server, as one object built on one registry. Owned by the API process's event loop.

Labels are bounded: models are the declared ones (a name from a client that is not declared becomes ""), tasks are the
tasks that they serve, everything else is one of the constants below. All series exist before the first request; of
models beyond the first EAGER_MODELS, from their first use on.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from app import __version__
from app.activity import Activity
from app.errors import Cancelled, error_classes
from app.recent import Recent
from app.tasks.completion import GENERATING_TASKS

if TYPE_CHECKING:
    from app.access.clients import Clients
    from app.catalog import ModelSpec
    from app.channel.messages import BatchDone, EngineReport
    from app.fleet.requests import DeviceUse, JobResult, ModelStatus

TASK_ROUTES = ("/v1/{task}", "/models/{model}")
STATUSES = (200, 400, 401, 403, 404, 405, 409, 413, 415, 422, 429, 499, 500, 501, 503, 504)
STATES = ("unresolved", "unloaded", "loading", "ready", "unloading", "failed")
JOB_OUTCOMES = ("done", "failed", "cancelled")
BATCH_OUTCOMES = ("ok", "error", "out_of_memory")
LOAD_OUTCOMES = ("ready", "failed", "out_of_memory")
EVICTION_REASONS = ("memory", "keep_alive", "request", "reload", "shutdown")
RELOAD_OUTCOMES = ("ok", "failed")
BATCH_REQUEST_OUTCOMES = ("completed", "failed")
CACHE_OUTCOMES = ("hit", "shared", "miss")
CUT_REASONS = ("head", "body", "reading", "too_many")
REJECTION_REASONS = ("model_queue", "total_queue", "client_share", "model_share", "max_wait", "draining", "failed")

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
TOKENS = (16, 64, 256, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
RATIOS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

_TASK_MODEL = ("task", "model")
EAGER_MODELS = 100
"""A model has two to four hundred series. Those of a hundred take a scrape 0.6 s of CPU time, those of a thousand more
than six (Prometheus gives up after ten), those of a hundred thousand would be gigabytes."""
_AT_REST = ("unresolved", "unloaded")


@dataclass(frozen=True, slots=True)
class _Work:
    """The series of one task of one model that every request or every batch adds to, found once: to look one up by its
    labels costs more than to add to it."""

    request_seconds: Histogram
    jobs_done: Counter
    queue_seconds: Histogram
    prepare_seconds: Histogram
    finish_seconds: Histogram
    tokens: Counter
    batches_ok: Counter
    forward_seconds: Histogram
    batch_items: Histogram
    batch_tokens: Histogram
    padding_ratio: Histogram


class Telemetry:
    """Implements `FleetEvents`; the HTTP layer calls `request_began` and `request_ended`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        # Series that say when others were made are noise; prometheus_client's switch for them is global and untyped.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry
        self.recent = Recent(time.monotonic)  # requests by model
        self.activity = Activity(time.monotonic)
        self._declared: dict[str, ModelSpec] = {}
        self._models: dict[str, tuple[str, ...]] = {}  # the models that have series, and for which tasks
        self._devices: dict[str, set[str]] = {}
        self._works: dict[tuple[str, str], _Work] = {}  # by task and model
        self._answered: dict[tuple[str, str, str, int], Counter] = {}  # by route, task, model and status
        self._make_request_metrics()
        self._make_job_metrics()
        self._make_cache_metrics()
        self._make_model_metrics()
        self._make_generation_metrics()
        self._make_configuration_metrics()
        self._make_batches_metrics()
        registry.register(ProcessCollector())

    def _make_request_metrics(self) -> None:
        registry = self.registry
        self._requests = Counter(
            "pipeserve_requests_total",
            "HTTP requests answered, by the route's form and the status code (499: the client had left).",
            ("route", "task", "model", "status"),
            registry=registry,
        )
        self._request_seconds = Histogram(
            "pipeserve_request_seconds",
            "Time of a request for inference, from its headers to the last byte of the answer.",
            _TASK_MODEL,
            buckets=SECONDS,
            registry=registry,
        )
        self._failures = Counter(
            "pipeserve_failures_total",
            "Requests for inference that ended in an error, by its code.",
            ("task", "model", "code"),
            registry=registry,
        )
        self._open_requests = Gauge(
            "pipeserve_open_requests", "HTTP requests that are being answered now.", registry=registry
        )
        self._cut_connections = Counter(
            "pipeserve_cut_connections_total",
            "Connections ended by the server: its client was too slow with a head, a body or reading, or there were"
            " too many.",
            ("reason",),
            registry=registry,
        )
        for reason in CUT_REASONS:
            self._cut_connections.labels(reason)
        self._process_tasks = Gauge(
            "pipeserve_process_tasks", "Tasks on the event loop of the API process.", registry=registry
        )

    def _make_job_metrics(self) -> None:
        registry = self.registry
        self._jobs = Counter(
            "pipeserve_jobs_total",
            "Jobs that the fleet took, by how they ended.",
            (*_TASK_MODEL, "outcome"),
            registry=registry,
        )
        self._queue_seconds = Histogram(
            "pipeserve_queue_seconds",
            "Time that a job waited: for its model, for a batch, between stages.",
            _TASK_MODEL,
            buckets=SECONDS,
            registry=registry,
        )
        self._prepare_seconds = Histogram(
            "pipeserve_prepare_seconds", "Time to prepare a job.", _TASK_MODEL, buckets=SECONDS, registry=registry
        )
        self._forward_seconds = Histogram(
            "pipeserve_forward_seconds",
            "Time of one forward on the device; a batch counts once, whatever the number of its jobs.",
            _TASK_MODEL,
            buckets=SECONDS,
            registry=registry,
        )
        self._finish_seconds = Histogram(
            "pipeserve_finish_seconds", "Time to finish a job.", _TASK_MODEL, buckets=SECONDS, registry=registry
        )
        self._batches = Counter(
            "pipeserve_batches_total",
            "Forwards; those that failed are halved and run again.",
            (*_TASK_MODEL, "outcome"),
            registry=registry,
        )
        self._batch_items = Histogram(
            "pipeserve_batch_items", "Items of one forward.", _TASK_MODEL, buckets=ITEMS, registry=registry
        )
        self._batch_tokens = Histogram(
            "pipeserve_batch_tokens",
            "Tokens that one forward computed, padding included.",
            _TASK_MODEL,
            buckets=TOKENS,
            registry=registry,
        )
        self._padding_ratio = Histogram(
            "pipeserve_padding_ratio",
            "The share of a forward's tokens that was padding.",
            _TASK_MODEL,
            buckets=RATIOS,
            registry=registry,
        )
        self._tokens = Counter(
            "pipeserve_tokens_total",
            "Tokens of answered jobs, padding not included.",
            _TASK_MODEL,
            registry=registry,
        )
        self._rejections = Counter(
            "pipeserve_rejections_total",
            "Jobs refused at the door, by reason.",
            ("model", "reason"),
            registry=registry,
        )
        self._shed = Counter(
            "pipeserve_shed_jobs_total",
            "Jobs that were taken and not computed: their deadline passed, or would have, before their answer.",
            ("model",),
            registry=registry,
        )

    def _make_cache_metrics(self) -> None:
        registry = self.registry
        self._cache_lookups = Counter(
            "pipeserve_response_cache_requests_total",
            "Requests to models with `cache:`: answered from it, together with an equal one, or computed.",
            ("model", "outcome"),
            registry=registry,
        )
        self._cache_bytes = Gauge(
            "pipeserve_response_cache_bytes", "Memory of the answers that are kept.", ("model",), registry=registry
        )

    def _make_model_metrics(self) -> None:
        registry = self.registry
        self._queue_items = Gauge(
            "pipeserve_queue_items", "Items waiting for their model or a forward.", ("model",), registry=registry
        )
        self._wait_seconds = Gauge(
            "pipeserve_estimated_wait_seconds",
            "How long one more item would wait behind those that are there; 0 where nothing was measured of late.",
            ("model",),
            registry=registry,
        )
        self._in_flight_items = Gauge(
            "pipeserve_in_flight_items", "Items admitted and not yet answered.", ("model",), registry=registry
        )
        self._model_state = Gauge(
            "pipeserve_model_state", "1 for the state that the model is in.", ("model", "state"), registry=registry
        )
        self._model_replicas = Gauge(
            "pipeserve_model_replicas", "Worker processes that serve the model.", ("model",), registry=registry
        )
        self._model_memory = Gauge(
            "pipeserve_model_memory_bytes", "Memory of the loaded model.", ("model", "device"), registry=registry
        )
        self._device_budget = Gauge(
            "pipeserve_device_memory_budget_bytes",
            "Memory of the device that models may take; absent where no limit is known.",
            ("device",),
            registry=registry,
        )
        self._device_used = Gauge(
            "pipeserve_device_memory_used_bytes",
            "Of the budget, what models have: loaded ones, and those on their way in or out.",
            ("device",),
            registry=registry,
        )
        self._loads = Counter(
            "pipeserve_loads_total", "Loads, by how they ended.", ("model", "outcome"), registry=registry
        )
        self._load_seconds = Histogram(
            "pipeserve_load_seconds", "Time of a load.", ("model",), buckets=SECONDS, registry=registry
        )
        self._evictions = Counter(
            "pipeserve_evictions_total", "Models unloaded, by reason.", ("model", "reason"), registry=registry
        )
        self._restarts = Counter(
            "pipeserve_restarts_total", "Workers replaced after their death.", ("model",), registry=registry
        )
        build = Gauge("pipeserve_build_info", "1, with what runs.", ("version", "python"), registry=registry)
        build.labels(__version__, platform.python_version()).set(1)

    def _make_generation_metrics(self) -> None:
        registry, model = self.registry, ("model",)
        self._generating = Gauge(
            "pipeserve_generating_sequences", "Texts that are generated now.", model, registry=registry
        )
        self._waiting_to_generate = Gauge(
            "pipeserve_waiting_sequences", "Texts that wait for room to be generated.", model, registry=registry
        )
        self._kv_cache_usage = Gauge(
            "pipeserve_kv_cache_usage_ratio",
            "The share of the memory for keys and values that running texts have.",
            model,
            registry=registry,
        )
        self._steps = Counter(
            "pipeserve_generation_steps_total", "Forwards of text generation.", model, registry=registry
        )
        self._recompiles = Counter(
            "pipeserve_recompiles_total",
            "Calls of a compiled model that its code did not fit: recompiles under load, if these were not computed"
            " uncompiled instead.",
            model,
            registry=registry,
        )
        self._preemptions = Counter(
            "pipeserve_preemptions_total",
            "Texts that gave their memory to others and began again.",
            model,
            registry=registry,
        )
        self._prompt_tokens = Counter(
            "pipeserve_prompt_tokens_total", "Tokens of prompts that were answered.", model, registry=registry
        )
        self._cached_tokens = Counter(
            "pipeserve_cached_prompt_tokens_total",
            "Of these, those that were not computed again.",
            model,
            registry=registry,
        )
        self._generated_tokens = Counter(
            "pipeserve_generated_tokens_total", "Tokens that were generated.", model, registry=registry
        )
        self._first_token_seconds = Histogram(
            "pipeserve_time_to_first_token_seconds",
            "From a job's arrival in its worker to the first token of each of its texts.",
            model,
            buckets=SECONDS,
            registry=registry,
        )
        self._inter_token_seconds = Histogram(
            "pipeserve_inter_token_seconds",
            "Between two tokens of a text.",
            model,
            buckets=SECONDS,
            registry=registry,
        )

    def _make_configuration_metrics(self) -> None:
        registry = self.registry
        self._reloads = Counter(
            "pipeserve_reloads_total",
            "Times that models.yaml was to be read again, by how that ended.",
            ("outcome",),
            registry=registry,
        )
        for outcome in RELOAD_OUTCOMES:
            self._reloads.labels(outcome)
        self._last_reload_ok = Gauge(
            "pipeserve_config_last_reload_successful",
            "Whether models.yaml could be used when it was last read.",
            registry=registry,
        )
        self._last_reload_at = Gauge(
            "pipeserve_config_last_reload_success_timestamp_seconds",
            "Unix time when models.yaml was last read and used, the start included.",
            registry=registry,
        )

    def _make_batches_metrics(self) -> None:
        registry = self.registry
        self._running_batches = Gauge(
            "pipeserve_running_batches", "Batches of /v1/batches that have not ended.", registry=registry
        )
        self._batch_requests = Counter(
            "pipeserve_batch_requests_total",
            "Requests of batches that were answered, by how.",
            ("outcome",),
            registry=registry,
        )
        for outcome in BATCH_REQUEST_OUTCOMES:
            self._batch_requests.labels(outcome)

    # What there is to label

    def declare(self, models: Iterable[ModelSpec]) -> None:
        """Make every series of these models. Again for a model of which more is known: only what is new is made."""
        for spec in models:
            self._declared[spec.id] = spec
            if spec.id in self._models or len(self._declared) <= EAGER_MODELS:
                self._measure(spec)

    def forget(self, model: str) -> None:
        """Its series end."""
        self._declared.pop(model, None)
        self._devices.pop(model, None)
        self.activity.forget(model)
        if self._models.pop(model, None) is None:
            return
        for metric in vars(self).values():
            if isinstance(metric, MetricWrapperBase):
                with suppress(ValueError):  # it has no such label
                    metric.remove_by_labels({"model": model})
        self._works = {labels: work for labels, work in self._works.items() if labels[1] != model}
        self._answered = {labels: counter for labels, counter in self._answered.items() if labels[2] != model}

    def _measure(self, spec: ModelSpec) -> None:
        known = self._models.get(spec.id)
        if known is None:
            self._declare_model(spec)
        if spec.cache_bytes is not None:
            for outcome in CACHE_OUTCOMES:
                self._cache_lookups.labels(spec.id, outcome)
        if any(task in GENERATING_TASKS for task in spec.all_tasks):
            self._declare_generation(spec.id)
        for task in spec.all_tasks:
            if known is None or task not in known:
                self._declare_task(task, spec.id)
        self._models[spec.id] = spec.all_tasks

    def _declare_model(self, spec: ModelSpec) -> None:
        model = spec.id
        for gauge in (self._queue_items, self._wait_seconds, self._in_flight_items, self._model_replicas):
            gauge.labels(model)
        self._shed.labels(model)
        self._restarts.labels(model)
        self._recompiles.labels(model)
        self._load_seconds.labels(model)
        for reason in REJECTION_REASONS:
            self._rejections.labels(model, reason)
        for state in STATES:
            self._model_state.labels(model, state)
        for outcome in LOAD_OUTCOMES:
            self._loads.labels(model, outcome)
        for reason in EVICTION_REASONS:
            self._evictions.labels(model, reason)

    def _declare_generation(self, model: str) -> None:
        for metric in (
            self._generating,
            self._waiting_to_generate,
            self._kv_cache_usage,
            self._steps,
            self._preemptions,
            self._prompt_tokens,
            self._cached_tokens,
            self._generated_tokens,
            self._first_token_seconds,
            self._inter_token_seconds,
        ):
            metric.labels(model)

    def _declare_task(self, task: str, model: str) -> None:
        for route in TASK_ROUTES:
            for status in STATUSES:
                self._requests.labels(route, task, model, str(status))
        for code in error_classes():
            self._failures.labels(task, model, code)
        for outcome in JOB_OUTCOMES:
            self._jobs.labels(task, model, outcome)
        for outcome in BATCH_OUTCOMES:
            self._batches.labels(task, model, outcome)
        self._work(task, model)

    def _label(self, model: str) -> str:
        if model in self._models:
            return model
        if (spec := self._declared.get(model)) is None:
            return ""
        self._measure(spec)
        return model

    def _work(self, task: str, model: str) -> _Work:
        """model: its label."""
        work = self._works.get((task, model))
        if work is None:
            labels = (task, model)
            self._works[labels] = work = _Work(
                request_seconds=self._request_seconds.labels(*labels),
                jobs_done=self._jobs.labels(*labels, "done"),
                queue_seconds=self._queue_seconds.labels(*labels),
                prepare_seconds=self._prepare_seconds.labels(*labels),
                finish_seconds=self._finish_seconds.labels(*labels),
                tokens=self._tokens.labels(*labels),
                batches_ok=self._batches.labels(*labels, "ok"),
                forward_seconds=self._forward_seconds.labels(*labels),
                batch_items=self._batch_items.labels(*labels),
                batch_tokens=self._batch_tokens.labels(*labels),
                padding_ratio=self._padding_ratio.labels(*labels),
            )
        return work

    # What the HTTP layer reports

    def request_began(self) -> None:
        self._open_requests.inc()

    def request_ended(
        self, *, route: str, task: str, model: str, status: int, code: str | None, seconds: float
    ) -> None:
        """task: "" when the request was not for inference. code: the error's, if it ended in one."""
        self._open_requests.dec()
        model = self._label(model)
        answered = self._answered.get((route, task, model, status))
        if answered is None:
            answered = self._answered[route, task, model, status] = self._requests.labels(
                route, task, model, str(status)
            )
        answered.inc()
        if not task:
            return
        if model:
            self.recent.add(model)
            if code is None:
                self.activity.answered(model, seconds)
            else:
                self.activity.failed(model)
        self._work(task, model).request_seconds.observe(seconds)
        if code is not None:
            self._failures.labels(task, model, code).inc()

    # What the fleet reports: FleetEvents

    def load_started(self, model: str) -> None:
        """Nothing to count yet: the state gauge shows it, the outcome counts it."""

    def load_finished(self, model: str, seconds: float, outcome: str) -> None:
        self._loads.labels(self._label(model), outcome).inc()
        self._load_seconds.labels(self._label(model)).observe(seconds)

    def evicted(self, model: str, reason: str) -> None:
        self._evictions.labels(self._label(model), reason).inc()

    def restarted(self, model: str) -> None:
        model = self._label(model)
        self._restarts.labels(model).inc()
        if any(task in GENERATING_TASKS for task in self._models.get(model, ())):
            # The worker that is gone cannot say that it generates nothing any more.
            for gauge in (self._generating, self._waiting_to_generate, self._kv_cache_usage):
                gauge.labels(model).set(0)

    def connection_cut(self, reason: str) -> None:
        self._cut_connections.labels(reason).inc()

    def rejected(self, model: str, reason: str) -> None:
        self._rejections.labels(self._label(model), reason).inc()

    def shed(self, model: str) -> None:
        self._shed.labels(self._label(model)).inc()

    def answer_looked_up(self, model: str, outcome: str) -> None:
        self._cache_lookups.labels(self._label(model), outcome).inc()

    def batch_done(self, model: str, batch: BatchDone) -> None:
        model = self._label(model)
        work = self._work(batch.task, model)
        work.forward_seconds.observe(batch.forward_s)
        if batch.num_misfits:
            self._recompiles.labels(model).inc(batch.num_misfits)
        if batch.reason != "ok":
            self._batches.labels(batch.task, model, batch.reason).inc()
            return
        work.batches_ok.inc()
        work.batch_items.observe(batch.num_items)
        work.batch_tokens.observe(batch.padded_tokens)
        if batch.padded_tokens > 0:
            work.padding_ratio.observe(1 - batch.tokens / batch.padded_tokens)

    def engine_reported(self, model: str, report: EngineReport) -> None:
        model = self._label(model)
        self._generating.labels(model).set(report.num_running)
        self._waiting_to_generate.labels(model).set(report.num_waiting)
        if report.limit_tokens:
            self._kv_cache_usage.labels(model).set(report.num_used_tokens / report.limit_tokens)
        self._steps.labels(model).inc(report.num_steps)
        self._preemptions.labels(model).inc(report.num_preemptions)
        self._prompt_tokens.labels(model).inc(report.num_prompt_tokens)
        self._cached_tokens.labels(model).inc(report.num_cached_tokens)
        self._generated_tokens.labels(model).inc(report.num_generated_tokens)
        if report.num_generated_tokens:
            self.activity.generated(model, report.num_generated_tokens)
        for seconds in report.first_token_s:
            self._first_token_seconds.labels(model).observe(seconds)
        for seconds in report.inter_token_s:
            self._inter_token_seconds.labels(model).observe(seconds)

    def job_done(self, model: str, task: str, result: JobResult) -> None:
        model = self._label(model)
        work = self._work(task, model)
        work.jobs_done.inc()
        if model:
            self.activity.waited(model, result.timings.queue_s)
        work.queue_seconds.observe(result.timings.queue_s)
        work.prepare_seconds.observe(result.timings.prepare_s)
        work.finish_seconds.observe(result.timings.finish_s)
        work.tokens.inc(result.num_tokens)

    def job_failed(self, model: str, task: str, code: str) -> None:
        outcome = "cancelled" if code == Cancelled.code else "failed"
        self._jobs.labels(task, self._label(model), outcome).inc()

    # What whoever reloads reports

    def configured(self, outcome: str, now: float) -> None:
        """At the start, too. now: unix time."""
        self._last_reload_ok.set(outcome == "ok")
        if outcome == "ok":
            self._last_reload_at.set(now)

    def reloaded(self, outcome: str, now: float) -> None:
        self._reloads.labels(outcome).inc()
        self.configured(outcome, now)

    # What whoever runs batches reports

    def batch_request_ended(self, outcome: str) -> None:
        self._batch_requests.labels(outcome).inc()

    def count_batches(self, num_running: Callable[[], int]) -> None:
        self._running_batches.set_function(num_running)

    # What a scrape reads

    def refresh(
        self, statuses: Iterable[ModelStatus], devices: Iterable[DeviceUse] = (), *, num_tasks: int = 0
    ) -> None:
        """Set the gauges to what the fleet says now. Called on the event loop, which has so many tasks, before each
        `render`."""
        self._process_tasks.set(num_tasks)
        self._refresh_devices(devices)
        for status in statuses:
            model = status.spec.id
            self.declare([status.spec])
            if model not in self._models and status.state in _AT_REST:
                continue
            model = self._label(model)
            self._in_flight_items.labels(model).set(status.in_flight)
            self._queue_items.labels(model).set(status.queued)
            self._wait_seconds.labels(model).set(status.wait_s or 0.0)
            self._model_replicas.labels(model).set(status.replicas)
            if status.spec.cache_bytes is not None:
                self._cache_bytes.labels(model).set(status.cached_bytes)
            for state in STATES:
                self._model_state.labels(model, state).set(state == status.state)
            self._refresh_memory(status)

    def _refresh_devices(self, devices: Iterable[DeviceUse]) -> None:
        for use in devices:
            self._device_used.labels(use.device).set(use.used_bytes)
            if use.budget_bytes is None:
                self._device_budget.remove_by_labels({"device": use.device})
            else:
                self._device_budget.labels(use.device).set(use.budget_bytes)

    def _refresh_memory(self, status: ModelStatus) -> None:
        """A model that is not loaded has 0 bytes on every device it has been on, or would go to."""
        model, spec = status.spec.id, status.spec
        devices = self._devices.setdefault(model, set())
        devices.update(status.memory or spec.devices or (spec.device or "cpu",))
        is_there = status.state in ("ready", "unloading")
        for device in devices:
            self._model_memory.labels(model, device).set(status.memory.get(device, 0) if is_there else 0)

    def render(self, accept: str, names: Sequence[str] = ()) -> tuple[bytes, str]:
        """The exposition and its content type, in the form that `Accept` asks for; names: of these metrics alone. Any
        thread may call it."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry.restricted_registry(names) if names else self.registry), content_type


class ProcessCollector(Collector):
    """The API process itself, read at scrape time."""

    def __init__(self, process: psutil.Process | None = None) -> None:
        self._process = process if process is not None else psutil.Process(os.getpid())

    def describe(self) -> Iterable[Metric]:
        """By which the registry knows whose names it has, to find them again where only some are asked for."""
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        with self._process.oneshot():
            yield from self._families()

    def _families(self) -> Iterator[Metric]:
        gauges: list[tuple[str, str, Callable[[], float]]] = [
            (
                "pipeserve_process_memory_bytes",
                "Resident memory of the API process.",
                lambda: self._process.memory_info().rss,
            ),
            ("pipeserve_process_open_fds", "Open file descriptors of the API process.", self._process.num_fds),
            ("pipeserve_process_threads", "Threads of the API process.", self._process.num_threads),
            ("pipeserve_process_start_seconds", "Unix time of the API process's start.", self._process.create_time),
        ]
        for name, text, read in gauges:
            yield GaugeMetricFamily(name, text, value=read())
        times = self._process.cpu_times()
        yield CounterMetricFamily(
            "pipeserve_process_cpu_seconds_total",
            "CPU time of the API process.",
            value=times.user + times.system,
        )


class KeyCollector(Collector):
    """What was used with each API key, read at scrape time: counting costs a request nothing more. Keys are those that
    the operator made."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def describe(self) -> Iterable[Metric]:
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        key = ["key"]
        requests = CounterMetricFamily("pipeserve_key_requests_total", "HTTP requests with the key.", labels=key)
        limited = CounterMetricFamily(
            "pipeserve_key_limited_requests_total", "Requests refused for a limit of the key.", labels=key
        )
        opened = GaugeMetricFamily("pipeserve_key_open_requests", "Requests that are being answered now.", labels=key)
        jobs = CounterMetricFamily("pipeserve_key_jobs_total", "Answers that the key got.", labels=key)
        tokens = CounterMetricFamily(
            "pipeserve_key_tokens_total", "Tokens that were read and written for the key.", labels=["key", "kind"]
        )
        seconds = CounterMetricFamily(
            "pipeserve_key_compute_seconds_total",
            "Computing for the key; of a forward that was shared, its share.",
            labels=key,
        )
        for client in self._clients:
            name, usage, used = [client.key.name], client.usage, client.usage.total()
            requests.add_metric(name, usage.requests)
            limited.add_metric(name, usage.limited)
            opened.add_metric(name, client.num_open)
            jobs.add_metric(name, used.jobs)
            tokens.add_metric([*name, "input"], used.input_tokens)
            tokens.add_metric([*name, "output"], used.output_tokens)
            seconds.add_metric(name, used.seconds)
        refused = CounterMetricFamily(
            "pipeserve_refused_keys_total", "Requests without a valid key, by reason.", labels=["reason"]
        )
        for reason, number in self._clients.refusals.items():
            refused.add_metric([reason], number)
        yield from (requests, limited, opened, jobs, tokens, seconds, refused)
