"""`pipeserve push`: a model, an adapter or an export, with its card, into a repository of the Hub."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.completion import model_names
from app.cli.environments import CacheDir
from app.cli.finding import DEFAULT_MODELS
from app.cli.printing import AsJson, fail, new_table, print_json, print_table
from app.settings import default_cache_dir

if TYPE_CHECKING:
    from app.cli.push.parcel import Parcel
    from app.cli.push.sending import Destination, Hub, Sent
    from app.cli.push.subject import Subject


def _repository(text: str) -> str:
    owner, _, name = text.partition("/")
    if not owner or not name or "/" in name:
        raise typer.BadParameter(f"{text!r} is no OWNER/NAME, such as ada/reviews.")
    return text


def push(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="An entry of models.yaml, ENTRY:ADAPTER, or a folder.",
            autocompletion=model_names,
        ),
    ],
    to: Annotated[
        str, typer.Option(parser=_repository, metavar="OWNER/NAME", help="The repository; made if it is not there.")
    ],
    variant: Annotated[
        str | None,
        typer.Option(help="An export in the cache folder, such as onnx-int8, or weights. Unset: as it is served."),
    ] = None,
    private: Annotated[
        bool | None, typer.Option("--private/--public", help="Of a new repository. Unset: as its owner has it.")
    ] = None,
    revision: Annotated[
        str | None, typer.Option("--revision", "--branch", help="A branch; made if it is not there. Unset: main.")
    ] = None,
    pr: Annotated[bool, typer.Option("--pr", help="As a pull request, which needs no permission to write.")] = False,
    message: Annotated[str | None, typer.Option(help="Of the commit.")] = None,
    base_model: Annotated[
        str | None, typer.Option(parser=_repository, metavar="OWNER/NAME", help="What it was made of, for its card.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Files that stay here, such as '*.log'; repeatable.")
    ] = None,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Push weights in pickles (.bin, .pt), which can run any code.")
    ] = False,
    token: Annotated[
        str | None, typer.Option(help="Instead of HF_TOKEN, which is better: it stands in no list of processes.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would go, and the card; ask the Hub nothing.")
    ] = False,
    as_json: AsJson = False,
    models: Annotated[
        Path, typer.Option("--models", "-m", envvar="PIPESERVE_MODELS", help="The catalogue of models.")
    ] = DEFAULT_MODELS,
    cache_dir: CacheDir = None,
) -> None:
    """Publish a model, an adapter or an export on the Hub, with a model card.

    Hidden files, secrets, caches and the state of a training stay here. Where a push was cut off, the same command goes
    on. HF_TOKEN and HF_ENDPOINT count, as for the server.
    """
    from app.cli.push.parcel import pack
    from app.cli.push.sending import MESSAGE, Destination, Hub
    from app.cli.push.subject import find_subject
    from app.errors import PipeserveError

    if pr and revision is not None:
        raise typer.BadParameter("a pull request is opened against main: leave --revision out.", param_hint="--pr")
    sent = None
    try:
        subject = find_subject(name, models, cache_dir or default_cache_dir(), variant)
        parcel = pack(subject, excluded=exclude or (), allow_pickle=allow_pickle)
        destination = Destination(
            to=to, is_private=private, branch=revision, is_proposed=pr, message=message or MESSAGE
        )
        hub = None if dry_run else Hub(token)
        parcel, notes = _prepared(parcel, subject, destination, base_model, hub)
        if not as_json:
            _print_parcel(parcel, subject, to, notes)
        if hub is not None:
            sent = hub.send(parcel, destination, shows_bars=not as_json and sys.stderr.isatty())
    except PipeserveError as error:
        fail(error.message)
    if as_json:
        print_json(_as_json(parcel, subject, to, notes, sent))
    else:
        _print_sent(parcel, sent)


def _prepared(
    parcel: Parcel, subject: Subject, destination: Destination, base_model: str | None, hub: Hub | None
) -> tuple[Parcel, list[str]]:
    """With a card, and with a base that others find; and what of this is not as it is in the user's folder."""
    from app.cli.push import card
    from app.cli.push.parcel import CARD
    from app.hub import is_repository

    notes = []
    base = base_model or subject.base
    if subject.is_adapter:
        named = card.adapter_base(parcel)
        if base_model is None and is_repository(named):
            base = named
        elif base is not None:
            parcel = card.with_adapter_base(parcel, base)
            notes.append(f"What goes says that its base is {base}; your folder still says {named}.")
        else:
            notes.append(f"Nobody else has its base, {named}: --base-model OWNER/NAME says what it is on the Hub.")
    if parcel.find(CARD) is not None:
        return parcel, notes
    if hub is not None and hub.has_card(destination):
        notes.append(f"The card that {destination.to} has stays as it is.")
    else:
        licence = {} if base is None or hub is None else hub.licence_of(base)
        parcel = card.with_card(parcel, subject, destination.to, base, licence)
        notes.append(f"{CARD} is written for it; nothing is written into your folder.")
    return parcel, notes


def _print_parcel(parcel: Parcel, subject: Subject, to: str, notes: list[str]) -> None:
    from app.fleet.memory import show_bytes

    typer.echo(f"{subject.name}, {subject.kind}, to {to}: {len(parcel.items)} files, {show_bytes(parcel.num_bytes)}")
    table = new_table()
    table.add_column("FILE", no_wrap=True)
    table.add_column("SIZE", justify="right")
    for item in parcel.items:
        table.add_row(item.path, show_bytes(item.num_bytes))
    print_table(table)
    for left in parcel.left_out:
        typer.echo(f"stays here: {left.path} ({left.why})")
    for note in notes:
        typer.echo(note)


def _print_sent(parcel: Parcel, sent: Sent | None) -> None:
    if sent is None:
        typer.echo(f"\n{_written_card(parcel) or ''}")
        typer.echo("Nothing was sent: this was a dry run.")
        return
    for warning in sent.warnings:
        typer.echo(warning, err=True)
    if sent.commit is None:
        typer.echo(f"{sent.url} has all of it already: there is nothing to commit.")
    else:
        typer.echo(f"{sent.pull_request or sent.url} has it, as commit {sent.commit}.")


def _written_card(parcel: Parcel) -> str | None:
    """The card, where it is not a file of the folder."""
    from app.cli.push.parcel import CARD

    card = parcel.find(CARD)
    return card.source.decode() if card is not None and isinstance(card.source, bytes) else None


def _as_json(parcel: Parcel, subject: Subject, to: str, notes: list[str], sent: Sent | None) -> dict[str, Any]:
    import msgspec

    return {
        "name": subject.name,
        "kind": subject.kind,
        "repository": to,
        "files": [{"path": item.path, "bytes": item.num_bytes} for item in parcel.items],
        "bytes": parcel.num_bytes,
        "left_out": msgspec.to_builtins(parcel.left_out),
        "card": _written_card(parcel),
        "notes": notes,
        "sent": None if sent is None else msgspec.to_builtins(sent),
    }
