"""`python -m tests.chaos`: inject every fault again and again, and write what came of it into docs/reliability.md.

--short: what CI does, each fault once. --only: rows whose names hold one of these words. --minutes: of the soak; the
kills every two seconds last a tenth of it. --write: the page is written only where everything was injected.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from app.benchmark.loops import raise_file_limit
from bench.processes import REPOSITORY, say
from tests.chaos.report import PAGE, table, with_tables
from tests.chaos.running import Fault, Row, run
from tests.chaos.site import Site, build_models
from tests.chaos.soak import SETUP, Soaked, soak
from tests.chaos.table import FAULTS

_LOG_LINES = 30  # of the server's, beside a loss


async def run_all(faults: Sequence[Fault], models: Path, *, is_short: bool, seconds: float) -> list[Row]:
    """One server for neighbours in the table that need the same."""
    entries = build_models(models)
    rows: list[Row] = []
    for _, group in groupby(faults, lambda fault: fault.setup):
        left = list(group)
        while left:
            rows += await _run_on_one_server(left, entries, is_short=is_short, seconds=seconds)
    return rows


async def _run_on_one_server(
    left: list[Fault], entries: dict[str, dict[str, Any]], *, is_short: bool, seconds: float
) -> list[Row]:
    """Takes from `left` what it ran: all, or up to the first that cannot be injected, after which nobody knows in what
    state the server is."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        async with Site(left[0].setup, entries, Path(folder)) as site:
            while left:
                fault = left.pop(0)
                times = 1 if is_short else fault.times
                try:
                    rows.append(await run(fault, site, times=times, seconds=seconds))
                except Exception as error:  # a row's boundary: the others are to be run
                    rows.append(not_injected(fault, error))
                say(_line(rows[-1]))
                if rows[-1].losses:
                    say("".join(site.server.log[-_LOG_LINES:]))
                if not rows[-1].num_injected:
                    break
    return rows


def not_injected(fault: Fault, error: Exception) -> Row:
    return Row(
        fault=fault,
        num_injected=0,
        num_sent=0,
        num_right=0,
        num_left=0,
        documented=Counter(),
        losses=[f"it could not be injected: {type(error).__name__}: {error}"],
        notes=[],
        seconds=0.0,
    )


def _line(row: Row) -> str:
    told = f"{row.num_injected} times, {row.num_sent} sent, {row.num_right} right, {row.documented.total()} documented"
    verdict = "LOST   " if row.losses else "ok     "
    more = "".join(f"\n          {loss}" for loss in row.losses[:5])
    return (
        f"{verdict} {row.fault.name}: {told}, {len(row.losses)} lost ({row.seconds:.1f} s) {'; '.join(row.notes)}{more}"
    )


async def _soaked(models: Path, seconds: float) -> Soaked:
    with tempfile.TemporaryDirectory() as folder:
        async with Site(SETUP, build_models(models), Path(folder)) as site:
            return await soak(site, seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    raise_file_limit()
    wanted = [one for one in FAULTS if one.is_quick or not options.short]
    if options.only:
        wanted = [one for one in wanted if any(word.lower() in one.name.lower() for word in options.only)]
    models = REPOSITORY / ".cache" / "chaos"
    seconds = 6.0 if options.short else options.minutes * 6
    rows = asyncio.run(run_all(wanted, models, is_short=options.short, seconds=seconds))
    soaked = None if options.short or options.only else asyncio.run(_soaked(models, options.minutes * 60))
    say()
    say(table(rows))
    if soaked is not None:
        say(f"soak of {soaked.seconds:.0f} s: {soaked.growth or 'flat'}, {soaked.ledger.losses or 'nothing lost'}")
    if options.write and soaked is not None:
        machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, {datetime.now(UTC):%Y-%m-%d}"
        PAGE.write_text(with_tables(PAGE.read_text(), rows, soaked, machine))
    is_lost = any(row.losses for row in rows) or (soaked is not None and (soaked.growth or soaked.ledger.losses))
    return 1 if is_lost else 0


if __name__ == "__main__":
    sys.exit(main())
