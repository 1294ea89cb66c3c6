"""Which models are resident: leases, single-flight loads, eviction. Pure and synchronous; the clock is passed in.

Every method takes what happened and returns what is to be done (`Action`s, for `fleet.py` to execute):

    UNRESOLVED -> UNLOADED -> LOADING (estimating -> waiting for room -> starting) -> READY -> UNLOADING -> UNLOADED
                                 |                                       ^             |
                                 +-> FAILED (-> want(retry=True))        +-- lost() ---+

Bytes are reserved when a load starts and come back when the model's last process is reaped (`stopped`, `failed`).
A model with a lease is never evicted; at most it is told to take no new ones and ends after its last (`_drain`).

An entry may become another one at any time (`change`), or be none any more (`remove`): leases that workers serve go on
with these, and those that wait for a load get one.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from app.catalog import ModelSpec
from app.channel.messages import ErrorInfo
from app.errors import ModelFailed, OutOfMemory
from app.fleet.memory import show_bytes

PATIENCE_S = 10.0
"""How long a load waits for models to become idle by themselves, before those in use take no new leases."""


class State(StrEnum):
    UNRESOLVED = "unresolved"
    UNLOADED = "unloaded"
    LOADING = "loading"
    READY = "ready"
    UNLOADING = "unloading"
    FAILED = "failed"


class _Phase(StrEnum):
    """Of LOADING."""

    ESTIMATING = "estimating"
    WAITING = "waiting"
    STARTING = "starting"


@dataclass(eq=False, slots=True)
class Lease:
    """One use of a model, from `acquire` to `release`. keep_alive_s: the request's own, None for the model's."""

    model_id: str
    keep_alive_s: float | None = None
    is_granted: bool = False
    is_over: bool = False


@dataclass(frozen=True, slots=True)
class Resolve:
    """Find out what the entry is: answer with `resolved` or `unresolvable`."""

    model_id: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """Find out what the model needs: answer with `estimated`."""

    model_id: str


@dataclass(frozen=True, slots=True)
class StartLoad:
    """Answer with `ready` or `failed`."""

    model_id: str


@dataclass(frozen=True, slots=True)
class StopWorkers:
    """End the model's processes: answer with `stopped`. is_loaded: it was READY; a load is just broken off."""

    model_id: str
    reason: str
    is_loaded: bool


@dataclass(frozen=True, slots=True)
class Grant:
    lease: Lease


@dataclass(frozen=True, slots=True)
class Refuse:
    """The lease is over."""

    lease: Lease
    error: ErrorInfo


@dataclass(frozen=True, slots=True)
class Changed:
    """The model came to rest in this state: READY, UNLOADED or FAILED."""

    model_id: str
    state: State


@dataclass(frozen=True, slots=True)
class Removed:
    """Nobody has to do with the entry that was to be removed: answer with `forget`."""

    model_id: str


Action = Resolve | Estimate | StartLoad | StopWorkers | Grant | Refuse | Changed | Removed


@dataclass(eq=False, slots=True)
class _Entry:
    spec: ModelSpec
    state: State
    keep_alive_s: float
    is_pinned: bool  # as its spec says, until somebody says otherwise
    error: ErrorInfo | None = None
    phase: _Phase = _Phase.ESTIMATING
    need: Mapping[str, int] = field(default_factory=dict)  # bytes by device; 0: unknown
    taken: Mapping[str, int] = field(default_factory=dict)  # reserved
    leases: dict[Lease, None] = field(default_factory=dict)
    is_wanted: bool = False  # somebody asked for the load without a lease
    is_resolving: bool = False
    is_leaving: bool = False  # to unload after the leases that it has
    is_stopping: bool = False  # StopWorkers is on its way
    is_restarting: bool = False  # LOADING because its workers died
    failure: ErrorInfo | None = None  # FAILED, once its processes are reaped
    leaving_for: str = ""
    waiting_since: float = 0.0
    ready_since: float = 0.0
    idle_since: float = 0.0
    was_used: bool = False  # since its load
    has_retried: bool = False  # after running out of memory
    evicts_more: bool = False  # that retry is to make room first
    waits_for: set[str] = field(default_factory=set)  # evicted for that retry, not reaped yet
    is_changed: bool = False  # its workers are those of what the entry was before
    is_removed: bool = False

    @property
    def num_granted(self) -> int:
        return sum(1 for lease in self.leases if lease.is_granted)

    @property
    def is_evictable(self) -> bool:
        return self.state is State.READY and not self.leases and not self.is_pinned

    @property
    def idle_until(self) -> float | None:
        """When keep_alive ends; None: not idle, or never. 0 means after a use, so it ends no unused model."""
        if self.state is not State.READY or self.leases or self.is_pinned or self.keep_alive_s < 0:
            return None
        if self.keep_alive_s == 0 and not self.was_used:
            return None
        return self.idle_since + self.keep_alive_s


