"""One fault after the other: injected again and again under load, and the books closed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field

from tests.chaos.ledger import Ledger
from tests.chaos.load import Load
from tests.chaos.site import MODEL_OF, Setup, Site


@dataclass
class Scene:
    """Where one fault happens. notes: what its row is to say beside the counts."""

    site: Site
    load: Load
    ledger: Ledger
    kinds: Collection[str]  # of questions that the load asks
    seconds: float
    notes: list[str] = field(default_factory=list)
    is_same_server: bool = True  # so that its own count of answers must be ours

    async def restart(self) -> None:
        """A new server in the old one's place, whether that has ended or not; clients go on with it."""
        self.is_same_server = False
        await self.site.start_anew()
        self.load.use(self.site.client)

    async def all_answer(self) -> None:
        """A question of each kind, and one of each model's."""
        questions = self.site.setup.questions()
        chosen = {MODEL_OF[one.kind]: one for one in reversed(questions) if not one.is_stream}
        chosen |= {one.kind: one for one in questions if one.kind in self.kinds}
        await self.load.ask_all(chosen.values())


Inject = Callable[[Scene], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A row of the table.

    clients: by kind of question. allowed: documented errors by kind, by their first words. times: how often it is
    injected in the long version; once in the short one, which has those that are quick. Injecting one returns when the
    harm is done; the load goes on meanwhile, and every kind of question must be answered right after it.
    """

    name: str
    inject: Inject
    setup: Setup = Setup()
    clients: Mapping[str, int] = field(default_factory=lambda: {"classify": 4, "embed": 2, "generate": 2, "staged": 4})
    allowed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    times: int = 5
    is_quick: bool = False


@dataclass(frozen=True, kw_only=True)
class Row:
    fault: Fault
    num_injected: int
    num_sent: int
    num_right: int
    num_left: int
    documented: Counter[str]
    losses: list[str]
    notes: list[str]
    seconds: float


async def run(fault: Fault, site: Site, *, times: int, seconds: float) -> Row:
    """seconds: for faults that last as long as they may."""
    ledger = Ledger(site.right, fault.allowed)
    began_at, before = time.monotonic(), await site.answered()
    async with Load(site.client, ledger, site.setup.questions(), fault.clients) as load:
        scene = Scene(site, load, ledger, fault.clients, seconds)
        await scene.all_answer()
        for _ in range(times):
            try:
                await fault.inject(scene)
            finally:
                site.release()
            await scene.all_answer()
        await load.stop()
    ledger.close()
    await site.at_rest()
    if scene.is_same_server:
        _compare(await site.answered() - before, load.statuses, ledger)
    return Row(
        fault=fault,
        num_injected=times,
        num_sent=ledger.num_sent,
        num_right=ledger.num_right,
        num_left=ledger.num_left,
        documented=ledger.documented,
        losses=ledger.losses,
        notes=scene.notes,
        seconds=time.monotonic() - began_at,
    )


def _compare(counted: Counter[int], received: Counter[int], ledger: Ledger) -> None:
    """The server's own books, but for those whose client had left."""
    del counted[499]
    if counted != received:
        ledger.losses.append(f"the server counted {dict(counted)} answers by status, {dict(received)} were received")
