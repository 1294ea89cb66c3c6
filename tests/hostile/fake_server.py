"""A server process with the default limits, before a scripted fleet of the models of `tests/api/fake_fleet.py`."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from app.logs import configure_logging
from app.main import build_app, run
from app.settings import Settings
from app.telemetry import Telemetry
from tests.api.fake_fleet import CATALOG, FakeFleet


def main() -> None:
    configure_logging(level="error", form="text")
    settings, fleet, telemetry = Settings(port=0, drain_s=1), FakeFleet(), Telemetry(CollectorRegistry())
    run(settings, build_app(settings, CATALOG, fleet, telemetry), fleet, telemetry)


if __name__ == "__main__":
    main()
