"""Gradio's pages: the catalogue at `/ui/`, a model at `/ui/model?id=...`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from html import escape
from typing import Any

import gradio as gr

from app.api.schemas import LoadProgress, ModelCard
from app.ui.catalogue import ACT, Shown, cards_html, filters_html
from app.ui.client import Api, ApiError
from app.ui.guard import COOKIE, LOGOUT
from app.ui.look import ICONS, LOGO
from app.ui.look.html import beat, html
from app.ui.model_page import model_page
from app.ui.sessions import Sessions, Visitor
from app.ui.told import PATH, Told
from app.ui.try_it.opened import Opened, opened
from app.ui.try_it.widget import upload_folder

_REFRESH_S = 3.0


class Visits:
    """What a request of Gradio's may see: the server's API, with the key of its browser."""

    def __init__(self, api: Api, sessions: Sessions, *, needs_key: bool) -> None:
        self.api = api
        self._sessions = sessions
        self._needs_key = needs_key
        self._loads: dict[str, LoadProgress] = {}

    def key_of(self, request: gr.Request) -> str | None:
        """Raises ApiError for a browser that is not logged in any more."""
        if not self._needs_key:
            return None
        visitor = self._visitor_of(request)
        if visitor is None:
            raise ApiError(401, "You are not logged in any more. Reload the page.")
        return visitor.key

    def _visitor_of(self, request: gr.Request) -> Visitor | None:
        return self._sessions.visitor_of(request.cookies.get(COOKIE, ""))

    async def models(self, request: gr.Request) -> list[ModelCard]:
        return await self.api.models(self.key_of(request))

    def shown(self, request: gr.Request) -> Shown:
        visitor = self._visitor_of(request)
        may_administer = not self._needs_key or (visitor is not None and visitor.may_administer)
        return Shown(now=time.time(), loads=self._loads, may_administer=may_administer)

    async def perform(self, request: gr.Request, action: str, model: str) -> AsyncIterator[None]:
        """Load, unload, pin or unpin a model; once for each step that a page may show. Raises ApiError."""
        key = self.key_of(request)
        if action in ("unload", "pin", "unpin"):
            await self.api.tell(key, model, action)
            return
        try:
            async for progress in self.api.load(key, model):
                self._loads[model] = progress
                yield
        finally:
            self._loads.pop(model, None)


def build_pages(visits: Visits, told: Told) -> gr.Blocks:
    with gr.Blocks(title="Pipeserve", analytics_enabled=False, fill_width=True, delete_cache=(600, 3600)) as pages:
        _catalogue(pages, visits, told)
    with pages.route("Model", "model", show_in_navbar=False):
        html(_bar(told))
        waiting = html(_skeleton("Looking for the model"))
        found: gr.State = gr.State()

        async def find(request: gr.Request) -> Opened | str:
            try:
                return await opened(visits.api, visits.key_of(request), request.query_params, upload_folder())
            except ApiError as error:
                return str(error)

        # Gradio calls what renders in a thread, where there is no API.
        @gr.render(inputs=[found], triggers=[found.change], show_progress="hidden")  # type: ignore[untyped-decorator]
        def one_model(model: Opened | str, request: gr.Request) -> None:
            with gr.Column(elem_classes="ps-page"):
                if isinstance(model, str):
                    html(_no_model(model))
                else:
                    model_page(visits, model, request, url=_base_url(request), needs_key=told.needs_key)

        found.change(lambda: gr.HTML("", visible=False), outputs=[waiting], api_visibility="private")
        pages.load(find, outputs=[found], show_progress="hidden", api_visibility="private")

    return pages


def _catalogue(pages: gr.Blocks, visits: Visits, told: Told) -> None:
    html(_bar(told))
    with gr.Row(elem_classes="ps-page"):
        with gr.Column(scale=3, min_width=240):
            filters = html()
        with gr.Column(scale=9, min_width=300):
            alert = html(visible=False)
            cards = html(_skeleton("Looking for the models"), js_on_load=ACT)
            clock = beat(_REFRESH_S)

    async def show(request: gr.Request) -> tuple[Any, Any, Any]:
        try:
            found = await visits.models(request)
        except ApiError as error:
            return gr.skip(), gr.skip(), gr.HTML(_alert(str(error)), visible=True)
        return filters_html(found), cards_html(found, visits.shown(request)), gr.HTML("", visible=False)

    async def refresh(request: gr.Request) -> tuple[Any, Any]:
        _, html, told = await show(request)
        return html, told

    async def act(request: gr.Request, event: gr.EventData) -> AsyncIterator[tuple[Any, Any]]:
        try:
            async for _ in visits.perform(request, str(event.action), str(event.model)):
                yield cards_html(await visits.models(request), visits.shown(request)), gr.skip()
        except ApiError as error:
            gr.Warning(str(error))
        yield await refresh(request)

    pages.load(show, outputs=[filters, cards, alert], show_progress="hidden", api_visibility="private")
    clock.click(refresh, outputs=[cards, alert], show_progress="hidden", api_visibility="private")
    cards.click(
        act,
        outputs=[cards, alert],
        show_progress="hidden",
        concurrency_limit=None,
        trigger_mode="multiple",
        api_visibility="private",
    )


def _bar(told: Told) -> str:
    docs = '<a href="/docs">API</a>' if told.has_docs else ""
    log_out = f'<form method="post" action="{LOGOUT}"><button>Log out</button></form>' if told.needs_key else ""
    return (
        f'<nav class="ps-bar"><a class="ps-brand" href="{PATH}/">{LOGO} Pipeserve</a><a href="{PATH}/">Models</a>{docs}'
        f'<span class="ps-space"></span><button type="button" data-theme-toggle aria-label="Light or dark">'
        f"{ICONS['theme']}</button>{log_out}</nav>"
    )


def _alert(message: str) -> str:
    return f'<div class="ps-alert" role="alert">{escape(message)}</div>'


def _no_model(message: str) -> str:
    return (
        f'<div class="ps-empty" role="alert"><h2>This model cannot be shown</h2><p>{escape(message)}</p>'
        f'<a class="ps-button" href="{PATH}/">All models</a></div>'
    )


def _skeleton(label: str) -> str:
    return f'<div class="ps-progress ps-unknown" role="progressbar" aria-label="{label}"><i></i></div>'


def _base_url(request: gr.Request) -> str:
    """Of the server, as this browser knows it."""
    scheme = request.headers.get("x-forwarded-proto", "http")
    return f"{scheme}://{request.headers.get('host', '127.0.0.1:8000')}"
