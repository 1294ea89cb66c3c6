"""One model: what it is, trying it, using it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from app.api.schemas import ModelCard, ModelDetails
from app.tasks.base import Task
from app.tasks.registry import TASKS
from app.ui.catalogue import (
    ACT,
    Shown,
    actions,
    modality_of,
    model_url,
    official_mark,
    progress_html,
    state_mark,
    task_tags,
)
from app.ui.client import ApiError
from app.ui.look import ICONS
from app.ui.look.html import html
from app.ui.markdown import card_html
from app.ui.snippets import snippets
from app.ui.try_it.chat import CHAT_TASKS, WITH_PICTURES, chat
from app.ui.try_it.widget import try_it
from app.ui.words import bytes_text, count_text, since_text

if TYPE_CHECKING:
    from app.ui.pages import Visits

_MAX_LABELS = 40
_REFRESH_S = 5.0


def model_page(visits: Visits, details: ModelDetails, *, url: str, needs_key: bool) -> None:
    """Within a Blocks context. url: of the server, as the visitor's browser knows it."""
    card = details.model
    tasks = [TASKS[name] for name in [*card.tasks, *card.implied_tasks] if name in TASKS]
    _head(visits, details)
    with gr.Row(elem_classes="ps-columns"):
        with gr.Column(scale=7, min_width=320):
            with gr.Column(elem_classes="ps-try"):
                html('<h2 class="ps-h">Try it</h2>')
                _try_each(visits, card, tasks, url=url, needs_key=needs_key)
            with gr.Tabs():
                with gr.Tab("Model card"):
                    html(_card(details))
                with gr.Tab(f"Files ({len(details.files)})"):
                    html(files_html(details))
        with gr.Column(scale=5, min_width=300):
            html(_panel("At a glance", glance_html(details)))
            if tree := tree_html(details):
                html(_panel("Model tree", tree))
            if tasks:
                html('<h2 class="ps-h">Use this model</h2>')
                with gr.Tabs():
                    for name, language, text in snippets(card, tasks[0], url=url, needs_key=needs_key):
                        with gr.Tab(name):
                            gr.Code(
                                text, language=language, show_label=False, interactive=False, lines=1, wrap_lines=True
                            )


def _head(visits: Visits, details: ModelDetails) -> None:
    """Follows what becomes of the model, and has it loaded and unloaded."""
    card = details.model
    head = html(head_html(card, details.card_data, visits.shown()), js_on_load=ACT)

    async def refresh(request: gr.Request) -> Any:
        try:
            now = await visits.api.details(visits.key_of(request), card.id)
        except ApiError:
            return gr.skip()  # the page says that the server cannot be reached
        return head_html(now.model, now.card_data, visits.shown())

    async def act(request: gr.Request, event: gr.EventData) -> AsyncIterator[Any]:
        try:
            async for _ in visits.perform(request, str(event.action), card.id):
                yield await refresh(request)
        except ApiError as error:
            gr.Warning(str(error))
        yield await refresh(request)

    timer = gr.Timer(_REFRESH_S)
    timer.tick(refresh, outputs=[head], show_progress="hidden", api_visibility="private")
    head.click(act, outputs=[head], show_progress="hidden", concurrency_limit=None, api_visibility="private")


def _try_each(visits: Visits, card: ModelCard, tasks: Sequence[Task], *, url: str, needs_key: bool) -> None:
    forms: list[tuple[str, Callable[[], None]]] = [
        (task.name.replace("-", " ").capitalize(), partial(try_it, visits, card, task, url=url, needs_key=needs_key))
        for task in tasks
    ]
    names = {task.name for task in tasks}
    if names & CHAT_TASKS:
        forms.insert(0, ("Chat", partial(chat, visits, card, with_pictures=bool(names & WITH_PICTURES))))
    if not forms:
        html('<p class="ps-note">What this model does is not known before its first load.</p>')
    elif len(forms) == 1:
        forms[0][1]()
    else:
        with gr.Tabs():
            for name, form in forms:
                with gr.Tab(name):
                    form()


def _panel(title: str, content: str) -> str:
    return f'<section class="ps-panel"><h2 class="ps-h">{title}</h2>{content}</section>'


