"""What may happen to a worker, and to the process that forks workers."""

from __future__ import annotations

import asyncio
import signal
import time
from functools import partial

from tests.chaos.ledger import Ledger, percentile_ms
from tests.chaos.memory_group import memory_group
from tests.chaos.running import Inject, Scene
from tests.chaos.site import LIMIT_MIB, LONG_STREAM, deed, is_gone, kill, until, until_async

_GATHER_S = 0.1  # for others to come and wait
_ROOM_MIB = 256


def signal_in(stage: str, number: signal.Signals) -> Inject:
    """To a worker that is in this stage with the requests of several clients."""

    async def inject(scene: Scene) -> None:
        scene.site.order(stage, "wait")
        if stage == "load":
            await scene.site.unload("staged")  # the next request loads it
        pid = await scene.site.reached(stage)
        await asyncio.sleep(_GATHER_S)
        kill(pid, number)
        await until(lambda: is_gone(pid), f"the end of the worker in {stage}", 90)

    return inject


def signal_at_rest(number: signal.Signals) -> Inject:
    async def inject(scene: Scene) -> None:
        pid = scene.site.worker("staged")
        kill(pid, number)
        await until(lambda: is_gone(pid), "the end of the worker", 30)

    return inject


def signal_between_tokens(number: signal.Signals) -> Inject:
    """While texts are streamed from it."""

    async def inject(scene: Scene) -> None:
        async def is_streaming() -> bool:
            return await scene.site.metric("pipeserve_generating_sequences", model="chat") >= 1

        streams = [asyncio.create_task(scene.load.ask(LONG_STREAM)) for _ in range(4)]
        await until_async(is_streaming, "a stream")
        kill(scene.site.worker("chat"), number)
        await asyncio.gather(*streams)

    return inject


def deed_in(stage: str, what: str) -> Inject:
    """Done once by the worker itself, with the requests of several clients in that stage; it is its end."""

    async def inject(scene: Scene) -> None:
        pid = scene.site.worker("staged")
        scene.site.order(stage, what)
        await until(lambda: is_gone(pid), f"the end of the worker by {what}")

    return inject


def poison(what: str) -> Inject:
    """A request among those of others does this each time that it is computed."""

    async def inject(scene: Scene) -> None:
        await scene.load.ask(deed(what))

    return inject


async def kill_forkserver(scene: Scene) -> None:
    """While a model is to be loaded."""
    await scene.site.unload("reviews")
    kill(scene.site.forkserver())


async def kill_every_two_seconds(scene: Scene) -> None:
    """For as long as the scene lasts; and what another model notices of it. Where a worker takes longer to be there
    again, later: one that is killed again and again before its first answer is one that cannot start."""
    calm_at = time.monotonic()
    await asyncio.sleep(scene.seconds / 4)
    began_at = time.monotonic()
    killed_at: list[float] = []
    while time.monotonic() < began_at + scene.seconds:
        await asyncio.sleep(2.0)
        await until(partial(_has_answered_since, scene.ledger, killed_at[-1] if killed_at else began_at), "an answer")
        killed_at.append(time.monotonic())
        kill(scene.site.worker("reviews"))
    await scene.all_answer()
    silences = [found for at in killed_at if (found := _silence_s(scene.ledger, at)) is not None]
    before = _p99_ms(scene.ledger, calm_at, began_at)
    meanwhile = _p99_ms(scene.ledger, began_at, time.monotonic())
    scene.notes += [
        f"{len(killed_at)} kills",
        f"the next answer {percentile_ms(silences, 0.5):.0f} ms after one (median), {percentile_ms(silences, 1):.0f} ms"
        " at worst",
        f"p99 of another model {before:.0f} ms before, {meanwhile:.0f} ms meanwhile",
    ]


def _has_answered_since(ledger: Ledger, at: float) -> bool:
    """A question that was asked after that."""
    return any(one.kind == "classify" and one.sent_at > at for one in reversed(ledger.times[-500:]))


def _silence_s(ledger: Ledger, killed_at: float) -> float | None:
    """From the kill to the first answer from the worker after it: to the end of the longest pause between answers of
    the next two seconds."""
    answered = sorted(one.answered_at for one in ledger.times if one.kind == "classify")
    near = [at for at in answered if killed_at - 0.5 < at < killed_at + 2.0]
    if len(near) < 2:
        return None
    _, end = max((after - before, after) for before, after in zip(near, near[1:], strict=False))
    return end - killed_at


def _p99_ms(ledger: Ledger, since: float, to: float) -> float:
    """Of the model that nothing happens to."""
    return percentile_ms(
        [one.seconds for one in ledger.times if one.kind == "embed" and since < one.sent_at < to], 0.99
    )


async def leak(scene: Scene) -> None:
    """Up to beyond its memory_limit: it is replaced, with nothing in it."""
    await deed_in("forward", f"leak {LIMIT_MIB}")(scene)


async def run_out_of_memory(scene: Scene) -> None:
    """The kernel's doing: a computation takes more than the worker's cgroup may have."""
    pid = scene.site.worker("staged")
    with memory_group(_ROOM_MIB * 2**20) as take_in:
        take_in(pid)
        scene.site.order("forward", f"leak {2 * _ROOM_MIB}")
        await until(lambda: is_gone(pid), "the end of the worker by the kernel")
