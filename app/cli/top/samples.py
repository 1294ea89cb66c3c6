"""What a server says of itself at one moment: `/metrics`, and the states in `/v1/models`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from prometheus_client.parser import text_string_to_metric_families

NAMES = (
    "pipeserve_build_info",
    "pipeserve_device_memory_budget_bytes",
    "pipeserve_device_memory_used_bytes",
    "pipeserve_batch_items_count",
    "pipeserve_batch_items_sum",
    "pipeserve_generated_tokens_total",
    "pipeserve_in_flight_items",
    "pipeserve_model_memory_bytes",
    "pipeserve_model_replicas",
    "pipeserve_model_state",
    "pipeserve_open_requests",
    "pipeserve_process_cpu_seconds_total",
    "pipeserve_process_memory_bytes",
    "pipeserve_process_start_seconds",
    "pipeserve_queue_items",
    "pipeserve_request_seconds_bucket",
    "pipeserve_requests_total",
    "pipeserve_tokens_total",
)
"""All that is asked for: a scrape of everything costs a busy server several times as much."""


class NotPipeserve(Exception):
    """The text is no Pipeserve server's."""


class Card(msgspec.Struct, frozen=True):
    """Of `/v1/models`, what metrics do not say. Times are unix times of the server's clock."""

    id: str
    state: str
    reason: str | None = None
    parent: str | None = None  # of an adapter
    pinned: bool = False
    loaded_at: float | None = None
    last_used_at: float | None = None
    unloads_at: float | None = None


class _Cards(msgspec.Struct, frozen=True):
    data: list[Card]


@dataclass(slots=True)
class ModelSample:
    """Counters since the server's start, but for state, replicas, memory, in_flight and queued. buckets: answered
    requests by the upper bound of the time that they took, cumulative."""

    state: str = ""
    replicas: float = 0
    memory: dict[str, float] = field(default_factory=dict)
    in_flight: float = 0
    queued: float = 0
    requests: float = 0
    errors: float = 0
    refused: float = 0
    tokens_in: float = 0
    tokens_out: float = 0
    batches: float = 0
    batch_items: float = 0
    buckets: defaultdict[float, float] = field(default_factory=lambda: defaultdict(float))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """at: seconds of this machine's clock that never goes back. server_time: the server's unix time. cards: None where
    the key may not see them."""

    at: float
    server_time: float
    version: str
    started_at: float
    cpu_s: float
    memory_bytes: float
    open_requests: float
    budgets: Mapping[str, float]
    used: Mapping[str, float]
    models: Mapping[str, ModelSample]
    cards: Mapping[str, Card] | None = None


def read_cards(body: bytes) -> dict[str, Card]:
    """Raises NotPipeserve."""
    try:
        cards = msgspec.json.decode(body, type=_Cards).data
    except msgspec.MsgspecError as error:
        raise NotPipeserve(f"its /v1/models cannot be read: {error}") from None
    return {card.id: card for card in cards if card.parent is None}


def read_sample(text: str, *, at: float, server_time: float) -> Sample:
    """text: the exposition. Without cards. Raises NotPipeserve."""
    models: defaultdict[str, ModelSample] = defaultdict(ModelSample)
    server: dict[str, float] = {}
    devices: dict[str, dict[str, float]] = {"budget": {}, "used": {}}
    version = ""
    for name, labels, value in _samples(text):
        if "model" in labels:
            _count(models[labels["model"]], name, labels, value)
        elif name.startswith("pipeserve_device_memory_"):
            devices["budget" if "budget" in name else "used"][labels["device"]] = value
        elif name == "pipeserve_build_info":
            version = labels["version"]
        else:
            server[name] = value
    if not version:
        raise NotPipeserve("its /metrics has no pipeserve_build_info")
    return Sample(
        at=at,
        server_time=server_time,
        version=version,
        started_at=server.get("pipeserve_process_start_seconds", server_time),
        cpu_s=server.get("pipeserve_process_cpu_seconds_total", 0.0),
        memory_bytes=server.get("pipeserve_process_memory_bytes", 0.0),
        open_requests=server.get("pipeserve_open_requests", 0.0),
        budgets=devices["budget"],
        used=devices["used"],
        models=models,
    )


def _samples(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """Without zeros, which most lines of models that are not used are, and which the parser takes as long for."""
    kept = (line for line in text.splitlines() if not line.endswith(" 0.0") and not line.startswith("#"))
    try:
        for family in text_string_to_metric_families("\n".join([*kept, ""])):
            for sample in family.samples:
                yield sample.name, sample.labels, sample.value
    except ValueError:
        raise NotPipeserve("its /metrics is not in Prometheus' form") from None


def _count(model: ModelSample, name: str, labels: Mapping[str, Any], value: float) -> None:
    match name:
        case "pipeserve_model_state":
            model.state = labels["state"]
        case "pipeserve_model_replicas":
            model.replicas = value
        case "pipeserve_model_memory_bytes":
            model.memory[labels["device"]] = value
        case "pipeserve_in_flight_items":
            model.in_flight = value
        case "pipeserve_queue_items":
            model.queued = value
        case "pipeserve_requests_total" if labels["task"]:
            model.requests += value
            model.errors += value if labels["status"].startswith("5") else 0
            model.refused += value if labels["status"] == "429" else 0
        case "pipeserve_tokens_total":
            model.tokens_in += value
        case "pipeserve_generated_tokens_total":
            model.tokens_out += value
        case "pipeserve_batch_items_count":
            model.batches += value
        case "pipeserve_batch_items_sum":
            model.batch_items += value
        case "pipeserve_request_seconds_bucket":
            model.buckets[float(labels["le"])] += value
