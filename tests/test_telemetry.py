"""Metrics: what the fleet reports is counted, under declared names only."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from prometheus_client import CollectorRegistry

import app
from app.catalog import ModelSpec
from app.channel.messages import BatchDone, EngineReport, Timings
from app.fleet.events import FleetEvents
from app.fleet.requests import DeviceUse, JobResult, ModelStatus
from app.telemetry import CUT_REASONS, EAGER_MODELS, Telemetry
from tests.server import metric

TASK = "fill-mask"
SPEC = ModelSpec(id="mask", model="acme/mask", tasks=(TASK,))


@pytest.fixture
def telemetry() -> Telemetry:
    made = Telemetry(CollectorRegistry())
    made.declare([SPEC])
    return made


def text_of(telemetry: Telemetry) -> str:
    return telemetry.render("")[0].decode()


def batch(num_items: int, tokens: int, padded_tokens: int, reason: str = "ok") -> BatchDone:
    return BatchDone(
        task=TASK, num_items=num_items, tokens=tokens, padded_tokens=padded_tokens, forward_s=0.5, reason=reason
    )


def test_batches_are_measured(telemetry: Telemetry) -> None:
    """Items, computed tokens and the share of padding of those that worked; the time of all."""
    telemetry.batch_done("mask", batch(8, 75, 100))
    telemetry.batch_done("mask", batch(16, 900, 1000))
    telemetry.batch_done("mask", batch(64, 1, 1, reason="out_of_memory"))
    text = text_of(telemetry)
    labels = {"task": TASK, "model": "mask"}
    assert metric(text, "pipeserve_batch_items_sum", **labels) == 24
    assert metric(text, "pipeserve_batch_items_count", **labels) == 2
    assert metric(text, "pipeserve_batch_tokens_sum", **labels) == 1100
    assert metric(text, "pipeserve_padding_ratio_sum", **labels) == pytest.approx(0.35)
    assert metric(text, "pipeserve_forward_seconds_sum", **labels) == 1.5
    assert metric(text, "pipeserve_batches_total", outcome="out_of_memory") == 1


def test_recompiles_are_counted(telemetry: Telemetry) -> None:
    """None until a forward says so: the line is there from the start."""
    assert metric(text_of(telemetry), "pipeserve_recompiles_total", model="mask") == 0
    telemetry.batch_done("mask", msgspec.structs.replace(batch(8, 75, 100), num_misfits=2))
    assert metric(text_of(telemetry), "pipeserve_recompiles_total", model="mask") == 2


def test_jobs_are_measured(telemetry: Telemetry) -> None:
    """Stages, tokens, and how they ended."""
    timings = Timings(queue_s=1, prepare_s=2, forward_s=3, finish_s=4)
    result = JobResult(outputs=[], timings=timings, load_wait_s=0, total_s=10, batch_size=1, num_tokens=11)
    telemetry.job_done("mask", TASK, result)
    telemetry.job_failed("mask", TASK, "backend")
    telemetry.job_failed("mask", TASK, "cancelled")
    text = text_of(telemetry)
    stages = ("queue", "prepare", "finish")
    assert [metric(text, f"pipeserve_{stage}_seconds_sum") for stage in stages] == [1, 2, 4]
    assert metric(text, "pipeserve_tokens_total") == 11
    assert [metric(text, "pipeserve_jobs_total", outcome=name) for name in ("done", "failed", "cancelled")] == [1, 1, 1]


def test_life_of_a_model_is_counted(telemetry: Telemetry) -> None:
    """Loads, evictions, restarts and refusals, each by its reason."""
    telemetry.load_started("mask")
    telemetry.load_finished("mask", 1.5, "ready")
    telemetry.evicted("mask", "memory")
    telemetry.restarted("mask")
    telemetry.rejected("mask", "model_queue")
    text = text_of(telemetry)
    assert metric(text, "pipeserve_loads_total", outcome="ready") == 1
    assert metric(text, "pipeserve_load_seconds_sum", model="mask") == 1.5
    assert metric(text, "pipeserve_evictions_total", reason="memory") == 1
    assert metric(text, "pipeserve_restarts_total", model="mask") == 1
    assert metric(text, "pipeserve_rejections_total", reason="model_queue") == 1


def test_replaced_worker_generates_nothing(telemetry: Telemetry) -> None:
    """Its last report stands no longer; a model that generates no texts has no such lines."""
    telemetry.declare([SPEC, ModelSpec(id="chat", model="acme/chat", tasks=("text-generation",))])
    report = EngineReport(
        num_running=3,
        num_waiting=2,
        num_used_tokens=10,
        limit_tokens=20,
        num_steps=1,
        num_preemptions=0,
        num_prompt_tokens=4,
        num_cached_tokens=0,
        num_generated_tokens=5,
    )
    telemetry.engine_reported("chat", report)
    assert metric(text_of(telemetry), "pipeserve_generating_sequences", model="chat") == 3
    telemetry.restarted("chat")
    telemetry.restarted("mask")
    text = text_of(telemetry)
    for name in ("pipeserve_generating_sequences", "pipeserve_waiting_sequences", "pipeserve_kv_cache_usage_ratio"):
        assert metric(text, name, model="chat") == 0
        assert f'{name}{{model="mask"}}' not in text


def test_cut_connections_and_tasks_are_counted(telemetry: Telemetry) -> None:
    """Each reason has its line from the start."""
    telemetry.connection_cut("body")
    telemetry.refresh([], num_tasks=7)
    text = text_of(telemetry)
    reasons = {reason: metric(text, "pipeserve_cut_connections_total", reason=reason) for reason in CUT_REASONS}
    assert reasons == {"head": 0, "body": 1, "reading": 0, "too_many": 0}
    assert metric(text, "pipeserve_process_tasks") == 7


def test_gauges_follow_the_statuses(telemetry: Telemetry) -> None:
    """One state at a time; memory goes back to 0 where it was."""
    ready = ModelStatus(spec=SPEC, state="ready", memory={"cuda:0": 5}, in_flight=3, queued=2, replicas=1)
    telemetry.refresh([ready])
    text = text_of(telemetry)
    assert metric(text, "pipeserve_model_state", state="ready") == metric(text, "pipeserve_model_state") == 1
    assert metric(text, "pipeserve_model_memory_bytes", device="cuda:0") == 5
    assert metric(text, "pipeserve_in_flight_items") == 3
    assert metric(text, "pipeserve_queue_items") == 2
    telemetry.refresh([ModelStatus(spec=SPEC, state="unloaded", memory={"cuda:0": 5})])
    text = text_of(telemetry)
    assert metric(text, "pipeserve_model_state", state="unloaded") == metric(text, "pipeserve_model_state") == 1
    assert metric(text, "pipeserve_model_memory_bytes") == 0


def test_budget_of_a_device_is_told(telemetry: Telemetry) -> None:
    """And what of it models have; there is no line for a limit that is not known, or not any more."""
    telemetry.refresh([], [DeviceUse(device="cpu", budget_bytes=9, used_bytes=2)])
    text = text_of(telemetry)
    assert metric(text, "pipeserve_device_memory_budget_bytes", device="cpu") == 9
    assert metric(text, "pipeserve_device_memory_used_bytes", device="cpu") == 2
    telemetry.refresh([], [DeviceUse(device="cpu", budget_bytes=None, used_bytes=3)])
    text = text_of(telemetry)
    assert "pipeserve_device_memory_budget_bytes{" not in text
    assert metric(text, "pipeserve_device_memory_used_bytes", device="cpu") == 3


def test_metrics_may_be_asked_for_by_name(telemetry: Telemetry) -> None:
    """A scrape of a few is cheap; the process's own are among what can be asked for."""
    names = ["pipeserve_model_state", "pipeserve_process_memory_bytes", "pipeserve_nothing"]
    text = telemetry.render("", names)[0].decode()
    assert set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)) == set(names[:2])


