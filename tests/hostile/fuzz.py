"""Fuzzing that anybody can repeat: `python -m tests.hostile.fuzz --cases 1000000`, or `make fuzz`.

Each target has a process of its own, which may take so much more memory and no more; the case that it was at when it
ended is kept in `.cache/fuzz/<target>.case`, and `--replay FILE --targets NAME` runs it again. The same seed makes the
same cases.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import resource
import signal
import struct
import subprocess
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType

from tests.hostile.mutation import MAX_BYTES, edited, random_edits
from tests.hostile.targets import TARGETS, Target
from tests.media.memory import at_most

FOLDER = Path(__file__).resolve().parents[2] / ".cache" / "fuzz"
MEMORY_BYTES = 2**30
"""What a target's process may take beside what it has when it begins."""
CASE_S = 10
"""How long one case may take: a hundred times what the slowest takes on a busy machine."""
_MAX_SEEDS = 2000
_LENGTH = struct.Struct("<I")


class HangError(BaseException):
    """No Exception, so that nothing under test answers it."""


@dataclass
class Report:
    """Of one target. outcomes: how the cases were answered. finding: the traceback of the first that was not."""

    target: str
    cases: int = 0
    seconds: float = 0.0
    slowest_ms: float = 0.0
    memory_mib: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    finding: str = ""


class _LastCase:
    """The case at hand, where it outlives the process."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(_LENGTH.size + MAX_BYTES))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)

    def keep(self, data: bytes) -> None:
        self._map[: _LENGTH.size] = _LENGTH.pack(len(data))
        self._map[_LENGTH.size : _LENGTH.size + len(data)] = data


def read_case(path: Path) -> bytes:
    raw = path.read_bytes()
    (length,) = _LENGTH.unpack_from(raw)
    return raw[_LENGTH.size : _LENGTH.size + length]


def fuzz(target: Target, *, cases: int, seconds: float, seed: int, path: Path) -> Report:
    """In this process, until either runs out or something is found."""
    report, random, last = Report(target.name), Random(f"{target.name} {seed}"), _LastCase(path)
    seeds = list(target.seeds())
    for one in seeds:
        report.outcomes[target.run(one)] += 1  # libraries are loaded now, and count as there
    signal.signal(signal.SIGALRM, _hang)
    memory_before, began = _memory_mib(), time.perf_counter()
    with at_most(MEMORY_BYTES):
        while report.cases < cases and report.seconds < seconds and not report.finding:
            data = edited(random.choice(seeds), random_edits(random), target.tokens)
            last.keep(data)
            case_began = time.perf_counter()
            signal.setitimer(signal.ITIMER_REAL, CASE_S)
            try:
                outcome = target.run(data)
            except (Exception, HangError):  # the boundary of a case: whatever it is, it is a finding
                report.finding, outcome = traceback.format_exc(), "finding"
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            report.slowest_ms = max(report.slowest_ms, (time.perf_counter() - case_began) * 1000)
            report.cases, report.seconds = report.cases + 1, time.perf_counter() - began
            if outcome not in report.outcomes and len(seeds) < _MAX_SEEDS:
                seeds.append(data)  # it got somewhere new
            report.outcomes[outcome] += 1
    report.memory_mib = max(0.0, _memory_mib() - memory_before)
    return report


def _hang(number: int, frame: FrameType | None) -> None:
    raise HangError(f"a case took longer than {CASE_S} s")


def _memory_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_apart(target: str, *, cases: int, seconds: float, seed: int) -> Report:
    """`fuzz` in a process of its own, whose end is a finding too."""
    command = [sys.executable, "-m", "tests.hostile.fuzz", "--apart", "--targets", target, "--seed", str(seed)]
    command += ["--cases", str(cases), "--seconds", str(seconds)]
    FOLDER.mkdir(parents=True, exist_ok=True)
    patience_s = seconds + 120
    try:
        with (FOLDER / f"{target}.log").open("w") as log:  # decoders have much to say
            ended = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=log, text=True, timeout=patience_s, cwd=FOLDER.parents[1]
            )
    except subprocess.TimeoutExpired:
        return Report(target, finding=f"The process did not come back within {patience_s:g} s.")
    if ended.returncode or not ended.stdout.strip():
        how = signal.Signals(-ended.returncode).name if ended.returncode < 0 else f"status {ended.returncode}"
        return Report(target, finding=f"The process ended with {how}.")
    told = json.loads(ended.stdout.strip().splitlines()[-1])
    return Report(**{**told, "outcomes": Counter(told["outcomes"])})


def _shown(report: Report) -> str:
    outcomes = ", ".join(f"{name} {count:,}" for name, count in report.outcomes.most_common())
    rate = report.cases / report.seconds if report.seconds else 0
    return (
        f"| {report.target} | {report.cases:,} | {rate:,.0f} | {report.slowest_ms:,.0f} | {report.memory_mib:,.0f}"
        f" | {outcomes} |"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.fuzz", description=__doc__)
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--cases", type=int, default=2**62, help="of each target")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target (default 60)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--replay", type=Path, help="a case that was kept, of the one target named")
    parser.add_argument("--apart", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """The exit status: 1 where something was found."""
    arguments = _arguments()
    limits = {"cases": arguments.cases, "seconds": arguments.seconds, "seed": arguments.seed}
    if arguments.replay is not None:
        print(TARGETS[arguments.targets[0]].run(read_case(arguments.replay)))
        return 0
    if arguments.apart:
        name = arguments.targets[0]
        print(json.dumps(vars(fuzz(TARGETS[name], **limits, path=FOLDER / f"{name}.case"))), flush=True)
        os._exit(0)  # threads of libraries may be left
    print(
        "| target | cases | a second | slowest ms | more memory MiB | answered |", "|---|---|---|---|---|---|", sep="\n"
    )
    reports = []
    for name in arguments.targets:
        reports.append(run_apart(name, **limits))
        print(_shown(reports[-1]), flush=True)
    found = [report for report in reports if report.finding]
    for report in found:
        print(f"\n{report.target}: {report.finding}\nthe case: {FOLDER / report.target}.case")
    print(f"\n{sum(report.cases for report in reports):,} cases, {len(found)} targets with a finding")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
