"""All keys of a server: those of the variable, and those of the file, which it follows."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from app.access.clients import Clients
from app.access.key_file import KeyFile
from app.access.keys import Key

logger = logging.getLogger(__name__)


class Keyring:
    """Owned by the event loop. clients: who the keys are given to."""

    def __init__(self, fixed: Sequence[Key], path: Path | None) -> None:
        """Raises KeyFileProblem."""
        self._fixed = fixed
        self._file = None if path is None else KeyFile(path)
        of_file = () if self._file is None else self._file.read()
        self.clients = Clients([*fixed, *of_file], clock=time.monotonic, unix_time=time.time)

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        """Within it the keys are those that the file has at the time."""
        if self._file is None:
            yield
            return
        watching = asyncio.create_task(self._file.watch(self._change), name="watch the keys")
        watching.add_done_callback(_tell_bug)
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.wait({watching})

    def _change(self, of_file: Sequence[Key]) -> None:
        self.clients.change([*self._fixed, *of_file])


def _tell_bug(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("the file of keys is no longer followed. This is a bug.", exc_info=error)
