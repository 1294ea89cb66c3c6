"""What this machine and this installation can do, each with the way to more."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

import httpx2 as httpx
import msgspec
import psutil
from packaging.requirements import Requirement

from app.environments.places import environments_folder
from app.environments.probe import BREAKS_TRANSFORMERS
from app.environments.shipped import SHIPPED
from app.fleet.threads import available_cores
from app.settings import Settings

Verdict = Literal["ok", "none", "advice", "FAILED"]
"""none: it is not here, and is needed by those alone who ask for it. advice: it works, but not as well as it could."""

_TIMEOUT_S = 120.0  # importing torch takes seconds, on a busy machine many
_HUB_TIMEOUT_S = 5.0
_GIB = 2**30
_SMALL_DISK = 10 * _GIB
_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
_NOT_FOR_USERS = ("dev", "optimum")  # the second is an environment's
_LANDLOCK_SCOPES = (6, 12)  # the kernel that has them


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """fix: what to do about it; "": nothing."""

    about: str
    verdict: Verdict
    told: str
    fix: str = ""


class _Device(msgspec.Struct, frozen=True):
    name: str
    kind: str
    memory_bytes: int
    dtypes: list[str]


class _Machine(msgspec.Struct, frozen=True):
    torch: str
    cuda: str | None
    devices: list[_Device]


def findings(cache_dir: Path) -> Iterator[Finding]:
    """One after the other, as they are found. Blocks for seconds."""
    yield _python()
    yield from _libraries()
    yield from devices()
    yield _cores()
    yield from _extras()
    yield from _environments(cache_dir)
    yield _compiler()
    yield from _folders(cache_dir)
    yield hub()
    yield _open_files()
    yield from _confinement()


def _python() -> Finding:
    return Finding(about="python", verdict="ok", told=f"{platform.python_version()} ({sys.executable})")


def _libraries() -> Iterator[Finding]:
    yield Finding(about="transformers", verdict="ok", told=version("transformers"))
    for name in BREAKS_TRANSFORMERS:
        if (why := _why_not_imported(name)) is not None:
            yield Finding(
                about=name,
                verdict="FAILED",
                told=f"is installed but cannot be imported, which breaks transformers for every task: {why}",
                fix=f"pip uninstall {name}",
            )


def _why_not_imported(name: str) -> str | None:
    """None: it can be, or it is not there."""
    try:
        version(name)
    except PackageNotFoundError:
        return None
    done = _run([sys.executable, "-c", f"import {name}"])
    return None if done.returncode == 0 else _last_line(done.stderr)


def devices(root: Path = Path("/")) -> Iterator[Finding]:
    """root: of the system's files."""
    done = _run([sys.executable, "-P", "-m", "app.runtime.machine"])
    try:
        machine = msgspec.json.decode(_last_line(done.stdout), type=_Machine)
    except msgspec.DecodeError:
        fix = "pip install --force-reinstall torch"
        yield Finding(about="torch", verdict="FAILED", told=f"cannot be used: {_last_line(done.stderr)}", fix=fix)
        return
    built = "for CPUs" if machine.cuda is None else f"for CUDA {machine.cuda}"
    yield Finding(about="torch", verdict="ok", told=f"{machine.torch}, built {built}")
    for device in machine.devices:
        told = f"{device.kind}, {_size(device.memory_bytes)}, computes {', '.join(device.dtypes)}"
        yield Finding(about=device.name, verdict="ok", told=told)
    has_driver = (root / _NVIDIA_DRIVER.relative_to("/")).exists()
    if has_driver and not any(one.name.startswith("cuda") for one in machine.devices):
        yield _unseen_gpu(machine.cuda)


def _unseen_gpu(cuda: str | None) -> Finding:
    told = "an NVIDIA driver is here, but torch sees no GPU"
    if cuda is None:
        fix = "this torch is built for CPUs: install one for CUDA, https://pytorch.org/get-started/locally"
    else:
        fix = f"nvidia-smi must list a GPU, with a driver for CUDA {cuda}; in a container, start it with --gpus all"
    return Finding(about="cuda", verdict="FAILED", told=told, fix=fix)


def _cores() -> Finding:
    memory = psutil.virtual_memory()
    told = f"{available_cores()} cores, {_size(memory.total)} of memory, {_size(memory.available)} of it free"
    return Finding(about="cpu and memory", verdict="ok", told=told)


def _extras() -> Iterator[Finding]:
    lacking: dict[str, list[str]] = {}
    for text in requires("pipeserve") or ():
        requirement = Requirement(text)
        for extra in _extras_of(requirement):
            lacks = lacking.setdefault(extra, [])
            if not _is_here(requirement):
                lacks.append(requirement.name)
    for extra, names in lacking.items():
        if names:
            fix = f"pip install 'pipeserve[{extra}]'"
            yield Finding(about=f"extra {extra}", verdict="none", told=f"lacks {', '.join(names)}", fix=fix)
        else:
            yield Finding(about=f"extra {extra}", verdict="ok", told="installed")


def _extras_of(requirement: Requirement) -> list[str]:
    """That it belongs to: a marker such as `extra == "onnx"`."""
    if requirement.marker is None or "extra" not in str(requirement.marker):
        return []
    names = str(requirement.marker).replace("'", '"').split('extra == "')[1:]
    return [name for one in names if (name := one.partition('"')[0]) not in _NOT_FOR_USERS]


