"""How a program asks this model: curl, Python, JavaScript, with the address that this browser reached the server by."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from app.api.schemas import ModelCard
from app.tasks.base import Task
from app.tasks.curl import command
from app.tasks.samples import GIF_BASE64, PNG_BASE64, WAV_BASE64

_FILES = {PNG_BASE64: "picture.png", WAV_BASE64: "sound.wav", GIF_BASE64: "film.gif"}
_CHAT = frozenset({"text-generation", "image-text-to-text", "any-to-any"})
_KEY = "PIPESERVE_API_KEY"
_JSON = "application/json"


def snippets(card: ModelCard, task: Task, *, url: str, needs_key: bool) -> Iterator[tuple[str, str | None, str]]:
    """Title, language (as Gradio calls it) and text of each."""
    option = f'-H "Authorization: Bearer ${_KEY}"'
    route = f"{url}/v1/{task.name}/{card.id}"
    yield "curl", "shell", command(task, task.example.body, route, names=_FILES, options=[option] if needs_key else [])
    yield "Python", "python", _inference_client(card, task, url=url, needs_key=needs_key)
    if task.name in _CHAT:
        yield "openai", "python", _openai_chat(card, url=url, needs_key=needs_key)
    elif task.name == "feature-extraction":
        yield "openai", "python", _openai_embeddings(card, url=url, needs_key=needs_key)
    yield "JavaScript", "javascript", _javascript(task, route, needs_key=needs_key)


def _token(needs_key: bool) -> str:
    return f'os.environ["{_KEY}"]' if needs_key else '"none"'


def _imports(needs_key: bool, line: str) -> str:
    return f"import os\n\n{line}\n\n" if needs_key else f"{line}\n\n"


def _inference_client(card: ModelCard, task: Task, *, url: str, needs_key: bool) -> str:
    """Of tasks for which it has no method, the request itself."""
    route = f"{url}/v1/{task.name}/{card.id}"
    method = _METHODS.get(task.name)
    if method is None:
        return _plain_python(task, route, needs_key=needs_key)
    key = f", token={_token(True)}" if needs_key else ""
    head = _imports(needs_key, "from huggingface_hub import InferenceClient")
    return f'{head}client = InferenceClient(model="{route}"{key})\nprint(client.{method(task)})\n'


def _plain_python(task: Task, route: str, *, needs_key: bool) -> str:
    arguments = [f'"{route}"']
    name = _file_of(task)
    arguments.append(f"json={_literal(task)}" if name is None else f'content=open("{name}", "rb").read()')
    if needs_key:
        arguments.append(f'headers={{"Authorization": "Bearer " + {_token(True)}}}')
    arguments.append("timeout=60")
    lines = "".join(f"    {argument},\n" for argument in arguments)
    shown = "answer.json()" if task.answers[0] == _JSON else "len(answer.content)"
    return f"{_imports(needs_key, 'import httpx2')}answer = httpx2.post(\n{lines})\nprint({shown})\n"


def _literal(task: Task) -> str:
    text = repr(task.example.body)
    for content, name in _FILES.items():
        text = text.replace(repr(content), f'"<base64 of {name}>"')
    return text


def _openai_chat(card: ModelCard, *, url: str, needs_key: bool) -> str:
    head = _imports(needs_key, "from openai import OpenAI")
    return (
        f'{head}client = OpenAI(base_url="{url}/v1", api_key={_token(needs_key)})\n'
        f"stream = client.chat.completions.create(\n    model={json.dumps(card.id)},\n"
        '    messages=[{"role": "user", "content": "Hello!"}],\n    stream=True,\n)\n'
        'for chunk in stream:\n    print(chunk.choices[0].delta.content or "", end="")\n'
    )


def _openai_embeddings(card: ModelCard, *, url: str, needs_key: bool) -> str:
    head = _imports(needs_key, "from openai import OpenAI")
    return (
        f'{head}client = OpenAI(base_url="{url}/v1", api_key={_token(needs_key)})\n'
        f'answer = client.embeddings.create(model={json.dumps(card.id)}, input=["A cat sleeps on the sofa."])\n'
        "print(len(answer.data[0].embedding))\n"
    )


def _javascript(task: Task, route: str, *, needs_key: bool) -> str:
    headers = f"    Authorization: `Bearer ${{process.env.{_KEY}}}`,\n" if needs_key else ""
    name = _file_of(task)
    if name is None:
        before, body = "", f"JSON.stringify({_indented(task)})"
        headers += '    "Content-Type": "application/json",\n'
    else:
        before, body = 'import { readFile } from "node:fs/promises";\n\n', f'await readFile("{name}")'
    headers = f"  headers: {{\n{headers}  }},\n" if headers else ""
    read = "await answer.json()" if task.answers[0] == _JSON else "await answer.blob()"
    return (
        f'{before}const answer = await fetch("{route}", {{\n  method: "POST",\n{headers}  body: {body},\n}});\n'
        f"console.log({read});\n"
    )


def _indented(task: Task) -> str:
    text = json.dumps(task.example.body, indent=2, ensure_ascii=False).replace("\n", "\n  ")
    for content, name in _FILES.items():
        text = text.replace(content, f"<base64 of {name}>")
    return text


def _file_of(task: Task) -> str | None:
    """The file that is the whole body."""
    body = task.example.body
    inputs = body.get("inputs")
    return _FILES.get(inputs) if isinstance(inputs, str) and not body.get("parameters") else None


def _argument(task: Task) -> str:
    return repr(task.example.body["inputs"])


def _file(task: Task) -> str:
    return repr(_FILES[task.example.body["inputs"]])


def _keywords(task: Task) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in task.example.body["inputs"].items())


def _labelled(argument: str, task: Task) -> str:
    labels: Any = task.example.body["parameters"]["candidate_labels"]
    return f"{argument}, candidate_labels={labels!r}"


_METHODS: Mapping[str, Callable[[Task], str]] = {
    "text-classification": lambda task: f"text_classification({_argument(task)})",
    "token-classification": lambda task: f"token_classification({_argument(task)})",
    "question-answering": lambda task: f"question_answering({_keywords(task)})",
    "fill-mask": lambda task: f"fill_mask({_argument(task)})",
    "feature-extraction": lambda task: f"feature_extraction({_argument(task)})",
    "summarization": lambda task: f"summarization({_argument(task)})",
    "translation": lambda task: f"translation({_argument(task)})",
    "text-generation": lambda task: f"text_generation({_argument(task)}, max_new_tokens=64)",
    "zero-shot-classification": lambda task: f"zero_shot_classification({_labelled(_argument(task), task)})",
    "image-classification": lambda task: f"image_classification({_file(task)})",
    "object-detection": lambda task: f"object_detection({_file(task)})",
    "image-segmentation": lambda task: f"image_segmentation({_file(task)})",
    "zero-shot-image-classification": lambda task: f"zero_shot_image_classification({_labelled(_file(task), task)})",
    "automatic-speech-recognition": lambda task: f"automatic_speech_recognition({_file(task)})",
    "audio-classification": lambda task: f"audio_classification({_file(task)})",
}
