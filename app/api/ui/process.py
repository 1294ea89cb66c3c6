"""The pages' process: started when somebody first asks for them, and again after it ended."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import httpx2
import msgspec

from app.errors import Draining, NotAvailable, Unavailable
from app.ui.told import EXTRA, Told

COMMAND = (sys.executable, "-P", "-m", "app.ui")
READY = b"ready\n"
"""What the process writes to its stdout when it listens."""

_START_S = 120.0  # importing Gradio takes 2 s, and 40 s on a disk and processors that others use
_FIRST_BACK_OFF_S, _MAX_BACK_OFF_S = 1.0, 60.0
_SETTLED_S = 60.0  # who lived so long has not failed to start
_STOP_S = 2.0
_LIMITS = httpx2.Limits(max_connections=None)
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
_PACKAGES = Path(__file__).resolve().parents[3]

logger = logging.getLogger(__name__)


def is_missing(command: Sequence[str]) -> bool:
    """Whether it is ours, and the extra is not installed here."""
    return tuple(command) == COMMAND and importlib.util.find_spec("gradio") is None


def environment_of(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Nothing of the operator's that the pages need not have; and Gradio is to tell nobody, and to fetch nothing."""
    kept = {name: environ[name] for name in _PASSED_ON if name in environ}
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_PACKAGES), environ.get("PYTHONPATH"))))
    return kept | {
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "GRADIO_TEMP_DIR": str(folder / "files"),
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_RUN_HISTORY": "False",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


class PagesProcess:
    """Owned by the event loop. command: what is started, which is told `Told` on stdin and answers READY on stdout.

    Its folder, where its socket is, is nobody's but this user's, and goes with it.
    """

    def __init__(
        self,
        *,
        needs_key: bool,
        has_docs: bool,
        max_file_bytes: int,
        certificate: Path | None,
        clock: Callable[[], float],
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._needs_key = needs_key
        self._has_docs = has_docs
        self._max_file_bytes = max_file_bytes
        self._certificate = certificate
        self._clock = clock
        self._command = command
        self._running: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[httpx2.AsyncBaseTransport] | None = None
        self._num_failures = 0
        self._not_before = 0.0
        self._is_stopped = False

    async def transport(self, api_url: str, *, wait_s: float) -> httpx2.AsyncBaseTransport:
        """For requests to it. api_url: where the pages find this server. Raises NotAvailable where the extra is not
        installed, Unavailable while it starts (after `wait_s`) or must not yet be started again, Draining after `stop`.

        No client: that would keep the cookies of an answer, and so one visitor's session, for the next request."""
        if self._is_stopped:
            raise Draining("The server is shutting down.")
        if self._running is None:
            self._start(api_url)
        assert self._ready is not None
        done, _ = await asyncio.wait({self._ready}, timeout=wait_s)
        if not done:
            raise Unavailable("The pages are starting.", retry_after_s=1)
        return self._ready.result()

    def _start(self, api_url: str) -> None:
        if is_missing(self._command):
            raise NotAvailable(f"The pages need the extra {EXTRA}: pip install 'pipeserve[{EXTRA}]'.")
        wait_s = self._not_before - self._clock()
        if wait_s > 0:
            text = "The pages' process ended, as the server's log says, and is started again in a moment."
            raise Unavailable(text, retry_after_s=wait_s)
        self._ready = asyncio.get_running_loop().create_future()
        self._ready.add_done_callback(_look_at)
        self._running = asyncio.create_task(self._run(api_url, self._ready), name="pages")

    async def _run(self, api_url: str, ready: asyncio.Future[httpx2.AsyncBaseTransport]) -> None:
        """From its start to its end."""
        folder = Path(tempfile.mkdtemp(prefix="pipeserve-ui-"))
        told = Told(
            socket=str(folder / "socket"),
            folder=str(folder),
            api_url=api_url,
            certificate=None if self._certificate is None else str(self._certificate.absolute()),
            needs_key=self._needs_key,
            has_docs=self._has_docs,
            max_file_bytes=self._max_file_bytes,
        )
        began_at = self._clock()
        process: asyncio.subprocess.Process | None = None
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                cwd=folder,
                env=environment_of(os.environ, folder),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                start_new_session=True,  # Ctrl-C in a terminal is for the server, which ends it
            )
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(msgspec.json.encode(told) + b"\n")
            if await asyncio.wait_for(_line_of(process.stdout), _START_S) != READY:
                raise OSError("it ended before it was ready")
            async with httpx2.AsyncHTTPTransport(uds=told.socket, limits=_LIMITS) as transport:
                ready.set_result(transport)
                await process.stdout.read()
                code = await process.wait()
            logger.warning("the pages' process ended with %d", code)
        except (OSError, TimeoutError) as error:
            logger.error("the pages' process cannot be started: %s", str(error) or "it took too long")
        finally:
            if process is not None and process.returncode is None:
                await _end(process)
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            self._ended(self._clock() - began_at)
            if not ready.done():
                ready.set_exception(Unavailable("The pages cannot be started, as the server's log says."))

    def _ended(self, lived_s: float) -> None:
        self._num_failures = 0 if lived_s > _SETTLED_S else self._num_failures + 1
        back_off_s = min(_FIRST_BACK_OFF_S * 2 ** (self._num_failures - 1), _MAX_BACK_OFF_S)
        self._not_before = self._clock() + (back_off_s if self._num_failures else 0)
        self._running = None

    async def stop(self) -> None:
        """And its answers: an open page reads one as long as it is open."""
        self._is_stopped = True
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})


async def _line_of(reader: asyncio.StreamReader) -> bytes:
    """The first that says READY, or nothing at its end: libraries may write to stdout, too."""
    while (line := await reader.readline()) and line != READY:
        pass
    return line


async def _end(process: asyncio.subprocess.Process) -> None:
    """It ends when its stdin does; one that hangs is killed."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), _STOP_S)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _look_at(ready: asyncio.Future[httpx2.AsyncBaseTransport]) -> None:
    """Whoever waited has left: asyncio would complain that nobody saw the error."""
    if not ready.cancelled():
        ready.exception()