def test_tasks_that_become_known_get_their_series(telemetry: Telemetry) -> None:
    """An unresolved entry has none; what is counted already stays."""
    telemetry.job_failed("mask", TASK, "backend")
    unresolved = ModelSpec(id="later", model="acme/later")
    telemetry.declare([unresolved, SPEC])
    assert 'task="text-classification"' not in text_of(telemetry)
    telemetry.declare([ModelSpec(id="later", model="acme/later", tasks=("text-classification",))])
    text = text_of(telemetry)
    assert 'pipeserve_tokens_total{model="later",task="text-classification"} 0.0' in text
    assert metric(text, "pipeserve_jobs_total", outcome="failed", model="mask") == 1


def test_undeclared_models_share_one_label(telemetry: Telemetry) -> None:
    """Whatever a client wrote."""
    telemetry.rejected("evil", "draining")
    telemetry.request_began()
    telemetry.request_ended(route="", task=TASK, model="evil", status=404, code="not_found", seconds=0.1)
    text = text_of(telemetry)
    assert "evil" not in text
    assert metric(text, "pipeserve_open_requests") == 0


def test_every_metric_is_one_literal(telemetry: Telemetry) -> None:
    """Whoever reads a name in a dashboard finds it in the source."""
    source = (Path(app.__file__).parent / "telemetry.py").read_text()
    names = set(re.findall(r"^# TYPE (\S+)", text_of(telemetry), re.MULTILINE))
    assert "pipeserve_build_info" in names and "pipeserve_process_memory_bytes" in names
    assert [name for name in names if f'"{name}"' not in source] == []


