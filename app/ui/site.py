"""The pages' process put together: the guard, the login, Gradio's pages, this folder's files; on a Unix socket."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import gradio as gr
import uvicorn
from fastapi import FastAPI
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from app.ui import look
from app.ui.client import Api
from app.ui.guard import Guard
from app.ui.look.theme import theme
from app.ui.pages import Visits, build_pages
from app.ui.sessions import Sessions
from app.ui.told import PATH, Told

_HEAD = f'<link rel="icon" type="image/png" href="{PATH}/look/favicon.png"><script src="{PATH}/look/pages.js"></script>'
_LAST_WRITES_S = 1


def build_site(told: Told, api: Api) -> ASGIApp:
    sessions = Sessions(clock=time.monotonic)
    visits = Visits(api, sessions, needs_key=told.needs_key)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await api.close()

    app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    app.mount(f"{PATH}/look", StaticFiles(directory=look.FILES), name="look")
    app = gr.mount_gradio_app(
        app,
        build_pages(visits, told),
        path=PATH,
        root_path=PATH,
        footer_links=[],
        run_history=False,
        app_kwargs={"docs_url": None, "redoc_url": None, "openapi_url": None},
        show_error=True,
        max_file_size=told.max_file_bytes,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=theme(),
        css_paths=look.FILES / "pages.css",
        head=_HEAD,
    )
    return Guard(app, sessions=sessions, check=api.visitor, needs_key=told.needs_key)


def serve(told: Told) -> None:
    asyncio.run(_serve(told))


async def _serve(told: Told) -> None:
    api = Api(told)
    config = uvicorn.Config(
        build_site(told, api),
        uds=told.socket,
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # the guard and Gradio read what the API process says
        timeout_keep_alive=3600,  # it is the only client
        timeout_graceful_shutdown=_LAST_WRITES_S,
    )
    await _Server(config).serve()


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        await super().startup()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
