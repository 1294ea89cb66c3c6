"""What a worker has given up: seen from outside in a real worker's /proc, and tried in processes that do the same."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.catalog import ModelSpec
from app.confinement import MAX_OPEN_FILES
from app.fleet.launcher import ForkserverLauncher, SpawnLauncher, has_forkserver, lent_to
from tests.fleet.api_process import WORKER, start_worker

pytestmark = pytest.mark.skipif(not has_forkserver(), reason="needs Linux with pidfd")

REPOSITORY = Path(__file__).resolve().parent.parent.parent
OVER_FILES = 0b11111
SECRETS = {"PIPESERVE_API_KEYS": "sesame", "HF_TOKEN": "hf_token", "HUGGING_FACE_HUB_TOKEN": "hf_token"}


def landlock_version() -> int:
    """Minus one where the kernel has none."""
    return int(ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1))


has_scopes = pytest.mark.skipif(landlock_version() < 6, reason="needs Linux 6.12 with Landlock")


@dataclass(frozen=True)
class Seen:
    """Of a worker in /proc: the status of each of its threads, its limits (soft and hard, by name), its points when
    memory runs out, the environments that it and the forkserver, if there is one, were started with."""

    threads: list[dict[str, str]]
    limits: dict[str, list[str]]
    oom_points: int
    environments: list[bytes]


@pytest.fixture(scope="module", params=["spawn", "forkserver"])
def seen(request: pytest.FixtureRequest) -> Seen:
    """A worker of an offline entry, whose operator has secrets in the environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SECRETS.items():
            patch.setenv(name, value)
        return asyncio.run(look(request.param))


async def look(kind: str) -> Seen:
    forking = ForkserverLauncher(worker=WORKER, preload=())
    launcher: SpawnLauncher | ForkserverLauncher = forking if kind == "forkserver" else SpawnLauncher(worker=WORKER)
    await launcher.start()
    early = await launcher.launch(ModelSpec(id="scripted", model="scripted", offline=True))
    environments = [environment_of(early.pid)]
    if forking.forkserver_pid is not None:
        environments.append(environment_of(forking.forkserver_pid))
    early.connection.close()
    worker = await start_worker(launcher)
    found = Seen(statuses_of(worker.pid), limits_of(worker.pid), oom_points_of(worker.pid), environments)
    worker.connection.close()
    await launcher.stop()
    await asyncio.sleep(0)  # transports close their sockets in the loop's next turn
    return found


def statuses_of(pid: int) -> list[dict[str, str]]:
    texts = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status")]
    return [dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line) for text in texts]


def limits_of(pid: int) -> dict[str, list[str]]:
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return {line[:25].strip(): line[25:].split()[:2] for line in lines}


def oom_points_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def environment_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def run(code: str, **variables: str) -> tuple[dict[str, Any], str]:
    """What the code prints, as JSON, and what it says on stderr."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found, done.stderr


def test_every_thread_of_a_worker_has_given_up_privileges(seen: Seen) -> None:
    """No new ones by any program that it starts, and of root's those over files at most."""
    assert len(seen.threads) > 3
    for thread in seen.threads:
        assert thread["NoNewPrivs"] == "1"
        for name in ("CapPrm", "CapEff", "CapInh", "CapAmb"):
            assert int(thread[name], 16) & ~OVER_FILES == 0, name


def test_a_worker_has_limits(seen: Seen) -> None:
    """No core dump, which would hold clients' inputs; a bounded number of files; no file that others may write."""
    assert seen.limits["Max core file size"] == ["0", "0"]
    assert seen.limits["Max open files"] == [str(MAX_OPEN_FILES)] * 2
    assert int(seen.threads[0]["Umask"], 8) & 0o022 == 0o022


def test_a_worker_goes_before_the_server_when_memory_runs_out(seen: Seen) -> None:
    """It costs no request, the API process all of them."""
    assert seen.oom_points > oom_points_of(os.getpid())


def test_no_secret_is_in_the_environment_of_workers(seen: Seen) -> None:
    """Neither the server's keys nor, in the forkserver's and in offline entries', the Hub's token."""
    for environment in seen.environments:
        assert b"PATH=" in environment
        for name, value in SECRETS.items():
            assert name.encode() not in environment and value.encode() not in environment