def test_telemetry_is_what_the_fleet_reports_to(telemetry: Telemetry) -> None:
    """The two were written apart; the type checker holds them together."""
    events: FleetEvents = telemetry
    assert events is telemetry


def test_series_of_a_removed_model_end(telemetry: Telemetry) -> None:
    """What comes of it later counts for no model; when it is back it begins anew."""
    telemetry.declare([ModelSpec(id="other", model="acme/other", tasks=(TASK,))])
    for _ in range(2):
        telemetry.request_ended(route="/v1/{task}", task=TASK, model="mask", status=200, code=None, seconds=0.1)
    telemetry.refresh([ModelStatus(spec=SPEC, state="ready", memory={"cpu": 5})])
    telemetry.forget("mask")
    telemetry.job_failed("mask", TASK, "cancelled")
    text = text_of(telemetry)
    assert 'model="mask"' not in text and 'model="other"' in text
    telemetry.declare([SPEC])
    telemetry.request_ended(route="/v1/{task}", task=TASK, model="mask", status=200, code=None, seconds=0.1)
    assert metric(text_of(telemetry), "pipeserve_requests_total", model="mask", status="200") == 1


def test_many_models_have_series_from_their_first_use_on(telemetry: Telemetry) -> None:
    """A hundred thousand that are not used cost a scrape nothing."""
    specs = [ModelSpec(id=f"m{number}", model="m", tasks=(TASK,)) for number in range(EAGER_MODELS + 1)]
    telemetry.declare(specs)
    last = specs[-1]
    telemetry.refresh([ModelStatus(spec=last, state="unloaded")])
    assert f'model="{last.id}"' not in text_of(telemetry)
    telemetry.rejected(last.id, "model_queue")
    telemetry.refresh([ModelStatus(spec=last, state="unloaded")])
    text = text_of(telemetry)
    assert metric(text, "pipeserve_rejections_total", model=last.id) == 1
    assert metric(text, "pipeserve_model_state", model=last.id, state="unloaded") == 1


def test_reloads_are_counted(telemetry: Telemetry) -> None:
    """One that failed leaves the time of the last that did not."""
    telemetry.configured("ok", 100.0)
    telemetry.reloaded("ok", 200.0)
    telemetry.reloaded("failed", 300.0)
    text = text_of(telemetry)
    assert metric(text, "pipeserve_reloads_total", outcome="ok") == 1
    assert metric(text, "pipeserve_reloads_total", outcome="failed") == 1
    assert metric(text, "pipeserve_config_last_reload_success_timestamp_seconds") == 200
    assert metric(text, "pipeserve_config_last_reload_successful") == 0
