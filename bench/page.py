"""docs/benchmarks.md, made of docs/benchmarks/results.json. `python -m bench.page` makes it again."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.curves import AXES
from bench.expectations import OURS, TUNED, judge
from bench.processes import REPOSITORY

RESULTS = REPOSITORY / "docs" / "benchmarks" / "results.json"
PAGE = REPOSITORY / "docs" / "benchmarks.md"
METHOD = RESULTS.with_name("method.md")
Part = Mapping[str, Any]

TITLES = {
    "encoders-minilm": "all-MiniLM-L6-v2, embeddings",
    "encoders-bert": "A BERT-base-sized classifier",
    "overhead": "What the server costs",
    "many-models": "Many models",
    "growth": "Growth",
    "half-load": "Half of the peak",
    "gpu": "On a GPU",
}


def page(results: Mapping[str, Any]) -> str:
    """The whole page. Parts that were not measured are left out, but for the GPU's."""
    parts = results["parts"]
    lines = ["# Benchmarks", "", METHOD.read_text()]
    lines += ["## What was expected", "", *_verdicts(parts), ""]
    for name, title in TITLES.items():
        if part := parts.get(name):
            lines += [f"## {title}", "", _circumstances(part), "", *_SECTIONS[name](part), ""]
    if "gpu" not in parts:
        lines += [
            "## On a GPU",
            "",
            "Not yet measured: `python -m bench.gpu` is written for one, and none was at hand.",
        ]
    return "\n".join(lines).rstrip() + "\n"


