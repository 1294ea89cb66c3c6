"""`pipeserve chat`: a conversation with a model of a server that runs."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from app.cli.completion import model_names
from app.cli.printing import fail
from app.cli.server import DEFAULT_URL, Server, Trouble, Url

_HELP = "/clear forgets what was said, /exit ends; a line that ends in \\ goes on in the next."


def chat(
    model: Annotated[
        str | None,
        typer.Argument(help="Unset: the server's first that writes texts.", autocompletion=model_names),
    ] = None,
    system: Annotated[str | None, typer.Option(help="What the model is told before all else.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0)] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Of an answer.")] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Talk with a model; its answers are shown as it writes them. Ctrl-C ends an answer, Ctrl-D the conversation."""
    first = [] if system is None else [{"role": "system", "content": system}]
    options = {"model": model, "temperature": temperature, "max_completion_tokens": max_tokens}
    said = list(first)
    with Server(url) as server:
        if sys.stdin.isatty():
            typer.echo(_HELP)
        while (text := _read()) is not None:
            if text == "/exit":
                return
            if text == "/clear":
                said = list(first)
                continue
            if not text.strip():
                continue
            try:
                answer = _answer(server, [*said, {"role": "user", "content": text}], options)
            except Trouble as trouble:
                if not sys.stdin.isatty():
                    fail(trouble.whole)
                typer.echo(trouble.whole, err=True)
                continue
            said += [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]


def _read() -> str | None:
    """What the person says; None: no more."""
    lines: list[str] = []
    try:
        while True:
            line = input("> " if sys.stdin.isatty() and not lines else "")
            if not line.endswith("\\"):
                return "\n".join([*lines, line])
            lines.append(line.removesuffix("\\"))
    except EOFError:
        return "\n".join(lines) if lines else None
    except KeyboardInterrupt:
        typer.echo("")
        return None


def _answer(server: Server, messages: list[dict[str, str]], options: dict[str, Any]) -> str:
    """As far as it came, where Ctrl-C ended it. Raises Trouble."""
    import orjson

    body = {"messages": messages, "stream": True, **{name: one for name, one in options.items() if one is not None}}
    parts: list[str] = []
    try:
        for event in server.events("/v1/chat/completions", orjson.dumps(body)):
            parts.append(_part(event))
            typer.echo(parts[-1], nl=False)
    except KeyboardInterrupt:
        pass
    typer.echo("")
    return "".join(parts)


def _part(event: dict[str, Any]) -> str:
    if "error" in event:
        raise Trouble(str(event["error"]["message"]))
    return "".join(choice["delta"].get("content") or "" for choice in event["choices"])
