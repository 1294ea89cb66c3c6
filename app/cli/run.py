"""`pipeserve run`: one answer of a server that runs, for one input."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.asked_model import ParameterList, TaskName, parsed_parameters
from app.cli.completion import models_and_tasks
from app.cli.finding import find_served
from app.cli.printing import fail
from app.cli.server import DEFAULT_URL, Server, Trouble, Url

if TYPE_CHECKING:
    from app.tasks.base import Task

_ENDINGS = {"image/png": "png", "image/jpeg": "jpg", "audio/wav": "wav", "application/x-npy": "npy"}
_MEDIA = "image/png, audio/wav;q=0.9, application/json;q=0.8"
"""What a task makes, as a file where it makes one."""


_PNG_AS_BASE64 = "iVBORw0KGgo"  # how its signature begins


@dataclass(frozen=True)
class _Asked:
    """content: of the request, as `kind`. file: what was read, to name what is made of it."""

    content: bytes
    kind: str
    file: Path | None = None


def run(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL|TASK", help="A model of the server, or a task.", autocompletion=models_and_tasks),
    ],
    given: Annotated[
        str | None,
        typer.Argument(metavar="[INPUT|FILE|-]", help="A text, JSON, a file, or - for what comes in. Unset: -."),
    ] = None,
    task: TaskName = None,
    parameter: ParameterList = None,
    out: Annotated[Path | None, typer.Option(help="Where a picture or a sound goes. Unset: beside the input.")] = None,
    url: Url = DEFAULT_URL,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON, files as base64.")] = False,
) -> None:
    """Ask a model once. Texts that a model writes are shown as it writes them.

    pipeserve run sentiment-analysis "Never again."
    pipeserve run object-detection street.jpg
    pipeserve run chat "Write a haiku." -p max_new_tokens=64
    """
    from app.errors import PipeserveError

    try:
        parameters = parsed_parameters(parameter)
        with Server(url) as server:
            name, wanted = find_served(server, model, task)
            asked = _asked(wanted, given, name, parameters)
            if wanted.name == "text-generation" and not as_json:
                _stream(server, asked)
            else:
                _answer(server, wanted, asked, out, as_json=as_json)
    except Trouble as trouble:
        fail(trouble.whole)
    except PipeserveError as error:
        fail(error.message)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}.")


def _asked(task: Task, given: str | None, name: str | None, parameters: Mapping[str, Any]) -> _Asked:
    """A file that a task of files is asked about is the body itself; all else is JSON. Raises OSError."""
    import orjson

    raw, file = _input(given)
    body: dict[str, Any] = {} if name is None else {"model": name}
    if parameters:
        body["parameters"] = dict(parameters)
    if task.media_field is not None and not _is_json(raw):
        return _with_file(task, raw, body, file)
    body["inputs"] = orjson.loads(raw) if _is_json(raw) else raw.decode(errors="replace").strip()
    return _Asked(orjson.dumps(body), "application/json", file)


def _with_file(task: Task, raw: bytes, body: dict[str, Any], file: Path | None) -> _Asked:
    import base64

    import orjson

    assert task.media_field is not None
    content = base64.b64encode(raw).decode()
    where = task.media_field.removeprefix("inputs.")
    body["inputs"] = content if task.media_field == "inputs" else {where: content}
    return _Asked(orjson.dumps(body), "application/json", file)


def _input(given: str | None) -> tuple[bytes, Path | None]:
    """Raises OSError."""
    if given in (None, "-"):
        return sys.stdin.buffer.read(), None
    assert given is not None
    path = Path(given)
    try:
        is_file = path.is_file()
    except OSError:  # a text that is longer than a name may be
        is_file = False
    return (path.read_bytes(), path) if is_file else (given.encode(), None)


def _is_json(raw: bytes) -> bool:
    import orjson

    if raw[:1] not in (b"{", b"["):
        return False
    try:
        orjson.loads(raw)
    except orjson.JSONDecodeError:
        return False
    return True


def _answer(server: Server, task: Task, asked: _Asked, out: Path | None, *, as_json: bool) -> None:
    headers = {"content-type": asked.kind, "accept": "application/json" if as_json else _MEDIA}
    response = server.post(f"/v1/{task.name}", asked.content, headers=headers)
    kind = response.headers["content-type"].partition(";")[0]
    if as_json:
        typer.echo(response.text)
        return
    saved = _Saved(out, asked.file or Path(task.name), task.name)
    if kind == "application/json":
        _print(_without_pictures(response.json(), saved))
    else:
        typer.echo(saved.save(response.content, _ENDINGS.get(kind, "bin")))


class _Saved:
    """Files of one answer: the first is `out`, where that is said; the others stand beside it, with numbers."""

    def __init__(self, out: Path | None, beside: Path, task: str) -> None:
        self._first = out
        self._beside = beside.with_suffix(f".{task}")
        self._num = 0

    def save(self, content: bytes, ending: str) -> str:
        """Where it is. Raises OSError."""
        first = self._first or self._beside.with_name(f"{self._beside.name}.{ending}")
        path = first if self._num == 0 else first.with_stem(f"{first.stem}-{self._num + 1}")
        self._num += 1
        path.write_bytes(content)
        return str(path)


def _without_pictures(value: Any, saved: _Saved) -> Any:
    """Each PNG in it is a file, and its name stands in its place: masks, depth."""
    import base64

    if isinstance(value, str) and value.startswith(_PNG_AS_BASE64):
        return saved.save(base64.b64decode(value), "png")
    if isinstance(value, list):
        return [_without_pictures(one, saved) for one in value]
    if isinstance(value, dict):
        return {name: _without_pictures(one, saved) for name, one in value.items()}
    return value


def _print(value: Any) -> None:
    import orjson

    option = orjson.OPT_INDENT_2 if sys.stdout.isatty() else None
    typer.echo(orjson.dumps(value, option=option).decode())


def _stream(server: Server, asked: _Asked) -> None:
    """The tokens of Text Generation Inference's events, as they come."""
    import orjson

    body = {**orjson.loads(asked.content), "stream": True}
    for event in server.events("/v1/text-generation", orjson.dumps(body)):
        if "error" in event:
            typer.echo("")
            raise Trouble(str(event["error"]))
        if not event["token"]["special"]:
            typer.echo(event["token"]["text"], nl=False)
    typer.echo("")
