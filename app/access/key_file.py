"""The file of keys: YAML (or JSON, which is YAML), with hashes in the place of secrets. Read by the server whenever it
changes, written by `pipeserve keys`."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError

from app.access.keys import VARIABLE, VARIABLE_PREFIX, Allowance, Key, KeyScope, digest_of
from app.declaration.form import Count, Form, Text, did_you_mean, sentence_of
from app.declaration.text import YamlDocument, YamlError, read_yaml
from app.fairness import PRIORITIES, PriorityName
from app.logs import AUDIT_LOGGER
from app.tasks.custom import NAME as CUSTOM
from app.tasks.registry import ALIASES, TASKS

logger = logging.getLogger(__name__)
audit_logger = logging.getLogger(AUDIT_LOGGER)

MODE = 0o600
WATCH_S = 1.0
HEAD = "# Written by `pipeserve keys`, which keeps no comments. Secrets are not in it, only their SHA-256.\n"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", re.ASCII)
_HASH_PREFIX = "sha256:"
_HASH = re.compile(rf"{_HASH_PREFIX}[0-9a-f]{{64}}", re.ASCII)


class KeyFileProblem(Exception):
    """What is wrong with the file, as a sentence that names it."""


def key_name(text: str) -> str:
    """Raises ValueError: it stands in logs and labels."""
    if _NAME.fullmatch(text) is None:
        raise ValueError(f'{text[:80]!r} cannot name a key; use letters, digits, "-", "_", "." and "@", at most 64.')
    if text.startswith(VARIABLE_PREFIX):
        raise ValueError(f"names that begin with {VARIABLE_PREFIX} are those of keys in {VARIABLE}.")
    return text


def task_name(text: str) -> str:
    """The canonical one. Raises ValueError."""
    name = ALIASES.get(text, text)
    if name not in TASKS and name != CUSTOM:
        raise ValueError(f'there is no task "{text[:80]}"{did_you_mean(text, (*TASKS, *ALIASES))}.')
    return name


def hash_of(secret: str) -> str:
    """As an entry holds it."""
    return f"{_HASH_PREFIX}{digest_of(secret.encode()).hex()}"


def _hash(text: str) -> str:
    if _HASH.fullmatch(text) is None:
        raise ValueError("it must be `sha256:` and 64 hexadecimal digits, as `pipeserve keys create` writes it.")
    return text


def _time(value: Any) -> Any:
    """YAML knows dates; JSON has texts. Without a zone it is UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(f"{value[:40]!r} is no time; write such as 2027-01-31T12:00:00Z.") from None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if isinstance(value, datetime) and value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    return value


class KeyForm(Form):
    """An entry of the file."""

    name: Annotated[str, AfterValidator(key_name)]
    hash: Annotated[str, AfterValidator(_hash)]
    scopes: list[KeyScope] = Field(default=["infer"], min_length=1)
    models: list[Text] = []
    tasks: list[Annotated[str, AfterValidator(task_name)]] = []
    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    concurrent: Count | None = None
    priority: PriorityName = "normal"
    weight: float = Field(default=1.0, gt=0, le=1000)
    expires: Annotated[datetime, BeforeValidator(_time)] | None = None

    def key(self) -> Key:
        return Key(
            name=self.name,
            digest=bytes.fromhex(self.hash.removeprefix(_HASH_PREFIX)),
            scopes=frozenset(self.scopes),
            models=tuple(self.models),
            tasks=tuple(self.tasks),
            allowance=Allowance(
                requests_per_minute=self.requests_per_minute,
                tokens_per_minute=self.tokens_per_minute,
                concurrent=self.concurrent,
            ),
            priority=PRIORITIES[self.priority],
            weight=self.weight,
            expires_at=None if self.expires is None else self.expires.timestamp(),
        )


class KeyFileForm(Form):
    keys: list[KeyForm]


# Reading


def read_keys(path: Path) -> tuple[Key, ...]:
    """Raises KeyFileProblem."""
    try:
        document = read_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise KeyFileProblem(f"{path}: there is no such file; `pipeserve keys create NAME` makes it.") from None
    except OSError as error:
        raise KeyFileProblem(f"{path}: it cannot be read: {error.strerror or error}.") from None
    except UnicodeDecodeError:
        raise KeyFileProblem(f"{path}: it is not UTF-8.") from None
    except YamlError as error:
        raise KeyFileProblem(f"{_place(path, error.line)}: {error}") from None
    return _keys_of(path, document)


