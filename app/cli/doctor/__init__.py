"""`pipeserve doctor`: what this machine can do, and what to do where it cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from app.cli.environments import CacheDir
from app.cli.printing import AsJson, print_json
from app.settings import default_cache_dir

if TYPE_CHECKING:
    from app.cli.doctor.findings import Finding


def doctor(
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
) -> None:
    """Look at devices, libraries, extras, environments, disk, Hub and limits; each problem with what to do.

    Exits with 1 where something is broken; what is not here, and needed only for what asks for it, is not.
    """
    from app.cli.doctor.findings import findings

    found = []
    for finding in findings(cache_dir or default_cache_dir()):
        found.append(finding)
        if not as_json:
            typer.echo(_line(finding))
    if as_json:
        print_json(found)
    if any(one.verdict == "FAILED" for one in found):
        raise typer.Exit(1)


def _line(finding: Finding) -> str:
    fix = f" -> {finding.fix}" if finding.fix else ""
    return f"{finding.verdict:7} {finding.about}: {finding.told}{fix}"
