"""A server process whose one model serves every task, before a scripted fleet: what the OpenAPI document is held to.

`python -m tests.hostile.every 8000`, then `schemathesis --config-file tests/hostile/schemathesis.toml run
http://127.0.0.1:8000/openapi.json`.
"""

from __future__ import annotations

import os
import sys

from prometheus_client import CollectorRegistry

from app.access.keys import VARIABLE, keys_of_variable
from app.api.application import Application
from app.catalog import Catalog, ModelSpec
from app.logs import configure_logging
from app.main import build_app, run
from app.media.limits import MediaLimits
from app.reloading import Reloader
from app.settings import Settings
from app.tasks.registry import ALL_TASKS
from app.telemetry import Telemetry
from tests.api.fake_fleet import FakeFleet

MODEL = "every"
MODELS = (
    ModelSpec(
        id=MODEL,
        model="acme/every",
        tasks=tuple(dict.fromkeys(("text-classification", *ALL_TASKS))),
        aliases=("acme/every",),
    ),
)


_NO_URLS = MediaLimits()


def every_app(
    settings: Settings, media: MediaLimits = _NO_URLS, telemetry: Telemetry | None = None
) -> tuple[Application, FakeFleet]:
    fleet, catalog = FakeFleet(MODELS), Catalog(models=MODELS, media=media)
    telemetry = telemetry if telemetry is not None else Telemetry(CollectorRegistry())
    reloader = Reloader(lambda: catalog, catalog, fleet, telemetry, settings)
    return build_app(settings, catalog, fleet, telemetry, reloader), fleet


def main() -> None:
    configure_logging(level="warning", form="text")
    keys = keys_of_variable(os.environ.get(VARIABLE, ""))
    settings = Settings(port=int(sys.argv[1]), drain_s=1, max_body_bytes=2**20, keys=keys)
    telemetry = Telemetry(CollectorRegistry())
    app, fleet = every_app(settings, telemetry=telemetry)
    run(settings, app, fleet, telemetry)


if __name__ == "__main__":
    main()
