"""Starts worker processes: forked from our forkserver where the system has what it takes, else spawned.

Every process that is started here is a child of the API process (forked ones by way of PR_SET_CHILD_SUBREAPER), is
watched through a pidfd, and is reaped when it ends.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Container, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from app.catalog import ModelSpec
from app.channel.connection import SocketConnection
from app.channel.forks import REPLY, write_request
from app.environments.places import PACKAGE, Environments, is_checkout, package_path
from app.errors import Draining, ModelFailed
from app.fleet.processes import Connection, Launcher, WorkerProcess
from app.hub import TOKEN_VARIABLES
from app.logs import LOG_FORMAT_VARIABLE, LOG_LEVEL_VARIABLE
from app.settings import CACHE_DIR_VARIABLE, Settings, default_cache_dir

logger = logging.getLogger(__name__)

_WORKER_MODULE = "app.worker.__main__"
_FORKSERVER_MODULE = "app.worker.forkserver"
_OWN_VARIABLES = "PIPESERVE_"
COMPILED_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
_COLLECTOR_HEADERS = tuple(
    f"OTEL_EXPORTER_OTLP_{signal}HEADERS" for signal in ("", "TRACES_", "METRICS_", "LOGS_")
)  # where the key for it stands
_SECRETS = frozenset({*TOKEN_VARIABLES, *_COLLECTOR_HEADERS})
_PR_SET_CHILD_SUBREAPER = 36
_CHILD_FD = 3
_MAX_ATTEMPTS = 3
_MAX_FAILED_STARTS = 2
_FORK_TIMEOUT_S = 10.0
_ORPHAN_POLLS = 100
_ORPHAN_POLL_S = 0.05


def make_launcher(settings: Settings) -> Launcher:
    """As `settings.launcher` says: "forkserver", "spawn", or "auto"."""
    if settings.launcher == "spawn" or (settings.launcher == "auto" and not has_forkserver()):
        return SpawnLauncher(log_level=settings.log_level, log_format=settings.log_format, cache_dir=settings.cache_dir)
    return ForkserverLauncher(
        log_level=settings.log_level, log_format=settings.log_format, cache_dir=settings.cache_dir
    )


def has_forkserver() -> bool:
    """Whether forked workers can be made children of this process, and be watched there."""
    return sys.platform == "linux" and hasattr(os, "pidfd_open")


class ChildProcess:
    """A child of this process, watched until its end and reaped. Owned by the event loop."""

    def __init__(self, pid: int, on_exit: Callable[[ChildProcess], None] = lambda child: None) -> None:
        self.pid = pid
        self._on_exit = on_exit
        self._loop = asyncio.get_running_loop()
        self._exit_code: asyncio.Future[int] = self._loop.create_future()
        self._pidfd = _open_pidfd(pid)
        if self._pidfd is not None:
            self._loop.add_reader(self._pidfd, self._reap)
        else:
            threading.Thread(target=self._wait_in_thread, name=f"wait-{pid}", daemon=True).start()

    @property
    def is_alive(self) -> bool:
        return not self._exit_code.done()

    async def wait(self) -> int:
        return await asyncio.shield(self._exit_code)

    def kill(self) -> None:
        # Not reaped means that the pid is still this child's.
        if self.is_alive:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # the waiting thread has reaped it this moment

    def _reap(self) -> None:
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None
            self._ended(_wait_for(self.pid))

    def _wait_in_thread(self) -> None:
        exit_code = _wait_for(self.pid)
        try:
            self._loop.call_soon_threadsafe(self._ended, exit_code)
        except RuntimeError:
            pass  # the loop is closed: nobody waits any more

    def _ended(self, exit_code: int) -> None:
        self._exit_code.set_result(exit_code)
        self._on_exit(self)


class LaunchedWorker:
    """A worker process and this process's end of its socket."""

    def __init__(self, child: ChildProcess, connection: SocketConnection) -> None:
        self.pid = child.pid
        self.connection: Connection = connection
        self._child = child

    async def wait(self) -> int:
        return await self._child.wait()

    def kill(self) -> None:
        self._child.kill()


