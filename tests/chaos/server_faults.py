"""What may happen to the API process."""

from __future__ import annotations

import asyncio
import signal
import time
from email.utils import parsedate_to_datetime
from functools import partial

import psutil

from tests.chaos.ledger import Question
from tests.chaos.running import Scene
from tests.chaos.site import LONG_STREAM, QUESTIONS, Setup, is_gone, kill, until, until_async

LATE = Question(name="late", kind="late", path="/models/staged", body={"inputs": "a"})
NUM_QUEUED, NUM_STREAMS = 200, 20
CLOCK = Setup(has_own_clock=True)
_DAY_S = 86_400
_SPARE_FILES = 16


async def kill_server(scene: Scene) -> None:
    """Nothing is left of it, and a new one takes its port and its cache."""
    pids = [one.pid for one in scene.site.server.descendants()]
    kill(scene.site.pid)
    scene.site.server.process.wait()
    began_at = time.monotonic()
    await until(lambda: all(map(is_gone, pids)), "the end of all its processes", 2)
    scene.notes.append(f"{len(pids)} processes gone {time.monotonic() - began_at:.1f} s after it")
    await scene.restart()


async def stop_server(scene: Scene) -> None:
    """All that it has is answered, what comes later is refused."""
    site = scene.site
    site.order("forward", "wait")
    staged = [one for one in QUESTIONS if one.kind == "staged"]
    asked = [asyncio.create_task(scene.load.ask(staged[number % len(staged)])) for number in range(NUM_QUEUED)]
    asked += [asyncio.create_task(scene.load.ask(LONG_STREAM)) for _ in range(NUM_STREAMS)]

    async def are_there() -> bool:
        return await site.metric("pipeserve_in_flight_items") >= len(asked)

    async def is_draining() -> bool:
        return (await site.client.get("/readyz")).status_code == 503

    await site.reached("forward")
    await until_async(are_there, f"{len(asked)} requests in flight")
    site.server.process.send_signal(signal.SIGTERM)
    await until_async(is_draining, "the drain")
    await scene.load.ask(LATE)
    site.release()
    await asyncio.gather(*asked)
    exit_code = await asyncio.to_thread(site.server.process.wait, 60)
    if exit_code != 0:
        scene.ledger.losses.append(f"the server ended with exit code {exit_code}")
    await scene.restart()


async def jump_clocks(scene: Scene) -> None:
    """A day ahead, a day behind, and back."""
    for offset_s in (_DAY_S, -_DAY_S, 0):
        scene.site.set_clock(offset_s)
        await until_async(partial(_is_told, scene, offset_s), "the other time")
        await asyncio.sleep(1)


async def _is_told(scene: Scene, offset_s: int) -> bool:
    """In the header `Date`."""
    told = parsedate_to_datetime((await scene.site.client.get("/livez")).headers["date"])
    return abs(told.timestamp() - time.time() - offset_s) < 60


async def exhaust_files(scene: Scene) -> None:
    """No file descriptor is left to it: connections that are there go on, and it does not spin over those that wait."""
    process = psutil.Process(scene.site.pid)
    limits = process.rlimit(psutil.RLIMIT_NOFILE)
    process.rlimit(psutil.RLIMIT_NOFILE, (process.num_fds() + _SPARE_FILES, limits[1]))
    writers: list[asyncio.StreamWriter] = []
    try:
        for _ in range(_SPARE_FILES * 4):
            _, writer = await asyncio.open_connection(*scene.site.address)
            writers.append(writer)
        began_s = sum(process.cpu_times()[:2])
        await asyncio.sleep(1)
        share = sum(process.cpu_times()[:2]) - began_s
        scene.notes.append(f"{share:.0%} of a core meanwhile")
        if share > 0.5:
            scene.ledger.losses.append(f"the server spins: {share:.0%} of a core while it has nothing to do")
        await scene.all_answer()
    finally:
        process.rlimit(psutil.RLIMIT_NOFILE, limits)
        for writer in writers:
            writer.close()
