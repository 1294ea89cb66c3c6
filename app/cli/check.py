"""`pipeserve check`: what is wrong with a models.yaml, and whom it trusts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from app.cli.environments import CacheDir
from app.cli.finding import DEFAULT_MODELS
from app.cli.printing import AsJson, fail, print_json
from app.settings import default_cache_dir

if TYPE_CHECKING:
    from app.catalog import ModelSpec

Verdict = Literal["ok", "later", "FAILED", "advice"]
"""later: its task will be read from the Hub."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """id: of a model, or an adapter; None: of an advice. tasks: that it will answer."""

    verdict: Verdict
    id: str | None = None
    told: str
    tasks: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.verdict:7} {self.told if self.id is None else f'{self.id}: {self.told}'}"


def check(
    file: Annotated[Path, typer.Argument(envvar="PIPESERVE_MODELS", help="The catalogue to check.")] = DEFAULT_MODELS,
    online: Annotated[
        bool, typer.Option("--online", help="Ask the Hub about its models (this downloads their configs).")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on advice as well.")] = False,
    as_json: AsJson = False,
    cache_dir: CacheDir = None,
) -> None:
    """Check a models.yaml without starting anything: its form, what can be known of each model, and what it trusts."""
    from app.errors import CatalogError
    from app.reloading import Source

    source = Source(file, cache_dir or default_cache_dir())
    try:
        catalog = source.read()
    except CatalogError as error:
        fail(str(error))
    specs = list(catalog.models)
    if online:
        specs = [source.decide(spec) for spec in asyncio.run(_look_up(specs))]
    findings = list(_findings(specs))
    if as_json:
        print_json(findings)
    else:
        for finding in findings:
            typer.echo(str(finding))
    if any(one.verdict == "FAILED" or (strict and one.verdict == "advice") for one in findings):
        raise typer.Exit(1)


async def _look_up(specs: Iterable[ModelSpec]) -> list[ModelSpec]:
    from app.resolving import look_up

    return await asyncio.gather(*(look_up(spec) for spec in specs))


def _findings(specs: list[ModelSpec]) -> Iterator[Finding]:
    from app.cli.advice import advice_on

    yield from map(_finding, specs)
    for spec in specs:
        for adapter in spec.adapters:
            if adapter.problem is not None:
                yield Finding(verdict="FAILED", id=f"{spec.id}:{adapter.id}", told=adapter.problem)
    for sentence in advice_on(specs):
        yield Finding(verdict="advice", told=sentence)


def _finding(spec: ModelSpec) -> Finding:
    """Whether it can be served, what for, and where it comes from."""
    if spec.problem is not None:
        return Finding(verdict="FAILED", id=spec.id, told=spec.problem)
    at = f" at {spec.revision}" if spec.revision else ""
    source = spec.model if Path(spec.model).is_absolute() else f"{spec.model}{at}, {_whereabouts(spec)}"
    if not spec.tasks:
        return Finding(verdict="later", id=spec.id, told=f"its task will be read from the Hub ({source})")
    told = f"{', '.join(spec.all_tasks)} ({source}){_computed(spec)}"
    return Finding(verdict="ok", id=spec.id, told=told, tasks=spec.all_tasks)


def _computed(spec: ModelSpec) -> str:
    """By what, where `pipeserve tune` chose it."""
    from app.tuning.candidates import name_of

    return "" if spec.tuned is None else f", computed by {name_of(spec.tuned.keys)} as tuned on {spec.tuned.at}"


def _whereabouts(spec: ModelSpec) -> str:
    from app.catalog import cached_files
    from app.declaration.about import commit_of

    config = cached_files(spec)("config.json")
    if config is None:
        return "not yet on this disk"
    commit = commit_of(config.parent)
    return "known from the Hub's cache" + ("" if commit in (None, spec.revision) else f" as {commit}")
