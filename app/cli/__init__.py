"""The `pipeserve` command. Heavy modules are imported where they are used: `pipeserve --help` is to be quick."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app import __version__
from app.cli.bench import bench
from app.cli.chat import chat
from app.cli.check import check
from app.cli.doctor import doctor
from app.cli.environments import CacheDir, env
from app.cli.evaluate import evaluate
from app.cli.init import init
from app.cli.keys import keys
from app.cli.map import map_rows
from app.cli.models import list_models, load, pin, ps, show, stop, unpin
from app.cli.printing import AsJson, fail, print_json
from app.cli.pull import pull
from app.cli.push import push
from app.cli.ray import ray_manifest
from app.cli.rm import rm
from app.cli.run import run
from app.cli.top import top
from app.cli.tune import tune
from app.settings import Settings, Tls, default_cache_dir

if TYPE_CHECKING:
    from app.access.keys import Key

cli = typer.Typer(
    name="pipeserve",
    help="One HTTP server for every Hugging Face pipeline.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
cli.add_typer(env, name="env")
cli.add_typer(keys, name="keys")

DEFAULT = Settings()
"""What flags and variables fall back to."""


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


class LauncherName(StrEnum):
    AUTO = "auto"
    FORKSERVER = "forkserver"
    SPAWN = "spawn"


def _duration(value: str) -> float:
    from app.durations import parse_duration

    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if seconds < 0:
        raise typer.BadParameter(f"{value} is negative.")
    return seconds


def _size(value: str) -> int:
    from app.durations import parse_size

    try:
        return parse_size(value)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


@cli.command()
def serve(
    models: Annotated[
        Path, typer.Option("--models", "-m", envvar="PIPESERVE_MODELS", help="The catalogue of models.")
    ] = DEFAULT.models,
    host: Annotated[str, typer.Option(envvar="PIPESERVE_HOST", help="Address to listen on.")] = DEFAULT.host,
    port: Annotated[
        int, typer.Option(envvar="PIPESERVE_PORT", min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = DEFAULT.port,
    log_level: Annotated[LogLevel, typer.Option(envvar="PIPESERVE_LOG_LEVEL")] = LogLevel.INFO,
    log_format: Annotated[LogFormat, typer.Option(envvar="PIPESERVE_LOG_FORMAT")] = LogFormat.TEXT,
    cache_dir: CacheDir = None,
    max_body_size: Annotated[
        int,
        typer.Option(envvar="PIPESERVE_MAX_BODY_SIZE", parser=_size, metavar="SIZE", help="Largest request body."),
    ] = DEFAULT.max_body_bytes,
    files_dir: Annotated[
        Path | None,
        typer.Option(
            envvar="PIPESERVE_FILES_DIR",
            help="Where clients' files and batches are kept. Unset: in the cache folder, under files/.",
        ),
    ] = None,
    max_files_size: Annotated[
        int,
        typer.Option(
            envvar="PIPESERVE_MAX_FILES_SIZE", parser=_size, metavar="SIZE", help="What all those files may have."
        ),
    ] = DEFAULT.max_files_bytes,
    drain: Annotated[
        float,
        typer.Option(envvar="PIPESERVE_DRAIN", parser=_duration, metavar="TIME", help="How long a stop may take."),
    ] = DEFAULT.drain_s,
    load_wait: Annotated[
        float,
        typer.Option(
            envvar="PIPESERVE_LOAD_WAIT", parser=_duration, metavar="TIME", help="Longest wait for a model to load."
        ),
    ] = DEFAULT.load_wait_s,
    forward_timeout: Annotated[
        float,
        typer.Option(
            envvar="PIPESERVE_FORWARD_TIMEOUT", parser=_duration, metavar="TIME", help="Longest forward of a batch."
        ),
    ] = DEFAULT.forward_timeout_s,
    client_timeout: Annotated[
        float,
        typer.Option(
            envvar="PIPESERVE_CLIENT_TIMEOUT",
            parser=_duration,
            metavar="TIME",
            help="How long a client may be about sending a request, or reading an answer, that does not move.",
        ),
    ] = DEFAULT.client_timeout_s,
    max_connections: Annotated[
        int, typer.Option(envvar="PIPESERVE_MAX_CONNECTIONS", min=1, help="Connections at a time; more get 503.")
    ] = DEFAULT.max_connections,
    keys_file: Annotated[
        Path | None,
        typer.Option(
            envvar="PIPESERVE_KEYS_FILE",
            help="API keys, made by `pipeserve keys`; followed while it changes. PIPESERVE_API_KEYS has more.",
        ),
    ] = None,
    ssl_certfile: Annotated[
        Path | None, typer.Option(envvar="PIPESERVE_SSL_CERTFILE", help="Serve over TLS with this certificate.")
    ] = None,
    ssl_keyfile: Annotated[
        Path | None,
        typer.Option(
            envvar="PIPESERVE_SSL_KEYFILE",
            help="Its private key, if it is in a file of its own; PIPESERVE_SSL_KEYFILE_PASSWORD opens it.",
        ),
    ] = None,
    ssl_ca_certs: Annotated[
        Path | None,
        typer.Option(envvar="PIPESERVE_SSL_CA_CERTS", help="Take only clients with a certificate of one of these."),
    ] = None,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(
            envvar="PIPESERVE_CORS_ORIGINS", metavar="ORIGIN", help="A site whose pages may read answers; '*' for any."
        ),
    ] = None,
    docs: Annotated[
        bool, typer.Option("--docs/--no-docs", envvar="PIPESERVE_DOCS", help="Serve /docs and /openapi.json.")
    ] = DEFAULT.docs,
    ui: Annotated[
        bool,
        typer.Option(
            "--ui/--no-ui", envvar="PIPESERVE_UI", help="Serve the pages at /ui; their process starts with a visitor."
        ),
    ] = DEFAULT.ui,
    launcher: Annotated[
        LauncherName, typer.Option(envvar="PIPESERVE_LAUNCHER", help="How worker processes are started.")
    ] = LauncherName.AUTO,
    ray: Annotated[
        bool, typer.Option("--ray", envvar="PIPESERVE_RAY", help="Serve by Ray Serve, on many machines (docs/ray.md).")
    ] = False,
    ray_address: Annotated[
        str | None,
        typer.Option(
            envvar="PIPESERVE_RAY_ADDRESS",
            help="The Ray cluster; auto: the one that this machine belongs to. Unset: one is started here.",
        ),
    ] = None,
) -> None:
    """Serve the models of models.yaml over HTTP."""
    settings = Settings(
        models=models,
        host=host,
        port=port,
        log_level=log_level.value,
        log_format=log_format.value,
        cache_dir=cache_dir or default_cache_dir(),
        max_body_bytes=max_body_size,
        files_dir=files_dir or (cache_dir or default_cache_dir()) / "files",
        max_files_bytes=max_files_size,
        drain_s=drain,
        load_wait_s=load_wait,
        forward_timeout_s=forward_timeout,
        client_timeout_s=client_timeout,
        max_connections=max_connections,
        launcher=launcher.value,
        keys=_keys_of_variable(),
        keys_file=keys_file,
        tls=_tls(ssl_certfile, ssl_keyfile, ssl_ca_certs),
        cors_origins=tuple(cors_origin or ()),
        docs=docs,
        ui=ui,
    )
    if ray:
        from app.ray.command import serve_on_ray

        serve_on_ray(settings, address=ray_address)
        return
    if ray_address is not None:
        fail("--ray-address needs --ray.")
    from app.main import serve as run_server

    run_server(settings)


def _secret(variable: str) -> str:
    """Taken out of the environment: workers, whose models may be anybody's code, inherit that."""
    return os.environ.pop(variable, "")


