"""A task's example as a curl command that a person would type: files by name, everything else in a form or as JSON."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from app.tasks.base import Task
from app.tasks.samples import GIF, GIF_BASE64, PNG, PNG_BASE64, WAV, WAV_BASE64

FILES = {"picture.png": PNG, "sound.wav": WAV, "film.gif": GIF}
"""What the commands name; write them where the commands are to run."""
_NAMES = {PNG_BASE64: "picture.png", WAV_BASE64: "sound.wav", GIF_BASE64: "film.gif"}
_OUTPUTS = {"image/png": "answer.png", "audio/wav": "answer.wav"}


def curl_of(task: Task, url: str = "$URL") -> str:
    """The command. Its answer is printed, or lies in `answer.png` or `answer.wav` where it is a file."""
    return command(task, task.example.body, f"{url}/v1/{task.name}", names=_NAMES)


def command(
    task: Task, body: dict[str, Any], url: str, *, names: Mapping[str, str], options: Sequence[str] = ()
) -> str:
    """names: of the files in the body, by their base64. options: of curl, written for the shell."""
    output = _OUTPUTS.get(task.answers[0])
    parts = ["curl -s", url, *options, _body(task, body, names), *([f"-o {output}"] if output else [])]
    return " ".join(parts)


def _body(task: Task, body: dict[str, Any], names: Mapping[str, str]) -> str:
    inputs, parameters = body.get("inputs"), body.get("parameters", {})
    if task.media_field == "inputs" and isinstance(inputs, str) and inputs in names:
        if not parameters:
            return f"--data-binary @{names[inputs]}"
        return " ".join([f"-F file=@{names[inputs]}", *_fields(parameters, names)])
    if task.media_field is not None and isinstance(inputs, dict) and _is_flat(inputs, names):
        return " ".join([*_fields(inputs, names), *_fields(parameters, names)])
    return _json(body, names)


def _is_flat(inputs: dict[str, Any], names: Mapping[str, str]) -> bool:
    """Whether a form can hold it: texts, and one file."""
    return all(isinstance(value, str) for value in inputs.values()) and sum(v in names for v in inputs.values()) == 1


def _fields(values: dict[str, Any], names: Mapping[str, str]) -> list[str]:
    return [f"-F {_field(name, value, names)}" for name, value in values.items()]


def _field(name: str, value: Any, names: Mapping[str, str]) -> str:
    if isinstance(value, str) and value in names:
        return f"{name}=@{names[value]}"
    return shlex.quote(f"{name}={value if isinstance(value, str) else json.dumps(value)}")


def _json(body: dict[str, Any], names: Mapping[str, str]) -> str:
    """Files in it are read by the shell: they would not fit on a line."""
    text = json.dumps(body, ensure_ascii=False)
    named = text
    for content, name in names.items():
        named = named.replace(content, f"$(base64 -w0 {name})")
    if named == text:
        return f"-d {shlex.quote(text)}"
    return '-d "' + named.replace('"', '\\"') + '"'