async def test_a_spawned_worker_is_lent_the_hubs_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the environment that it starts with."""
    monkeypatch.setenv("HF_TOKEN", "hf_token")
    launcher = SpawnLauncher(worker=WORKER)
    worker = await launcher.launch(ModelSpec(id="scripted", model="scripted"))
    assert b"HF_TOKEN=hf_token\0" in environment_of(worker.pid)
    worker.connection.close()
    await launcher.stop()


def test_the_hubs_token_is_lent_to_entries_that_may_ask_the_hub() -> None:
    """Where there is one."""
    online, offline = ModelSpec(id="a", model="a/a"), ModelSpec(id="a", model="a/a", offline=True)
    assert lent_to(online, SECRETS) == {"HF_TOKEN": "hf_token", "HUGGING_FACE_HUB_TOKEN": "hf_token"}
    assert lent_to(online, {"HF_TOKEN": ""}) == lent_to(offline, SECRETS) == {}


TRYING = """
import contextlib, ctypes, errno, json, os, socket, subprocess, sys, threading
from app.catalog import ModelSpec
from app.confinement import bar_network, confine
from app.worker.confinement import as_declared

def tried(act):
    try:
        result = act()
        return "done" if result is None or not isinstance(result, int) else result
    except OSError as error:
        return errno.errorcode[error.errno]

def opened(family, kind=socket.SOCK_STREAM):
    return tried(lambda: socket.socket(family, kind).close())

def in_child(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]
"""


def test_barred_from_the_network() -> None:
    """By every family that leads anywhere; in threads that were there before and in processes that come after; with the
    upper half of the register set, which the kernel does not look at; past io_uring. Local sockets are left."""
    found, _ = run(
        TRYING
        + """
before = socket.socketpair()
go, found = threading.Event(), {}

def other_thread():
    go.wait()
    found["thread"] = opened(socket.AF_INET)

thread = threading.Thread(target=other_thread)
thread.start()
bar_network()
go.set()
thread.join()
libc = ctypes.CDLL(None, use_errno=True)
for family in (socket.AF_INET, socket.AF_INET6, socket.AF_PACKET, socket.AF_VSOCK, 43):
    found[str(int(family))] = [opened(family), opened(family, socket.SOCK_DGRAM), opened(family, socket.SOCK_RAW)]
found["connect"] = tried(lambda: socket.create_connection(("127.0.0.1", 9)))
found["child"] = in_child("import socket; socket.socket()")
arguments = [ctypes.c_long(number) for number in (socket.AF_INET + 2**32, socket.SOCK_STREAM, 0)]
if os.uname().machine == "x86_64":
    found["upper"] = [libc.syscall(41, *arguments), errno.errorcode[ctypes.get_errno()]]
found["io_uring"] = [libc.syscall(425, 1, None), errno.errorcode[ctypes.get_errno()]]
found["local"] = [opened(socket.AF_UNIX), opened(socket.AF_NETLINK, socket.SOCK_RAW)]
before[0].send(b"a")
found["before"] = before[1].recv(1).decode()
print(json.dumps(found))
"""
    )
    for family in ("2", "10", "17", "40", "43"):
        assert found[family] == ["EACCES"] * 3
    assert found["thread"] == found["connect"] == "EACCES"
    assert "PermissionError" in found["child"]
    assert found.get("upper", [-1, "EACCES"]) == [-1, "EACCES"]
    assert found["io_uring"] == [-1, "ENOSYS"]
    assert found["local"] == ["done", "done"] and found["before"] == "a"


REACHING = (
    TRYING
    + """
import pathlib, tempfile
listener = socket.socket(socket.AF_UNIX)
listener.bind("\\0of-the-test")
listener.listen()
at_listener = "import socket; from app.confinement import confine; confine('workers');"
at_listener += "socket.socket(socket.AF_UNIX).connect('\\\\0of-the-test')"
found = {"abstract": in_child(at_listener)}
confine("workers")
for name, pid in (("other", int(os.environ["OTHER"])), ("parent", os.getppid())):
    found[name] = [tried(lambda: os.kill(pid, 0))]
    found[name] += [tried(lambda: open(f"/proc/{pid}/{file}").read()) for file in ("environ", "mem", "maps")]
