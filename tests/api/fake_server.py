"""A server process before a scripted fleet, for tests that send signals. SIGUSR1 releases the answers it holds."""

from __future__ import annotations

import asyncio
import signal
import sys

from prometheus_client import CollectorRegistry

from app.logs import configure_logging
from app.main import build_app, run
from app.reloading import Reloader
from app.settings import Settings
from app.telemetry import Telemetry
from tests.api.fake_fleet import CATALOG, FakeFleet


class HoldingFleet(FakeFleet):
    async def start(self) -> None:
        self.holds = True
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self.release)


def main() -> None:
    configure_logging(level="info", form="text")
    settings = Settings(port=int(sys.argv[1]), drain_s=30)
    fleet = HoldingFleet()
    telemetry = Telemetry(CollectorRegistry())
    reloader = Reloader(lambda: CATALOG, CATALOG, fleet, telemetry, settings)
    app = build_app(settings, CATALOG, fleet, telemetry, reloader)
    run(settings, app, fleet, telemetry, reload=reloader.reload)


if __name__ == "__main__":
    main()
