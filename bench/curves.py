"""Curves as PNG: throughput and p99 as one thing grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

AXES = {
    "concurrency": "concurrent requests",
    "tokens": "tokens of a text (8 concurrent)",
    "models": "models, all loaded (32 concurrent)",
    "replicas": "replicas of one model (32 concurrent)",
}
_THROUGHPUT, _LATENCY = "#1f5fa8", "#c1521f"


def draw(curves: Mapping[str, Sequence[Mapping[str, Any]]], folder: Path) -> list[Path]:
    """One file for each thing that grew."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    written = []
    for name, points in curves.items():
        figure, left = pyplot.subplots(figsize=(7, 4), layout="constrained")
        right = left.twinx()
        values = [point[name] for point in points]
        for axis, key, label, colour, style in (
            (left, "requests_per_s", "requests per second", _THROUGHPUT, "o-"),
            (right, "p99_ms", "p99, milliseconds", _LATENCY, "s--"),
        ):
            axis.plot(values, [point[key] for point in points], style, color=colour)
            axis.set_ylabel(label, color=colour)
            axis.tick_params(axis="y", labelcolor=colour)
            axis.set_ylim(bottom=0)
        if max(values) / min(values) > 8:
            left.set_xscale("log", base=2)
        left.set_xticks(values, [str(value) for value in values])
        left.minorticks_off()
        left.set_xlabel(AXES[name])
        left.grid(alpha=0.3)
        written.append(folder / f"{name}.png")
        figure.savefig(written[-1], dpi=110, metadata={"Software": None})
        pyplot.close(figure)
    return written
