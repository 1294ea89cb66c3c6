"""`make bench-all`: everyone on this machine, in one run, driven by one client; writes docs/benchmarks.md.

Parts: encoders-minilm, encoders-bert, overhead, many-models, growth, half-load. Each is written when it is done, so
that a run which was interrupted goes on with `--only` and the parts that are left.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.benchmark.loops import raise_file_limit
from bench import encoders, growth, many, overhead, page
from bench.contestants import CLASSIFICATION, EMBEDDING, Model, ours, rivals
from bench.expectations import TUNED, judge
from bench.processes import REPOSITORY, THREADS, Unavailable, say
from bench.tuned import tune
from bench.workload import build_bert_base


@dataclass(frozen=True, kw_only=True)
class Run:
    """seconds: of one figure. only_rivals: None, all. chosen: settings of rivals found already."""

    is_quick: bool
    seconds: float
    may_install: bool
    only_rivals: frozenset[str] | None
    chosen: dict[str, str] = field(default_factory=dict)


def minilm() -> Model:
    from demo.training import minilm_folder

    return Model(name="all-MiniLM-L6-v2", task=EMBEDDING, folder=minilm_folder())


def bert() -> Model:
    folder = REPOSITORY / ".cache" / "bench" / "bert-base"
    folder.parent.mkdir(parents=True, exist_ok=True)
    return Model(name="BERT-base-sized", task=CLASSIFICATION, folder=build_bert_base(folder))


def measure_encoders(model: Model, run: Run, scratch: Path) -> dict[str, Any]:
    slow = 2.0 if model.task == CLASSIFICATION and not run.is_quick else 1.0
    tuned = tune(model, scratch, scratch / "cache", is_quick=run.is_quick)
    mine = [ours()]
    if "reason" not in tuned:
        mine.append(ours(TUNED, {"PIPESERVE_CACHE_DIR": str(scratch / "cache")}, backend="auto"))
    contest = encoders.Contest(
        model=model,
        cells=encoders.plan(model, is_quick=run.is_quick),
        seconds=run.seconds * slow,
        scratch=scratch,
        may_install=run.may_install,
        is_quick=run.is_quick,
        chosen=run.chosen,
    )
    against = [one for one in rivals() if run.only_rivals is None or one.name in run.only_rivals]
    ceilings = encoders.ceilings(model, is_quick=run.is_quick, seconds=run.seconds)
    return {"ceilings": ceilings, **encoders.hold(contest, mine, against), "tune": tuned}


PARTS: dict[str, Callable[[Run, Path], dict[str, Any]]] = {
    "encoders-minilm": lambda run, scratch: measure_encoders(minilm(), run, scratch),
    "encoders-bert": lambda run, scratch: measure_encoders(bert(), run, scratch),
    "overhead": lambda run, scratch: overhead.measure(scratch, run.seconds),
    "many-models": lambda run, scratch: many.measure(scratch, 5 * run.seconds, may_install=run.may_install),
    "growth": lambda run, scratch: growth.measure(scratch, run.seconds, is_quick=run.is_quick),
    "half-load": lambda run, scratch: growth.measure_half_load(minilm().folder, scratch, 2 * run.seconds),
}


def about(run: Run) -> dict[str, Any]:
    """The circumstances of a part, taken before it begins."""
    names = ("torch", "transformers", "fastapi")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{os.cpu_count()} cores, {processor()}",
        "versions": ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names),
        "threads": THREADS,
        "is_quick": run.is_quick,
        "seconds": run.seconds,
        "load": os.getloadavg()[0],
    }


def processor() -> str:
    """Its name, and what it computes fast."""
    try:
        info = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.machine()
    name = re.search(r"model name\s*: (.*)", info)
    flags = re.search(r"flags\s*: (.*)", info)
    extensions = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    found = [one for one in extensions if flags and one in flags[1].split()]
    return f"{name[1] if name else platform.machine()} ({', '.join(found) or 'no vector extensions known'})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="PART,PART", help=f"of {', '.join(PARTS)}; the others keep their results")
    parser.add_argument("--quick", action="store_true", help="short measurements")
    parser.add_argument("--seconds", type=float, help="of one figure [default: 8; quick: 2]")
    parser.add_argument("--skip-install", action="store_true", help="build no environment of a rival")
    parser.add_argument("--against", metavar="NAME,NAME", help="rivals of the encoders [default: all]; '' for none")
    parser.add_argument("--output", type=Path, default=page.RESULTS, help="results; page and curves lie beside it")
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else list(PARTS)
    if unknown := sorted(set(wanted) - set(PARTS)):
        parser.error(f"--only: no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    run = Run(
        is_quick=options.quick,
        seconds=options.seconds or (2.0 if options.quick else 8.0),
        may_install=not options.skip_install,
        only_rivals=None if options.against is None else frozenset(filter(None, options.against.split(","))),
    )
    signal.signal(signal.SIGTERM, _interrupt)
    raise_file_limit()  # for the servers too, which inherit it
    results = page.read(options.output)
    began = time.perf_counter()
    failed = []
    for name in wanted:
        say(f"\n== {name} ({(time.perf_counter() - began) / 60:.1f} min so far)")
        circumstances = about(run)
        try:
            with tempfile.TemporaryDirectory() as scratch:
                found = PARTS[name](run, Path(scratch))
        except (Unavailable, TimeoutError, RuntimeError, OSError) as error:
            failed.append(name)
            say(f"  {name} failed, its last results are kept: {error}")
            continue
        results["parts"][name] = {"about": circumstances, **found}
        page.write(results, options.output)
    say(f"\nDone in {(time.perf_counter() - began) / 60:.1f} min; {options.output} is written.\n")
    for line in page.table(
        ("expected", "measured", ""), [(one.expected, one.found, one.word) for one in judge(results["parts"])]
    ):
        say(line)
    if failed:
        say(f"\nFailed: {', '.join(failed)}. Again: --only {','.join(failed)}")
    return 1 if failed else 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        say("\nInterrupted: what was running is ended; parts that were done are written.")
        sys.exit(130)
