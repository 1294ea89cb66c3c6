"""Encoders, served by ours and by everyone else: the same texts, the same client, the same compute threads, one run.

Each contestant's best setting is looked for, it is started, its answers are compared with ours. Then all are measured,
by turns, on short, medium and mixed texts, one a request and 32 a request, at growing concurrency.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.contestants import EMBEDDING, Answer, Contestant, Model, Setting
from bench.environments import reason_of
from bench.processes import (
    REPOSITORY,
    THREADS,
    Unavailable,
    free_port,
    last_line,
    load,
    post,
    running,
    say,
    tree_cpu_s,
    wait_until_up,
    without_folders,
)
from bench.workload import TEXTS, write_lines

CLIENT_BATCH = 32
_SAMPLES = 8
_START_S = 900.0  # of a compiler, or on a busy machine; one that ended is not waited for
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TORCH_NUM_THREADS")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One figure of the table. client_batch: texts of one request."""

    texts: str
    client_batch: int = 1
    concurrency: int


SEARCH = Cell(texts="mixed", concurrency=32)
"""What settings are compared on."""


def plan(model: Model, *, is_quick: bool) -> list[Cell]:
    """Everything; quick: less of what takes a slow model minutes to answer."""
    slow = model.task != EMBEDDING
    alone = {"short": (1, 8, 32, 128), "medium": (1, 8, 32, 128), "mixed": (1, 8, 32, 128)}
    batched = (1, 8, 32)
    if is_quick and slow:
        alone, batched = {"short": (1, 32, 128), "medium": (8,), "mixed": (1, 32, 128)}, (1,)
    elif is_quick:
        alone, batched = {**alone, "medium": (1, 32)}, (8,)
    return [
        *(Cell(texts=texts, concurrency=n) for texts, concurrent in alone.items() for n in concurrent),
        *(Cell(texts="mixed", client_batch=CLIENT_BATCH, concurrency=n) for n in batched),
    ]


@dataclass(frozen=True, kw_only=True)
class Contest:
    """scratch: for bodies, logs and catalogs. chosen: settings found already, by contestant."""

    model: Model
    cells: Sequence[Cell]
    seconds: float
    scratch: Path
    may_install: bool
    is_quick: bool
    chosen: dict[str, str]

    def bodies(self, contestant: Contestant, cell: Cell) -> Path:
        texts = TEXTS[cell.texts]()
        size = cell.client_batch
        rows = texts if size == 1 else [texts[at : at + size] for at in range(0, len(texts), size)]
        write = contestant.dialects[self.model.task].write
        name = f"{contestant.name}-{cell.texts}-{size}.jsonl".replace(" ", "-")
        return write_lines(self.scratch / name, [write(one) for one in rows])


@dataclass(kw_only=True)
class Entrant:
    """row: its part of the results: figures, or the reason why there are none. served: None where it does not run."""

    row: dict[str, Any]
    served: _Served | None = None

    def measure(self, cell: Cell) -> None:
        if self.served is None:
            return
        try:
            self.row["cells"].append(self.served.measure(cell))
            say(f"  {self.row['server']}: {describe(self.row['cells'][-1])}")
        except (Unavailable, TimeoutError, RuntimeError, OSError) as error:
            self.give_up(error)

    def give_up(self, error: Exception) -> None:
        self.served = None
        self.row["reason"] = without_folders(str(error))
        say(f"  {self.row['server']} could not run: {error}")


def enter(
    contestant: Contestant, contest: Contest, reference: list[Answer] | None, servers: contextlib.ExitStack
) -> Entrant:
    """Started in its best setting, its answers compared. reference: the right ones; None: its own are."""
    row: dict[str, Any] = {"server": contestant.name, "note": contestant.note, "cells": [], "tried": []}
    row["is_framework"] = contestant.is_framework
    entrant = Entrant(row=row)
    if contest.model.task not in contestant.dialects:
        row["reason"] = contestant.note or f"it does not do {contest.model.task}"
        return entrant
    try:
        setting = _best_setting(contestant, contest, row["tried"])
        row.update(settings=setting.name, version=version_of(contestant, setting))
        served = servers.enter_context(_serving(contestant, setting, contest))
        row["command"] = served.shown
        row["answers"] = served.ask()
        if reference is not None:
            row["agreement"] = agreement(reference, row["answers"])
            if row["agreement"] < contestant.tolerance:
                raise Unavailable(f"its answers differ: cosine {row['agreement']:.4f} to ours")
        entrant.served = served
    except (Unavailable, TimeoutError, RuntimeError, OSError) as error:
        entrant.give_up(error)
    return entrant


