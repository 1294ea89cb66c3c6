"""What processes tell an ingress, and one scrape of them all. Without Ray."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.parser import text_string_to_metric_families

from app.catalog import ModelSpec
from app.fleet.requests import ModelStatus
from app.ray.metrics import STALE_S, Board, ClusterRegistry, Report, encode_report, families_of
from app.telemetry import Telemetry

SPEC = ModelSpec(id="reviews", model="acme/reviews", tasks=("text-classification",))


def of_a_replica(name: str, restarts: int) -> bytes:
    telemetry = Telemetry(CollectorRegistry())
    telemetry.declare([SPEC])
    for _ in range(restarts):
        telemetry.restarted("reviews")
    status = ModelStatus(spec=SPEC, state="ready")
    return encode_report(Report(replica=name, status=status, families=families_of(telemetry.registry.collect())))


def test_every_family_stands_once_with_every_replica_in_it() -> None:
    """In Prometheus' form and in OpenMetrics', with the names of a server of one machine."""
    board = Board("ingress", time.monotonic)
    for name, restarts in (("a", 1), ("b", 2), ("ingress", 9)):
        board.put(of_a_replica(name, restarts))
    registry = ClusterRegistry("ingress", board)
    Telemetry(registry).declare([SPEC])
    families = list(text_string_to_metric_families(choose_encoder("")[0](registry).decode()))
    assert len({family.name for family in families}) == len(families)
    (found,) = (family for family in families if family.name == "pipeserve_restarts")
    assert {one.labels["replica"]: one.value for one in found.samples} == {"ingress": 0.0, "a": 1.0, "b": 2.0}
    assert "pipeserve_restarts_total" in choose_encoder("application/openmetrics-text")[0](registry).decode()


def test_names_are_those_of_one_machine() -> None:
    """Dashboards and rules hold for both."""
    alone = CollectorRegistry()
    Telemetry(alone).declare([SPEC])
    board = Board("ingress", time.monotonic)
    board.put(of_a_replica("a", 0))
    registry = ClusterRegistry("ingress", board)
    Telemetry(registry).declare([SPEC])
    assert {family.name for family in registry.collect()} == {family.name for family in alone.collect()}


def test_own_series_are_only_its_own() -> None:
    """What another ingress is told."""
    board = Board("ingress", time.monotonic)
    board.put(of_a_replica("a", 1))
    registry = ClusterRegistry("ingress", board)
    Counter("made_total", "Things.", registry=registry).inc()
    Histogram("took_seconds", "Time.", buckets=(1.0,), registry=registry).observe(0.5)
    assert [family.name for family in registry.own()] == ["made", "took_seconds"]
    assert {sample.labels["replica"] for metric in registry.collect() for sample in metric.samples} == {"ingress", "a"}


def test_who_reports_no_more_is_forgotten() -> None:
    """A node that fell silent, after a while; who said that it ends, at once. A later report takes the earlier's
    place."""
    now = [0.0]
    board = Board("ingress", lambda: now[0])
    for name in ("a", "b", "b"):
        board.put(of_a_replica(name, 0))
    assert len(board.statuses("reviews")) == 2
    board.put(encode_report(Report(replica="a", is_last=True)))
    assert [name for name, _ in board.families()] == ["b"]
    now[0] = STALE_S
    assert board.statuses("reviews") == []
    assert board.families() == []