class _Children:
    """The living workers of a launcher, so that its `stop` leaves none."""

    def __init__(self) -> None:
        self._living: dict[int, ChildProcess] = {}

    def __contains__(self, pid: object) -> bool:
        return pid in self._living

    def adopt(self, pid: int) -> ChildProcess:
        child = ChildProcess(pid, on_exit=lambda ended: self._forget(ended.pid))
        self._living[pid] = child
        return child

    async def kill_all(self) -> None:
        living = list(self._living.values())
        for child in living:
            child.kill()
        await asyncio.gather(*(child.wait() for child in living))

    def _forget(self, pid: int) -> None:
        self._living.pop(pid, None)


@dataclass(frozen=True)
class Told:
    """What every worker learns from its environment. package_path: for another environment's Python, where that finds
    our package; it sees nothing else of ours."""

    log_level: str
    log_format: str
    cache_dir: Path
    package_path: Path | None = None


class SpawnLauncher:
    """Each worker is a fresh interpreter. python: the one of the environment that the workers are to live in, if that
    is not ours; package_path: the folder that it finds our package in."""

    def __init__(
        self,
        *,
        python: str = sys.executable,
        package_path: Path | None = None,
        worker: str = _WORKER_MODULE,
        log_level: str = "info",
        log_format: str = "text",
        cache_dir: Path | None = None,
    ) -> None:
        self._python = python
        self._told = Told(log_level, log_format, cache_dir or default_cache_dir(), package_path)
        self._worker = worker
        self._children = _Children()

    async def start(self) -> None:
        """Nothing to make ready."""

    async def launch(self, spec: ModelSpec) -> WorkerProcess:
        """Raises ModelFailed when the system cannot start one more process."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                lent = lent_to(spec, os.environ)
                child = self._children.adopt(_spawn(self._python, self._worker, theirs, self._told, lent=lent))
        except OSError as error:
            ours.close()
            raise ModelFailed(f"no worker process could be started for {spec.id}: {error}") from error
        return LaunchedWorker(child, await SocketConnection.open(ours))

    async def stop(self) -> None:
        await self._children.kill_all()


class EnvironmentsLauncher:
    """Workers of entries that name an environment are spawned by its Python; `own` starts all others."""

    def __init__(
        self,
        own: Launcher,
        environments: Environments,
        *,
        worker: str = _WORKER_MODULE,
        log_level: str = "info",
        log_format: str = "text",
        cache_dir: Path | None = None,
    ) -> None:
        self._own = own
        self._environments = environments
        self._worker = worker
        self._log_level = log_level
        self._log_format = log_format
        self._cache_dir = cache_dir
        self._spawning: dict[str, SpawnLauncher] = {}  # by interpreter

    async def start(self) -> None:
        await self._own.start()

    async def launch(self, spec: ModelSpec) -> WorkerProcess:
        """Raises ModelFailed when the environment is not there, and as the launchers do."""
        if spec.env is None:
            return await self._own.launch(spec)
        if (problem := self._environments.problem(spec.env)) is not None:
            raise ModelFailed(f"{spec.id}: {problem}")
        python = str(self._environments.python(spec.env))  # a reload may declare another
        if python not in self._spawning:
            self._spawning[python] = self._launcher_with(python)
        return await self._spawning[python].launch(spec)

    async def stop(self) -> None:
        await asyncio.gather(self._own.stop(), *(launcher.stop() for launcher in self._spawning.values()))

    def _launcher_with(self, python: str) -> SpawnLauncher:
        return SpawnLauncher(
            python=python,
            package_path=package_path(self._environments.folder),
            worker=self._worker,
            log_level=self._log_level,
            log_format=self._log_format,
            cache_dir=self._cache_dir,
        )


class ForkserverGone(Exception):
    """The forkserver ended, or does not answer."""


class _Forkserver:
    """One forkserver process. Asked by one task at a time: its replies carry no request number."""

    def __init__(self, child: ChildProcess, control: socket.socket) -> None:
        self.child = child
        self._control = control
        self._is_replying = False
        self._is_ended = False

    async def wait_until_ready(self) -> None:
        """Until everything is imported. Raises ForkserverGone."""
        await self._reply()

    async def fork(self, theirs: socket.socket, lent: Mapping[str, str]) -> int:
        """The pid of a fresh worker at this socket. lent: variables for it alone.

        Raises ForkserverGone, or OSError when the fork failed.
        """
        try:
            socket.send_fds(self._control, [write_request(lent)], [theirs.fileno()])
            async with asyncio.timeout(_FORK_TIMEOUT_S):
                pid = await self._reply()
        except TimeoutError as error:
            raise ForkserverGone(f"no answer for {_FORK_TIMEOUT_S} seconds") from error
        except OSError as error:
            raise ForkserverGone(str(error)) from error
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
        return pid

    async def end(self) -> None:
        """It has nothing to lose: its workers are not its children."""
        with suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)  # ends a waiting `_reply`, which a close would leave waiting
        self.child.kill()
        await self.child.wait()
        self._is_ended = True
        if not self._is_replying:
            self._control.close()

    async def _reply(self) -> int:
        loop = asyncio.get_running_loop()
        self._is_replying = True
        try:
            data = b""
            while len(data) < REPLY.size:
                more = await loop.sock_recv(self._control, REPLY.size - len(data))
                if not more:
                    raise ForkserverGone("it ended")
                data += more
        finally:
            self._is_replying = False
            if self._is_ended:
                self._control.close()
        return int(REPLY.unpack(data)[0])


class ForkserverLauncher:
    """Workers are forked from a process that has imported everything; spawned where that process does not start.

    worker: the module whose `run(fd)` is a worker. preload: what the forkserver imports; None: what workers need.
    """

    def __init__(
        self,
        *,
        worker: str = _WORKER_MODULE,
        preload: Sequence[str] | None = None,
        forkserver: str = _FORKSERVER_MODULE,
        log_level: str = "info",
        log_format: str = "text",
        cache_dir: Path | None = None,
    ) -> None:
        self._told = Told(log_level, log_format, cache_dir or default_cache_dir())
        self._arguments = ["--worker", worker]
        if preload is not None:
            self._arguments += ["--preload", ",".join(preload)]
        self._module = forkserver
        self._children = _Children()
        self._fallback = SpawnLauncher(worker=worker, log_level=log_level, log_format=log_format, cache_dir=cache_dir)
        self._starting: asyncio.Task[_Forkserver] | None = None
        self._server: _Forkserver | None = None
        self._num_failed_starts = 0
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[object]] = set()
        self._cleaning: set[asyncio.Task[None]] = set()  # one per dead forkserver
        self._is_stopped = False

    @property
    def forkserver_pid(self) -> int | None:
        """None while none is ready."""
        return self._server.child.pid if self._server is not None else None

    async def start(self) -> None:
        _become_subreaper()
        self._begin()

    async def launch(self, spec: ModelSpec) -> WorkerProcess:
        """Waits for the forkserver. Raises ModelFailed when the system cannot start one more process, or Draining."""
        # A task of its own: a caller that is cancelled between the request and the reply must not leave a worker.
        task = asyncio.create_task(self._launch(spec), name=f"launch {spec.id}")
        self._keep(task)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_discard)
            raise

    async def stop(self) -> None:
        """End the forkserver and every worker that is still there."""
        self._is_stopped = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.end()
        await self._children.kill_all()
        await self._fallback.stop()
        await asyncio.gather(*self._cleaning)

    async def _launch(self, spec: ModelSpec) -> WorkerProcess:
        for _ in range(_MAX_ATTEMPTS):
            if self._num_failed_starts >= _MAX_FAILED_STARTS:
                break
            try:
                return await self._launch_forked(spec)
            except ForkserverGone as error:
                logger.warning("the forkserver is gone: %s", error)
            except OSError as error:
                raise ModelFailed(f"no worker process could be started for {spec.id}: {error}") from error
            except asyncio.CancelledError:
                if self._is_stopped:
                    raise Draining("the server is shutting down") from None
                raise
        logger.warning("%s gets a spawned worker: the forkserver cannot be kept running", spec.id)
        return await self._fallback.launch(spec)

    async def _launch_forked(self, spec: ModelSpec) -> WorkerProcess:
        async with self._turn:
            server = await asyncio.shield(self._begin())
            ours, theirs = socket.socketpair()
            try:
                with theirs:
                    child = self._children.adopt(await server.fork(theirs, lent_to(spec, os.environ)))
            except ForkserverGone:
                ours.close()
                self._abandon(server)
                raise
            except BaseException:
                ours.close()
                raise
        return LaunchedWorker(child, await SocketConnection.open(ours))

    def _begin(self) -> asyncio.Task[_Forkserver]:
        """The forkserver, running or starting."""
        if self._starting is None:
            self._starting = asyncio.create_task(self._start_forkserver(), name="start forkserver")
            self._keep(self._starting)
        return self._starting

    async def _start_forkserver(self) -> _Forkserver:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            pid = _spawn(sys.executable, self._module, theirs, self._told, *self._arguments)
        server = _Forkserver(ChildProcess(pid, on_exit=self._on_forkserver_exit), ours)
        try:
            await server.wait_until_ready()
        except (ForkserverGone, OSError) as error:
            self._num_failed_starts += 1
            self._starting = None
            await server.end()
            raise ForkserverGone(f"it did not start: {error}") from error
        except asyncio.CancelledError:
            await server.end()
            raise
        self._num_failed_starts = 0
        self._server = server
        return server

    def _on_forkserver_exit(self, child: ChildProcess) -> None:
        """Start another at once, so that the next launch need not wait for its imports."""
        if self._server is not None and self._server.child is child and not self._is_stopped:
            logger.warning("the forkserver (pid %d) ended, another is started; its workers live on", child.pid)
            self._abandon(self._server)
            self._begin()

    def _abandon(self, server: _Forkserver) -> None:
        if self._server is server:
            self._server = self._starting = None
            cleaning = asyncio.create_task(self._clean_up_after(server), name="clean up after forkserver")
            self._cleaning.add(cleaning)
            cleaning.add_done_callback(self._cleaning.discard)

    async def _clean_up_after(self, server: _Forkserver) -> None:
        await server.end()
        await self._reap_orphans(server.child.pid)

    async def _reap_orphans(self, group: int) -> None:
        """Processes that a forkserver forked and did not live to tell. They end by themselves: their socket is closed.

        By polling, for there is no other event for a child whose pid is unknown.
        """
        for _ in range(_ORPHAN_POLLS):
            if not _reap_one(group, unless=self._children):
                return
            await asyncio.sleep(_ORPHAN_POLL_S)

    def _keep(self, task: asyncio.Task[object]) -> None:
        """Hold a reference until the task is done, and see its exception: whoever awaits it sees it too."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_log_failure)


