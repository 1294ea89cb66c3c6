"""What came of requests, and the figures that say it. Pure but for the clock of a stream's tokens."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

_EVENT_END = b"\n\n"
_DATA, _ERROR = b"data:", b'data:{"error"'


@dataclass
class Tally:
    """latencies_s: of answers with status 200; others are counted as failed. refused_s: how long those with status 429
    took, from when they were sent. first_token_s, per_token_s: of streams, the wait for the first token, and the mean
    time of each that followed."""

    latencies_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    first_token_s: list[float] = field(default_factory=list)
    per_token_s: list[float] = field(default_factory=list)
    num_tokens: int = 0
    num_failed: int = 0
    first_failure: str = ""

    def fail(self, reason: str) -> None:
        self.num_failed += 1
        self.first_failure = self.first_failure or reason

    def take(self, stream: Stream, due_s: float) -> None:
        """due_s: when its latency begins."""
        if stream.first_s is None or stream.error:
            self.fail(stream.error or "a stream without a token")
            return
        self.latencies_s.append(stream.last_s - due_s)
        self.first_token_s.append(stream.first_s - due_s)
        self.num_tokens += stream.num_tokens
        if stream.num_tokens > 1:
            self.per_token_s.append((stream.last_s - stream.first_s) / (stream.num_tokens - 1))


class Stream:
    """A stream of events, one for each token, as its parts come. Times are those of time.perf_counter()."""

    def __init__(self) -> None:
        self.first_s: float | None = None
        self.last_s = 0.0
        self.num_tokens = 0
        self.error = ""
        self._rest = b""

    def hear(self, part: bytes) -> None:
        *events, self._rest = (self._rest + part).split(_EVENT_END)
        for event in events:
            if event.startswith(_ERROR):
                self.error = event.decode(errors="replace")
            elif event.startswith(_DATA):
                self.last_s = time.perf_counter()
                self.first_s = self.first_s or self.last_s
                self.num_tokens += 1


@dataclass(frozen=True, kw_only=True)
class StreamFigures:
    """Time to first token, and time per output token after it."""

    tokens_per_s: float
    num_tokens: int
    ttft_p50_ms: float
    ttft_p99_ms: float
    tpot_p50_ms: float
    tpot_p99_ms: float


@dataclass(frozen=True, kw_only=True)
class Figures:
    """concurrency: of a closed loop. rate: of an open one, in requests per second. Latencies are of answers with status
    200, those of refusals with status 429; NaN where there are none. client_cpu: the client's share of one core."""

    client: str = "python"
    concurrency: int | None = None
    rate: float | None = None
    requests_per_s: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    num_answered: int
    num_failed: int
    first_failure: str
    num_refused: int
    refused_p50_ms: float = math.nan
    refused_p99_ms: float = math.nan
    client_cpu: float
    elapsed_s: float
    stream: StreamFigures | None = None


def percentile(ordered: Sequence[float], share: float) -> float:
    """Of sorted values, without interpolation; NaN where there are none."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else math.nan


def figures_of(
    tally: Tally,
    elapsed_s: float,
    cpu_s: float,
    *,
    concurrency: int | None = None,
    rate: float | None = None,
    streams: bool = False,
) -> Figures:
    latencies, refused = sorted(tally.latencies_s), sorted(tally.refused_s)
    return Figures(
        concurrency=concurrency,
        rate=rate,
        requests_per_s=len(latencies) / elapsed_s,
        p50_ms=percentile(latencies, 0.50) * 1000,
        p90_ms=percentile(latencies, 0.90) * 1000,
        p99_ms=percentile(latencies, 0.99) * 1000,
        num_answered=len(latencies),
        num_failed=tally.num_failed,
        first_failure=tally.first_failure,
        num_refused=len(refused),
        refused_p50_ms=percentile(refused, 0.50) * 1000,
        refused_p99_ms=percentile(refused, 0.99) * 1000,
        client_cpu=cpu_s / elapsed_s,
        elapsed_s=elapsed_s,
        stream=_stream_figures(tally, elapsed_s) if streams else None,
    )


def _stream_figures(tally: Tally, elapsed_s: float) -> StreamFigures:
    first, between = sorted(tally.first_token_s), sorted(tally.per_token_s)
    return StreamFigures(
        tokens_per_s=tally.num_tokens / elapsed_s,
        num_tokens=tally.num_tokens,
        ttft_p50_ms=percentile(first, 0.50) * 1000,
        ttft_p99_ms=percentile(first, 0.99) * 1000,
        tpot_p50_ms=percentile(between, 0.50) * 1000,
        tpot_p99_ms=percentile(between, 0.99) * 1000,
    )