def _best_setting(contestant: Contestant, contest: Contest, tried: list[dict[str, Any]]) -> Setting:
    """The fastest of those that run, on mixed texts at 32 concurrent. Raises Unavailable when none does."""
    known = contest.chosen.get(contestant.name)
    possible = [one for one in contestant.settings if not (contest.is_quick and one.is_slow_to_start)]
    settings = [one for one in possible if one.name == known] or possible
    if len(settings) == 1:
        _ensure(settings[0], contest)
        return settings[0]
    rates: dict[int, float] = {}
    for index, setting in enumerate(settings):
        try:
            _ensure(setting, contest)
            with _serving(contestant, setting, contest) as served:
                rates[index] = served.measure(SEARCH)["texts_per_s"]
            tried.append({"settings": setting.name, "texts_per_s": rates[index]})
            say(f"  {contestant.name} {setting.name}: {rates[index]:.1f} texts/s")
        except (Unavailable, TimeoutError, RuntimeError, OSError) as error:
            tried.append({"settings": setting.name, "reason": without_folders(str(error))})
            say(f"  {contestant.name} {setting.name}: {error}")
    if not rates:
        raise Unavailable(tried[0]["reason"])
    best = settings[max(rates, key=lambda index: rates[index])]
    contest.chosen[contestant.name] = best.name
    return best


def _ensure(setting: Setting, contest: Contest) -> None:
    if setting.environment is not None:
        setting.environment.ensure(may_install=contest.may_install)


@dataclass(frozen=True, kw_only=True)
class _Served:
    contestant: Contestant
    contest: Contest
    port: int
    pid: int
    shown: str

    def ask(self) -> list[Answer]:
        """Its answers to the first texts. Raises Unavailable where they are not those of the dialect."""
        dialect = self.contestant.dialects[self.contest.model.task]
        answers = []
        for text in TEXTS["mixed"]()[:_SAMPLES]:
            status, body = post(self.port, dialect.path, json.dumps(dialect.write(text)).encode())
            if status != 200:
                raise Unavailable(f"it answers {status}: {body[:200].decode(errors='replace')}")
            try:
                answers += dialect.read(json.loads(body))
            except (ValueError, LookupError, TypeError) as error:
                raise Unavailable(f"its answer cannot be read ({error!r}): {body[:200]!r}") from error
        return answers

    def measure(self, cell: Cell) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.port}{self.contestant.dialects[self.contest.model.task].path}"
        bodies = self.contest.bodies(self.contestant, cell)
        if cell == SEARCH:
            load(url, bodies, 8, min(2.0, self.contest.seconds))  # warm
        cpu = tree_cpu_s(self.pid)
        found = load(url, bodies, cell.concurrency, self.contest.seconds)
        if not found["num_answered"]:
            raise Unavailable(f"no request was answered: {found['first_failure']}")
        elapsed_s = found["num_answered"] / found["requests_per_s"]
        return {
            "texts": cell.texts,
            "client_batch": cell.client_batch,
            **found,
            "texts_per_s": found["requests_per_s"] * cell.client_batch,
            "server_cpu": (tree_cpu_s(self.pid) - cpu) / elapsed_s,
        }


