"""Which API key a browser has logged in with. The browser has a random name for it, and the key never leaves here."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

IDLE_S = 12 * 3600.0
MAX_SESSIONS = 10_000


@dataclass(frozen=True, kw_only=True)
class Visitor:
    """may_administer: as it was at the login, for what is shown; what is done the server allows or refuses itself."""

    key: str
    may_administer: bool


class Sessions:
    """Owned by the event loop. They end with the process, `idle_s` after their last use, or for newer ones."""

    def __init__(self, *, clock: Callable[[], float], idle_s: float = IDLE_S, max_sessions: int = MAX_SESSIONS) -> None:
        self._clock = clock
        self._idle_s = idle_s
        self._max_sessions = max_sessions
        self._known: OrderedDict[str, tuple[Visitor, float]] = OrderedDict()  # with the last use, the latest last

    def open(self, visitor: Visitor) -> str:
        """The session's name: 256 random bits."""
        name = secrets.token_urlsafe(32)
        self._known[name] = visitor, self._clock()
        while len(self._known) > self._max_sessions:
            self._known.popitem(last=False)
        return name

    def visitor_of(self, name: str) -> Visitor | None:
        """None: there is no such session, or it has ended."""
        visitor, used_at = self._known.pop(name, (None, 0.0))
        if visitor is None or self._clock() - used_at > self._idle_s:
            return None
        self._known[name] = visitor, self._clock()
        return visitor

    def close(self, name: str) -> None:
        self._known.pop(name, None)
