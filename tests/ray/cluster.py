"""Two nodes of Ray on one machine: the ingress and Serve's proxy on the head, models wherever there is room."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx2 as httpx
import psutil

from app.settings import Settings
from bench.processes import free_port
from tests.server import metric, wait_until

STORE_BYTES = 80 * 2**20
SLOTS = 2
"""Replicas that a node has room for, by a resource of its own: CPUs are logical here, and few."""


class RayCluster:
    def __init__(self, folder: Path) -> None:
        from ray.cluster_utils import Cluster

        self._cache = folder / "cache"
        self.port = 0
        self.cluster = Cluster()
        self.head = self._add("head")
        self.other: Any = None

    def _add(self, name: str) -> Any:
        return self.cluster.add_node(
            num_cpus=16,
            resources={name: 100, "slot": SLOTS},
            object_store_memory=STORE_BYTES,
            include_dashboard=False,
        )

    def __enter__(self) -> RayCluster:
        import ray
        from ray import serve

        ray.init(address=self.cluster.address, log_to_driver=False, configure_logging=False)
        self.port = free_port()  # now that Ray has all of its own
        serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": self.port})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import ray
        from ray import serve

        serve.shutdown()
        ray.shutdown()
        self.cluster.shutdown()

    def add_node(self) -> None:
        self.other = self._add("other")

    def remove_node(self) -> None:
        """As if its power went."""
        if self.other is not None:
            self.cluster.remove_node(self.other, allow_graceful=False)
            self.other = None

    def deploy(self, folder: Path, entries: Iterable[dict[str, Any]], *, is_scripted: bool = False) -> RayServer:
        """is_scripted: their workers are those of `tests/fake_worker.py`."""
        from ray import serve

        from app.ray.application import Model, make_application
        from tests.ray.scripted import ScriptedModel

        catalog = folder / "models.yaml"
        catalog.write_text(json.dumps({"models": list(entries)}))
        settings = Settings(models=catalog, cache_dir=self._cache)
        application = make_application(settings, model=ScriptedModel if is_scripted else Model)
        serve.run(application, name="pipeserve", route_prefix="/")
        return RayServer(f"http://127.0.0.1:{self.port}")

    def undeploy(self) -> None:
        from ray import serve

        serve.delete("pipeserve")


class RayServer:
    """What a client sees, and what an operator does."""

    def __init__(self, url: str) -> None:
        self.url = url

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=120)

    def post(self, path: str, body: Any, **keywords: Any) -> httpx.Response:
        with self.client() as client:
            return client.post(path, json=body, **keywords)

    def get(self, path: str) -> httpx.Response:
        with self.client() as client:
            return client.get(path)

    def metrics(self) -> str:
        return self.get("/metrics").text

    def metric(self, name: str, **labels: str) -> float:
        """As of the last reports, which are up to two seconds old."""
        return metric(self.metrics(), name, **labels)

    def jobs_by_replica(self, model: str) -> dict[str, float]:
        """How many each has answered."""
        text = self.metrics()
        return {
            name: metric(text, "pipeserve_jobs_total", model=model, outcome="done", replica=name)
            for name in replicas_of(text, model)
        }

    def states(self) -> dict[str, str]:
        return {entry["id"]: entry["state"] for entry in self.get("/v1/models").json()["data"]}

    def num_replicas(self, model: str) -> int:
        entries = self.get("/v1/models").json()["data"]
        return int(next(entry["replicas"] for entry in entries if entry["id"] == model))

    def wait_for_replicas(self, model: str, is_enough: Callable[[int], bool], timeout_s: float = 120.0) -> None:
        wait_until(lambda: is_enough(self.num_replicas(model)), timeout_s, f"another number of replicas of {model}")

    def worker_pids(self, model: str) -> list[int]:
        """Processes that compute it, on any node of this machine."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            line = " ".join(process.info["cmdline"] or [])
            if "forkserver" not in line and "worker" in line and f" {model}" in line and "ray::" not in line:
                found.append(process.pid)
        return found


def replicas_of(text: str, model: str) -> list[str]:
    """Those whose worker has the model."""
    lines = [
        line for line in text.splitlines() if line.startswith("pipeserve_model_replicas{") and f'"{model}"' in line
    ]
    return [line.partition('replica="')[2].partition('"')[0] for line in lines if not line.endswith(" 0.0")]


async def under_load(
    url: str, body: dict[str, Any], *, clients: int, path: str = "/v1/text-classification"
) -> AsyncGenerator[list[tuple[int, str]], None]:
    """Each client asks again as soon as it is answered, until the loop that runs this ends. Gives the answers so far
    (status, text) four times a second."""
    answers: list[tuple[int, str]] = []
    is_over = False

    async def ask(client: httpx.AsyncClient) -> None:
        while not is_over:
            try:
                response = await client.post(path, json=body)
                answers.append((response.status_code, response.text))
            except httpx.HTTPError as error:
                answers.append((0, repr(error)))

    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
        asking = [asyncio.create_task(ask(client)) for _ in range(clients)]
        try:
            while True:
                await asyncio.sleep(0.25)
                yield answers
        finally:
            is_over = True
            await asyncio.gather(*asking)