def _keys_of(path: Path, document: YamlDocument) -> tuple[Key, ...]:
    try:
        keys = tuple(form.key() for form in KeyFileForm.model_validate(document.value).keys)
    except ValidationError as error:
        raise KeyFileProblem(_complaint(path, document, error)) from None
    seen: set[str | bytes] = set()
    for index, key in enumerate(keys):
        for what, value in (("name", key.name), ("hash", key.digest)):
            if value in seen:
                line = document.line(("keys", index, what))
                raise KeyFileProblem(f'{_place(path, line)}: the {what} of the key "{key.name}" stands there twice.')
            seen.add(value)
    return keys


def _complaint(path: Path, document: YamlDocument, error: ValidationError) -> str:
    found = error.errors(include_url=False)[0]
    location = tuple(one for one in found["loc"] if isinstance(one, str | int))
    place, where = _place(path, document.line(location)), ".".join(map(str, location)) or "the file"
    if found["type"] == "extra_forbidden":
        known = KeyForm.model_fields if len(location) > 1 else KeyFileForm.model_fields
        return f'{place}: unknown key "{location[-1]}"{did_you_mean(str(location[-1]), known)}.'
    if found["type"] == "missing":
        return f"{place}: {where} is missing."
    return f"{place}: {where}: {sentence_of(found)}"


def _place(path: Path, line: int | None) -> str:
    return str(path) if line is None else f"{path}:{line}"


class KeyFile:
    """The file as the server follows it. Owned by the event loop once it is watched."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, ...] | None = None

    def read(self) -> tuple[Key, ...]:
        """Raises KeyFileProblem."""
        self._seen = _stamp(self.path)
        return read_keys(self.path)

    async def watch(self, changed: Callable[[Sequence[Key]], None], *, every_s: float = WATCH_S) -> None:
        """Tell of the keys whenever the file changes, until cancelled. A broken file changes nothing: the log says
        why."""
        while True:
            await asyncio.sleep(every_s)
            if await asyncio.to_thread(_stamp, self.path) == self._seen:
                continue
            try:
                keys = await asyncio.to_thread(self.read)
            except KeyFileProblem as problem:
                logger.error("%s The keys stay as they were.", problem)
            else:
                changed(keys)
                names = ", ".join(key.name for key in keys) or "none, so that nobody gets in"
                audit_logger.info("%s has changed; its keys: %s", self.path, names)


def _stamp(path: Path) -> tuple[int, ...] | None:
    """What changes with the file; also where a link to it does."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


# Writing


@contextmanager
def changing(path: Path) -> Iterator[list[KeyForm]]:
    """The file's keys, to be changed: written when the block ends well. Others who change it wait. Raises
    KeyFileProblem."""
    path = path.resolve()
    try:
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise KeyFileProblem(f"{path.parent}: {error.strerror or error}.") from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        forms = read_forms(path)
        yield forms
        _write(path, forms)
    finally:
        os.close(folder)


def read_forms(path: Path) -> list[KeyForm]:
    """As they stand in the file; none where there is no file. Raises KeyFileProblem."""
    if not path.exists():
        return []
    read_keys(path)
    return KeyFileForm.model_validate(read_yaml(path.read_text(encoding="utf-8")).value).keys


def _write(path: Path, forms: Sequence[KeyForm]) -> None:
    """In one step: whoever reads finds the old file or the new one. It stays its owner's."""
    entries = [_entry(form) for form in forms]
    text = HEAD + yaml.safe_dump({"keys": entries}, sort_keys=False, allow_unicode=True, width=120)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise KeyFileProblem(f"{path.parent}: {error.strerror or error}.") from None
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), MODE)
            with suppress(OSError):  # there is none yet, or we are not root
                owner = path.stat()
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _entry(form: KeyForm) -> dict[str, Any]:
    """What differs from the defaults."""
    entry = {"name": form.name, "hash": form.hash, "scopes": form.scopes, **form.model_dump(exclude_defaults=True)}
    if form.expires is not None:
        entry["expires"] = form.expires.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return entry