def head_html(card: ModelCard, front: Mapping[str, Any], shown: Shown) -> str:
    owner, slash, name = card.id.rpartition("/")
    modality = modality_of(card)
    used = None if card.last_used_at is None else f"used {since_text(shown.now - card.last_used_at)}"
    facts = "".join(f"<span>{escape(fact)}</span>" for fact in (card.device, used) if fact)
    reason = "" if card.reason is None else f'<p class="ps-reason">{escape(card.reason)}</p>'
    more = "".join(
        f'<span class="ps-tag ps-more">{escape(label)}: {escape(", ".join(_texts(front.get(key))[:3]))}</span>'
        for key, label in (("license", "license"), ("language", "language"), ("library_name", "library"))
        if _texts(front.get(key))
    )
    return (
        f'<header class="ps-head"><span class="ps-tile ps-{modality}">{ICONS.get(modality, ICONS["text"])}</span><div>'
        f'<h1><span class="ps-owner">{escape(owner + slash)}</span><b>{escape(name)}</b>{official_mark(card)}'
        f'<button type="button" class="ps-button ps-copy" data-copy="{escape(card.id)}">Copy</button></h1>'
        f'<p class="ps-facts">{state_mark(card)}{facts}</p></div>'
        f'<div class="ps-actions">{actions(card, shown)}</div></header>'
        f"{progress_html(card, shown)}"
        f'<p class="ps-tags">{task_tags(card)}{more}</p>{reason}'
    )


def _texts(value: Any) -> list[str]:
    """Front matter has one text or several in most places."""
    if isinstance(value, str):
        return [value]
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def glance_html(details: ModelDetails) -> str:
    card, config = details.model, details.config
    rows = {
        "Parameters": None if card.num_parameters is None else count_text(card.num_parameters),
        "Architecture": config.get("architecture"),
        "Layers": config.get("layers"),
        "Hidden size": config.get("hidden_size"),
        "Attention heads": config.get("attention_heads"),
        "Context": _tokens(card.max_length or config.get("context")),
        "Vocabulary": config.get("vocabulary"),
        "Vector": None if card.embedding_size is None else f"{card.embedding_size} values",
        "Type of numbers": card.dtype or config.get("dtype"),
        "Computed by": card.backend,
        "Memory": None if card.memory_bytes is None else bytes_text(card.memory_bytes),
        "Replicas": card.replicas if card.replicas > 1 else None,
        "Revision": details.commit or card.revision,
        "Also called": ", ".join(card.aliases),
        "Stays loaded": _stay(card),
    }
    cells = "".join(
        f'<tr><th scope="row">{name}</th><td>{escape(str(value))}</td></tr>' for name, value in rows.items() if value
    )
    labels = "".join(f'<span class="ps-tag">{escape(label)}</span>' for label in details.labels[:_MAX_LABELS])
    more = len(details.labels) - _MAX_LABELS
    if more > 0:
        labels += f'<span class="ps-tag ps-more">+{more}</span>'
    told = f'<h3 class="ps-h3">{len(details.labels)} labels</h3><p class="ps-tags">{labels}</p>' if labels else ""
    return f'<table class="ps-table">{cells}</table>{told}'


def _tokens(number: Any) -> str | None:
    return f"{number} tokens" if number else None


def _stay(card: ModelCard) -> str:
    if card.pinned:
        return "always (pinned)"
    if card.keep_alive_s < 0:
        return "until its memory is needed"
    return f"{card.keep_alive_s / 60:.3g} min after its last use"


def tree_html(details: ModelDetails) -> str:
    """What it was made from, and what is on it here. Nothing where it stands alone."""
    rows = list(_branches(details))
    if not rows:
        return ""
    return '<ul class="ps-tree">' + "".join(f"<li><small>{kind}</small>{name}</li>" for kind, name in rows) + "</ul>"


def _branches(details: ModelDetails) -> Iterator[tuple[str, str]]:
    for base in _texts(details.card_data.get("base_model")):
        yield "made from", escape(base)
    if details.model.parent is not None:
        yield "adapter of", f'<a href="{model_url(details.model.parent)}">{escape(details.model.parent)}</a>'
    for adapter in details.adapters:
        yield "adapter", f'<a href="{model_url(adapter.id)}">{escape(adapter.id)}</a>'
    for file in details.files:
        if file.path.endswith((".onnx", "openvino_model.xml", ".gguf")):
            yield "export", f'{escape(file.path)} <span class="ps-num">{bytes_text(file.size)}</span>'


def _card(details: ModelDetails) -> str:
    problems = "".join(f'<p class="ps-reason">{escape(problem)}</p>' for problem in details.problems)
    if not details.card:
        return f'{problems}<div class="ps-empty"><h2>No model card</h2><p>Its folder has no README.md.</p></div>'
    return f'{problems}<article class="ps-text-card">{card_html(details.card)}</article>'


def files_html(details: ModelDetails) -> str:
    if not details.files:
        return (
            '<div class="ps-empty"><h2>No files yet</h2>'
            "<p>They are downloaded when the model is first loaded.</p></div>"
        )
    rows = "".join(
        f'<tr><th scope="row">{escape(file.path)}</th><td class="ps-num">{bytes_text(file.size)}</td></tr>'
        for file in details.files
    )
    total = sum(file.size for file in details.files)
    return (
        f'<table class="ps-table">{rows}<tr><th scope="row"><b>Together</b></th>'
        f'<td class="ps-num">{bytes_text(total)}</td></tr></table>'
    )
