"""The composition root: the only file that knows everybody."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from app import __version__
from app.access.key_file import KeyFileProblem
from app.access.keyring import Keyring
from app.api.access.caller import anybody, is_loopback, nobody
from app.api.access.cors import cors
from app.api.access.door import OPEN_PATHS, Callers, Door
from app.api.access.usage import usage_router
from app.api.adapters import LoraAdapters, adapters_document
from app.api.anthropic.document import messages_document
from app.api.anthropic.endpoint import Messages
from app.api.application import Application
from app.api.dialects.document import dialect_document
from app.api.dialects.endpoint import Dialects, dialect_routes
from app.api.dialects.info import info_router
from app.api.errors import exception_handlers, is_failure
from app.api.generating import Generating
from app.api.inside import Inside
from app.api.middleware import RequestMiddleware
from app.api.models import model_pages_router, models_router, reload_router
from app.api.ollama.document import ollama_document
from app.api.ollama.endpoint import Ollama, ollama_routes
from app.api.open_inference.document import open_inference_document
from app.api.open_inference.endpoint import OpenInference, open_inference_routes
from app.api.openai.audio.document import audio_document
from app.api.openai.audio.speech import Speech
from app.api.openai.audio.transcriptions import Transcriptions
from app.api.openai.batches import Batches
from app.api.openai.batches_document import batches_document
from app.api.openai.document import openai_document
from app.api.openai.embeddings import OpenAIEmbeddings
from app.api.openai.endpoint import OpenAIGeneration
from app.api.openai.files import Files
from app.api.openai.moderations import OpenAIModerations
from app.api.openapi import install_openapi
from app.api.ops import install_docs, ops_router
from app.api.responses.document import responses_document
from app.api.responses.endpoint import INPUT_TOKENS, Responses, kept_responses_routes
from app.api.responses.store import ResponseStore
from app.api.routing import Served, root_routes
from app.api.server import Server, bind, make_room_for, url_of, why_not_bound
from app.api.tasks import TaskAnswerer, task_routes
from app.api.ui.process import COMMAND, PagesProcess
from app.api.ui.proxy import pages_routes
from app.api.unserved import unserved_routes
from app.batches.runner import BatchRunner, batches_running
from app.batches.store import StoreThread
from app.catalog import Catalog, ModelSpec
from app.errors import CatalogError
from app.fleet.fleet import Fleet
from app.fleet.launcher import EnvironmentsLauncher, folder_for_compiled_code, make_launcher
from app.fleet.requests import FleetAPI
from app.logs import configure_logging
from app.media.remote import MediaFetcher
from app.notify import Notifier
from app.reloading import Reloader, Source
from app.resolving import resolve
from app.settings import Settings
from app.telemetry import KeyCollector, Telemetry
from app.tracing.environment import tracing_from
from app.tuning.choices import FILE, Choices

if TYPE_CHECKING:
    from app.tracing.tracing import Tracing

_MAX_RESOLVING = 16  # entries that the Hub is asked about at a time

logger = logging.getLogger(__name__)


def build_app(
    settings: Settings,
    catalog: Catalog,
    fleet: FleetAPI,
    telemetry: Telemetry,
    reloader: Reloader | None = None,
    tracing: Tracing | None = None,
    pages_command: Sequence[str] = COMMAND,
) -> Application:
    """The app's lifespan starts the fleet and stops it, and sends the last spans. Raises KeyFileProblem."""
    keyring = Keyring(settings.keys, settings.keys_file) if settings.keys or settings.keys_file is not None else None
    callers = None if keyring is None else Callers(keyring.clients, fleet)
    caller = anybody(fleet, host=settings.host) if keyring is None else nobody(fleet)
    beside: list[Callable[[], AbstractAsyncContextManager[None]]] = []  # what runs while the server does
    pages = PagesProcess(
        needs_key=keyring is not None,
        has_docs=settings.docs,
        max_file_bytes=settings.max_body_bytes,
        certificate=None if settings.tls is None else settings.tls.certfile,
        clock=time.monotonic,
        command=pages_command,
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            if tracing is not None:
                stack.push_async_callback(tracing.close)
            if keyring is not None:
                await stack.enter_async_context(keyring.followed())
            await fleet.start()
            stack.push_async_callback(fleet.stop)
            for running in beside:
                await stack.enter_async_context(running())
            stack.push_async_callback(pages.stop)
            yield

    def around(inner: ASGIApp) -> ASGIApp:
        if callers is not None:
            inner = Door(inner, callers=callers, has_pages=settings.ui)
        if settings.cors_origins:
            inner = cors(inner, settings.cors_origins)
        return RequestMiddleware(inner, caller=caller, telemetry=telemetry, clock=time.perf_counter, tracing=tracing)

    telemetry.declare(catalog.models)
    app = Application(
        around=around,
        title="Pipeserve",
        version=__version__,
        lifespan=lifespan,
        openapi_url="/openapi.json" if settings.docs else None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers=exception_handlers(),
        end_streams=pages.stop,
    )
    fetcher = MediaFetcher(catalog.media)
    answerer = TaskAnswerer(
        max_body_bytes=settings.max_body_bytes,
        max_inputs=catalog.queue_items(settings.max_queue_items),
        fetch_file=fetcher.fetch,
        clock=time.perf_counter,
    )
    generating = Generating(answerer)
    generation = OpenAIGeneration(generating, answerer, clock=time.time)
    responses = Responses(generating, answerer, ResponseStore(clock=time.monotonic), clock=time.time)
    dialects = Dialects(answerer, generation, clock=time.time)
    others: list[Served] = [
        generation,
        responses,
        OpenAIEmbeddings(answerer),
        OpenAIModerations(answerer),
        Transcriptions(answerer),
        Speech(answerer),
        Messages(generating, answerer),
        LoraAdapters(answerer),
    ]
    app.router.routes.extend(dialect_routes(dialects))
    app.router.routes.extend(kept_responses_routes(responses))
    app.router.routes.extend(task_routes(answerer, [dialects, *others], apart=[INPUT_TOKENS]))
    app.router.routes.extend(route for served in others for route in root_routes(served))
    ollama = Ollama(generating, answerer, clock=time.time, timer=time.perf_counter)
    app.router.routes.extend(ollama_routes(ollama))
    app.router.routes.extend(open_inference_routes(OpenInference(answerer)))
    if settings.files_dir is not None:
        inside = Inside(app, callers, caller, telemetry, time.perf_counter)
        store = StoreThread(settings.files_dir)
        runner = BatchRunner(
            store,
            inside.ask,
            is_accepting=lambda: fleet.is_accepting,
            clock=time.time,
            max_line_bytes=settings.max_body_bytes,
            told=telemetry.batch_request_ended,
        )
        telemetry.count_batches(lambda: runner.num_running)
        beside.append(partial(batches_running, store, runner))
        files = Files(store, runner, max_total_bytes=settings.max_files_bytes, clock=time.time)
        app.router.routes.extend(files.routes())
        app.router.routes.extend(Batches(answerer, store, runner, clock=time.time).routes())
    app.router.routes.extend(unserved_routes())
    # Not by `include_router`, behind which a newer FastAPI's routes do not tell their paths and methods.
    if reloader is not None:
        reloader.follow(lambda catalog: fetcher.become(catalog.media))
        app.router.routes.extend(reload_router(reloader.reload).routes)
    models = models_router(
        created=int(time.time()),
        recent=telemetry.recent.of,
        activity=telemetry.activity,
        tuned=Choices(settings.cache_dir / FILE).of,
    )
    app.router.routes.extend(models.routes)
    app.router.routes.extend(model_pages_router().routes)
    app.router.routes.extend(info_router().routes)
    app.router.routes.extend(ops_router(fleet, telemetry, has_docs=settings.docs).routes)
    if keyring is not None:
        telemetry.registry.register(KeyCollector(keyring.clients))
        app.router.routes.extend(usage_router(keyring.clients, since=time.time()).routes)
    if settings.ui:
        app.router.routes.extend(pages_routes(pages, max_body_bytes=settings.max_body_bytes))
    if settings.docs:
        install_docs(app)
    install_openapi(
        app,
        needs_key=None if keyring is None else lambda path: path not in OPEN_PATHS,
        more=[
            openai_document,
            audio_document,
            responses_document,
            messages_document,
            ollama_document,
            dialect_document,
            open_inference_document,
            adapters_document,
            *([] if settings.files_dir is None else [batches_document]),
        ],
    )
    return app


def serve(settings: Settings) -> None:
    """Everything from here to the end of the server. Raises SystemExit when models.yaml is wrong, or the address cannot
    be had."""
    configure_logging(level=settings.log_level, form=settings.log_format)
    signal.signal(signal.SIGHUP, lambda *_: None)  # until it is served, there is nothing to reload, and nothing to end
    with ExitStack() as stack:
        try:
            stack.enter_context(folder_for_compiled_code(settings.cache_dir, os.environ))
        except OSError as error:
            raise SystemExit(f"there is no folder for temporary files (TMPDIR): {error.strerror or error}") from None
        _serve(settings)


def _serve(settings: Settings) -> None:
    notifier = Notifier.taken_from(os.environ)
    source = Source(settings.models, settings.cache_dir)
    try:
        catalog = source.read()
    except CatalogError as error:
        raise SystemExit(str(error)) from None
    telemetry = Telemetry(CollectorRegistry())
    launcher = EnvironmentsLauncher(
        make_launcher(settings),
        source.environments,
        log_level=settings.log_level,
        log_format=settings.log_format,
        cache_dir=settings.cache_dir,
    )

    turns = asyncio.Semaphore(_MAX_RESOLVING)

    async def resolve_and_decide(spec: ModelSpec) -> ModelSpec:
        async with turns:
            found = await resolve(spec)
        return await asyncio.to_thread(source.decide, found)

    fleet = Fleet(catalog, settings, launcher, events=telemetry, resolver=resolve_and_decide)
    reloader = Reloader(source.read, catalog, fleet, telemetry, settings, notifier)
    tracing = tracing_from(os.environ, is_failure=is_failure)
    try:
        app = build_app(settings, catalog, fleet, telemetry, reloader, tracing)
    except KeyFileProblem as problem:
        raise SystemExit(str(problem)) from None
    if settings.keys_file is None and not settings.keys and not is_loopback(settings.host):
        logger.warning("there are no API keys: whoever reaches %s:%d may use every model", settings.host, settings.port)
    run(settings, app, fleet, telemetry, reload=reloader.reload, notifier=notifier)


def run(
    settings: Settings,
    app: Application,
    fleet: FleetAPI,
    telemetry: Telemetry,
    *,
    reload: Callable[[], Awaitable[object]] | None = None,
    notifier: Notifier | None = None,
) -> None:
    """Serve until a signal says to stop. Raises SystemExit with a sentence when the address cannot be had, or the files
    of TLS cannot be used."""
    try:
        listener = bind(settings.host, settings.port)
    except OSError as error:
        raise SystemExit(why_not_bound(settings.host, settings.port, error)) from None

    def announce() -> None:
        told = f"serving on {url_of(listener, 'http' if settings.tls is None else 'https')}"
        sys.stdout.write(f"{told}\n")
        sys.stdout.flush()
        if notifier is not None:
            notifier.ready(told)

    # What was made so far stays: the collector need not walk it in the midst of requests.
    gc.collect()
    gc.freeze()
    max_connections = make_room_for(settings.max_connections)
    if max_connections < settings.max_connections:
        logger.warning("the limit of open files leaves room for %d connections", max_connections)
    try:
        server = Server(
            app,
            fleet,
            drain_s=settings.drain_s,
            announce=announce,
            tls=settings.tls,
            client_timeout_s=settings.client_timeout_s,
            max_connections=max_connections,
            cut=telemetry.connection_cut,
            reload=reload,
            end_streams=app.end_streams,
            notifier=notifier,
        )
    except OSError as error:
        raise SystemExit(f"TLS: the files of --ssl-certfile and its like cannot be used: {error}") from None
    server.run(sockets=[listener])
