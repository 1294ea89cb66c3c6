"""What may happen while a model comes from a Hub: of the Hub's doing, and of the disk's."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from tests.chaos.running import Inject, Scene
from tests.chaos.site import LOST_IDS, QUESTIONS, Setup
from tests.fake_hub import Trouble

HUB = Setup(entries=("reviews", "far"), hub_trouble=Trouble())
LOST = Setup(
    entries=("reviews", *LOST_IDS),
    variables=(("HF_HUB_ETAG_TIMEOUT", "300"), ("HF_HUB_DOWNLOAD_TIMEOUT", "300")),
    hub_trouble=Trouble(silence_s=600.0),
)
FAR = next(one for one in QUESTIONS if one.kind == "far")


def hub_that(trouble: Trouble, says: str) -> Inject:
    """The model cannot be had while it does: its requests are told why, and others notice nothing. Then it can."""

    async def inject(scene: Scene) -> None:
        assert scene.site.hub is not None
        await _forget(scene)
        scene.site.hub.trouble = trouble
        try:
            await _refused(scene, says)
        finally:
            scene.site.hub.trouble = Trouble()
        await scene.site.load("far")

    return inject


async def hub_that_breaks_off(scene: Scene) -> None:
    """Large files after 40 MiB, again and again: they are gone on with."""
    hub = scene.site.hub
    assert hub is not None
    await _forget(scene)
    hub.trouble, hub.num_cut, hub.num_resumed = Trouble(broken_after=40 * 2**20), 0, 0
    try:
        await scene.load.ask(FAR)
    finally:
        hub.trouble = Trouble()
    scene.notes.append(f"cut {hub.num_cut} times, gone on with {hub.num_resumed} times")
    if not hub.num_cut or not hub.num_resumed:
        scene.ledger.losses.append(f"no download was cut and gone on with: {scene.notes[-1]}")


async def disk_that_is_full(scene: Scene) -> None:
    """While the model is downloaded; then there is room again."""
    await _forget(scene)
    with _small_files(scene, 2**16):
        await _refused(scene, "disk")
    await scene.site.load("far")


async def cache_that_is_full(scene: Scene) -> None:
    """Nothing at all can be written, while a model of this disk is loaded and measured."""
    await scene.site.unload("staged")
    with _small_files(scene, 0):
        await scene.all_answer()


async def hub_that_says_nothing_of_many(scene: Scene) -> None:
    """More entries than the event loop has threads are being found out, and the Hub leaves each without an answer: the
    others load and are answered meanwhile, and the server stops at once."""
    await scene.restart()
    await scene.all_answer()
    states = [await scene.site.state(name) for name in LOST_IDS]
    if set(states) != {"unresolved"}:
        scene.ledger.losses.append(f"the Hub was waited for: {states}")
    began_at = time.monotonic()
    await asyncio.to_thread(scene.site.server.stop)
    scene.notes.append(f"SIGTERM took {time.monotonic() - began_at:.1f} s")
    await scene.restart()


async def _forget(scene: Scene) -> None:
    """Have the model's next load download it."""
    await scene.site.unload("far")
    shutil.rmtree(scene.site.hub_cache, ignore_errors=True)


async def _refused(scene: Scene, says: str) -> None:
    answer = await scene.load.ask(FAR)
    if says not in answer.error:
        scene.ledger.losses.append(f'the refusal does not say "{says}": {answer.error}')


@contextmanager
def _small_files(scene: Scene, num_bytes: int) -> Iterator[None]:
    """Whatever file the server and the workers that it starts write ends there, as on a disk that is full."""
    processes = [psutil.Process(pid) for pid in (scene.site.pid, scene.site.forkserver())]
    limits = [one.rlimit(psutil.RLIMIT_FSIZE) for one in processes]
    for one, limit in zip(processes, limits, strict=True):
        one.rlimit(psutil.RLIMIT_FSIZE, (num_bytes, limit[1]))
    try:
        yield
    finally:
        for one, limit in zip(processes, limits, strict=True):
            one.rlimit(psutil.RLIMIT_FSIZE, limit)