def _circumstances(part: Part) -> str:
    about = part["about"]
    kind = "short measurements (`--quick`)" if about["is_quick"] else f"{about['seconds']:g} s a figure"
    return (
        f"{about['date']}, {about['machine']}; {about['versions']}; {about['threads']} compute thread(s), float32;"
        f" {kind}; load before it {about['load']:.1f}."
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', '/') for cell in row)} |"


def _verdicts(parts: Mapping[str, Part]) -> Iterator[str]:
    rows = [(one.expected, one.found, f"**{one.word}**" if one.is_met is False else one.word) for one in judge(parts)]
    return table(("expected", "measured", ""), rows)


def number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


# Encoders


def _encoders(part: Part) -> Iterator[str]:
    yield from _ceilings(part)
    for texts, batch in _kinds(part):
        yield ""
        yield f"### {texts.capitalize()} texts{f', {batch} in a request' if batch > 1 else ''}"
        yield ""
        yield from _compared(part, texts, batch)
    yield ""
    yield "### Who was measured"
    yield ""
    rows = [
        (
            row["server"],
            row.get("version", "-"),
            row.get("settings", "-"),
            f"`{row['command']}`" if "command" in row else "-",
            "; ".join(f"{one['settings']}: {_tried(one)}" for one in row["tried"]) or "-",
            number(row.get("agreement"), 5),
            row.get("reason", "") or row["note"],
        )
        for row in part["servers"]
    ]
    columns = ("server", "version", "settings", "command", "tried (mixed, 32 concurrent)", "cosine to ours", "notes")
    yield from table(columns, rows)
    if tuned := part.get("tune"):
        yield ""
        yield from _tuning(tuned)


def _tried(one: Mapping[str, Any]) -> str:
    return one.get("reason") or f"{one['texts_per_s']:.1f} texts/s"


def _ceilings(part: Part) -> Iterator[str]:
    rows = [
        (
            kind,
            number(one["batch_1_p50_ms"], 2),
            number(one["batch_1_texts_per_s"]),
            f"{one['best_texts_per_s']:.1f} ({one['best_batch_size']})",
            number(one["bare_texts_per_s"]),
        )
        for kind, one in part["ceilings"].items()
    ]
    columns = (
        "texts",
        "pipeline alone, p50 ms",
        "texts/s",
        "best offline loop, texts/s (batch)",
        "bare forward, texts/s",
    )
    return table(columns, rows)


def _kinds(part: Part) -> list[tuple[str, int]]:
    cells = [cell for row in part["servers"] for cell in row["cells"]]
    return list(dict.fromkeys((cell["texts"], cell["client_batch"]) for cell in cells))


def _compared(part: Part, texts: str, batch: int) -> Iterator[str]:
    ours = {cell["concurrency"]: cell for cell in _cells(part, OURS, texts, batch)}
    ceiling = part["ceilings"][texts]["best_texts_per_s"]
    rows = []
    for row in part["servers"]:
        if row.get("reason") and not row["cells"]:
            rows.append((row["server"], row["reason"], *["-"] * 8))
        for cell in _cells(part, row["server"], texts, batch):
            mine = ours.get(cell["concurrency"])
            rows.append(
                (
                    row["server"],
                    str(cell["concurrency"]),
                    number(cell["texts_per_s"]),
                    number(cell["texts_per_s"] / ceiling, 2),
                    "-" if mine is None else f"{mine['texts_per_s'] / cell['texts_per_s']:.2f} ×",
                    number(cell["p50_ms"]),
                    number(cell["p99_ms"]),
                    str(cell["num_failed"]),
                    number(cell["client_cpu"], 2),
                    number(cell["server_cpu"], 2),
                )
            )
    columns = ("server", "concurrent", "texts/s", "of the offline loop", "pipeserve's are", "p50 ms", "p99 ms")
    return table((*columns, "failed", "client CPU", "server CPU"), rows)


def _cells(part: Part, server: str, texts: str, batch: int) -> list[Mapping[str, Any]]:
    cells = next((row["cells"] for row in part["servers"] if row["server"] == server), [])
    return [cell for cell in cells if (cell["texts"], cell["client_batch"]) == (texts, batch)]


def _tuning(tuned: Part) -> Iterator[str]:
    yield "### What `pipeserve tune` found"
    yield ""
    if reason := tuned.get("reason"):
        yield f"It could not run: {reason}"
        return
    yield f"Chosen: `{json.dumps(tuned['choice'])}`, bound {tuned['bound']}; measured as `{TUNED}` above."
    yield ""
    shapes = list(dict.fromkeys(shape for row in tuned["candidates"] for shape in row["inputs_per_s"]))
    rows = [
        (
            row["name"],
            *(number(row["inputs_per_s"].get(shape)) for shape in shapes),
            number(row["speedup"], 2),
            "-" if row["difference"] is None else f"{row['difference']:.1e}",
            row["problem"] or ("" if row["is_allowed"] else "not allowed"),
        )
        for row in tuned["candidates"]
    ]
    yield from table(("candidate", *(f"{shape} /s" for shape in shapes), "× plain", "difference", "notes"), rows)


# The other parts


def _overhead(part: Part) -> Iterator[str]:
    yield (
        "A model that computes nothing (a `handler.py`), against routes of FastAPI that compute nothing: as people"
        " write them (a pydantic body, a list returned) and lean (the raw request, orjson)."
    )
    yield ""
    rows = [
        (
            cell["server"],
            str(cell["concurrency"]),
            number(cell["requests_per_s"], 0),
            number(cell["p50_ms"], 2),
            number(cell["p99_ms"], 2),
            number(cell["cpu_us_per_request"], 0),
            str(cell["num_failed"]),
            f"{cell['client']}, {cell['client_cpu']:.2f}",
        )
        for cell in part["cells"]
    ]
    columns = ("server", "concurrent", "requests/s", "p50 ms", "p99 ms", "API process's CPU, µs a request", "failed")
    yield from table((*columns, "client, its CPU"), rows)


def _many(part: Part) -> Iterator[str]:
    first = part["rows"][0]
    yield (
        f"{first['num_models']} models declared, memory for {first['num_resident']} (`budget`), 8 concurrent, Zipf with"
        " exponent 1.1. Embeddings: copies of all-MiniLM-L6-v2. Generated texts: models of 4 million parameters, 8"
        f" tokens. `transformers serve` ({part['transformers'] or 'not installed'}) has no bound of memory: it unloads"
        " what was not used for `--model-timeout` seconds."
    )
    yield ""
    rows = [
        (row["server"], row["what"], f"could not run: {row['reason']}", *["-"] * 7)
        if "reason" in row
        else (
            row["server"],
            row["what"],
            number(row["requests_per_s"]),
            number(row["p50_ms"]),
            number(row["p99_ms"]),
            str(row["num_answered"]),
            f"{row['num_failed']} {row['first_failure']}".strip(),
            str(row.get("loads", "not told")),
            str(row.get("evictions", "not told")),
            f"{row['memory_bytes'] / 2**20:.0f}",
        )
        for row in part["rows"]
    ]
    columns = ("server", "what", "requests/s", "p50 ms", "p99 ms", "answered", "failed", "loads", "evictions")
    yield from table((*columns, "memory at the end, MiB"), rows)


def _growth(part: Part) -> Iterator[str]:
    yield "all-MiniLM-L6-v2, embeddings, one text a request; mixed texts, but where their length grows."
    for name, points in part["curves"].items():
        yield ""
        yield f"![Throughput and p99 by {AXES[name]}](benchmarks/{name}.png)"
        yield ""
        rows = [
            (
                str(point[name]),
                number(point["requests_per_s"]),
                number(point["p50_ms"]),
                number(point["p99_ms"]),
                str(point["num_failed"]),
                number(point["client_cpu"], 2),
            )
            for point in points
        ]
        yield from table((AXES[name], "requests/s", "p50 ms", "p99 ms", "failed", "client CPU"), rows)


def _half_load(part: Part) -> Iterator[str]:
    rows = [
        (
            row["texts"],
            number(row["peak_requests_per_s"]),
            number(row["rate"]),
            number(row["p50_ms"]),
            number(row["p99_ms"]),
            number(row["p99_ms"] / row["p50_ms"]),
            str(row["num_failed"]),
            number(row["client_cpu"], 2),
        )
        for row in part["rows"]
    ]
    columns = ("texts", "peak, requests/s", "sent, requests/s", "p50 ms", "p99 ms", "p99 / p50", "failed", "client CPU")
    return table(columns, rows)


def _gpu(part: Part) -> Iterator[str]:
    rows = [
        (
            row["model"],
            str(row["batch_size"]),
            number(row["bare_per_s"]),
            number(row["served_per_s"]),
            number(row["served_per_s"] / row["bare_per_s"], 2),
            number(row["gpu_busy"], 2),
        )
        for row in part["rows"]
    ]
    return table(("model", "batch", "bare forward, per s", "served, per s", "of it", "GPU busy"), rows)


_SECTIONS = {
    "encoders-minilm": _encoders,
    "encoders-bert": _encoders,
    "overhead": _overhead,
    "many-models": _many,
    "growth": _growth,
    "half-load": _half_load,
    "gpu": _gpu,
}


def read(path: Path = RESULTS) -> dict[str, Any]:
    if not path.exists():
        return {"parts": {}}
    results: dict[str, Any] = json.loads(path.read_text())
    return results


def write(results: Mapping[str, Any], path: Path = RESULTS) -> None:
    """Kept beside the page, the page, and the curves."""
    from bench.curves import draw

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")
    (PAGE if path == RESULTS else path.with_suffix(".md")).write_text(page(results))
    if growth := results["parts"].get("growth"):
        draw(growth["curves"], path.parent)


if __name__ == "__main__":
    write(read())
