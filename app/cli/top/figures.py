"""What two samples of a server say of the time between them. Pure: no clock, no network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from app.cli.top.samples import Card, ModelSample, Sample
from app.telemetry import SECONDS

AT_REST = ("unresolved", "unloaded", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Of the interval. errors: answers with a status of 500 or more; refused: with 429. p50_s, p99_s: of a request for
    inference, as far as its histogram tells. None: there was none."""

    requests_per_s: float
    errors_per_s: float
    refused_per_s: float
    tokens_in_per_s: float
    tokens_out_per_s: float
    mean_batch_items: float | None
    p50_s: float | None
    p99_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFigures:
    """idle_s: since its last use, or its load; None: not loaded, in use, or not known. unloads_in_s: None: not known,
    or not by itself. rates: None before there is an interval."""

    id: str
    state: str
    reason: str | None
    devices: list[str]
    replicas: int
    memory_bytes: int
    in_flight: int
    queued: int
    pinned: bool
    idle_s: float | None
    unloads_in_s: float | None
    rates: Rates | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFigures:
    """budget_bytes: None: no limit is known."""

    device: str
    budget_bytes: int | None
    used_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFigures:
    """Of its API process: memory, and the share of a core that it took."""

    version: str
    uptime_s: float
    open_requests: int
    memory_bytes: int
    cpu_ratio: float | None
    rates: Rates | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """interval_s: None before there is one. states: how many models with metrics are in which state."""

    interval_s: float | None
    server: ServerFigures
    devices: list[DeviceFigures]
    states: dict[str, int]
    models: list[ModelFigures]
    sees_cards: bool


def figures_of(before: Sample | None, now: Sample, *, shows_all: bool) -> Figures:
    """shows_all: models at rest as well. A server that was started anew since has no interval yet."""
    if before is not None and before.started_at != now.started_at:
        before = None
    interval_s = None if before is None else now.at - before.at
    rates = _rates(before, now, interval_s)
    cards = now.cards or {}
    models = [
        _model(model_id, now, rates(model_id), cards.get(model_id))
        for model_id in dict.fromkeys((*cards, *now.models))
        if model_id
    ]
    cpu_ratio = None
    if before is not None and interval_s:
        cpu_ratio = (now.cpu_s - before.cpu_s) / interval_s
    return Figures(
        interval_s=interval_s,
        server=ServerFigures(
            version=now.version,
            uptime_s=max(0.0, now.server_time - now.started_at),
            open_requests=max(0, int(now.open_requests) - 1),  # this one
            memory_bytes=int(now.memory_bytes),
            cpu_ratio=cpu_ratio,
            rates=rates(None),
        ),
        devices=_devices(now),
        states=_states(models),
        models=[model for model in models if shows_all or _is_of_interest(model)],
        sees_cards=now.cards is not None,
    )


def _is_of_interest(model: ModelFigures) -> bool:
    is_used = model.rates is not None and model.rates.requests_per_s > 0
    return model.state not in AT_REST or model.in_flight > 0 or is_used


def _states(models: Iterable[ModelFigures]) -> dict[str, int]:
    states: dict[str, int] = {}
    for model in models:
        states[model.state] = states.get(model.state, 0) + 1
    return states


def _devices(now: Sample) -> list[DeviceFigures]:
    return [
        DeviceFigures(
            device=device,
            budget_bytes=int(now.budgets[device]) if device in now.budgets else None,
            used_bytes=int(now.used.get(device, 0)),
        )
        for device in sorted({*now.budgets, *now.used})
    ]


def _model(model_id: str, now: Sample, rates: Rates | None, card: Card | None) -> ModelFigures:
    sample = now.models.get(model_id, ModelSample())
    is_idle = card is not None and card.state == "ready" and not sample.in_flight
    used_at = None if card is None else max(card.last_used_at or 0.0, card.loaded_at or 0.0)
    return ModelFigures(
        id=model_id,
        state=sample.state or (card.state if card is not None else ""),
        reason=None if card is None else card.reason,
        devices=sorted(sample.memory),
        replicas=int(sample.replicas),
        memory_bytes=int(sum(sample.memory.values())),
        in_flight=int(sample.in_flight),
        queued=int(sample.queued),
        pinned=card is not None and card.pinned,
        idle_s=max(0.0, now.server_time - used_at) if is_idle and used_at else None,
        unloads_in_s=None if card is None or card.unloads_at is None else max(0.0, card.unloads_at - now.server_time),
        rates=rates,
    )


# Rates


def _rates(before: Sample | None, now: Sample, interval_s: float | None) -> Callable[[str | None], Rates | None]:
    """Of a model, or, for None, of all together."""

    def of(model_id: str | None) -> Rates | None:
        if before is None or not interval_s:
            return None
        model_ids = list(now.models) if model_id is None else [model_id]
        return rates_between(
            [(before.models.get(one, ModelSample()), now.models.get(one, ModelSample())) for one in model_ids],
            interval_s,
        )

    return of


def rates_between(pairs: Iterable[tuple[ModelSample, ModelSample]], interval_s: float) -> Rates:
    """pairs: a model's counters before and now. One that is lower than before was reset, to 0, as when a model is taken
    out of models.yaml and put into it again."""
    pairs = list(pairs)

    def grown(name: str) -> float:
        return sum(increase(getattr(before, name), getattr(now, name)) for before, now in pairs)

    buckets: dict[float, float] = {}
    for before, now in pairs:
        for bound in now.buckets:
            buckets[bound] = buckets.get(bound, 0.0) + increase(before.buckets.get(bound, 0.0), now.buckets[bound])
    batches = grown("batches")
    return Rates(
        requests_per_s=grown("requests") / interval_s,
        errors_per_s=grown("errors") / interval_s,
        refused_per_s=grown("refused") / interval_s,
        tokens_in_per_s=grown("tokens_in") / interval_s,
        tokens_out_per_s=grown("tokens_out") / interval_s,
        mean_batch_items=grown("batch_items") / batches if batches else None,
        p50_s=quantile(0.5, buckets),
        p99_s=quantile(0.99, buckets),
    )


def increase(before: float, now: float) -> float:
    return now - before if now >= before else now


def quantile(share: float, buckets: Mapping[float, float]) -> float | None:
    """buckets: cumulative counts by upper bound, zeros left out. As Prometheus' `histogram_quantile`: linear within a
    bucket, and the highest finite bound for what lies beyond it. None: nothing was counted."""
    total = buckets.get(math.inf, 0.0)
    if total <= 0:
        return None
    rank = share * total
    lower, below = 0.0, 0.0
    for bound in sorted({*SECONDS, *buckets} - {math.inf}):
        count = buckets.get(bound, 0.0)
        if count >= rank:
            return lower + (bound - lower) * (rank - below) / (count - below)
        lower, below = bound, count
    return lower