own = subprocess.Popen(["sleep", "30"])
own.kill()
found["own"] = own.wait()
folder = pathlib.Path(tempfile.mkdtemp())
(folder / "a").mkdir()
(folder / "b").mkdir()
(folder / "a" / "file").write_text("")
found["rename"] = tried(lambda: os.rename(folder / "a" / "file", folder / "b" / "file"))
found["mode"] = oct((folder / "b" / "file").stat().st_mode & 0o022)
print(json.dumps(found))
"""
)


@has_scopes
def test_other_processes_are_out_of_reach() -> None:
    """Their environment and memory, and signals to them: the API process that started it, and any other. Its own
    children are its own, and so are its files."""
    with subprocess.Popen(["sleep", "30"]) as other:
        found, _ = run(REACHING, OTHER=str(other.pid))
        other.kill()
    for name in ("other", "parent"):
        assert found[name] == ["EPERM", "EACCES", "EACCES", "EACCES"], name
    assert "PermissionError" in found["abstract"]
    assert found["own"] == -9
    assert found["rename"] == "done" and found["mode"] == "0o0"


DECLARED = (
    TRYING
    + """
specs = {
    "offline": ModelSpec(id="a", model="a/a", offline=True),
    "vllm": ModelSpec(id="a", model="a/a", offline=True, backend="vllm"),
    "trusting": ModelSpec(id="a", model="a/a", trust_remote_code=True),
    "adapting": ModelSpec(id="a", model="a/a", adapters_allow=("b/*",)),
}
found = {}
for name, spec in specs.items():
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.environ.update(HF_TOKEN="hf_token", TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD="1")
        with as_declared(spec):
            seen = [opened(socket.AF_INET), os.environ.get("HF_TOKEN")]
        seen += [opened(socket.AF_INET), os.environ.get("HF_TOKEN")]
        seen += [os.environ.get(f"TORCH_FORCE_{word}WEIGHTS_ONLY_LOAD") for word in ("", "NO_")]
        os.write(writing, json.dumps(seen).encode())
        os._exit(0)
    os.close(writing)
    found[name] = json.loads(os.read(reading, 1000))
    os.wait()
print(json.dumps(found))
"""
)


def test_a_model_is_loaded_as_its_entry_says() -> None:
    """Offline: without the network from before its files are read, vLLM's from after it has started. The Hub's token
    is forgotten with the load, unless adapters may come later. torch.load runs nothing, where no code is trusted."""
    found, _ = run(DECLARED)
    assert found == {
        "offline": ["EACCES", "hf_token", "EACCES", None, "1", None],
        "vllm": ["done", "hf_token", "EACCES", None, "1", None],
        "trusting": ["done", "hf_token", "done", None, None, "1"],
        "adapting": ["done", "hf_token", "done", "hf_token", "1", None],
    }


def test_a_system_without_libseccomp_says_that_nothing_is_barred(tmp_path: Path) -> None:
    """The model is served all the same: the Hub is not asked."""
    (tmp_path / "libseccomp.so.2").write_text("this is no library")
    code = """
with as_declared(ModelSpec(id="acme/tiny", model="acme/tiny", offline=True)):
    print(json.dumps({"opened": opened(socket.AF_INET)}))
"""
    found, said = run(TRYING + code, LD_LIBRARY_PATH=str(tmp_path))
    assert found == {"opened": "done"}
    assert "acme/tiny is offline" in said and "cannot bar" in said


def test_a_system_that_lacks_a_part_is_served_without() -> None:
    """And says so in one line: here Landlock, of which the kernel takes 16 layers, if it has it."""
    code = """
import logging
logging.basicConfig(format="%(message)s")
logging.getLogger().setLevel("INFO")
for _ in range(16):
    confine("workers")
print("the last:", file=sys.stderr)
confine("workers")
print(json.dumps({"socket": opened(socket.AF_INET)}))
"""
    found, said = run(TRYING + code)
    assert found == {"socket": "done"}
    (line,) = said.partition("the last:\n")[2].splitlines()
    assert line.startswith("this system confines workers less than others do: ") and "andlock" in line