def _log_failure(task: asyncio.Task[object]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.debug("%s: %s", task.get_name(), error)


def _discard(task: asyncio.Task[WorkerProcess]) -> None:
    """End a worker that nobody waits for any more."""
    if not task.cancelled() and task.exception() is None:
        worker = task.result()
        worker.connection.close()
        worker.kill()


def _reap_one(group: int, *, unless: Container[int]) -> bool:
    """Reap an ended child of this process group, but for its leader and those that are watched. False: none is left."""
    try:
        ended = os.waitid(os.P_PGID, group, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is not None and ended.si_pid != group and ended.si_pid not in unless:
            os.waitpid(ended.si_pid, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


def _spawn(
    python: str,
    module: str,
    sock: socket.socket,
    told: Told,
    *arguments: str,
    lent: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """The pid of a fresh interpreter that inherits the socket and the standard streams, nothing else of ours. lent:
    variables for it alone.

    In a process group of its own: Ctrl-C in a terminal is for the API process. From the loop's thread, always: the
    kernel ties PR_SET_PDEATHSIG to the thread that started the child.
    """
    return os.posix_spawn(
        python,
        [python, "-P", "-m", module, "--fd", str(_CHILD_FD), *arguments],
        {**child_environment(os.environ, told), **lent},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, sock.fileno(), _CHILD_FD),
        ],
        setpgroup=0,
        setsigmask=[],
    )


def child_environment(environ: Mapping[str, str], told: Told) -> dict[str, str]:
    """Variables for a process that finds our package in any folder, and keeps libraries from starting threads. Without
    secrets: the server's own settings, keys among them, the key for a collector of traces, and the Hub's token, which
    `lent_to` gives."""
    changed = {
        name: value for name, value in environ.items() if not name.startswith(_OWN_VARIABLES) and name not in _SECRETS
    }
    cache_dir, package_path = told.cache_dir, told.package_path
    changed |= {LOG_LEVEL_VARIABLE: told.log_level, LOG_FORMAT_VARIABLE: told.log_format}
    changed |= {CACHE_DIR_VARIABLE: str(cache_dir.absolute())}
    root = PACKAGE.parent
    if package_path is not None:
        changed.pop("PYTHONHOME", None)
        changed["PYTHONPATH"] = str(package_path)
    elif is_checkout(root):  # installed, the package is found anyway
        changed["PYTHONPATH"] = os.pathsep.join(filter(None, (str(root), environ.get("PYTHONPATH"))))
    changed.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's BLAS starts its threads when it is imported
    # What torch.compile keeps are pickles. By default they lie below /tmp, where another user may have been first.
    changed.setdefault(COMPILED_VARIABLE, str(cache_dir.absolute() / "torchinductor"))
    changed.setdefault("TOKENIZERS_PARALLELISM", "false")  # the prepare thread runs beside the device thread
    changed.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # CUDA counts devices as nvidia-smi does
    changed.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # asking for CUDA must not initialise it before a fork
    return changed


@contextmanager
def folder_for_compiled_code(cache_dir: Path, environ: MutableMapping[str, str]) -> Iterator[None]:
    """Within it workers find a folder for what torch compiles. torch makes it when it is imported, also where nothing
    is compiled, and cannot be imported where that fails: so where the cache folder cannot be written, it is a temporary
    one of this user's own. Raises OSError where there is no such place either."""
    kept = cache_dir.absolute() / "torchinductor"
    try:
        kept.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=kept):
            pass
    except OSError as error:
        logger.warning(
            "the cache folder %s cannot be written (%s): nothing is kept there; --cache-dir names another",
            cache_dir,
            error.strerror or error,
        )
    else:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="pipeserve-") as folder:
        environ.setdefault(COMPILED_VARIABLE, folder)
        yield


def lent_to(spec: ModelSpec, environ: Mapping[str, str]) -> dict[str, str]:
    """Of the operator's secrets those that this entry's worker needs: the Hub's token, if it may ask the Hub."""
    return {} if spec.offline else {name: environ[name] for name in TOKEN_VARIABLES if environ.get(name)}


def _become_subreaper() -> None:
    """Have orphaned descendants become children of this process: the workers that a forkserver forked twice."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER failed")


def _open_pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def _wait_for(pid: int) -> int:
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return 255  # reaped by somebody else in this process: what it ended with is not known