def _is_here(requirement: Requirement) -> bool:
    try:
        return requirement.specifier.contains(version(requirement.name), prereleases=True)
    except PackageNotFoundError:
        return False


def _environments(cache_dir: Path) -> Iterator[Finding]:
    from app.environments.building import is_built_from, state_of

    for name, shipped in SHIPPED.items():
        about, fix = f"environment {name}", f"pipeserve env create {name}"
        state = state_of(environments_folder(cache_dir) / name)
        if state is None:
            yield Finding(about=about, verdict="none", told=f"not built: {shipped.what}", fix=fix)
        elif not is_built_from(state, shipped.requirements):
            yield Finding(about=about, verdict="advice", told="built for another version of this server", fix=fix)
        else:
            yield Finding(about=about, verdict="ok", told=f"Python {state.python}")


def _compiler() -> Finding:
    for name in ("c++", "g++", "clang++"):
        if (path := shutil.which(name)) is not None:
            return Finding(about="compiler", verdict="ok", told=path)
    told, fix = "none, which `compile: true` needs on a CPU", "apt-get install g++, or the like"
    return Finding(about="compiler", verdict="none", told=told, fix=fix)


def _folders(cache_dir: Path) -> Iterator[Finding]:
    from huggingface_hub.constants import HF_HUB_CACHE

    yield _folder("Hub's cache", Path(HF_HUB_CACHE), "HF_HOME")
    yield _folder("server's cache", cache_dir, "PIPESERVE_CACHE_DIR")


def _folder(about: str, folder: Path, variable: str) -> Finding:
    """Whether it can be written to, or made."""
    fix = f"make it writable for this user, or set {variable} to another"
    standing = next(path for path in (folder, *folder.parents) if path.exists())
    if not standing.is_dir():
        return Finding(about=about, verdict="FAILED", told=f"{standing} is not a folder", fix=fix)
    if not os.access(standing, os.W_OK | os.X_OK):
        return Finding(about=about, verdict="FAILED", told=f"{folder} cannot be written to", fix=fix)
    free = shutil.disk_usage(standing).free
    told = f"{folder}, {_size(free)} free"
    if free < _SMALL_DISK:
        return Finding(about=about, verdict="advice", told=told, fix=f"weights are large: set {variable} to more room")
    return Finding(about=about, verdict="ok", told=told)


def hub() -> Finding:
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        told = "not asked (HF_HUB_OFFLINE): models come from folders and from its cache"
        return Finding(about="hub", verdict="ok", told=told)
    token = get_token()
    path, headers = ("/api/whoami-v2", {"authorization": f"Bearer {token}"}) if token else ("/api/models?limit=1", {})
    try:
        answer = httpx.get(constants.ENDPOINT + path, headers=headers, timeout=_HUB_TIMEOUT_S, follow_redirects=True)
    except httpx.HTTPError as error:
        told = f"{constants.ENDPOINT} cannot be reached ({str(error).rstrip('.') or type(error).__name__})"
        fix = "HF_ENDPOINT names a mirror, HTTPS_PROXY a proxy; HF_HUB_OFFLINE=1 asks nobody"
        return Finding(about="hub", verdict="advice", told=told, fix=fix)
    if answer.status_code == 401:
        fix = "set HF_TOKEN to one that is valid, or unset it"
        return Finding(about="hub", verdict="FAILED", told=f"{constants.ENDPOINT} does not know the token", fix=fix)
    if not answer.is_success:
        told = f"{constants.ENDPOINT} answered {answer.status_code}"
        return Finding(about="hub", verdict="advice", told=told, fix="try again later, or HF_ENDPOINT of a mirror")
    who = f" as {answer.json().get('name')}" if token else ", without a token: gated models cannot be had"
    return Finding(about="hub", verdict="ok", told=f"{constants.ENDPOINT} answers{who}")


def _open_files() -> Finding:
    from app.api.server import OWN_FILES

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = Settings.max_connections + OWN_FILES
    if hard == resource.RLIM_INFINITY or hard >= wanted:
        return Finding(about="open files", verdict="ok", told=f"room for {Settings.max_connections:,} connections")
    told = f"a limit of {hard:,} leaves room for {max(1, hard - OWN_FILES):,} connections"
    return Finding(about="open files", verdict="advice", told=told, fix=f"ulimit -Hn {wanted}, or LimitNOFILE=")


def _confinement() -> Iterator[Finding]:
    if sys.platform != "linux":
        yield Finding(about="confinement", verdict="advice", told="workers give up less where there is no Linux")
        return
    release = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
    if release < _LANDLOCK_SCOPES:
        told = f"Linux {platform.release()}: workers can look into other processes of this user"
        yield Finding(about="confinement", verdict="advice", told=told, fix="Linux 6.12 or newer, or a user of its own")
    else:
        yield Finding(about="confinement", verdict="ok", told=f"Linux {platform.release()}")


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, check=False)


def _last_line(output: str) -> str:
    return output.rstrip().rpartition("\n")[2]


def _size(num_bytes: int) -> str:
    return f"{num_bytes / _GIB:.1f} GiB"
