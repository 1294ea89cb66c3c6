"""Builds environments: a venv made beside its place, filled by pip, checked, and only then moved there."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from app.environments.places import STATE, package_path, python_of

_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_PROGRESS = ("Collecting ", "Downloading ", "Building ", "Installing collected packages")
_LAST_LINES = 12
_NO_TORCH_FOR_CPUS = re.compile(r"(found for|user requested) torch==\S+\+cpu")
_UNREACHABLE = (
    "NewConnectionError",
    "NameResolutionError",
    "name resolution",
    "Max retries",
    "No matching distribution",
)


class EnvironmentProblem(Exception):
    """`str(error)` says what is wrong with an environment and what to do."""


class Found(msgspec.Struct, frozen=True):
    """What an environment's own interpreter says of it. broken, failed: module -> why it cannot be imported."""

    python: str
    versions: dict[str, str]
    broken: dict[str, str]
    failed: dict[str, str]


class State(msgspec.Struct, frozen=True):
    """Kept in the environment. requirements: the text that it was built from, as a SHA-256."""

    python: str
    requirements: str


def create(
    name: str, folder: Path, requirements: Path, modules: Sequence[str], *, python: str, say: Callable[[str], None]
) -> Path:
    """The environment, in `folder`. Replaces one of the same name when the new one is complete, never before.

    modules: it must be able to import them. Raises EnvironmentProblem; what was built until then is removed.
    """
    place, building = folder / name, folder / f".{name}.building"
    with _only_one(folder, name):
        shutil.rmtree(building, ignore_errors=True)
        try:
            text = requirements.read_bytes()
            say(f"{name}: making a virtual environment")
            _run([python, "-m", "venv", str(building)])
            say(f"{name}: installing {requirements.name} (a few minutes)")
            _pip(building, "install", "--progress-bar", "off", "--requirement", str(requirements), say=say)
            say(f"{name}: checking")
            found = _without_broken(building, folder, modules, say)
            state = State(python=found.python, requirements=hashlib.sha256(text).hexdigest())
            (building / STATE).write_bytes(msgspec.json.encode(state))
            _mend_scripts(building, place)
            _replace(place, building)
        except OSError as error:
            raise EnvironmentProblem(f"{name} cannot be built in {folder}: {error}.") from None
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return place


def remove(name: str, folder: Path) -> int:
    """The bytes that it freed. Raises EnvironmentProblem."""
    place = folder / name
    if not place.is_dir():
        raise EnvironmentProblem(f'there is no environment "{name}" in {folder}.')
    with _only_one(folder, name):
        try:
            num_bytes = size_of(place)
            shutil.rmtree(place)
        except OSError as error:  # a link to a folder elsewhere, say
            raise EnvironmentProblem(f"{place} cannot be removed: {error}.") from None
    return num_bytes


def probe(python: Path, folder: Path, modules: Sequence[str]) -> Found:
    """What can be imported by that interpreter, as a worker of it would. Raises EnvironmentProblem."""
    command = [str(python), "-P", "-m", "app.environments.probe", *modules]
    output = _run(command, {"PYTHONPATH": str(package_path(folder))})
    try:
        return msgspec.json.decode(output.rstrip().rpartition("\n")[2], type=Found)
    except msgspec.DecodeError:
        raise EnvironmentProblem(f"{python} did not say what it can import:\n{_end_of(output)}") from None


def state_of(environment: Path) -> State | None:
    """None: nothing complete is there."""
    try:
        return msgspec.json.decode((environment / STATE).read_bytes(), type=State)
    except (OSError, msgspec.DecodeError):
        return None


def is_built_from(state: State, requirements: Path) -> bool:
    return state.requirements == hashlib.sha256(requirements.read_bytes()).hexdigest()


def names_in(requirements: Path) -> list[str]:
    """The distributions that it names, as `Found.versions` has them."""
    lines = requirements.read_text(encoding="utf-8").splitlines()
    return [match[1].lower().replace("_", "-") for line in lines if (match := _REQUIREMENT.match(line))]


def size_of(folder: Path) -> int:
    return sum(Path(root, name).lstat().st_size for root, _, names in os.walk(folder) for name in names)


@contextmanager
def _only_one(folder: Path, name: str) -> Iterator[None]:
    """Raises EnvironmentProblem while another process builds or removes it; a lock ends with its process."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".{name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EnvironmentProblem(f"another process is building {name}; wait for it.") from None
        yield


def _without_broken(building: Path, folder: Path, modules: Sequence[str], say: Callable[[str], None]) -> Found:
    """After removing what would break transformers."""
    found = probe(python_of(building), folder, modules)
    if found.broken:
        for module, why in found.broken.items():
            say(f"  removing {module}, which cannot be imported beside this torch: {why}")
        _pip(building, "uninstall", "--yes", *found.broken, say=say)
        found = probe(python_of(building), folder, modules)
    if found.failed:
        reasons = "\n".join(f"  {module}: {why}" for module, why in found.failed.items())
        raise EnvironmentProblem(f"what was installed cannot be imported:\n{reasons}")
    return found


def _pip(environment: Path, *arguments: str, say: Callable[[str], None]) -> None:
    command = [str(python_of(environment)), "-m", "pip", "--no-input", "--disable-pip-version-check", *arguments]
    lines: list[str] = []
    with subprocess.Popen(
        command, env=_environ({}), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip())
            if line.lstrip().startswith(_PROGRESS):
                say(f"  {line.partition(' (from ')[0].strip()[:120]}")
    if process.returncode != 0:
        output = "\n".join(lines)
        raise EnvironmentProblem(f"pip {arguments[0]} failed:\n{_end_of(output)}{_hint(output)}")


def _hint(output: str) -> str:
    """What to do about pip's failure, where that is known."""
    if _NO_TORCH_FOR_CPUS.search(output):
        return (
            "\nBuilds of torch for CPUs are in an index of their own:"
            " PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu, or a mirror of it."
        )
    if any(words in output for words in _UNREACHABLE):
        return (
            "\nWithout the package index, give pip a mirror or a folder of wheels: PIP_INDEX_URL, or PIP_NO_INDEX=1 and"
            " PIP_FIND_LINKS."
        )
    return ""


def _run(command: Sequence[str], variables: Mapping[str, str] | None = None) -> str:
    """Its standard output. Raises EnvironmentProblem when it fails."""
    try:
        done = subprocess.run(
            command, env=_environ(variables or {}), capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        raise EnvironmentProblem(f"{command[0]} cannot be run: {error}.") from None
    if done.returncode != 0:
        raise EnvironmentProblem(f"{' '.join(command)} failed:\n{_end_of(done.stdout + done.stderr)}")
    return done.stdout


def _environ(variables: Mapping[str, str]) -> dict[str, str]:
    """Ours, without what would lead another interpreter to our libraries."""
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    return {**kept, **variables}


def _end_of(output: str) -> str:
    return "\n".join(f"  {line}" for line in output.strip().splitlines()[-_LAST_LINES:])


def _mend_scripts(building: Path, place: Path) -> None:
    """Scripts name the interpreter by its path: where it will be."""
    for script in python_of(building).parent.iterdir():
        if script.is_file() and not script.is_symlink():
            content = script.read_bytes()
            if (old := os.fsencode(building)) in content:
                script.write_bytes(content.replace(old, os.fsencode(place)))


def _replace(place: Path, building: Path) -> None:
    """Workers that run in the old one keep what they have open."""
    old = place.with_name(f".{place.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    building.rename(place)
    shutil.rmtree(old, ignore_errors=True)