@contextlib.contextmanager
def _serving(contestant: Contestant, setting: Setting, contest: Contest) -> Iterator[_Served]:
    port = free_port()
    command = contestant.command(setting, contest.model, port, contest.scratch)
    log = contest.scratch / f"{contestant.name}.log".replace(" ", "-")
    threads = {name: str(THREADS) for name in _THREAD_VARIABLES}
    with running(command, environment={**threads, **setting.variables}, log=log) as process:
        try:
            wait_until_up(port, contestant.health, _START_S, process)
            served = _Served(
                contestant=contestant, contest=contest, port=port, pid=process.pid, shown=shown(command, contest, port)
            )
            served.ask()  # loaded, and right in form, before anything is measured
        except (Unavailable, TimeoutError, OSError) as error:
            raise Unavailable(f"{error} ({reason_of(log.read_text(errors='replace'))})") from error
        yield served


def shown(command: Sequence[str], contest: Contest, port: int) -> str:
    """As a reader would type it: no folders of this machine."""
    words = " ".join([Path(command[0]).name, *command[1:]]).replace(str(contest.model.folder), "MODEL")
    for folder, name in ((contest.scratch, "SCRATCH"), (REPOSITORY, ".")):
        words = words.replace(str(folder), name)
    return words.replace(str(port), "PORT")


def version_of(contestant: Contestant, setting: Setting) -> str:
    if setting.environment is not None:
        return setting.environment.version()
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in contestant.packages)


def agreement(reference: Sequence[Answer], answers: Sequence[Answer]) -> float:
    """The least cosine of two lists of vectors; 0 where they are not as many or not as long."""
    if len(reference) != len(answers) or any(len(a) != len(b) for a, b in zip(reference, answers, strict=False)):
        return 0.0
    return min(_cosine(a, b) for a, b in zip(reference, answers, strict=True))


def _cosine(a: Answer, b: Answer) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    lengths = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b))
    return dot / lengths if lengths else 0.0


def describe(cell: dict[str, Any]) -> str:
    batch = f" × {cell['client_batch']}" if cell["client_batch"] > 1 else ""
    return (
        f"{cell['texts']}{batch} at {cell['concurrency']}: {cell['texts_per_s']:.1f} texts/s,"
        f" p50 {cell['p50_ms']:.1f} ms, p99 {cell['p99_ms']:.1f} ms, {cell['num_failed']} failed"
    )


def ceilings(model: Model, *, is_quick: bool, seconds: float) -> dict[str, dict[str, Any]]:
    """By kind of texts: the pipeline alone, the best offline loop, the bare forward."""
    slow = model.task != EMBEDDING
    counts = {"short": 128, "medium": 16, "mixed": 64} if slow else {"short": 512, "medium": 64, "mixed": 256}
    found = {}
    for kind, count in counts.items():
        command = [sys.executable, "-m", "bench.offline", model.task, str(model.folder), "--threads", str(THREADS)]
        command += ["--texts", kind, "--seconds", str(seconds), "--num-texts", str(count if is_quick else 2 * count)]
        found[kind] = last_line(command)
        say(
            f"  offline, {kind}: alone {found[kind]['batch_1_texts_per_s']:.1f}, best loop"
            f" {found[kind]['best_texts_per_s']:.1f}, bare forward {found[kind]['bare_texts_per_s']:.1f} texts/s"
        )
    return found


def hold(contest: Contest, contestants: Sequence[Contestant], rivals: Sequence[Contestant]) -> dict[str, Any]:
    """The whole contest. contestants: ours; the first of them says what the right answers are.

    All are up at the same time, and each cell is measured of one right after the other: a machine that is faster in one
    minute than in the next is so for everyone.
    """
    reference: list[Answer] | None = None
    entrants: list[Entrant] = []
    with contextlib.ExitStack() as servers:
        for one in (*contestants, *rivals):
            say(f"{contest.model.name}: {one.name}")
            entrants.append(enter(one, contest, reference, servers))
            reference = reference or entrants[0].row.get("answers")
        for cell in contest.cells:
            for entrant in entrants:
                entrant.measure(cell)
    for entrant in entrants:
        entrant.row.pop("answers", None)
    return {"model": contest.model.name, "task": contest.model.task, "servers": [entrant.row for entrant in entrants]}
