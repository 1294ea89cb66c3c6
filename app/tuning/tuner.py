"""Measures the candidates, one process after the other, in a few rounds so that a busy moment favours nobody."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import msgspec

from app.channel.messages import Progress
from app.errors import PipeserveError
from app.fleet.handle import Limits
from app.fleet.processes import Launcher
from app.tuning.candidates import Candidate
from app.tuning.exactness import loss
from app.tuning.report import Aim, Report, Row
from app.tuning.trial import Trial, loaded
from app.tuning.workload import Shape, Workload

_HOPELESS = 4.0
"""So many times as slow as the plain path at one shape: the rest of it need not be measured."""
_IN_REACH = 1.3
"""So many times as fast, at most, as a candidate of the first round that is measured again."""

_LOADING = frozenset({"download", "load", "warmup"})
"""The phases of a load that finds all it needs; any other makes something that later loads find."""

Tell = Callable[[str, str], None]
"""Called with a candidate's name and what is done with it."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """shape_s: seconds for the timed requests of one shape in one round; at least one request is computed."""

    rounds: int = 3
    shape_s: float = 1.0


class Tuner:
    """reference: one of the candidates, with whose outputs all others are compared."""

    def __init__(
        self,
        launcher: Launcher,
        workload: Workload,
        reference: Candidate,
        *,
        cores: int,
        effort: Effort,
        limits: Limits,
        aim: Aim = Aim.BOTH,
        max_difference: float | None = None,
        tell: Tell = lambda name, what: None,
    ) -> None:
        self._launcher = launcher
        self._workload = workload
        self._reference = reference
        self._cores = cores
        self._effort = effort
        self._limits = limits
        self._aim = aim
        self._max_difference = max_difference
        self._tell = tell
        self._rows: list[Row] = []
        self._outputs: dict[str, tuple[list[bytes], int | None]] = {}  # until the reference's are there
        self._expected: list[bytes] | None = None

    async def run(self, candidates: Sequence[Candidate]) -> Report:
        for candidate in candidates:
            if not self._is_computed_already(candidate):
                row = Row(candidate=candidate)
                self._rows.append(row)
                await self._measure(row)
        for number in range(2, self._effort.rounds + 1):
            contenders = self._contenders()
            if len(contenders) < 2:
                break
            for row in contenders:
                await self._measure(row, suffix=f", round {number}")
        return self._report()

    def _report(self) -> Report:
        return Report(
            rows=self._rows, shapes=list(self._workload.timed), aim=self._aim, max_difference=self._max_difference
        )

    def _is_computed_already(self, candidate: Candidate) -> bool:
        """Whether the plain path turned out to compute in the type that the candidate asks for."""
        plain = self._report().plain
        if plain is None or plain.dtype is None or plain.candidate is candidate:
            return False
        if dict(candidate.keys) != {"backend": "torch", "dtype": plain.dtype}:
            return False
        return candidate.name != self._reference.name or self._expected is not None

    def _contenders(self) -> list[Row]:
        report = self._report()
        allowed = {row.name: row.speed(report.aimed) or 0.0 for row in self._rows if report.is_allowed(row)}
        best = max(allowed.values(), default=0.0)
        return [
            row
            for row in self._rows
            if row.name in allowed and (row is report.plain or allowed[row.name] * _IN_REACH >= best)
        ]

    async def _measure(self, row: Row, suffix: str = "") -> None:
        """One round of one candidate. What goes wrong is said in its row, and the others go on."""
        self._tell(row.name, f"load{suffix}")
        phases: set[str] = set()

        def hear(progress: Progress) -> None:
            phases.add(progress.phase)
            self._tell(row.name, f"{_phase(progress)}{suffix}")

        try:
            async with loaded(
                row.candidate.spec, self._launcher, cores=self._cores, limits=self._limits, on_progress=hear
            ) as trial:
                row.load_s.append(trial.ready.load_s)
                row.memory_bytes, row.dtype = sum(trial.ready.memory.values()), trial.ready.dtype
                has_made_files = len(row.load_s) == 1 and not phases <= _LOADING
                if not has_made_files:
                    await self._compute(row, trial, suffix)
            if has_made_files:  # this process still has the memory that making them took
                await self._measure(row, suffix)
        except PipeserveError as error:
            row.problem = error.message
        except _Hopeless as error:
            row.problem = str(error)

    async def _compute(self, row: Row, trial: Trial, suffix: str) -> None:
        if row.loss is None:
            self._tell(row.name, f"compare{suffix}")
            await self._compare(row, trial)
        await self._time(row, trial, suffix)

    async def _compare(self, row: Row, trial: Trial) -> None:
        work = self._workload
        measured = await trial.measure(work.task, work.compared, work.parameters, limit_s=0.0, keeps_outputs=True)
        self._outputs[row.name] = (measured.outputs, trial.ready.embedding_size)
        if self._is_exact(row):
            self._expected = measured.outputs
        if self._expected is not None:
            for one in self._rows:
                if one.loss is None and one.name in self._outputs:
                    outputs, vector_size = self._outputs.pop(one.name)
                    one.loss = loss(outputs, self._expected, vector_size=vector_size)

    def _is_exact(self, row: Row) -> bool:
        """Whether it is the reference, or the plain path that turned out to be the same."""
        if row.name == self._reference.name:
            return True
        asked = msgspec.structs.replace(row.candidate.spec, dtype=row.dtype or "auto")
        return row is self._report().plain and asked == self._reference.spec

    async def _time(self, row: Row, trial: Trial, suffix: str) -> None:
        work = self._workload
        for shape, requests in work.timed.items():
            self._tell(row.name, f"{shape}{suffix}")
            measured = await trial.measure(work.task, requests, work.parameters, limit_s=self._effort.shape_s)
            row.rounds.setdefault(shape, []).append(median(measured.seconds))
            self._check_hope(row, shape)

    def _check_hope(self, row: Row, shape: Shape) -> None:
        """Raises _Hopeless."""
        report = self._report()
        latency_s = row.latency_s(shape)
        plain_s = report.plain.latency_s(shape) if report.plain is not None else None
        if shape in report.aimed and latency_s is not None and plain_s is not None and latency_s > plain_s * _HOPELESS:
            raise _Hopeless(f"{latency_s / plain_s:.1f} times as slow as plain torch at {shape}: given up")


class _Hopeless(Exception):
    """A candidate is too slow to go on with; the sentence says how slow."""


def _phase(progress: Progress) -> str:
    return f"{progress.phase} {100 * progress.done // progress.total} %" if progress.total else progress.phase
