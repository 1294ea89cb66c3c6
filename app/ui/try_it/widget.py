"""The form of a task as Gradio's components, and what happens when it is sent."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from app.api.schemas import ModelCard
from app.tasks.base import Task
from app.tasks.curl import command
from app.tasks.samples import GIF, PNG, WAV
from app.ui.client import Answer, ApiError
from app.ui.look.html import html
from app.ui.try_it.form import Field, body_of, fields_of, parameters_of
from app.ui.try_it.results import answer_html, file_html
from app.ui.try_it.uploads import read_upload

if TYPE_CHECKING:
    from app.ui.pages import Visits

_MULTILINE_CHARS = 60
_FILE_NAMES = {"image": "picture.png", "audio": "sound.wav", "video": "film.mp4"}
KEY_OPTION = '-H "Authorization: Bearer $PIPESERVE_API_KEY"'


def try_it(visits: Visits, card: ModelCard, task: Task, *, url: str, needs_key: bool) -> None:
    """Within a Blocks context. url: of the server as the visitor's browser knows it."""
    fields = fields_of(task)
    components = [_component(field, task) for field in fields]
    with gr.Accordion("Parameters", open=False):
        parameters = gr.Code(
            json.dumps(parameters_of(task), indent=2) if parameters_of(task) else "{}",
            language="json",
            show_label=False,
            lines=3,
            interactive=True,
        )
        html(_parameters_html(task))
    button = gr.Button("Compute", variant="primary", size="lg")
    result = html('<p class="ps-note">The answer will stand here.</p>', elem_classes="ps-result")
    with gr.Accordion("The same with curl", open=False):
        curl = gr.Code(language="shell", show_label=False, interactive=False, lines=1, wrap_lines=True)
    route = f"{url}/v1/{task.name}/{card.id}"
    options = [KEY_OPTION] if needs_key else []

    async def compute(request: gr.Request, *values: Any) -> tuple[str, str]:
        try:
            body = body_of(fields, list(map(_read, fields, values)), values[-1])
        except ValueError as error:
            return _problem(str(error)), ""
        names = _names_of(fields, body)
        line = command(task, body, route, names=names, options=options)
        try:
            answer = await visits.api.ask(visits.key_of(request), task.name, card.id, body)
        except ApiError as error:
            return _problem(str(error)), line
        shown = (
            answer_html(task.name, body, answer.json())
            if answer.media_type == "application/json"
            else file_html(answer.content, answer.media_type)
        )
        return shown + _note(answer), line

    triggers = [button.click, *(one.submit for one in components if isinstance(one, gr.Textbox) and one.lines == 1)]
    gr.on(
        triggers,
        compute,
        inputs=[*components, parameters],
        outputs=[result, curl],
        show_progress="minimal",
        show_progress_on=[result],
        concurrency_limit=None,
        api_visibility="private",
    )


def _component(field: Field, task: Task) -> gr.components.Component:
    """Gradio's browser half takes what stands in `gr.render` and has a value for an output, unless it is told so."""
    if field.kind == "image":
        return gr.Image(
            _sample(PNG, "png"),
            type="filepath",
            format="png",
            label=field.label,
            height=260,
            buttons=["fullscreen"],
            interactive=True,
        )
    if field.kind == "audio":
        return gr.Audio(
            _sample(WAV, "wav"),
            type="filepath",
            format="wav",
            label=field.label,
            buttons=["download"],
            interactive=True,
        )
    if field.kind == "video":
        return gr.File(_sample(GIF, "gif"), label=field.label, file_types=["video", ".gif"], interactive=True)
    if field.kind == "table":
        rows = [list(row) for row in zip(*field.example.values(), strict=True)]
        return gr.Dataframe(rows, headers=list(field.example), label=field.label, type="array", interactive=True)
    if field.kind == "json":
        return gr.Code(json.dumps(field.example, indent=2), language="json", label=field.label, interactive=True)
    text = field.example
    if field.kind == "lines":
        text = "\n".join(field.example)
    elif field.kind == "labels":
        text = ", ".join(field.example)
    lines = 3 if field.kind == "lines" or len(text) > _MULTILINE_CHARS or field.label == "Context" else 1
    return gr.Textbox(text, label=field.label, lines=lines, max_lines=12, interactive=True)


def upload_folder() -> Path:
    return Path(gr.utils.get_upload_folder())


def _sample(content: bytes, ending: str) -> str:
    """The example's file, where Gradio may serve it from."""
    folder = upload_folder()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"example.{ending}"
    if not path.exists():
        path.write_bytes(content)
    return str(path)


def _read(field: Field, value: Any) -> Any:
    """Files as base64."""
    if field.kind in _FILE_NAMES:
        return None if value is None else read_upload(str(value), upload_folder())
    if field.kind == "table":
        return list(field.example), value
    return value


def _names_of(fields: list[Field], body: dict[str, Any]) -> dict[str, str]:
    names: dict[str, str] = {}
    for field in fields:
        if field.kind in _FILE_NAMES:
            place: Any = body
            for step in field.path:
                place = place[step]
            name = _FILE_NAMES[field.kind]
            names[place] = name if not names else name.replace(".", f"-{len(names) + 1}.")
    return names


def _parameters_html(task: Task) -> str:
    rows = "".join(
        f'<tr><th scope="row"><code>{escape(name)}</code></th><td>{escape(info.description or "")}</td></tr>'
        for name, info in task.parameters.model_fields.items()
    )
    return f'<table class="ps-table ps-words">{rows}</table>'


def _problem(sentence: str) -> str:
    return f'<div class="ps-alert" role="alert">{escape(sentence)}</div>'


def _note(answer: Answer) -> str:
    if answer.total_ms is None:
        return ""
    beside = f", {answer.batch_size} in its batch" if (answer.batch_size or 0) > 1 else ""
    return f'<p class="ps-note">{answer.total_ms:.0f} ms in the server{beside}</p>'
