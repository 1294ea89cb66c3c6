"""`pipeserve eval`: how good a model's answers are, and what another variant of it would cost or give."""

from __future__ import annotations

import asyncio
import json
import math
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli import asked_model as asked
from app.cli.environments import CacheDir
from app.cli.finding import DEFAULT_MODELS
from app.cli.printing import AsJson, fail, new_table, print_table
from app.cli.rows_progress import RowsProgress, shown_rate

if TYPE_CHECKING:
    from rich.table import Table

    from app.dataset.columns import InputColumns
    from app.dataset.journal import Journal
    from app.dataset.rows import Files, Source
    from app.evaluation.bootstrap import Difference, Estimate
    from app.evaluation.report import Measured, Report, Variant

_INTERRUPTED = 130


def evaluate(
    model: asked.ModelName,
    data: asked.Data,
    label_column: Annotated[str, typer.Option(metavar="COLUMN", help="What the answer should be.")],
    column: asked.ColumnList = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="accuracy, f1, wer, bleu, spearman, map, ... [default: the task's usual]")
    ] = None,
    label_name: Annotated[
        list[str] | None,
        typer.Option(metavar="VALUE=LABEL", help="What a label of the data is called by the model: `1=POSITIVE`."),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL|KEY=VALUE,...",
            help="Compare with another model, or with this one as an entry with these keys: `quantization=int8`.",
        ),
    ] = None,
    task: asked.TaskName = None,
    parameter: asked.ParameterList = None,
    models: asked.ModelsFile = DEFAULT_MODELS,
    url: asked.Url = None,
    config: asked.Config = None,
    split: asked.Split = None,
    revision: asked.Revision = None,
    streaming: asked.Streaming = False,
    files: asked.FilesFolder = None,
    concurrency: asked.Concurrency = None,
    limit: asked.Limit = None,
    resamples: Annotated[int, typer.Option(min=100, help="Of the bootstrap.")] = 1000,
    as_json: AsJson = False,
    cache_dir: CacheDir = None,
) -> None:
    """Say how good a model's answers are, with 95 % intervals; --against compares two variants on the same rows."""
    from app.errors import PipeserveError

    wanted = asked.Wanted(
        model=model,
        task=task,
        parameters=asked.parsed_parameters(parameter),
        models=models,
        url=url,
        cache_dir=cache_dir,
    )
    try:
        source = asked.opened(data, config=config, split=split, revision=revision, streams=streaming, limit=limit)
        _check_column(source, label_column)
        evaluation = _Evaluation(
            source=source,
            columns=column or [],
            label_column=label_column,
            label_names=_pairs_of(label_name or [], "--label-name"),
            metrics=metric or [],
            files=asked.files_of(source, files),
            concurrency=concurrency,
            resamples=resamples,
        )
        report = asyncio.run(evaluation.whole([wanted, *([] if against is None else [_other(wanted, against)])]))
    except PipeserveError as error:
        fail(error.message)
    except KeyboardInterrupt:
        raise typer.Exit(_INTERRUPTED) from None
    if as_json:
        typer.echo(json.dumps(_as_json(report), indent=2))
    else:
        _print_report(report)


def _check_column(source: Source, name: str) -> None:
    from app.errors import InvalidInput

    if name not in source.columns:
        there = ", ".join(source.columns)
        raise InvalidInput(f'--label-column {name}: the data have no column "{name}"; there is {there}.')


def _pairs_of(given: Sequence[str], option: str) -> dict[str, str]:
    found = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals:
            raise typer.BadParameter(f"{one} is not VALUE=LABEL.", param_hint=option)
        found[name] = value
    return found


def _other(wanted: asked.Wanted, against: str) -> asked.Wanted:
    """What `--against` says: keys of an entry, or a model."""
    if "=" not in against:
        return replace(wanted, model=against)
    if wanted.url is not None:
        raise typer.BadParameter("a server's entries are as they are: name another one.", param_hint="--against")
    return replace(wanted, changes=asked.parsed_parameters(against.split(",")))


