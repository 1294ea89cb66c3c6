"""The form of a task as Gradio's components, and what happens when it is sent."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import gradio as gr

from app.api.schemas import ModelCard
from app.tasks.base import Task
from app.tasks.curl import command
from app.tasks.samples import GIF, PNG, WAV
from app.ui.catalogue import progress_html
from app.ui.client import Answer, ApiError
from app.ui.look.html import html
from app.ui.told import PATH
from app.ui.try_it.asked import CardExample, link_of
from app.ui.try_it.beside import beside_html, curl_html, error_html, problem_html, waiting_html
from app.ui.try_it.form import (
    FILE_KINDS,
    Field,
    body_of,
    fields_of,
    frame_of,
    more_parameters,
    parameters_of,
    values_of,
)
from app.ui.try_it.opened import Opened, examples_for, fetched_values
from app.ui.try_it.results import answer_html, file_html
from app.ui.try_it.uploads import read_upload
from app.ui.try_it.vectors import matrix_html

if TYPE_CHECKING:
    from app.ui.pages import Visits

_MULTILINE_CHARS = 60
_MAX_COMPARED = 12  # every pair is a text to compute
_FILE_NAMES = {"image": "picture.png", "audio": "sound.wav", "video": "film.mp4"}
_NOT_YET = '<p class="ps-note">The answer will stand here.</p>'
KEY_OPTION = '-H "Authorization: Bearer $PIPESERVE_API_KEY"'


def try_it(visits: Visits, opened: Opened, task: Task, *, url: str, needs_key: bool) -> None:
    """Within a Blocks context. url: of the server as the visitor's browser knows it."""
    card = opened.details.model
    fields = fields_of(task)
    examples = examples_for(task, opened.details)
    buttons = _example_buttons(examples)
    is_opened = opened.task == task.name and opened.values is not None
    number = gr.State(opened.asked.example if is_opened else None)
    components = _components(fields, opened.values if is_opened and opened.values else _examples_values(fields))
    given = opened.parameters if is_opened and opened.parameters is not None else parameters_of(task)
    with gr.Accordion("Parameters", open=is_opened and bool(opened.parameters)):
        parameters = gr.Code(
            _parameters_text(given),
            language="json",
            label="Parameters, as JSON",
            show_label=False,
            lines=3,
            interactive=True,
        )
        html(_parameters_html(task))
    button = gr.Button("Compute", variant="primary", size="lg")
    result = html(_NOT_YET, elem_classes="ps-result")
    route = f"{url}/v1/{task.name}/{card.id}"
    options = [KEY_OPTION] if needs_key else []

    async def compute(request: gr.Request, example: int | None, *values: Any) -> AsyncIterator[str]:
        try:
            body = body_of(fields, list(map(_read, fields, values)), values[-1], frame=frame_of(task))
        except ValueError as error:
            yield problem_html(str(error))
            return
        curl = command(task, body, route, names=_names_of(fields, body), options=options)
        try:
            async for bar in _loading(visits, request, card):
                yield waiting_html("The model is loaded first.", bar)
            answer = await visits.api.ask(visits.key_of(request), task.name, card.id, body)
            matrix = await _matrix(visits, request, task, card, body)
        except ApiError as error:
            yield error_html(error) + curl_html(curl)
            return
        path = _example_link(card, task, example, examples, fields, body) or link_of(card.id, task.name, body, fields)
        link = None if path is None else f"{url}{path}"
        yield f"{_shown(task, body, answer)}{matrix}{beside_html(answer, curl=curl, link=link)}"

    gr.on(
        [button.click, *(one.submit for one in components if isinstance(one, gr.Textbox) and one.lines == 1)],
        compute,
        inputs=[number, *components, parameters],
        outputs=[result],
        show_progress="minimal",
        show_progress_on=[result],
        concurrency_limit=None,
        api_visibility="private",
    )
    for at, one in enumerate(buttons):
        one.click(
            _filler(visits, card, task, fields, examples[at], at + 1),
            outputs=[number, *components, parameters, result],
            show_progress="hidden",
            api_visibility="private",
        )
    for component in components:
        if isinstance(component, gr.Image | gr.Audio):
            component.input(lambda: None, outputs=[number], show_progress="hidden", api_visibility="private")


