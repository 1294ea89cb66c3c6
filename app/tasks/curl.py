"""A task's example as a curl command that a person would type: files by name, everything else in a form or as JSON."""

from __future__ import annotations

import json
import shlex
from typing import Any

from app.tasks.base import Task
from app.tasks.samples import GIF, GIF_BASE64, PNG, PNG_BASE64, WAV, WAV_BASE64

FILES = {"picture.png": PNG, "sound.wav": WAV, "film.gif": GIF}
"""What the commands name; write them where the commands are to run."""
_NAMES = {PNG_BASE64: "picture.png", WAV_BASE64: "sound.wav", GIF_BASE64: "film.gif"}
_OUTPUTS = {"image/png": "answer.png", "audio/wav": "answer.wav"}


def curl_of(task: Task, url: str = "$URL") -> str:
    """The command. Its answer is printed, or lies in `answer.png` or `answer.wav` where it is a file."""
    output = _OUTPUTS.get(task.answers[0])
    return f"curl -s {url}/v1/{task.name} {_body(task)}" + (f" -o {output}" if output else "")


def _body(task: Task) -> str:
    body = task.example.body
    inputs, parameters = body.get("inputs"), body.get("parameters", {})
    if task.media_field == "inputs" and isinstance(inputs, str) and inputs in _NAMES:
        if not parameters:
            return f"--data-binary @{_NAMES[inputs]}"
        return " ".join([f"-F file=@{_NAMES[inputs]}", *_fields(parameters)])
    if task.media_field is not None and isinstance(inputs, dict) and _is_flat(inputs):
        return " ".join([*_fields(inputs), *_fields(parameters)])
    return _json(body)


def _is_flat(inputs: dict[str, Any]) -> bool:
    """Whether a form can hold it: texts, and one file."""
    return all(isinstance(value, str) for value in inputs.values()) and sum(v in _NAMES for v in inputs.values()) == 1


def _fields(values: dict[str, Any]) -> list[str]:
    return [f"-F {_field(name, value)}" for name, value in values.items()]


def _field(name: str, value: Any) -> str:
    if isinstance(value, str) and value in _NAMES:
        return f"{name}=@{_NAMES[value]}"
    return shlex.quote(f"{name}={value if isinstance(value, str) else json.dumps(value)}")


def _json(body: dict[str, Any]) -> str:
    """Files in it are read by the shell: they would not fit on a line."""
    text = json.dumps(body, ensure_ascii=False)
    named = text
    for content, name in _NAMES.items():
        named = named.replace(content, f"$(base64 -w0 {name})")
    if named == text:
        return f"-d {shlex.quote(text)}"
    return '-d "' + named.replace('"', '\\"') + '"'
