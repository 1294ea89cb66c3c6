"""What every process of an application tells its ingresses, a few times a minute: one scrape, and one list of models,
have all of them. Nobody is asked: a question to a replica is a request to Serve, which would keep it from going."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from app.fleet.requests import ModelStatus

LABEL = "replica"
REPORT_S = 2.0
STALE_S = 5 * REPORT_S
"""Without a report for so long, a replica counts as gone."""


class Sample(msgspec.Struct, frozen=True, array_like=True):
    name: str
    labels: dict[str, str]
    value: float


class Family(msgspec.Struct, frozen=True, array_like=True):
    name: str
    documentation: str
    type: str
    samples: list[Sample]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One process as it is now. status: of its model; None: it is an ingress. is_last: it ends."""

    replica: str
    status: ModelStatus | None = None
    families: list[Family] = []
    is_last: bool = False


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Report)


def encode_report(report: Report) -> bytes:
    return _encoder.encode(report)


def families_of(metrics: Iterable[Metric]) -> list[Family]:
    return [
        Family(
            metric.name,
            metric.documentation,
            metric.type,
            [Sample(one.name, dict(one.labels), one.value) for one in metric.samples],
        )
        for metric in metrics
    ]


class Board:
    """The last report of each process. Owned by the ingress's event loop; `families` may be asked from any thread.

    own: the name of the process that has it, whose own reports are not kept. clock: seconds, monotonic.
    """

    def __init__(self, own: str, clock: Callable[[], float]) -> None:
        self._own = own
        self._clock = clock
        self._reports: dict[str, tuple[float, Report]] = {}

    def put(self, message: bytes) -> None:
        report = _decoder.decode(message)
        now = self._clock()
        # Made anew, for threads that read it meanwhile.
        kept = {name: one for name, one in self._reports.items() if now - one[0] < STALE_S and name != report.replica}
        if not report.is_last and report.replica != self._own:
            kept[report.replica] = (now, report)
        self._reports = kept

    def _fresh(self) -> Iterator[Report]:
        now = self._clock()
        return (report for heard_at, report in self._reports.values() if now - heard_at < STALE_S)

    def statuses(self, model_id: str) -> list[ModelStatus]:
        """Of the model's replicas."""
        found = (report.status for report in self._fresh())
        return [status for status in found if status is not None and status.spec.id == model_id]

    def families(self) -> list[tuple[str, list[Family]]]:
        """By the names of their processes."""
        return [(report.replica, report.families) for report in self._fresh()]


class ClusterRegistry(CollectorRegistry):
    """The registry of an ingress: a scrape of it is one of all that report to it."""

    def __init__(self, replica: str, board: Board) -> None:
        super().__init__()
        self._replica = replica
        self._board = board

    def own(self) -> list[Family]:
        return families_of(super().collect())

    def collect(self) -> Iterator[Metric]:
        merged: dict[str, Metric] = {}
        for replica, families in [(self._replica, self.own()), *self._board.families()]:
            for family in families:
                metric = merged.get(family.name)
                if metric is None:
                    metric = merged[family.name] = Metric(family.name, family.documentation, family.type)
                for sample in family.samples:
                    metric.add_sample(sample.name, {**sample.labels, LABEL: replica}, sample.value)
        yield from merged.values()