@dataclass(frozen=True, kw_only=True)
class _Evaluation:
    source: Source
    columns: Sequence[str]
    label_column: str
    label_names: dict[str, str]
    metrics: Sequence[str]
    files: Files | None
    concurrency: int | None
    resamples: int

    async def whole(self, wanted: Sequence[asked.Wanted]) -> Report:
        from app.dataset.columns import input_columns
        from app.errors import InvalidInput
        from app.evaluation.metrics import metrics_of
        from app.evaluation.pairs import References
        from app.evaluation.report import Comparison, Report

        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pipeserve-eval-")))
            every = [await stack.enter_async_context(asked.found_model(one)) for one in wanted]
            task = every[0].task
            if any(found.task is not task for found in every):
                raise InvalidInput(f"--against: {every[1].name} is asked for {every[1].task.name}, not {task.name}.")
            metrics = metrics_of(task, self.metrics)
            columns = input_columns(task, self.columns, self.source.columns, self.files)
            variants, journals = [], []
            for number, found in enumerate(every):
                journal = stack.enter_context(self._journal(folder / str(number)))
                variants.append(await self._answer(found, _named(wanted, every, number), columns, journal))
                journals.append(journal)
            references = References(
                column=self.label_column,
                names=self.source.label_names(self.label_column),
                renamed=self.label_names,
                words=next(iter(columns.plain), None),
                delimiter=wanted[0].parameters.get("delimiter") or " ",
            )
            kinds = {kind for _, kind in metrics}
            comparison = await asyncio.to_thread(Comparison, self.source, journals, references, kinds)
            measured = [
                await asyncio.to_thread(comparison.measure, metric, kind, self.resamples) for metric, kind in metrics
            ]
        return Report(
            task=task.name,
            rows=self.source.num_rows,
            compared=comparison.num_pairs,
            variants=variants,
            measured=measured,
            agreement=comparison.agreement if len(variants) == 2 else None,
        )

    def _journal(self, path: Path) -> Journal:
        from app.dataset.journal import Journal

        return Journal(path, {}, self.source.num_rows)

    async def _answer(self, found: asked.Found, name: str, columns: InputColumns, journal: Journal) -> Variant:
        from app.dataset.mapping import Mapper
        from app.evaluation.report import Variant

        with RowsProgress(self.source.num_rows) as progress:
            async with found.open(lambda phase: progress.status(f"{name}: {phase}")) as model:
                progress.begin(0)
                mapper = Mapper(
                    model,
                    columns,
                    journal,
                    asked.pace_of(columns, self.concurrency),
                    answered=lambda num_rows: progress.rows(num_rows, journal.num_problems),
                )
                await mapper.run(self.source.rows())
                computed, memory_bytes = model.computed, await model.memory_bytes()
        num_answered = journal.num_done - journal.num_problems  # a row may be several items: a query and its texts
        return Variant(
            name=name,
            set_aside=journal.num_problems,
            rows_per_s=progress.rows_per_s,
            forward_ms=computed.forward_s / num_answered * 1000 if computed.num_items and num_answered else None,
            memory_bytes=memory_bytes,
        )


def _named(wanted: Sequence[asked.Wanted], found: Sequence[asked.Found], number: int) -> str:
    changes = " ".join(f"{key}={value}" for key, value in wanted[number].changes.items())
    return f"{found[number].name} {changes}".strip()


# What is printed


def _print_report(report: Report) -> None:
    print_table(_quality(report))
    typer.echo("")
    print_table(_cost(report.variants))
    left_out = report.rows - report.compared
    aside = f", {left_out:,} of {report.rows:,} left out: no answer, or nothing to compare it with" if left_out else ""
    agreement = "" if report.agreement is None else f" Both answer the same to {report.agreement:.1%}."
    typer.echo(f"\n{report.task}, {report.compared:,} rows{aside}; 95 % intervals, bootstrapped.{agreement}")


def _quality(report: Report) -> Table:
    table = new_table()
    table.add_column("metric")
    for variant in report.variants:
        table.add_column(variant.name, justify="right")
    if len(report.variants) == 2:
        for name in ("difference", "p"):
            table.add_column(name, justify="right")
    for one in report.measured:
        name = f"{one.metric} (lower is better)" if one.is_better_lower else one.metric
        table.add_row(name, *map(_shown, one.estimates), *_difference(one.difference))
    return table


def _difference(difference: Difference | None) -> list[str]:
    return [] if difference is None else [_shown(difference, "+"), f"{difference.p:.3f}"]


def _shown(one: Estimate, sign: str = "") -> str:
    return f"{one.value:{sign}.4f} [{one.low:{sign}.4f}, {one.high:{sign}.4f}]"


def _cost(variants: Sequence[Variant]) -> Table:
    from app.fleet.memory import show_bytes

    table = new_table()
    for name in ("", "rows/s", "forward ms/row", "memory", "set aside"):
        table.add_column(name, justify="right" if name else "left")
    for one in variants:
        table.add_row(
            one.name,
            "" if one.rows_per_s is None else shown_rate(one.rows_per_s),
            "" if one.forward_ms is None else f"{one.forward_ms:.3f}",
            "" if one.memory_bytes is None else show_bytes(one.memory_bytes),
            f"{one.set_aside:,}",
        )
    return table


def _as_json(report: Report) -> dict[str, Any]:
    found = asdict(report)
    found["metrics"] = [_metric_as_json(one) for one in report.measured]
    del found["measured"]
    return found


def _metric_as_json(one: Measured) -> dict[str, Any]:
    return {
        "name": one.metric,
        "is_better_lower": one.is_better_lower,
        "estimates": [_finite(asdict(estimate)) for estimate in one.estimates],
        "difference": None if one.difference is None else _finite(asdict(one.difference)),
    }


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    """NaN is no JSON."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
