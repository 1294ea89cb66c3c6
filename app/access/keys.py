"""What an API key is: a secret that only its holder has, and what it allows."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Literal, get_args

from app.fairness import NORMAL
from app.tasks.completion import GENERATING_TASKS
from app.tasks.completion import TASK as COMPLETION
from app.tasks.registry import TASKS
from app.tasks.speech import SPEAKING_TASK
from app.tasks.speech import TASK as SPEECH
from app.tasks.transcription import RECOGNIZING_TASK
from app.tasks.transcription import TASK as TRANSCRIPTION

VARIABLE = "PIPESERVE_API_KEYS"
VARIABLE_PREFIX = "env-"
"""Of the names of the keys in the variable, which have none of their own."""
SECRET_PREFIX = "pipeserve-"
"""Tells whoever finds a secret, a scanner say, whose it is."""
SHORT_SECRET_CHARS = 20
"""Below this a secret can be guessed, or found from its hash."""


KeyScope = Literal["infer", "admin", "metrics"]
"""infer: compute, and see what is served. admin: load and unload models and adapters, see everybody's usage, and what
is served. metrics: `/metrics`, which `admin` reads too."""
INFER: KeyScope = "infer"
ADMIN: KeyScope = "admin"
METRICS: KeyScope = "metrics"
SCOPES: tuple[KeyScope, ...] = get_args(KeyScope)


_NEEDED: Mapping[str, Collection[str]] = MappingProxyType(
    {COMPLETION.name: GENERATING_TASKS, TRANSCRIPTION.name: (RECOGNIZING_TASK,), SPEECH.name: (SPEAKING_TASK,)}
)
"""Tasks that only other dialects ask -> those, of a model's own, of which a key must have one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """How much at a time; None: as much as there is."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None

    @property
    def is_unlimited(self) -> bool:
        return self == _UNLIMITED


_UNLIMITED = Allowance()


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """digest: the secret's SHA-256, which is enough for secrets of 32 random bytes. models: patterns (`acme/*`) of
    ids and aliases, a model's adapters included; none: all. tasks: none: all. priority: the highest that its requests
    may ask for. weight: its share among those of its priority. expires_at: unix time."""

    name: str
    digest: bytes = field(repr=False)
    scopes: frozenset[KeyScope] = frozenset({INFER})
    models: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    allowance: Allowance = _UNLIMITED
    priority: int = NORMAL
    weight: float = 1.0
    expires_at: float | None = None

    @property
    def is_restricted(self) -> bool:
        return bool(self.models or self.tasks)

    def may_use(self, names: Iterable[str]) -> bool:
        """Whether the model is one of the key's, by one of its names."""
        return not self.models or any(fnmatchcase(name, pattern) for name in names for pattern in self.models)

    def may_see(self, served: Collection[str]) -> bool:
        """Whether one of a model's tasks is one of the key's; they may not be known yet."""
        return not self.tasks or not served or any(task in self.tasks for task in served)

    def may_do(self, task: str, served: Collection[str]) -> bool:
        """Whether a model that serves these tasks may be asked this one for it. What belongs to no task, such as
        tokenizing, goes with any of the model's."""
        if not self.tasks or task in self.tasks:
            return True
        if task in TASKS:
            return False
        return any(one in self.tasks for one in served if one in _NEEDED.get(task, served))


def digest_of(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


def new_secret() -> str:
    return SECRET_PREFIX + secrets.token_urlsafe(32)


def keys_of_variable(text: str) -> tuple[Key, ...]:
    """Those of `PIPESERVE_API_KEYS`, for inference and metrics: whoever shares one secret with all of its clients does
    not mean them to unload its models."""
    return tuple(
        Key(name=name, digest=digest_of(secret.encode()), scopes=frozenset({INFER, METRICS}))
        for name, secret in _secrets_in(text).items()
    )


def short_secrets(text: str) -> list[str]:
    """The names of the keys in the variable that are too short to be safe."""
    return [name for name, secret in _secrets_in(text).items() if len(secret) < SHORT_SECRET_CHARS]


def _secrets_in(text: str) -> dict[str, str]:
    """By the names that they are given."""
    found = dict.fromkeys(secret for part in text.split(",") if (secret := part.strip()))
    return {f"{VARIABLE_PREFIX}{number}": secret for number, secret in enumerate(found, 1)}
