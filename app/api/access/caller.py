"""Who makes a request, and what they may."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

from app.access.keys import INFER, METRICS, SCOPES, KeyScope
from app.errors import Forbidden
from app.fairness import NORMAL, PRIORITIES
from app.fleet.requests import ModelsAPI

_NO_ADMIN = (
    "Models and adapters are loaded and unloaded by request only with an API key of the scope admin: this server has no"
    " keys, and listens on more than this machine's own (loopback) address."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """name: of their key, "" on a server without keys. fleet: as they may see and use it. is_restricted: they may not
    use all of it. priority: the highest that they may ask for. weight: their share among others of the same."""

    name: str
    fleet: ModelsAPI
    scopes: frozenset[KeyScope]
    is_restricted: bool = False
    priority: int = NORMAL
    weight: float = 1.0

    def priority_of(self, asked: int | None) -> int:
        """What a request of theirs has: what it asks for, else their own. Raises Forbidden for more than that."""
        if asked is None:
            return self.priority
        if asked > self.priority:
            most = next(name for name, value in PRIORITIES.items() if value == self.priority)
            who = f'the key "{self.name}"' if self.name else "a request without a key"
            raise Forbidden(f"X-Priority: {who} may ask for {most} at most.", param="X-Priority")
        return asked

    def demand(self, *scopes: KeyScope) -> None:
        """One of them. Raises Forbidden."""
        if not self.scopes.isdisjoint(scopes):
            return
        if not self.name:
            raise Forbidden(_NO_ADMIN)
        raise Forbidden(f'The key "{self.name}" lacks the scope {" or ".join(scopes)} for this.')


def anybody(fleet: ModelsAPI, *, host: str) -> Caller:
    """On a server without keys. host: that it listens on; who is on the same machine may do everything."""
    scopes = frozenset(SCOPES if is_loopback(host) else (INFER, METRICS))
    return Caller(name="", fleet=fleet, scopes=scopes)


def nobody(fleet: ModelsAPI) -> Caller:
    """Who has shown no key to a server with keys: the health routes answer them."""
    return Caller(name="", fleet=fleet, scopes=frozenset())


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
