"""Rates and quantiles of `pipeserve top`: what two expositions say of the time between them."""

from __future__ import annotations

import dataclasses

import pytest
from prometheus_client import CollectorRegistry

from app.catalog import ModelSpec
from app.channel.messages import BatchDone, EngineReport, Timings
from app.cli.top.figures import Figures, figures_of, quantile
from app.cli.top.samples import NAMES, Card, NotPipeserve, Sample, read_cards, read_sample
from app.fleet.requests import DeviceUse, JobResult, ModelStatus
from app.telemetry import Telemetry

TASK = "text-generation"
CHAT = ModelSpec(id="chat", model="acme/chat", tasks=(TASK,))
MASK = ModelSpec(id="mask", model="acme/mask", tasks=("fill-mask",))
TIMINGS = Timings(queue_s=0, prepare_s=0, forward_s=0, finish_s=0)
RESULT = JobResult(outputs=[], timings=TIMINGS, load_wait_s=0, total_s=0, batch_size=1, num_tokens=30)

GENERATED = EngineReport(
    num_running=0,
    num_waiting=0,
    num_used_tokens=0,
    limit_tokens=0,
    num_steps=0,
    num_preemptions=0,
    num_prompt_tokens=0,
    num_cached_tokens=0,
    num_generated_tokens=50,
)


class Server:
    """A server's metrics, and a clock of the test's own."""

    def __init__(self) -> None:
        self.telemetry = Telemetry(CollectorRegistry())
        self.telemetry.declare([CHAT, MASK])
        self.cards: dict[str, Card] | None = {}

    def answer(self, status: int = 200, seconds: float = 0.002, model: str = "chat") -> None:
        self.telemetry.request_began()
        self.telemetry.request_ended(
            route="/v1/{task}", task=TASK, model=model, status=status, code=None, seconds=seconds
        )

    def sample(self, at: float, **state: str) -> Sample:
        memory = {"cuda:0": 4, "cuda:1": 6}
        statuses = [
            ModelStatus(spec=spec, state=state.get(spec.id, "ready"), memory=memory, replicas=1, queued=2, in_flight=3)
            for spec in (CHAT, MASK)
        ]
        self.telemetry.refresh(statuses, [DeviceUse(device="cuda:0", budget_bytes=9, used_bytes=8)])
        text = self.telemetry.render("", NAMES)[0].decode()
        return dataclasses.replace(read_sample(text, at=at, server_time=1000.0 + at), cards=self.cards)


def test_rates_are_of_the_interval() -> None:
    """Not of the server's life; each model its own, the server all of them."""
    server = Server()
    server.answer(seconds=200)
    server.telemetry.job_done("chat", TASK, RESULT)
    before = server.sample(10)
    for status in (200, 200, 500, 429):
        server.answer(status)
    server.answer(404, model="nobody")
    server.telemetry.job_done("chat", TASK, RESULT)
    for num_items in (2, 4):
        server.telemetry.batch_done(
            "chat", BatchDone(task=TASK, num_items=num_items, tokens=1, padded_tokens=1, forward_s=0.1, reason="ok")
        )
    server.telemetry.engine_reported("chat", GENERATED)
    figures = figures_of(before, server.sample(12), shows_all=False)
    assert figures.interval_s == 2
    (chat, mask) = figures.models
    assert chat.rates is not None and mask.rates is not None and figures.server.rates is not None
    assert (chat.rates.requests_per_s, chat.rates.errors_per_s, chat.rates.refused_per_s) == (2, 0.5, 0.5)
    assert (chat.rates.tokens_in_per_s, chat.rates.tokens_out_per_s) == (15, 25)
    assert chat.rates.mean_batch_items == 3
    assert chat.rates.p99_s == pytest.approx(0.001 + 0.0015 * 0.99)  # within the bucket to 2.5 ms
    assert (mask.rates.requests_per_s, mask.rates.mean_batch_items, mask.rates.p50_s) == (0, None, None)
    assert figures.server.rates.requests_per_s == 2.5


