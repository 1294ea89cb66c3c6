"""`pipeserve serve --ray`: the application on a Ray cluster, for as long as the command runs."""

from __future__ import annotations

import logging
import os
import signal
import sys
from dataclasses import replace
from typing import Any

from app.api.access.caller import is_loopback
from app.errors import CatalogError
from app.installed import versions_of
from app.logs import configure_logging
from app.ray.arguments import ANYWHERE
from app.settings import Settings

NAME = "pipeserve"
_KEEP_ALIVE_S = 75
_VARIABLES = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing phones home
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",  # not 5: a machine that loads models at the same time is busy
}

logger = logging.getLogger(__name__)


def serve_on_ray(settings: Settings, *, address: str | None, ingress_replicas: int = 1) -> None:
    """address: of a cluster, or "auto" for the one that this machine belongs to; None: one is started on this machine,
    and ended with the command. Raises SystemExit with a sentence."""
    if not versions_of(["ray"]):
        raise SystemExit("--ray needs Ray, which is not installed; install it with pip install 'pipeserve[ray]'.")
    if settings.port == 0:
        raise SystemExit("--port 0: Ray's proxies listen on a port that you name, the same on every node.")
    configure_logging(level=settings.log_level, form=settings.log_format)
    for name, value in _VARIABLES.items():
        os.environ.setdefault(name, value)  # read when ray is imported
    import ray
    from ray import serve

    from app.ray.application import make_application

    # Serve's proxies on a cluster may listen elsewhere than this command says, if they were there before it.
    told = settings if address is None else replace(settings, host=ANYWHERE)
    try:
        application = make_application(told, ingress_replicas=ingress_replicas)
    except CatalogError as error:
        raise SystemExit(str(error)) from None
    if settings.keys_file is None and not settings.keys and not is_loopback(told.host):
        logger.warning("there are no API keys: whoever reaches Serve's proxies may use every model")
    _connect(ray, address)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)  # in the place of Ray's, which end the process at once
    try:
        serve.start(http_options=_http_options(settings))
        serve.run(application, name=NAME, route_prefix="/")
        scheme = "http" if settings.tls is None else "https"
        sys.stdout.write(f"serving on {scheme}://{settings.host}:{settings.port} by Ray Serve\n")
        sys.stdout.flush()
        while True:
            signal.pause()
    except _Stopped:
        logger.info("stopping: replicas end when they have answered what they have")
    finally:
        if address is None:
            serve.shutdown()
        else:
            serve.delete(NAME)
        ray.shutdown()


class _Stopped(BaseException):
    """A signal says to stop: whatever the command is about, its loads included."""


def _stop(*_: object) -> None:
    raise _Stopped


def _connect(ray: Any, address: str | None) -> None:
    try:
        ray.init(
            address=address or "local", include_dashboard=None if address else False, log_to_driver=address is None
        )
    except ConnectionError as error:
        raise SystemExit(f"--ray-address {address}: {error}") from None


def _http_options(settings: Settings) -> dict[str, Any]:
    options: dict[str, Any] = {
        "host": settings.host,
        "port": settings.port,
        "keep_alive_timeout_s": _KEEP_ALIVE_S,
    }
    if settings.tls is not None:
        options |= {
            "ssl_certfile": str(settings.tls.certfile),
            "ssl_keyfile": str(settings.tls.keyfile or settings.tls.certfile),
            "ssl_keyfile_password": settings.tls.keyfile_password,
            "ssl_ca_certs": None if settings.tls.ca_certs is None else str(settings.tls.ca_certs),
        }
    return options
