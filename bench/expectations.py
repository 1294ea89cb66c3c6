"""What the benchmark is expected to show, line by line, judged from its results."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

BUSY = (32, 128)
OURS, TUNED = "pipeserve", "pipeserve, tuned"
Parts = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """found: what was measured, in words; is_met: None, not measured."""

    expected: str
    found: str
    is_met: bool | None

    @property
    def word(self) -> str:
        return {True: "met", False: "missed", None: "not measured"}[self.is_met]


def judge(parts: Parts) -> list[Verdict]:
    """A line for each expectation, in order, whatever was measured."""
    minilm, bert = parts.get("encoders-minilm", {}), parts.get("encoders-bert", {})
    return [
        *(
            _least(f"≥ 0.95 of the best offline loop, {kind} texts, {name}", 0.95, _of_ceiling(part, kind))
            for name, part in (("all-MiniLM-L6-v2", minilm), ("BERT-base-sized", bert))
            for kind in ("short", "mixed")
        ),
        _least("≥ 1.1 × infinity on MiniLM, short texts", 1.1, _against(minilm, "infinity", "short")),
        _least("≥ 1.5 × infinity on MiniLM, mixed lengths", 1.5, _against(minilm, "infinity", "mixed")),
        _least(
            "≥ 2 × infinity on MiniLM, mixed lengths, with the tuner's choice",
            2.0,
            _against(minilm, "infinity", "mixed", ours=TUNED),
        ),
        *(
            _least(f"≥ 2 × {rival}, mixed lengths, {name}", 2.0, _against(part, rival, "mixed"))
            for name, part in (("all-MiniLM-L6-v2", minilm), ("BERT-base-sized", bert))
            for rival in _frameworks(part)
        ),
        _least(
            "the tuner's choice ≥ 3 × torch in float32, BERT-base-sized, mixed lengths",
            3.0,
            _against(bert, OURS, "mixed", ours=TUNED),
        ),
        _most("p50 at 1 concurrent within 1 ms of the bare pipeline call, short texts", 1.0, _added_ms(minilm), " ms"),
        _most("CPU of the API process a request ≤ 1.5 × a no-op FastAPI route's", 1.5, _cpu(parts), " ×"),
        _most("p99 at half of the peak ≤ 3 × p50", 3.0, _tail(parts), " ×"),
        _most("many models: no failure", 0, _failures(parts), " failed"),
        Verdict(expected="≥ 0.9 of the bare forward pass on a GPU, in bfloat16", found="no GPU", is_met=None),
    ]


Values = dict[str, float]
"""Measured, by the circumstance."""


def _least(expected: str, least: float, values: Values, unit: str = "") -> Verdict:
    return _verdict(expected, values, unit, lambda value: value >= least)


def _most(expected: str, most: float, values: Values, unit: str = "") -> Verdict:
    return _verdict(expected, values, unit, lambda value: value <= most)


def _verdict(expected: str, values: Values, unit: str, holds: Callable[[float], bool]) -> Verdict:
    if not values or any(map(math.isnan, values.values())):
        return Verdict(expected=expected, found="-", is_met=None)
    told = ", ".join(f"{value:.2f}{unit} ({where})" for where, value in values.items())
    return Verdict(expected=expected, found=told, is_met=all(map(holds, values.values())))


def rate(part: Parts, server: str, texts: str, concurrency: int, client_batch: int = 1) -> float:
    """Texts per second; NaN where they were not measured."""
    for cell in _cells(part, server):
        if (cell["texts"], cell["concurrency"], cell["client_batch"]) == (texts, concurrency, client_batch):
            return float(cell["texts_per_s"])
    return math.nan


def _cells(part: Parts, server: str) -> Iterable[Mapping[str, Any]]:
    return next((row["cells"] for row in part.get("servers", ()) if row["server"] == server), ())


def _against(part: Parts, rival: str, texts: str, *, ours: str = OURS) -> Values:
    ratios = {f"{n} concurrent": rate(part, ours, texts, n) / rate(part, rival, texts, n) for n in BUSY}
    return {where: ratio for where, ratio in ratios.items() if not math.isnan(ratio)}


def _frameworks(part: Parts) -> list[str]:
    return [row["server"] for row in part.get("servers", ()) if row["is_framework"] and row["cells"]]


def _of_ceiling(part: Parts, texts: str) -> Values:
    ceiling = part.get("ceilings", {}).get(texts, {}).get("best_texts_per_s", math.nan)
    return {f"{n} concurrent": rate(part, OURS, texts, n) / ceiling for n in BUSY}


def _added_ms(part: Parts) -> Values:
    alone = part.get("ceilings", {}).get("short", {}).get("batch_1_p50_ms", math.nan)
    cells = [one for one in _cells(part, OURS) if (one["texts"], one["concurrency"]) == ("short", 1)]
    return {"all-MiniLM-L6-v2": cells[0]["p50_ms"] - alone} if cells else {}


def _cpu(parts: Parts) -> Values:
    cells = parts.get("overhead", {}).get("cells", ())
    spent = {(cell["server"], cell["concurrency"]): cell["cpu_us_per_request"] for cell in cells}
    return {
        f"{n} concurrent": spent[server, n] / spent["FastAPI", n]
        for server, n in spent
        if server == OURS and ("FastAPI", n) in spent
    }


def _tail(parts: Parts) -> Values:
    return {
        f"{row['texts']} texts": row["p99_ms"] / row["p50_ms"] for row in parts.get("half-load", {}).get("rows", ())
    }


def _failures(parts: Parts) -> Values:
    rows = [row for row in parts.get("many-models", {}).get("rows", ()) if row["server"] == OURS]
    return {row["what"]: float(row["num_failed"]) for row in rows}
