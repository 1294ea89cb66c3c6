"""`pipeserve list`, `show`, `ps`, `load`, `stop`, `pin` and `unpin`: the models of a server that runs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from app.cli.completion import model_names, task_names
from app.cli.printing import AsJson, fail, print_json
from app.cli.server import DEFAULT_URL, Server, Trouble, Url

Model = Annotated[str, typer.Argument(help="Its id, an alias, or an adapter's name.", autocompletion=model_names)]
_AWAKE = ("loading", "ready", "unloading")


def list_models(
    state: Annotated[list[str] | None, typer.Option(help="Only models in this state, such as ready.")] = None,
    task: Annotated[
        str | None, typer.Option(help="Only models that answer this task.", autocompletion=task_names)
    ] = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """List the models that a server serves, loaded or not."""
    with _server(url) as server:
        cards = server.models({"state": state} if state else None)
    shown = [card for card in cards if task is None or task in (*card["tasks"], *card["implied_tasks"])]
    if as_json:
        print_json(shown)
    else:
        _print_cards(shown, ("MODEL", "STATE", "TASKS", "FROM"))


def ps(url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """List the models that are loaded: where, in how much memory, how busy, and until when."""
    with _server(url) as server:
        cards = server.models({"state": list(_AWAKE)})
    if as_json:
        print_json(cards)
    else:
        _print_cards(cards, ("MODEL", "STATE", "DEVICE", "MEMORY", "TYPE", "BUSY", "UNLOADS"))


def show(model: Model, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Show all that a server says of a model, and why it failed if it did."""
    with _server(url) as server:
        card = server.model(model)
    if as_json:
        print_json(card)
        return
    width = max(map(len, card))
    for name, value in card.items():
        if value not in (None, [], {}, ""):
            typer.echo(f"{name:{width}}  {_shown(name, value)}")


def load(
    model: Model,
    pinned: Annotated[bool, typer.Option("--pin", help="And keep it: as `pipeserve pin`.")] = False,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Have a server load a model now, and wait until it is ready. Needs a key of the scope admin, where there are
    keys."""
    with _server(url) as server:
        if pinned:
            server.change(model, "pin")
        card = server.change(model, "load")
    where = f"on {card['device']}, in {_bytes(card['memory_bytes'])}"
    _tell(card, f"is {card['state']} {where}", as_json=as_json)


def stop(model: Model, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Have a server unload a model, once it has answered what it has. Needs a key of the scope admin, where there are
    keys."""
    with _server(url) as server:
        card = server.change(model, "unload")
    _tell(card, f"is {card['state']}", as_json=as_json)


def pin(model: Model, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Have a server keep a model, though others need its memory or nobody uses it: until it is unpinned or stopped, its
    entry changes, or the server ends. Loads nothing. Needs a key of the scope admin, where there are keys."""
    with _server(url) as server:
        card = server.change(model, "pin")
    _tell(card, f"is pinned, and {card['state']}", as_json=as_json)


def unpin(model: Model, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Have a server keep a model no longer than others. Needs a key of the scope admin, where there are keys."""
    with _server(url) as server:
        card = server.change(model, "unpin")
    _tell(card, f"is not pinned, and {card['state']}", as_json=as_json)


def _tell(card: dict[str, Any], what: str, *, as_json: bool) -> None:
    if as_json:
        print_json(card)
    else:
        typer.echo(f"{card['id']} {what}.")


@contextmanager
def _server(url: str) -> Iterator[Server]:
    try:
        with Server(url) as server:
            yield server
    except Trouble as trouble:
        fail(trouble.whole)


def _print_cards(cards: Sequence[dict[str, Any]], titles: Sequence[str]) -> None:
    from app.cli.printing import new_table, print_table

    if not cards:
        typer.echo("No model.", err=True)
        return
    table = new_table()
    for title in titles:
        table.add_column(title, no_wrap=title == "MODEL", justify="right" if title in ("MEMORY", "BUSY") else "left")
    for card in cards:
        table.add_row(*(_cell(title, card) for title in titles))
    print_table(table)


def _cell(title: str, card: dict[str, Any]) -> str:
    match title:
        case "MODEL":
            return str(card["id"])
        case "TASKS":
            return ", ".join(card["tasks"])
        case "FROM":
            return str(card["reason"] or card["model"]) if card["state"] == "failed" else str(card["model"])
        case "MEMORY":
            return _bytes(card["memory_bytes"])
        case "TYPE":
            return str(card["dtype"] or "-")
        case "BUSY":
            return f"{card['in_flight']}"
        case "UNLOADS":
            return _when(card)
        case _:
            return str(card[title.lower()] or "-")


def _when(card: dict[str, Any]) -> str:
    from app.cli.top.screen import show_age

    if card["unloads_at"] is None:
        return "pinned" if card["pinned"] else "in use" if card["in_flight"] else "never"
    return f"in {show_age(max(0.0, card['unloads_at'] - time.time()))}"


def _shown(name: str, value: Any) -> str:
    if name.endswith("_bytes"):
        return _bytes(value)
    if name.endswith("_at") or name == "created":
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(value))
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _bytes(value: int | None) -> str:
    from app.fleet.memory import show_bytes

    return "-" if value is None else show_bytes(value)
