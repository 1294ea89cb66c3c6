"""Real processes: started, watched, killed, and none left behind."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from app.catalog import ModelSpec
from app.channel.messages import JobDone, StageBegan, Stop, Submit
from app.environments.places import Environments
from app.errors import ModelFailed
from app.fleet.launcher import (
    EnvironmentsLauncher,
    ForkserverLauncher,
    SpawnLauncher,
    Told,
    child_environment,
    folder_for_compiled_code,
    has_forkserver,
    make_launcher,
)
from app.fleet.processes import WorkerProcess
from app.settings import Settings, cache_dir_of
from tests.fleet.api_process import WORKER, start_worker

pytestmark = pytest.mark.skipif(not has_forkserver(), reason="needs Linux with pidfd")

Launcher = SpawnLauncher | ForkserverLauncher
SPEC = ModelSpec(id="scripted", model="scripted")
ROOT = Path(__file__).parent.parent.parent


def make(kind: str) -> Launcher:
    if kind == "spawn":
        return SpawnLauncher(worker=WORKER)
    if kind == "environment":
        return SpawnLauncher(python=sys.executable, package_path=ROOT, worker=WORKER)
    return ForkserverLauncher(worker=WORKER, preload=())


@pytest.fixture(params=["spawn", "environment", "forkserver"])
async def launcher(request: pytest.FixtureRequest) -> AsyncIterator[Launcher]:
    made = make(request.param)
    await made.start()
    yield made
    await made.stop()
    await asyncio.sleep(0)  # transports close their sockets in the loop's next turn
    assert zombies() == []


@pytest.fixture
async def forkserver() -> AsyncIterator[ForkserverLauncher]:
    made = ForkserverLauncher(worker=WORKER, preload=())
    await made.start()
    yield made
    await made.stop()
    await asyncio.sleep(0)
    assert zombies() == []


def zombies() -> list[int]:
    """Children of this process that ended and were not reaped."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue  # it ended meanwhile
        if state == "Z" and int(parent) == os.getpid():
            found.append(int(stat.parent.name))
    return found


def open_files() -> set[tuple[str, str]]:
    """Descriptors with what they are open on: a set, for what earlier tests left may be closed meanwhile."""
    return {(fd.name, os.readlink(fd)) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()}


async def ask(worker: WorkerProcess, job_id: int = 1) -> None:
    """Have it answer a job."""
    worker.connection.send(Submit(job_id=job_id, task="text-classification", inputs=[{"text": "a"}], parameters={}))
    async for message in worker.connection.receive():
        if isinstance(message, JobDone) and message.job_id == job_id:
            return
    raise AssertionError("the worker ended instead of answering")


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def open_files_of(pid: int) -> list[str]:
    """What its file descriptors beyond the standard ones point to."""
    return [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir() if int(link.name) > 2]


@contextmanager
def inheritable_fd() -> Iterator[None]:
    """A file that this process, carelessly, would pass on to its children."""
    with open(__file__) as held:
        os.set_inheritable(held.fileno(), True)
        yield


async def test_a_worker_answers(launcher: Launcher) -> None:
    """From nothing to an answer through a real process."""
    await ask(await start_worker(launcher))


async def test_a_worker_is_a_child_of_this_process(launcher: Launcher) -> None:
    """Forked or spawned: so it is watched, reaped, and ends with this process."""
    worker = await start_worker(launcher)
    assert parent_of(worker.pid) == os.getpid()


async def test_a_killed_worker_is_seen_and_reaped(launcher: Launcher) -> None:
    """Its connection ends and `wait` gives minus the signal; killing it again is harmless."""
    worker = await start_worker(launcher)
    worker.kill()
    assert [message async for message in worker.connection.receive() if isinstance(message, JobDone)] == []
    assert await worker.wait() == -signal.SIGKILL
    assert await worker.wait() == -signal.SIGKILL
    worker.kill()


async def test_stop_ends_a_worker(launcher: Launcher) -> None:
    """`Stop` is a clean end."""
    worker = await start_worker(launcher)
    worker.connection.send(Stop())
    assert await worker.wait() == 0


async def test_the_end_of_the_connection_ends_a_worker(launcher: Launcher) -> None:
    """A worker whose socket is closed has nobody to work for, even when it has work."""
    worker = await start_worker(launcher)
    worker.connection.send(Submit(job_id=1, task="text-classification", inputs=[{"forward": "hang"}], parameters={}))
    worker.connection.close()
    assert await worker.wait() == 0


async def test_a_worker_that_dies_by_itself_has_its_code(launcher: Launcher) -> None:
    """A crash in the model is the end of the connection, and an exit code; the suspects were announced before."""
    worker = await start_worker(launcher)
    worker.connection.send(Submit(job_id=1, task="text-classification", inputs=[{"forward": "die"}], parameters={}))
    assert await worker.wait() == 77
    messages = [message async for message in worker.connection.receive()]
    assert any(isinstance(message, StageBegan) and message.job_ids == [1] for message in messages)