def _keys_of_variable() -> tuple[Key, ...]:
    from app.access.keys import SHORT_SECRET_CHARS, VARIABLE, keys_of_variable, short_secrets

    given = _secret(VARIABLE)
    if short := short_secrets(given):
        names = ", ".join(short)
        typer.echo(f"{VARIABLE}: {names}: fewer than {SHORT_SECRET_CHARS} characters can be guessed.", err=True)
    return keys_of_variable(given)


def _tls(certfile: Path | None, keyfile: Path | None, ca_certs: Path | None) -> Tls | None:
    password = _secret("PIPESERVE_SSL_KEYFILE_PASSWORD")
    if certfile is None:
        if keyfile is not None or ca_certs is not None:
            fail("--ssl-keyfile and --ssl-ca-certs need --ssl-certfile.")
        return None
    return Tls(certfile=certfile, keyfile=keyfile, keyfile_password=password or None, ca_certs=ca_certs)


cli.command()(check)
cli.command()(tune)
cli.command()(bench)
cli.command(name="map")(map_rows)
cli.command(name="eval")(evaluate)
cli.command()(ray_manifest)
cli.command()(run)
cli.command()(chat)
cli.command(name="list")(list_models)
cli.command()(show)
cli.command()(ps)
cli.command()(load)
cli.command()(stop)
cli.command()(pin)
cli.command()(unpin)
cli.command()(top)
cli.command()(doctor)
cli.command()(init)
cli.command()(pull)
cli.command()(push)
cli.command()(rm)


@cli.command()
def schema() -> None:
    """Print the JSON schema of models.yaml, for editors."""
    import json

    from app.declaration.schema import models_schema

    typer.echo(json.dumps(models_schema(), indent=1, ensure_ascii=False))


@cli.command()
def version(as_json: AsJson = False) -> None:
    """Print the version."""
    if as_json:
        print_json({"version": __version__})
    else:
        typer.echo(f"pipeserve {__version__}")


def main() -> None:
    cli(prog_name="pipeserve")  # for `python -m app` too