@dataclass(slots=True)
class _Room:
    """Of one device, while a round of loads is considered. leaving: bytes that will come back."""

    free: float
    leaving: float

    @property
    def coming(self) -> float:
        """Free now or soon."""
        return self.free + self.leaving

    def promise(self, num_bytes: float) -> None:
        at_once = min(num_bytes, max(0.0, self.free))
        self.free -= at_once
        self.leaving -= num_bytes - at_once


_Rooms = dict[str, _Room]
_RESTING = (State.UNRESOLVED, State.UNLOADED, State.FAILED)
"""Nothing is there of it, and nothing comes."""


class Residency:
    """Owned by the event loop. Budgets are known later than models: until then loads wait."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._live: dict[str, _Entry] = {}  # those that do not rest: few, however many are declared
        self._budgets: Mapping[str, int | None] | None = None
        self._waiting: list[_Entry] = []
        self._is_over = False  # more is in use than a budget says

    # What is known of a model

    def add(self, spec: ModelSpec, state: State, error: ErrorInfo | None = None) -> None:
        """state: UNRESOLVED, UNLOADED, or FAILED with its error."""
        self._entries[spec.id] = _Entry(spec, state, spec.keep_alive_s, spec.pinned, error=error)

    def change(self, spec: ModelSpec, now: float, *, needs_load: bool) -> list[Action]:
        """The entry is another from now on, or is none to be removed any more.

        needs_load: its workers were told otherwise. They end after the leases that they have; it is loaded again where
        it was loaded, and for all leases that wait.
        """
        entry = self._entries[spec.id]
        if entry.keep_alive_s == entry.spec.keep_alive_s:  # or a request asked for another
            entry.keep_alive_s = spec.keep_alive_s
        entry.spec = spec
        entry.is_pinned = spec.pinned
        entry.is_removed = False
        return self._renew(entry, now) if needs_load else self.tick(now)

    def remove(self, model_id: str, now: float) -> list[Action]:
        """It gets no more leases; `Removed` follows when those that it has, or that wait for it, are over."""
        entry = self._entries[model_id]
        entry.is_removed = True
        entry.is_wanted = False
        if entry.state is State.READY:
            return self._drain(entry, "reload")
        if entry.state is State.LOADING:
            entry.is_leaving, entry.leaving_for = True, "reload"
            return self._forget_load(entry, now)
        return self._gone(entry)

    def forget(self, model_id: str) -> None:
        del self._entries[model_id]

    def state(self, model_id: str) -> State:
        return self._entries[model_id].state

    def error(self, model_id: str) -> ErrorInfo | None:
        """Why it is FAILED."""
        return self._entries[model_id].error

    def num_leases(self, model_id: str) -> int:
        return len(self._entries[model_id].leases)

    def waiting(self, model_id: str) -> list[Lease]:
        """Those that are not granted yet."""
        return [lease for lease in self._entries[model_id].leases if not lease.is_granted]

    def live(self) -> list[str]:
        """The models that are loaded, or on their way in or out."""
        return list(self._live)

    def in_states(self, states: Collection[str]) -> set[str]:
        """The models in one of these. To find those that are loaded, or move, takes no look at those that rest."""
        looks_at_all = any(state in states for state in _RESTING)
        entries = (self._entries if looks_at_all else self._live).values()
        return {entry.spec.id for entry in entries if entry.state in states}

    def reserved_bytes(self, device: str) -> int:
        return sum(entry.taken.get(device, 0) for entry in self._live.values())

    def budgets(self) -> dict[str, int | None]:
        """Bytes of every device that has a budget, or models; None: no limit is known. Empty until they are set."""
        if self._budgets is None:
            return {}
        used = dict.fromkeys(device for entry in self._live.values() for device in entry.taken)
        return {device: self._budgets.get(device) for device in (*self._budgets, *used)}

    def idle_until(self, model_id: str) -> float | None:
        """When it will be unloaded, if nobody uses it before; None: not by itself."""
        return self._entries[model_id].idle_until

    def is_pinned(self, model_id: str) -> bool:
        return self._entries[model_id].is_pinned

    def pinned_in_the_way(self, model_id: str) -> list[str]:
        """The pinned models for which its load waits, if it will not have room while they stay."""
        entry = self._entries[model_id]
        if entry.state is not State.LOADING or entry.phase is not _Phase.WAITING:
            return []
        found: dict[str, None] = {}
        for device, need in entry.need.items():
            pinned = [other for other in self._on(device) if other.is_pinned]
            if need > self._limit(device) - sum(other.taken[device] for other in pinned):
                found |= dict.fromkeys(other.spec.id for other in pinned)
        return list(found)

    def next_due(self, now: float) -> float | None:
        """When `tick` has something to do that it had not at `now`."""
        dues = [due for entry in self._live.values() if (due := entry.idle_until) is not None]
        dues += [entry.waiting_since + PATIENCE_S for entry in self._waiting if not _is_impatient(entry, now)]
        return min(dues, default=None)

    def tick(self, now: float) -> list[Action]:
        return [*self._expire(now), *self._make_room(now)]

    def set_budgets(self, budgets: Mapping[str, int | None], now: float) -> list[Action]:
        """Bytes by device; None or absent: no limit is known."""
        self._budgets = budgets
        self._is_over = True  # perhaps: `_make_room` looks
        return self._make_room(now)

    # Uses

    def acquire(self, lease: Lease, now: float) -> list[Action]:
        """Granted at once, when the model is ready, or refused: each lease gets exactly one of both, or is released."""
        entry = self._entries[lease.model_id]
        if entry.state is State.FAILED:
            return [self._refuse(entry, lease)]
        entry.leases[lease] = None
        if entry.state is State.READY:
            lease.is_granted = True
            return [Grant(lease)]
        return self._begin(entry, now)

    def release(self, lease: Lease, now: float) -> list[Action]:
        """The use is over, or nobody waits for it any more."""
        if lease.is_over:
            return []
        entry = self._entries[lease.model_id]
        lease.is_over = True
        del entry.leases[lease]
        entry.keep_alive_s = entry.spec.keep_alive_s if lease.keep_alive_s is None else lease.keep_alive_s
        entry.idle_since = now
        entry.was_used = True
        if entry.state is State.LOADING and entry.is_changed and not entry.num_granted:
            return self._stop(entry, "reload", is_loaded=False)  # nobody is left who wants it as it was
        if entry.state is State.LOADING:
            return self._forget_load(entry, now)
        if entry.state is State.UNLOADING:
            return self._stop_if_unused(entry)
        return [] if entry.leases else [*self._expire_one(entry, now), *self._make_room(now), *self._gone(entry)]

    def want(self, model_id: str, now: float, *, retry: bool = False) -> list[Action]:
        """Load it for nobody in particular. retry: also when it FAILED."""
        entry = self._entries[model_id]
        if entry.state is State.READY or (entry.state is State.FAILED and not retry):
            return []
        if entry.state is State.FAILED:
            entry.error = None
            is_known = entry.spec.is_resolved and not entry.spec.problem
            self._become(entry, State.UNLOADED if is_known else State.UNRESOLVED)
        entry.is_wanted = True
        return self._begin(entry, now)

    def unload(self, model_id: str, now: float, reason: str) -> list[Action]:
        """After the leases that it has; later ones have it loaded again. Whoever pinned it wants it so no more."""
        entry = self._entries[model_id]
        entry.is_wanted = False
        entry.is_pinned = entry.spec.pinned
        if entry.state is State.READY:
            return self._drain(entry, reason)
        if entry.state is State.LOADING:
            entry.is_leaving, entry.leaving_for = True, reason
            return self._forget_load(entry, now)
        return []

    def pin(self, model_id: str) -> None:
        """It stays where it is loaded, or once it is: no bytes are taken for it before."""
        self._entries[model_id].is_pinned = True

    def unpin(self, model_id: str, now: float) -> list[Action]:
        """Also one that is pinned by its spec."""
        self._entries[model_id].is_pinned = False
        return self.tick(now)

    # What became of the actions

    def resolve(self, model_id: str) -> list[Action]:
        """Find out what it is, though nobody uses it yet."""
        entry = self._entries[model_id]
        if entry.state is not State.UNRESOLVED or entry.is_resolving:
            return []
        entry.is_resolving = True
        return [Resolve(model_id)]

    def resolved(self, spec: ModelSpec, now: float) -> list[Action]:
        entry = self._entries[spec.id]
        entry.is_resolving = False
        entry.spec = spec
        self._become(entry, State.UNLOADED)
        return self._begin(entry, now) if entry.leases or entry.is_wanted else [Changed(spec.id, entry.state)]

    def unresolvable(self, model_id: str, error: ErrorInfo) -> list[Action]:
        entry = self._entries[model_id]
        entry.is_resolving = False
        return self._fail(entry, error)

    def estimated(self, model_id: str, need: Mapping[str, int], now: float) -> list[Action]:
        """need: bytes of all replicas, by device; 0: unknown."""
        entry = self._entries[model_id]
        if entry.state is not State.LOADING or entry.phase is not _Phase.ESTIMATING:
            return []
        entry.need = need
        self._wait_for_room(entry, now)
        return self._make_room(now)

    def ready(self, model_id: str, taken: Mapping[str, int], now: float) -> list[Action]:
        """The model answers, and this is what it takes (all replicas), by device."""
        entry = self._entries[model_id]
        if entry.is_stopping:
            return []
        entry.taken = entry.need = taken
        self._is_over = True  # perhaps: `_make_room` looks
        if (error := self._too_big(entry)) is not None and not entry.is_changed:
            return self._give_up(entry, error)
        if entry.state is not State.LOADING:
            return self._make_room(now)
        entry.has_retried = entry.is_wanted = False
        if not entry.is_restarting:
            entry.idle_since = entry.ready_since = now
        entry.is_restarting = False
        self._become(entry, State.READY)
        actions: list[Action] = [Changed(model_id, State.READY)]
        if not entry.is_changed:
            actions += self._grant_all(entry)
        if entry.is_leaving or entry.is_removed:
            actions += self._drain(entry, entry.leaving_for)
        return actions + self.tick(now)

    def lost(self, model_id: str) -> list[Action]:
        """Its workers died and are being replaced; its leases and its bytes stay."""
        entry = self._entries[model_id]
        if entry.state is State.READY:
            self._become(entry, State.LOADING)
            entry.phase = _Phase.STARTING
            entry.is_restarting = True
        return []

    def failed(self, model_id: str, error: ErrorInfo, now: float) -> list[Action]:
        """The load, or the replacement, did not work; no process is left."""
        entry = self._entries[model_id]
        if entry.is_stopping or entry.is_changed:
            return self.stopped(model_id, now)
        entry.taken = {}
        if error.code == OutOfMemory.code and not entry.has_retried and entry.state is State.LOADING:
            entry.has_retried = entry.evicts_more = True
            self._wait_for_room(entry, now)
            return [*self._forget_load(entry, now), *self._freed(entry, now)]
        return [*self._fail(entry, error), *self._freed(entry, now)]

    def stopped(self, model_id: str, now: float) -> list[Action]:
        """All processes are reaped."""
        entry = self._entries[model_id]
        entry.taken = {}
        entry.is_stopping = entry.is_leaving = entry.is_restarting = False
        self._become(entry, State.UNLOADED)
        if entry.failure is not None:
            actions = self._fail(entry, entry.failure)
        elif entry.is_changed:
            actions = self._renew(entry, now)
        else:
            actions = [Changed(model_id, State.UNLOADED)]
            if entry.leases or entry.is_wanted:
                actions += self._begin(entry, now)
        return [*actions, *self._freed(entry, now), *self._gone(entry)]

    # What becomes of an entry

    def _become(self, entry: _Entry, state: State) -> None:
        entry.state = state
        if state in _RESTING:
            self._live.pop(entry.spec.id, None)
        else:
            self._live[entry.spec.id] = entry

    def _renew(self, entry: _Entry, now: float) -> list[Action]:
        """It is to be what its spec says now: at once if it rests, else as soon as it does."""
        entry.is_changed = True
        entry.failure = None
        if entry.state is State.READY:
            entry.is_wanted = True
            return self._drain(entry, "reload")
        if entry.state is State.LOADING and entry.phase is _Phase.STARTING:
            entry.is_wanted = entry.is_wanted or entry.is_restarting
            if not entry.num_granted:
                return self._stop(entry, "reload", is_loaded=False)
            entry.is_leaving, entry.leaving_for = True, "reload"
            return []
        if entry.state is State.UNLOADING:
            return []
        return [*self._anew(entry, now), *self._make_room(now)]

    def _anew(self, entry: _Entry, now: float) -> list[Action]:
        self._forget_wait(entry)
        entry.is_changed = entry.is_resolving = False
        entry.error = None
        spec = entry.spec
        if spec.problem is not None:
            return self._fail(entry, ErrorInfo(code=ModelFailed.code, message=spec.problem))
        self._become(entry, State.UNLOADED if spec.is_resolved else State.UNRESOLVED)
        actions: list[Action] = [Changed(spec.id, entry.state)]
        if entry.leases or entry.is_wanted:
            return actions + self._begin(entry, now)
        return actions + self.resolve(spec.id)

    def _gone(self, entry: _Entry) -> list[Action]:
        """Whether it is to be removed, and nobody has to do with it any more."""
        if not entry.is_removed or entry.leases or entry.state not in _RESTING:
            return []
        entry.is_removed = False  # it is told once
        return [Removed(entry.spec.id)]

    # Loading

    def _begin(self, entry: _Entry, now: float) -> list[Action]:
        """The one load, or nothing if it is on its way."""
        if entry.state is State.UNRESOLVED:
            return self.resolve(entry.spec.id)
        if entry.state is not State.UNLOADED:
            return []
        self._become(entry, State.LOADING)
        entry.phase = _Phase.ESTIMATING
        entry.is_leaving = entry.was_used = entry.is_restarting = entry.has_retried = entry.evicts_more = False
        entry.keep_alive_s = entry.spec.keep_alive_s
        return [Estimate(entry.spec.id)]

    def _wait_for_room(self, entry: _Entry, now: float) -> None:
        entry.phase = _Phase.WAITING
        entry.waiting_since = now
        self._waiting.append(entry)

    def _forget_load(self, entry: _Entry, now: float) -> list[Action]:
        """Nobody wants it any more: do not start it; a started one is broken off only when it was to be unloaded."""
        if entry.leases or entry.is_wanted:
            return []
        if entry.phase is _Phase.STARTING:
            is_to_end = entry.is_leaving or entry.is_removed
            return self._stop(entry, entry.leaving_for, is_loaded=False) if is_to_end else []
        self._forget_wait(entry)
        entry.is_leaving = False
        self._become(entry, State.UNLOADED)
        return [Changed(entry.spec.id, State.UNLOADED), *self._make_room(now), *self._gone(entry)]

    def _forget_wait(self, entry: _Entry) -> None:
        if entry in self._waiting:
            self._waiting.remove(entry)
        entry.waits_for.clear()

    def _grant_all(self, entry: _Entry) -> list[Action]:
        actions: list[Action] = []
        for lease in entry.leases:
            if not lease.is_granted:
                lease.is_granted = True
                actions.append(Grant(lease))
        return actions

    # Failing

    def _give_up(self, entry: _Entry, error: ErrorInfo) -> list[Action]:
        """FAILED, as soon as its processes are gone."""
        entry.failure = error
        self._become(entry, State.UNLOADING)
        return [*self._refuse_all(entry, error), *self._stop(entry, "memory", is_loaded=False)]

    def _fail(self, entry: _Entry, error: ErrorInfo) -> list[Action]:
        self._become(entry, State.FAILED)
        entry.error, entry.failure = error, None
        entry.is_wanted = entry.is_leaving = entry.is_restarting = False
        return [*self._refuse_all(entry, error), Changed(entry.spec.id, State.FAILED), *self._gone(entry)]

    def _refuse_all(self, entry: _Entry, error: ErrorInfo) -> list[Action]:
        entry.error = error
        actions: list[Action] = [self._refuse(entry, lease) for lease in entry.leases]
        entry.leases.clear()
        return actions

    def _refuse(self, entry: _Entry, lease: Lease) -> Refuse:
        assert entry.error is not None, "A model is FAILED without a reason. This is a bug."
        lease.is_over = True
        return Refuse(lease, entry.error)

    # Unloading

    def _drain(self, entry: _Entry, reason: str) -> list[Action]:
        self._become(entry, State.UNLOADING)
        entry.leaving_for = reason
        return self._stop_if_unused(entry)

    def _stop_if_unused(self, entry: _Entry) -> list[Action]:
        if entry.num_granted or entry.is_stopping:
            return []
        return self._stop(entry, entry.leaving_for, is_loaded=True)

    def _stop(self, entry: _Entry, reason: str, *, is_loaded: bool) -> list[Action]:
        self._become(entry, State.UNLOADING)
        entry.is_stopping = True
        return [StopWorkers(entry.spec.id, reason, is_loaded)]

    def _expire(self, now: float) -> list[Action]:
        actions: list[Action] = []
        for entry in list(self._live.values()):
            actions += self._expire_one(entry, now)
        return actions

    def _expire_one(self, entry: _Entry, now: float) -> list[Action]:
        until = entry.idle_until
        return self._drain(entry, "keep_alive") if until is not None and until <= now else []

    def _freed(self, entry: _Entry, now: float) -> list[Action]:
        for waiting in self._waiting:
            waiting.waits_for.discard(entry.spec.id)
        return self._make_room(now)

    # Room

    def _limit(self, device: str) -> float:
        limit = (self._budgets or {}).get(device)
        return math.inf if limit is None else limit

    def _on(self, device: str) -> list[_Entry]:
        return [entry for entry in self._live.values() if device in entry.taken]

    def _idle_on(self, device: str) -> list[_Entry]:
        """Evictable, the least recently used first."""
        return sorted((entry for entry in self._on(device) if entry.is_evictable), key=lambda entry: entry.idle_since)

    def _idle_beside(self, entry: _Entry) -> set[str]:
        """Evictable, on any of the devices that the entry needs."""
        return {idle.spec.id for device in entry.need for idle in self._idle_on(device)}

    def _busy_on(self, device: str) -> list[_Entry]:
        """In use, and could be told to end after it: the longest resident first."""
        busy = [e for e in self._on(device) if e.state is State.READY and e.leases and not e.is_pinned]
        return sorted(busy, key=lambda entry: entry.ready_since)

    def _too_big(self, entry: _Entry) -> ErrorInfo | None:
        """Why it will never fit, if it will not."""
        for device, need in entry.need.items():
            if need > (limit := self._limit(device)):
                return ErrorInfo(
                    code=ModelFailed.code,
                    message=f'"{entry.spec.id}" needs {show_bytes(need)} of memory on {device}, where models may take'
                    f" {show_bytes(limit)} in all (`budget` in models.yaml).",
                )
        return None

    def _make_room(self, now: float) -> list[Action]:
        """Start the waiting loads that fit, in order; evict for those that will.

        One that cannot fit yet blocks no other. Room that an earlier load is promised is not given to a later one.
        """
        if self._budgets is None or not (self._waiting or self._is_over):
            return []
        devices = [device for entry in self._live.values() for device in (*entry.taken, *entry.need)]
        rooms = {device: self._room(device) for device in dict.fromkeys(devices)}
        actions: list[Action] = []
        for device, room in rooms.items():  # where more was measured than estimated
            actions += self._evict(self._idle_on(device), device, -room.coming, rooms)
        self._is_over = any(room.coming < 0 for room in rooms.values())
        for entry in list(self._waiting):
            actions += self._consider(entry, rooms, now)
        return actions

    def _room(self, device: str) -> _Room:
        entries = self._on(device)
        leaving = sum(entry.taken[device] for entry in entries if entry.state is State.UNLOADING)
        return _Room(self._limit(device) - sum(entry.taken[device] for entry in entries), leaving)

    def _consider(self, entry: _Entry, rooms: _Rooms, now: float) -> list[Action]:
        if (error := self._too_big(entry)) is not None:
            self._waiting.remove(entry)
            return self._fail(entry, error)
        actions: list[Action] = []
        if entry.evicts_more:
            if not self._idle_beside(entry) and self._has_others(entry) and not _is_impatient(entry, now):
                return []
            actions += self._evict_more(entry, rooms)
        if not entry.waits_for and all(need <= rooms[device].free for device, need in entry.need.items()):
            for device, need in entry.need.items():
                rooms[device].free -= need
            return actions + self._start(entry)
        actions += self._evict_for(entry, rooms, now)
        if all(need <= rooms[device].coming for device, need in entry.need.items()):
            for device, need in entry.need.items():
                rooms[device].promise(need)
        return actions

    def _start(self, entry: _Entry) -> list[Action]:
        self._waiting.remove(entry)
        entry.phase = _Phase.STARTING
        entry.taken = entry.need
        return [StartLoad(entry.spec.id)]

    def _evict_for(self, entry: _Entry, rooms: _Rooms, now: float) -> list[Action]:
        """Idle models, if they suffice; else, after a while, those in use as soon as they are not. On all devices that
        lack room, or on none."""
        candidates: dict[str, list[_Entry]] = {}
        for device, need in entry.need.items():
            if need <= rooms[device].coming:
                continue
            candidates[device] = self._idle_on(device)
            if _is_impatient(entry, now):
                candidates[device] += self._busy_on(device)
            if sum(candidate.taken[device] for candidate in candidates[device]) < need - rooms[device].coming:
                return []
        actions: list[Action] = []
        for device, chosen in candidates.items():
            actions += self._evict(chosen, device, entry.need[device] - rooms[device].coming, rooms)
        return actions

    def _evict_more(self, entry: _Entry, rooms: _Rooms) -> list[Action]:
        """A device ran out though the bytes seemed to fit: make as much room again, all that is idle if unknown."""
        before = self._idle_beside(entry)
        wanted = {device: rooms[device].leaving + (need or math.inf) for device, need in entry.need.items()}
        actions: list[Action] = []
        for device, leaving in wanted.items():
            actions += self._evict(self._idle_on(device), device, leaving - rooms[device].leaving, rooms)
        entry.evicts_more = False
        entry.waits_for = before - self._idle_beside(entry)
        return actions

    def _has_others(self, entry: _Entry) -> bool:
        on_its_devices = (other for device in entry.need for other in self._on(device))
        others = (other for other in on_its_devices if other is not entry and not other.is_pinned)
        return any(other.state is State.READY or other.state is State.UNLOADING for other in others)

    def _evict(self, candidates: Iterable[_Entry], device: str, num_bytes: float, rooms: _Rooms) -> list[Action]:
        """Until so many bytes of the device are on their way back; a model goes from all of its devices."""
        actions: list[Action] = []
        for candidate in candidates:
            if num_bytes <= 0:
                break
            if candidate.state is not State.READY:
                continue  # it goes for the sake of another device already
            num_bytes -= candidate.taken[device]
            for other, taken in candidate.taken.items():
                rooms[other].leaving += taken
            actions += self._drain(candidate, "memory")
        return actions


def _is_impatient(entry: _Entry, now: float) -> bool:
    return now >= entry.waiting_since + PATIENCE_S