async def test_terminal_signals_do_not_end_a_worker(launcher: Launcher) -> None:
    """Ctrl-C is for the API process, which drains first."""
    worker = await start_worker(launcher)
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(worker.pid, number)
    await ask(worker)


async def test_a_worker_inherits_only_its_socket(launcher: Launcher) -> None:
    """No file of this process, nor of another worker, is kept open by a worker."""
    await start_worker(launcher)
    with inheritable_fd():
        worker = await start_worker(launcher)
        links = open_files_of(worker.pid)
    assert len(links) == 1
    assert links[0].startswith("socket:")


async def test_nothing_is_left_after_many_workers(launcher: Launcher) -> None:
    """As many file descriptors and children as before, however the workers ended."""
    await ask(await start_worker(launcher))
    before = open_files()
    for end in ("kill", "stop", "close"):
        worker = await start_worker(launcher)
        match end:
            case "kill":
                worker.kill()
            case "stop":
                worker.connection.send(Stop())
            case "close":
                worker.connection.close()
        await worker.wait()
        async for _ in worker.connection.receive():
            pass
        await asyncio.sleep(0)
    assert open_files() <= before
    assert zombies() == []


@pytest.mark.parametrize("kind", ["spawn", "forkserver"])
async def test_stop_leaves_no_worker(kind: str) -> None:
    """Whatever the fleet forgot is ended with its launcher, and every file descriptor is closed."""
    before = open_files()
    launcher = make(kind)
    await launcher.start()
    workers = [await start_worker(launcher), await launcher.launch(SPEC)]
    await launcher.stop()
    assert [await worker.wait() for worker in workers] == [-signal.SIGKILL] * 2
    for worker in workers:
        async for _ in worker.connection.receive():
            pass
    await asyncio.sleep(0)
    assert open_files() <= before


async def test_a_cancelled_launch_leaves_no_worker(launcher: Launcher) -> None:
    """A caller that goes away while its worker is being started does not leave it behind."""
    task = asyncio.create_task(launcher.launch(SPEC))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await ask(await start_worker(launcher))


async def test_a_dead_forkserver_takes_no_worker(forkserver: ForkserverLauncher) -> None:
    """kill -9 of the forkserver: its workers answer on, another is started by itself, and forks."""
    worker = await start_worker(forkserver)
    pid = forkserver.forkserver_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await ask(worker)
    await ask(await start_worker(forkserver))
    assert forkserver.forkserver_pid not in (None, pid)
    await ask(worker, job_id=2)


async def test_a_launch_survives_the_death_of_the_forkserver(forkserver: ForkserverLauncher) -> None:
    """The launch is tried again with the next forkserver."""
    await start_worker(forkserver)
    pid = forkserver.forkserver_pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    launching = asyncio.create_task(start_worker(forkserver))
    await asyncio.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    await ask(await launching)


async def test_orphans_of_a_dead_forkserver_are_reaped() -> None:
    """What it forked and did not live to tell ends by itself, leaves no zombie, and the launch is served."""
    before = open_files()
    launcher = ForkserverLauncher(worker=WORKER, preload=(), forkserver="tests.fleet.dying_forkserver")
    await launcher.start()
    worker = await start_worker(launcher)
    await ask(worker)
    await launcher.stop()
    async for _ in worker.connection.receive():
        pass
    await asyncio.sleep(0)
    assert zombies() == []
    assert open_files() <= before


async def test_launches_at_once_are_all_served(launcher: Launcher) -> None:
    """Each caller gets a worker of its own."""
    workers = await asyncio.gather(*(start_worker(launcher) for _ in range(4)))
    assert len({worker.pid for worker in workers}) == 4


async def test_where_no_forkserver_starts_workers_are_spawned() -> None:
    """A system on which it cannot run still serves."""
    launcher = ForkserverLauncher(worker=WORKER, preload=(), forkserver="tests.fleet.no_such_module")
    await launcher.start()
    await ask(await start_worker(launcher))
    await launcher.stop()


@pytest.mark.parametrize("kind", ["spawn", "forkserver"])
def test_all_end_with_a_killed_parent(kind: str) -> None:
    """SIGKILL of the API process: its workers and its forkserver are gone within two seconds, stopped ones too."""
    parent = subprocess.Popen([sys.executable, "-m", "tests.fleet.api_process", kind], stdout=subprocess.PIPE, cwd=ROOT)
    with parent:
        assert parent.stdout is not None
        pids = orjson.loads(parent.stdout.readline())
        assert len(pids) == (3 if kind == "forkserver" else 2)
        os.kill(pids[0], signal.SIGSTOP)
        pidfds = [os.pidfd_open(pid) for pid in pids]
        parent.kill()
        for pidfd in pidfds:
            readable, _, _ = select.select([pidfd], [], [], 2.0)
            assert readable
            os.close(pidfd)


