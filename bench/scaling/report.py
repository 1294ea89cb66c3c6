"""What came of a simulation, as rows of Markdown tables."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.scaling.inputs import Hardware
from bench.scaling.simulation import ANSWERED, FAILED, JOINED, LATE, REJECTED, RESIDENT, Result
from bench.scaling.weights import Source

WINDOW_COLUMNS = ("resident", "was loading", "p50 s", "p99 s", "p99.9 s", "late, refused, failed")
COST_COLUMNS = (
    "loads / 1,000",
    "GB from own disk, peers, hub / 1,000",
    "core s computing + loading / 1,000",
    "slots busy",
    "GiB resident a node",
)


@dataclass(frozen=True)
class Window:
    """Requests that arrived from begins_s on, before ends_s."""

    name: str
    begins_s: float
    ends_s: float


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Of a window's requests; shares of all of them, percentiles of those that were answered or late."""

    num: int
    resident: float
    loading: float
    p50_s: float
    p99_s: float
    p999_s: float
    num_late: int
    num_refused: int
    num_failed: int


def summarize(result: Result, window: Window) -> Summary:
    begin, end = bisect_left(result.times_s, window.begins_s), bisect_left(result.times_s, window.ends_s)
    endings = np.frombuffer(result.endings, dtype=np.uint8)[begin:end]
    findings = np.frombuffer(result.findings, dtype=np.uint8)[begin:end]
    waited = np.asarray(result.latencies_s)[begin:end][(endings == ANSWERED) | (endings == LATE)]
    p50, p99, p999 = np.quantile(waited, [0.5, 0.99, 0.999]) if len(waited) else [float("nan")] * 3
    num = end - begin
    return Summary(
        num=num,
        resident=float((findings == RESIDENT).sum()) / max(1, num),
        loading=float((findings == JOINED).sum()) / max(1, num),
        p50_s=float(p50),
        p99_s=float(p99),
        p999_s=float(p999),
        num_late=int((endings == LATE).sum()),
        num_refused=int((endings == REJECTED).sum()),
        num_failed=int((endings == FAILED).sum()),
    )


def window_row(result: Result, window: Window) -> list[str]:
    found = summarize(result, window)
    return [
        f"{found.resident:.1%}",
        f"{found.loading:.1%}",
        f"{found.p50_s:.2f}",
        f"{found.p99_s:.2f}",
        f"{found.p999_s:.2f}",
        f"{found.num_late}, {found.num_refused}, {found.num_failed}",
    ]


def costs_row(result: Result, hardware: Hardware, num_nodes: int) -> list[str]:
    """For 1,000 requests, from the end of the warming up until the last answer."""
    counts, lasts_s = result.counts, result.ended_at_s - result.counted_from_s
    thousands = (len(result.times_s) - bisect_left(result.times_s, result.counted_from_s)) / 1000
    moved_bytes = [result.moved_bytes[source] for source in (Source.DISK, Source.PEER, Source.HUB)]
    busy = (counts.forward_s + counts.load_s) / (lasts_s * hardware.num_slots * num_nodes)
    return [
        f"{counts.loads / thousands:.0f}",
        ", ".join(f"{one / 1e9 / thousands:.0f}" for one in moved_bytes),
        f"{counts.forward_s / thousands:.0f} + {counts.load_s / thousands:.0f}",
        f"{busy:.1%}",
        f"{counts.resident_byte_s / lasts_s / num_nodes / 2**30:.1f}",
    ]


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
