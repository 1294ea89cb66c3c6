"""`pipeserve keys`: the file of API keys."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from app.cli.completion import task_names
from app.cli.printing import AsJson, fail, print_json

if TYPE_CHECKING:
    from app.access.key_file import KeyForm

keys = typer.Typer(
    help="Make, list and revoke API keys.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

T = TypeVar("T")


class ScopeName(StrEnum):
    INFER = "infer"
    ADMIN = "admin"
    METRICS = "metrics"


class Priority(StrEnum):
    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


def _parsed(parse: Callable[[str], T], text: str) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _name(text: str) -> str:
    from app.access.key_file import key_name

    return _parsed(key_name, text)


def _task(text: str) -> str:
    from app.access.key_file import task_name

    return _parsed(task_name, text)


def _expiry(text: str) -> datetime:
    """A time from now."""
    from app.durations import parse_duration

    seconds = _parsed(parse_duration, text)
    if seconds <= 0:
        raise typer.BadParameter(f"{text} is over already.")
    return datetime.fromtimestamp(int(time.time() + seconds), UTC)


Name = Annotated[str, typer.Argument(metavar="NAME", parser=_name, help="Whose it is: in logs, metrics and usage.")]
File = Annotated[
    Path, typer.Option("--keys-file", envvar="PIPESERVE_KEYS_FILE", help="The file of keys; `serve` follows it.")
]
DEFAULT_FILE = Path("keys.yaml")


@keys.command()
def create(
    name: Name,
    scope: Annotated[list[ScopeName] | None, typer.Option(help="What it is for; unset: infer.")] = None,
    models: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Ids it may use, such as 'acme/*'; unset: all.")
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(parser=_task, metavar="TASK", help="Tasks it may use; unset: all.", autocompletion=task_names),
    ] = None,
    rpm: Annotated[int | None, typer.Option(min=1, help="Requests a minute.")] = None,
    tpm: Annotated[int | None, typer.Option(min=1, help="Tokens a minute, read and written.")] = None,
    concurrent: Annotated[int | None, typer.Option(min=1, help="Requests at a time.")] = None,
    priority: Annotated[Priority, typer.Option(help="The highest that X-Priority may say.")] = Priority.NORMAL,
    weight: Annotated[float, typer.Option(min=0.001, max=1000, help="Its share among those of its priority.")] = 1.0,
    expires: Annotated[
        datetime | None, typer.Option(parser=_expiry, metavar="TIME", help="When it ends, from now: 12h, 30d.")
    ] = None,
    keys_file: File = DEFAULT_FILE,
    as_json: AsJson = False,
) -> None:
    """Make a key, and print its secret: it is stored nowhere, only its hash is."""
    from app.access.key_file import KeyForm, changing, hash_of
    from app.access.keys import new_secret

    secret = new_secret()
    form = KeyForm(
        name=name,
        hash=hash_of(secret),
        scopes=[one.value for one in scope or [ScopeName.INFER]],
        models=models or [],
        tasks=task or [],
        requests_per_minute=rpm,
        tokens_per_minute=tpm,
        concurrent=concurrent,
        priority=priority.value,
        weight=weight,
        expires=expires,
    )
    with _problems_told(), changing(keys_file) as forms:
        if any(one.name == name for one in forms):
            fail(f'there is a key "{name}" already in {keys_file}; revoke it first, or choose another name.')
        forms.append(form)
    if as_json:
        print_json({"name": name, "secret": secret, "keys_file": str(keys_file)})
        return
    typer.echo(secret)
    typer.echo(f'"{name}" is in {keys_file}; the secret above is shown this once.', err=True)


@keys.command("list")
def list_keys(keys_file: File = DEFAULT_FILE, as_json: AsJson = False) -> None:
    """The keys and what they allow, without their secrets, which nobody knows but their holders."""
    from app.access.key_file import read_forms

    with _problems_told():
        forms = read_forms(keys_file)
    if as_json:
        print_json([form.model_dump(mode="json", exclude={"hash"}) | {"is_over": _is_over(form)} for form in forms])
        return
    for form in forms:
        parts = [
            ",".join(form.scopes),
            f"models {', '.join(form.models)}" if form.models else "",
            f"tasks {', '.join(form.tasks)}" if form.tasks else "",
            f"{form.requests_per_minute} requests/min" if form.requests_per_minute else "",
            f"{form.tokens_per_minute} tokens/min" if form.tokens_per_minute else "",
            f"{form.concurrent} at a time" if form.concurrent else "",
            f"priority {form.priority}" if form.priority != "normal" else "",
            f"weight {form.weight:g}" if form.weight != 1 else "",
            ""
            if form.expires is None
            else f"{'EXPIRED' if _is_over(form) else 'expires'} {form.expires:%Y-%m-%d %H:%M} UTC",
        ]
        typer.echo(f"{form.name:20} {'; '.join(part for part in parts if part)}")


def _is_over(form: KeyForm) -> bool:
    return form.expires is not None and form.expires <= datetime.now(UTC)


@keys.command()
def revoke(name: Name, keys_file: File = DEFAULT_FILE, as_json: AsJson = False) -> None:
    """Delete a key. Servers that follow the file refuse it within two seconds; requests that have begun go on."""
    from app.access.key_file import changing

    with _problems_told(), changing(keys_file) as forms:
        kept = [form for form in forms if form.name != name]
        if len(kept) == len(forms):
            fail(f'there is no key "{name}" in {keys_file}; `pipeserve keys list` shows what there is.')
        forms[:] = kept
    if as_json:
        print_json({"name": name, "is_revoked": True})
    else:
        typer.echo(f'"{name}" is revoked.')


@contextmanager
def _problems_told() -> Iterator[None]:
    from app.access.key_file import KeyFileProblem

    try:
        yield
    except KeyFileProblem as problem:
        fail(str(problem))