def _example_buttons(examples: Sequence[CardExample]) -> list[gr.Button]:
    """Of those that fill a form."""
    if not examples:
        return []
    html('<p class="ps-note">Examples of the model card</p>')
    with gr.Row(elem_classes="ps-examples"):
        return [gr.Button(one.title or f"Example {at + 1}", size="sm", min_width=60) for at, one in enumerate(examples)]


def _filler(visits: Visits, card: ModelCard, task: Task, fields: list[Field], example: CardExample, number: int) -> Any:
    async def fill(request: gr.Request) -> list[Any]:
        key = visits.key_of(request)
        values = await fetched_values(visits.api, key, card.id, fields, example.body, upload_folder())
        given = more_parameters(example.body) or parameters_of(task)
        said = "" if example.output is None else f"The card says: {example.output}"
        told = f'<p class="ps-note">{escape(said)}</p>' if said else _NOT_YET
        return [number, *map(_as_component_has_it, fields, values), _parameters_text(given), told]

    return fill


def _example_link(
    card: ModelCard,
    task: Task,
    number: int | None,
    examples: Sequence[CardExample],
    fields: Sequence[Field],
    body: Mapping[str, Any],
) -> str | None:
    """None: something else is asked than the example that the form was filled with."""
    if number is None or not 0 < number <= len(examples):
        return None
    pairs = zip(fields, values_of(fields, body), values_of(fields, examples[number - 1].body), strict=True)
    if any(field.kind not in FILE_KINDS and value != other for field, value, other in pairs):
        return None
    return f"{PATH}/model?{urlencode({'id': card.id, 'task': task.name, 'example': number})}"


async def _loading(visits: Visits, request: gr.Request, card: ModelCard) -> AsyncIterator[str]:
    """A bar for each step, until the model is there. Who may not have it loaded waits without one."""
    try:
        now = await visits.api.model(visits.key_of(request), card.id)
        if now.state not in ("unloaded", "loading", "unresolved"):
            return
        yield ""
        async for _ in visits.perform(request, "load", card.id):
            yield progress_html(now, visits.shown(request))
    except ApiError as error:
        if error.status not in (401, 403):
            raise


async def _matrix(visits: Visits, request: gr.Request, task: Task, card: ModelCard, body: Mapping[str, Any]) -> str:
    """Of sentences that were compared with one, how near they all are to each other: a second request."""
    if task.name != "sentence-similarity":
        return ""
    texts = [body["inputs"]["source_sentence"], *body["inputs"]["sentences"]]
    if not 2 < len(texts) <= _MAX_COMPARED:
        return ""
    every = [{"source_sentence": text, "sentences": texts} for text in texts]
    try:
        answer = await visits.api.ask(visits.key_of(request), task.name, card.id, {**body, "inputs": every})
    except ApiError:
        return ""  # what was asked is answered
    return f'<p class="ps-note">Each with each:</p>{matrix_html(texts, answer.json())}'


def _shown(task: Task, body: Mapping[str, Any], answer: Answer) -> str:
    if answer.media_type == "application/json":
        return answer_html(task.name, body, answer.json())
    return file_html(answer.content, answer.media_type)


def _examples_values(fields: Sequence[Field]) -> list[Any]:
    """Of the task, not of the card."""
    samples = {"image": (PNG, "png"), "audio": (WAV, "wav"), "video": (GIF, "gif")}
    return [
        _sample(*samples[field.kind])
        if field.kind in samples
        else field.example
        if field.kind in ("table", "json")
        else (", " if field.kind == "labels" else "\n").join(field.example)
        if isinstance(field.example, list)
        else field.example
        for field in fields
    ]