async def test_a_worker_finds_the_package_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a file called app.py nor a folder called tests in the current folder is imported instead."""
    (tmp_path / "app.py").write_text("raise RuntimeError('the wrong app')")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "__init__.py").write_text("raise RuntimeError('the wrong tests')")
    monkeypatch.chdir(tmp_path)
    launcher = SpawnLauncher(worker=WORKER)
    await ask(await start_worker(launcher))
    await launcher.stop()


def test_the_environment_of_children_is_extended() -> None:
    """The package is found first, what the operator set is kept."""
    key = {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20x", "HF_TOKEN": "x", "PIPESERVE_API_KEYS": "x"}
    operators = {"PYTHONPATH": "/elsewhere", "OPENBLAS_NUM_THREADS": "2", "HOME": "/root", **key}
    environment = child_environment(operators, Told("debug", "json", Path("cache")))
    assert environment["PIPESERVE_LOG_LEVEL"] == "debug" and environment["PIPESERVE_LOG_FORMAT"] == "json"
    assert cache_dir_of(environment) == Path("cache").absolute()  # a worker may live in another folder
    assert environment["PYTHONPATH"].split(os.pathsep) == [str(ROOT), "/elsewhere"]
    assert environment["TORCHINDUCTOR_CACHE_DIR"] == str(Path("cache/torchinductor").absolute())  # not below /tmp
    assert environment["OPENBLAS_NUM_THREADS"] == "2"
    assert environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"  # as nvidia-smi counts, whose numbers the budgets have
    assert environment["HOME"] == "/root"
    assert not environment.keys() & key.keys()


def test_another_environment_sees_nothing_of_ours() -> None:
    """Its Python finds our package in the given folder, and no libraries that the operator's variables lead to."""
    told = Told("info", "text", Path("/c"), Path("/package"))
    environment = child_environment({"PYTHONPATH": "/ours", "PYTHONHOME": "/ours"}, told)
    assert environment["PYTHONPATH"] == "/package"
    assert "PYTHONHOME" not in environment


def make_python(folder: Path) -> Path:
    """An interpreter that writes down that it was started."""
    python = folder / "python"
    python.write_text(f'#!/bin/sh\necho started >> {folder}/log\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (folder / "log").touch()
    return python


def log_of(folder: Path) -> str:
    return (folder / "log").read_text()


async def test_an_entry_lives_in_the_environment_that_it_names(tmp_path: Path) -> None:
    """Its interpreter starts the worker; entries without one are started as ever; without it, a sentence."""
    others = zombies()  # what tests before this one killed, and nobody was left to reap
    python = make_python(tmp_path)
    environments = Environments(tmp_path, {"other": str(python)})
    launcher = EnvironmentsLauncher(SpawnLauncher(worker=WORKER), environments, worker=WORKER)
    await launcher.start()
    own = await start_worker(launcher)
    assert log_of(tmp_path) == ""
    other = await start_worker(launcher, env="other")
    assert log_of(tmp_path) == "started\n"
    await ask(own)
    await ask(other)
    with pytest.raises(ModelFailed, match="pipeserve env create optimum"):
        await start_worker(launcher, env="optimum")
    await launcher.stop()
    assert await own.wait() == await other.wait() == -signal.SIGKILL
    own.connection.close()
    other.connection.close()
    await asyncio.sleep(0)  # transports close their sockets in the loop's next turn
    assert set(zombies()) <= set(others)


def test_the_launcher_is_a_setting() -> None:
    """ "auto" is a forkserver where the system has one."""
    assert isinstance(make_launcher(Settings(launcher="spawn")), SpawnLauncher)
    assert isinstance(make_launcher(Settings(launcher="forkserver")), ForkserverLauncher)
    assert isinstance(make_launcher(Settings()), ForkserverLauncher)


def test_compiled_code_lies_in_the_cache_folder_or_in_a_temporary_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """torch cannot be imported where it may not make that folder, whether anything is compiled or not."""
    environ: dict[str, str] = {}
    with folder_for_compiled_code(tmp_path / "cache", environ):
        assert (tmp_path / "cache" / "torchinductor").is_dir() and environ == {} and not caplog.text
    (tmp_path / "file").touch()
    with folder_for_compiled_code(tmp_path / "file" / "cache", environ):
        temporary = Path(environ["TORCHINDUCTOR_CACHE_DIR"])
        assert temporary.stat().st_mode & 0o777 == 0o700
        assert child_environment(environ, Told("info", "text", tmp_path))["TORCHINDUCTOR_CACHE_DIR"] == str(temporary)
    assert not temporary.exists()
    assert f"the cache folder {tmp_path}/file/cache cannot be written (Not a directory)" in caplog.text
    assert "--cache-dir" in caplog.text
