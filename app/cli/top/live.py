"""`pipeserve top` in a terminal: asks, draws and listens to keys until it is told to end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.live import Live
from rich.text import Text

from app.cli.server import Trouble
from app.cli.top.figures import Figures, figures_of
from app.cli.top.samples import Sample
from app.cli.top.screen import page, show_age
from app.cli.top.sorts import Sort
from app.cli.top.source import Source

_SHARE = 4  # a server that needs long to answer is left alone for so many times as long
KEYS = "q ends, s sorts by another column, a shows models at rest"


class Top:
    """One page that is drawn again and again. Owned by the event loop."""

    def __init__(self, source: Source, console: Console, *, interval_s: float, sort: Sort) -> None:
        self._source = source
        self._console = console
        self._interval_s = interval_s
        self._sort = sort
        self._samples: tuple[Sample | None, Sample | None] = (None, None)
        self._figures: Figures | None = None
        self._trouble: Trouble | None = None
        self._is_to_end = asyncio.Event()
        self._is_to_ask = asyncio.Event()
        self._live = Live(Text(""), console=console, screen=True, auto_refresh=False)

    async def run(self) -> None:
        """Until `q` or Ctrl-C. Raises Trouble when there is no server from the start."""
        await self._ask()
        if self._trouble is not None:
            raise self._trouble
        loop = asyncio.get_running_loop()
        with self._live, _keys(loop, self._pressed):
            loop.add_signal_handler(signal.SIGWINCH, self.draw)
            loop.add_signal_handler(signal.SIGINT, self._is_to_end.set)
            asking = asyncio.create_task(self._keep_asking(), name="ask the server")
            ending = asyncio.create_task(self._is_to_end.wait(), name="wait for the end")
            try:
                await asyncio.wait({asking, ending}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for number in (signal.SIGWINCH, signal.SIGINT):
                    loop.remove_signal_handler(number)
                for task in (asking, ending):
                    task.cancel()
                await asyncio.gather(asking, ending, return_exceptions=True)
            if not asking.cancelled() and (error := asking.exception()) is not None:
                raise error

    async def _keep_asking(self) -> None:
        pause_s = self._interval_s
        while True:
            self.draw()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._is_to_ask.wait(), pause_s)
            self._is_to_ask.clear()
            began_at = time.monotonic()
            await self._ask()
            pause_s = max(self._interval_s, (time.monotonic() - began_at) * _SHARE)

    async def _ask(self) -> None:
        try:
            sample = await self._source.sample()
        except Trouble as trouble:
            self._trouble = trouble
            return
        self._trouble = None
        self._samples = (self._samples[1], sample)
        self._reckon()

    def _reckon(self) -> None:
        before, now = self._samples
        if now is not None:
            self._figures = figures_of(before, now, shows_all=self._source.shows_all)

    def draw(self) -> None:
        sample = self._samples[1]
        assert sample is not None and self._figures is not None, "There is nothing to draw yet. This is a bug."
        trouble = None
        if self._trouble is not None:
            age = show_age(time.monotonic() - sample.at)
            trouble = f"{self._trouble} It is asked again; these figures are {age} old."
        width, height = self._console.size
        self._live.update(
            page(
                self._figures,
                url=self._source.url,
                sort=self._sort,
                width=width,
                height=height,
                trouble=trouble,
                keys=KEYS if sys.stdin.isatty() else "",
            ),
            refresh=True,
        )

    def _pressed(self, key: str) -> None:
        match key:
            case "q" | "Q":
                self._is_to_end.set()
            case "s" | "S":
                sorts = list(Sort)
                self._sort = sorts[(sorts.index(self._sort) + 1) % len(sorts)]
                self.draw()
            case "a" | "A":
                self._source.shows_all = not self._source.shows_all
                self._reckon()
                self._is_to_ask.set()


@contextlib.contextmanager
def _keys(loop: asyncio.AbstractEventLoop, pressed: Callable[[str], None]) -> Iterator[None]:
    """Each key as it is pressed, and not on the screen. Ctrl-C stays a signal. Nothing where stdin is no terminal."""
    if not sys.stdin.isatty():
        yield
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def read() -> None:
        for key in os.read(descriptor, 64).decode(errors="replace"):
            pressed(key)

    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, read)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