def _components(fields: Sequence[Field], values: Sequence[Any]) -> list[gr.components.Component]:
    """Pictures that stand one after the other stand side by side."""
    made: list[gr.components.Component] = []
    for kind, group in groupby(zip(fields, values, strict=True), key=lambda pair: pair[0].kind):
        pairs = list(group)
        if kind == "image" and len(pairs) > 1:
            with gr.Row():
                made += [_component(field, value) for field, value in pairs]
        else:
            made += [_component(field, value) for field, value in pairs]
    return made


def _component(field: Field, value: Any) -> gr.components.Component:
    """Gradio's browser half takes what stands in `gr.render` and has a value for an output, unless it is told so."""
    if field.kind == "image":
        return gr.Image(
            value,
            type="filepath",
            format="png",
            label=field.label,
            height=260,
            min_width=140,
            buttons=["fullscreen"],
            elem_classes="ps-given",
            interactive=True,
        )
    if field.kind == "audio":
        return gr.Audio(value, type="filepath", format="wav", label=field.label, buttons=["download"], interactive=True)
    if field.kind == "video":
        return _film(field, value)
    if field.kind == "table":
        rows, headers = _rows(value or field.example)
        return gr.Dataframe(rows, headers=headers, label=field.label, type="pandas", interactive=True)
    if field.kind == "json":
        text = value if isinstance(value, str) else json.dumps(field.example, indent=2, ensure_ascii=False)
        return gr.Code(text, language="json", label=field.label, interactive=True)
    is_long = field.kind in ("lines", "texts") or len(value or "") > _MULTILINE_CHARS or field.label == "Context"
    return gr.Textbox(value or "", label=field.label, lines=3 if is_long else 1, max_lines=12, interactive=True)


def _film(field: Field, value: Any) -> gr.File:
    """A file, and the film played below it: Gradio's own player would need ffmpeg for a GIF."""
    file = gr.File(value, label=field.label, file_types=["video", ".gif"], height=90, interactive=True)
    player = html(_film_html(value))
    file.change(_film_html, file, player, show_progress="hidden", api_visibility="private")
    return file


def _film_html(path: str | None) -> str:
    if path is None:
        return ""
    address = escape(f"{PATH}/gradio_api/file={quote(path)}")
    if path.lower().endswith(".gif"):
        return f'<img class="ps-picture ps-film" alt="The film" src="{address}">'
    return f'<video class="ps-picture ps-film" controls muted aria-label="The film" src="{address}"></video>'


def _as_component_has_it(field: Field, value: Any) -> Any:
    if field.kind == "table" and value is not None:
        rows, headers = _rows(value)
        return gr.Dataframe(rows, headers=headers)
    return "" if value is None and field.kind not in FILE_KINDS else value


def _rows(table: Mapping[str, Sequence[str]]) -> tuple[list[list[str]], list[str]]:
    return [list(row) for row in zip(*table.values(), strict=True)], list(table)


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
    """Files as base64; of a table its headers and rows, which both may be others by now."""
    if field.kind in _FILE_NAMES:
        return None if value is None else read_upload(str(value), upload_folder())
    if field.kind == "table":
        return list(value.columns), value.to_numpy().tolist()
    return value


def _names_of(fields: Sequence[Field], body: Mapping[str, Any]) -> dict[str, str]:
    names: dict[str, str] = {}
    for field in fields:
        if field.kind in _FILE_NAMES:
            place: Any = body
            for step in field.path:
                place = place[step]
            name = _FILE_NAMES[field.kind]
            names[place] = name if not names else name.replace(".", f"-{len(names) + 1}.")
    return names


def _parameters_text(parameters: Mapping[str, Any]) -> str:
    return json.dumps(parameters, indent=2, ensure_ascii=False)


def _parameters_html(task: Task) -> str:
    rows = "".join(
        f'<tr><th scope="row"><code>{escape(name)}</code></th><td>{escape(info.description or "")}</td></tr>'
        for name, info in task.parameters.model_fields.items()
    )
    shown = f'<div class="ps-long" tabindex="0"><table class="ps-table ps-words">{rows}</table></div>'
    return shown if rows else '<p class="ps-note">This task has none.</p>'
