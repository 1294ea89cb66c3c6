"""One model: what it is, trying it, using it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from app.api.schemas import ModelCard, ModelDetails
from app.tasks.completion import GENERATING_TASKS
from app.ui.catalogue import (
    ACT,
    Shown,
    actions,
    modality_of,
    model_url,
    progress_html,
    publisher_mark,
    state_mark,
    task_tags,
)
from app.ui.charts import charts_html
from app.ui.client import ApiError
from app.ui.look import ICONS
from app.ui.look.html import beat, html
from app.ui.markdown import card_html
from app.ui.snippets import snippets
from app.ui.try_it.opened import Opened, tasks_of
from app.ui.try_it.panel import try_each
from app.ui.tuned import tuning_html
from app.ui.words import bytes_text, count_text, since_text

if TYPE_CHECKING:
    from app.ui.pages import Visits

_MAX_LABELS = 40
_REFRESH_S = 5.0
_CHARTS_S = 2.0
_LIVE = "Last 5 minutes"
_QUANTISED = re.compile(r"int8|uint8|qint|quant|int4|q4|q8|bnb4|\.gguf$", re.IGNORECASE)  # as exporters name files
_LONG_CARD = 2500  # characters of a model card that is folded


def model_page(visits: Visits, opened: Opened, request: gr.Request, *, url: str, needs_key: bool) -> None:
    """Within a Blocks context. url: of the server, as the visitor's browser knows it."""
    details = opened.details
    card = details.model
    tasks = tasks_of(card)
    _head(visits, details, visits.shown(request))
    with gr.Row(elem_classes="ps-columns"):
        with gr.Column(scale=7, min_width=320):
            with gr.Column(elem_classes="ps-try"):
                html('<h2 class="ps-h">Try it</h2>')
                try_each(visits, opened, url=url, needs_key=needs_key)
            with gr.Tabs():
                with gr.Tab("Model card"):
                    html(_card(details))
                if details.tuning:
                    with gr.Tab("Tuned"):
                        html("".join(map(tuning_html, details.tuning)))
                with gr.Tab(f"Files ({len(details.files)})"):
                    html(files_html(details))
        with gr.Column(scale=5, min_width=300):
            _live(visits, card)
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


def _live(visits: Visits, card: ModelCard) -> None:
    """Charts that are drawn anew while somebody looks."""
    generates = any(task in GENERATING_TASKS for task in [*card.tasks, *card.implied_tasks])
    charts = html(_panel(_LIVE, ""), elem_classes="ps-live")

    async def draw(request: gr.Request) -> Any:
        try:
            activity = await visits.api.activity(visits.key_of(request), card.id)
        except ApiError:
            return gr.skip()  # the page says that the server cannot be reached
        return _panel(_LIVE, charts_html(activity, generates=generates))

    beat(_CHARTS_S, at_once=True).click(draw, outputs=[charts], show_progress="hidden", api_visibility="private")


def _head(visits: Visits, details: ModelDetails, shown: Shown) -> None:
    """Follows what becomes of the model, and has it loaded, unloaded and pinned."""
    card = details.model
    head = html(head_html(card, details.card_data, shown), js_on_load=ACT)

    async def refresh(request: gr.Request) -> Any:
        try:
            now = await visits.api.model(visits.key_of(request), card.id)
            return head_html(now, details.card_data, visits.shown(request))
        except ApiError:
            return gr.skip()  # the page says that the server cannot be reached

    async def act(request: gr.Request, event: gr.EventData) -> AsyncIterator[Any]:
        try:
            async for _ in visits.perform(request, str(event.action), card.id):
                yield await refresh(request)
        except ApiError as error:
            gr.Warning(str(error))
        yield await refresh(request)

    beat(_REFRESH_S, at_once=True).click(refresh, outputs=[head], show_progress="hidden", api_visibility="private")
    head.click(act, outputs=[head], show_progress="hidden", concurrency_limit=None, api_visibility="private")


def _panel(title: str, content: str) -> str:
    return f'<section class="ps-panel"><h2 class="ps-h">{title}</h2>{content}</section>'


def head_html(card: ModelCard, front: Mapping[str, Any], shown: Shown) -> str:
    owner, slash, name = card.id.rpartition("/")
    modality = modality_of(card)
    used = None if card.last_used_at is None else f"used {since_text(shown.now - card.last_used_at)}"
    pinned = "pinned" if card.pinned else None
    facts = "".join(f"<span>{escape(fact)}</span>" for fact in (card.device, used, pinned) if fact)
    reason = "" if card.reason is None else f'<p class="ps-reason">{escape(card.reason)}</p>'
    more = "".join(
        f'<span class="ps-tag ps-more">{escape(label)}: {escape(", ".join(_texts(front.get(key))[:3]))}</span>'
        for key, label in (("license", "license"), ("language", "language"), ("library_name", "library"))
        if _texts(front.get(key))
    )
    return (
        f'<header class="ps-head"><span class="ps-tile ps-{modality}">{ICONS.get(modality, ICONS["text"])}</span><div>'
        f'<h1><span class="ps-owner">{escape(owner + slash)}</span><b>{escape(name)}</b>{publisher_mark(card)}'
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
    for variant in details.variants:
        how = " ".join(part for part in (variant.backend, variant.quantization or variant.dtype) if part)
        yield "variant", f'<a href="{model_url(variant.id)}">{escape(variant.id)}</a> <span>{escape(how)}</span>'
    for file in details.files:
        if file.path.endswith((".onnx", "openvino_model.xml", ".gguf")):
            kind = "quantised" if _QUANTISED.search(file.path) else "export"
            yield kind, f'{escape(file.path)} <span class="ps-num">{bytes_text(file.size)}</span>'
    for tuning in details.tuning:
        best = next((one.speedup for one in tuning.candidates if one.name == tuning.chosen), None)
        speed = "" if best is None else f' <span class="ps-num">{best:.2f} × plain torch</span>'
        yield "tuned", f"{escape(tuning.chosen)}{speed}"


def _card(details: ModelDetails) -> str:
    problems = "".join(f'<p class="ps-reason">{escape(problem)}</p>' for problem in details.problems)
    if not details.card:
        return f'{problems}<div class="ps-empty"><h2>No model card</h2><p>Its folder has no README.md.</p></div>'
    card = f'<article class="ps-text-card">{card_html(details.card)}</article>'
    if len(details.card) > _LONG_CARD:
        unfold = '<button type="button" class="ps-button" data-unfold aria-expanded="false">Show all of it</button>'
        card = f'<div class="ps-long-card">{card}{unfold}</div>'
    return problems + card


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