def test_first_sample_has_no_rates_but_all_else() -> None:
    """Gauges are of the moment."""
    figures = figures_of(None, Server().sample(10), shows_all=False)
    assert figures.interval_s is None and figures.server.rates is None and figures.server.cpu_ratio is None
    chat = figures.models[0]
    assert (chat.id, chat.state, chat.devices, chat.memory_bytes) == ("chat", "ready", ["cuda:0", "cuda:1"], 10)
    assert (chat.replicas, chat.in_flight, chat.queued, chat.rates) == (1, 3, 2, None)
    (device,) = figures.devices
    assert (device.device, device.budget_bytes, device.used_bytes) == ("cuda:0", 9, 8)
    assert figures.states == {"ready": 2}
    assert figures.server.uptime_s > 0 or figures.server.memory_bytes > 0


def test_restarted_server_begins_anew() -> None:
    """Its counters are lower; nothing is negative, and nothing is counted that was before."""
    server = Server()
    server.answer()
    before = server.sample(10)
    restarted = dataclasses.replace(server.sample(12), started_at=before.started_at + 5)
    assert figures_of(before, restarted, shows_all=False).server.rates is None


def test_model_that_is_declared_again_begins_anew() -> None:
    """Its series ended meanwhile: what is counted since is what there is."""
    server = Server()
    for _ in range(5):
        server.answer()
    before = server.sample(10)
    server.telemetry.forget("chat")
    server.telemetry.declare([CHAT])
    server.answer()
    chat = next(one for one in figures_of(before, server.sample(11), shows_all=False).models if one.id == "chat")
    assert chat.rates is not None and chat.rates.requests_per_s == 1
    assert chat.rates.p50_s is not None and 0 < chat.rates.p50_s < 0.0026


def test_models_at_rest_are_shown_on_request() -> None:
    """What is loaded, moves, failed or is asked is always shown."""
    server = Server()

    def shown(shows_all: bool, **state: str) -> list[str]:
        figures = figures_of(None, without_jobs(server.sample(10, **state)), shows_all=shows_all)
        return [model.id for model in figures.models]

    assert shown(False, chat="unloaded", mask="failed") == ["mask"]
    assert shown(False, chat="unresolved", mask="loading") == ["mask"]
    assert shown(True, chat="unloaded", mask="failed") == ["chat", "mask"]
    server.cards = {"late": Card(id="late", state="unloaded")}
    assert shown(True) == ["late", "chat", "mask"]


def without_jobs(sample: Sample) -> Sample:
    for model in sample.models.values():
        model.in_flight = 0
    return sample


def test_idleness_is_by_the_servers_clock() -> None:
    """Not while it is in use; a model that was not used is idle since its load."""
    server = Server()
    server.cards = {
        "chat": Card(id="chat", state="ready", last_used_at=950, loaded_at=900, unloads_at=1040),
        "mask": Card(id="mask", state="ready", loaded_at=1000, pinned=True),
    }

    def shown(sample: Sample) -> Figures:
        return figures_of(None, sample, shows_all=False)

    chat, mask = shown(without_jobs(server.sample(10))).models
    assert (chat.idle_s, chat.unloads_in_s, chat.pinned) == (60, 30, False)
    assert (mask.idle_s, mask.unloads_in_s, mask.pinned) == (10, None, True)
    assert shown(server.sample(10)).models[0].idle_s is None
    server.cards = None
    assert not shown(server.sample(10)).sees_cards


def test_quantiles_are_prometheus_own() -> None:
    """Linear within a bucket; beyond the last bound, that bound; zeros may be left out."""
    buckets = {0.01: 10.0, 0.025: 20.0, float("inf"): 20.0}
    assert quantile(0.5, buckets) == pytest.approx(0.01)
    assert quantile(0.75, buckets) == pytest.approx(0.0175)
    assert quantile(0.99, {float("inf"): 3.0}) == 300
    assert quantile(0.5, {}) is None


@pytest.mark.parametrize("text", ["", "up 1\n", "<html>", "pipeserve_open_requests 3\n"])
def test_other_servers_are_told(text: str) -> None:
    """Whatever they answer."""
    with pytest.raises(NotPipeserve):
        read_sample(text, at=0, server_time=0)
    with pytest.raises(NotPipeserve):
        read_cards(text.encode())
