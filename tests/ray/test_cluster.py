"""Ray Serve with two nodes on this machine, over HTTP as a client sees it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests.handlers import handler_folder
from tests.ray.cluster import RayCluster, RayServer, under_load
from tests.server import metric, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore"),  # of Ray's own code
]
GOES_ON, LONG = "the", 1900
"""A prompt after which the model finds no end, and far more tokens than are read."""
SLOW = """
import time


class EndpointHandler:
    def __init__(self, path=""):
        pass

    def __call__(self, data):
        time.sleep(0.5)
        return [{"label": "POSITIVE", "score": 1.0}]
"""
TEXT = {"inputs": "a great film"}
ALWAYS = {"keep_alive": -1, "ray": {"num_cpus": 0.1}}
SCRIPTED = {"id": "answers", "task": "question-answering", "model": "acme/scripted", "keep_alive": -1}
QUESTION = {"inputs": {"question": "Who sleeps?", "context": "The cat sleeps."}}
ANSWERS = "/v1/question-answering"
IN_A_SLOT = {"num_cpus": 0.1, "resources": {"slot": 1}}


@pytest.fixture(scope="module")
def reviews(models_dir: Path) -> dict[str, Any]:
    folder = models_dir / "sequence-classification"
    return {"id": "reviews", "task": "text-classification", "model": str(folder), **ALWAYS}


@pytest.fixture(scope="module")
def server(
    cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory, tiny_dir: Path, reviews: dict[str, Any]
) -> RayServer:
    """For the tests that change no number of replicas. A deployment takes as long as its models' loads."""
    from tests.tiny import build  # torch

    folder = tmp_path_factory.mktemp("shared")
    slow = handler_folder(folder / "slow", SLOW)
    return cluster.deploy(
        folder,
        [
            reviews,
            {"id": "writer", "task": "text-generation", "model": str(build("chatml", tiny_dir)), **ALWAYS},
            {
                **{"id": "slow", "task": "text-classification", "model": str(slow), "trust_remote_code": True},
                **{"queue": {"max_items": 2}, **ALWAYS},
            },
            {"id": "broken", "task": "text-classification", "model": "./nothing"},
        ],
    )


def test_every_route_is_there_and_says_who_answered(server: RayServer) -> None:
    """One model and one that cannot be: answers, errors in each dialect's words, and what Ray cannot do."""
    answer = server.post("/v1/text-classification", TEXT, headers={"x-request-id": "mine"})
    assert answer.status_code == 200
    assert {one["label"] for one in answer.json()[0]} == {"NEGATIVE", "NEUTRAL", "POSITIVE"}
    assert answer.headers["x-request-id"] == "mine"
    assert answer.headers["x-model"] == "reviews"
    broken = server.post("/v1/text-classification", {**TEXT, "model": "broken"})
    assert (broken.status_code, broken.json()["error_type"]) == (503, "model_failed")
    assert "There is no folder" in broken.json()["error"]
    wrong = server.post("/v1/text-classification", {"inputs": "a film", "parameters": {"top_k": -1}})
    assert wrong.status_code == 422
    assert server.get("/readyz").text == "ok"
    states = {"reviews": "ready", "writer": "ready", "slow": "ready", "broken": "failed"}
    wait_until(lambda: server.states() == states, what="the states of all models")
    for path in ("/v1/models/reviews/unload", "/v1/models/reload"):
        refused = server.post(path, {})
        assert (refused.status_code, "On Ray" in refused.text) == (501, True), refused.text
    assert server.post("/v1/models/reviews/load", {}).text.startswith("event: ready")
    wait_until(lambda: server.metric("pipeserve_jobs_total", model="reviews", outcome="done") == 1, what="a report")
    text = server.metrics()
    assert metric(text, "pipeserve_model_state", model="broken", state="failed") == 1
    names = [line for line in text.splitlines() if line.startswith("# TYPE ")]
    assert len(names) == len(set(names))


def test_streams_come_in_parts_and_end_with_their_readers(server: RayServer) -> None:
    """A stream has the text of the whole answer; one whose reader leaves, and an answer whose client leaves, are not
    written to their ends."""
    body = {"model": "writer", "prompt": GOES_ON, "max_tokens": 200, "temperature": 0}
    whole = server.post("/v1/completions", body).json()["choices"][0]["text"]
    with server.client() as client, client.stream("POST", "/v1/completions", json={**body, "stream": True}) as response:
        chunks = list(response.iter_text())
    events = [line.removeprefix("data: ") for line in "".join(chunks).splitlines() if line.startswith("data: ")]
    assert events.pop() == "[DONE]"
    assert "".join(json.loads(event)["choices"][0]["text"] for event in events) == whole
    assert len(chunks) > 3

    long = {**body, "max_tokens": LONG}
    with server.client() as client, client.stream("POST", "/v1/completions", json={**long, "stream": True}) as response:
        assert next(response.iter_text())
    cancelled = {"model": "writer", "outcome": "cancelled"}
    wait_until(lambda: server.metric("pipeserve_jobs_total", **cancelled) == 1, what="the stream's end")
    with pytest.raises(httpx.TimeoutException), httpx.Client(base_url=server.url, timeout=1.0) as client:
        client.post("/v1/completions", json=long)
    wait_until(lambda: server.metric("pipeserve_jobs_total", **cancelled) == 2, what="the answer's end")
    text = server.metrics()
    assert metric(text, "pipeserve_generated_tokens_total", model="writer") < 2 * LONG
    assert metric(text, "pipeserve_in_flight_items", model="writer") == 0


async def test_too_much_is_refused_with_a_time(server: RayServer) -> None:
    """What the replica's queue does not take, and what waits for room in it, get 429 with Retry-After."""
    body = {**TEXT, "model": "slow"}
    async with httpx.AsyncClient(base_url=server.url, timeout=120) as client:
        answers = await asyncio.gather(*(client.post("/v1/text-classification", json=body) for _ in range(24)))
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 429}
    assert statuses.count(200) >= 2
    refused = [answer for answer in answers if answer.status_code == 429]
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert {answer.json()["error_type"] for answer in refused} == {"overloaded"}
    counted = {"model": "slow"}
    wait_until(lambda: server.metric("pipeserve_rejections_total", **counted) == len(refused), what="every refusal")


async def test_killed_worker_loses_nothing(server: RayServer) -> None:
    """A worker is killed under load: its replica starts another, and every request is answered."""
    async with aclosing(under_load(server.url, TEXT, clients=8)) as load:
        killed_at = 0.0
        began_at = time.monotonic()
        async for answers in load:
            if not killed_at and time.monotonic() - began_at > 1:
                (pid,) = server.worker_pids("reviews")
                os.kill(pid, signal.SIGKILL)
                killed_at, answered_before = time.monotonic(), len(answers)
            if killed_at and len(answers) > answered_before + 50:
                break
            assert time.monotonic() - began_at < 120
    assert {status for status, _ in answers} == {200}, [one for one in answers if one[0] != 200][:3]
    wait_until(lambda: server.metric("pipeserve_restarts_total", model="reviews") == 1, what="the restart's report")


async def test_nothing_is_lost_with_a_node(cluster: RayCluster, deploy: Any) -> None:
    """Three replicas on two nodes, all of which answer; one node goes under load: every request is answered."""
    deploying = asyncio.create_task(asyncio.to_thread(deploy, {**SCRIPTED, "replicas": 3, "ray": IN_A_SLOT}))
    await _until_up(cluster)
    cluster.add_node()  # the ingress is on the head, which has room for two replicas
    server = await deploying
    removed_at, answered_before = 0.0, 0
    pids = server.worker_pids("answers")
    assert len(pids) == 3
    async with aclosing(under_load(server.url, QUESTION, path=ANSWERS, clients=8)) as load:
        began_at = time.monotonic()
        async for answers in load:
            if not removed_at:
                by_replica = await asyncio.to_thread(server.jobs_by_replica, "answers")
                assert time.monotonic() - began_at < 60, f"not all replicas have answered: {by_replica}"
                if sum(number > 0 for number in by_replica.values()) < 3:
                    continue
                answered_before = len(answers)
                await asyncio.to_thread(cluster.remove_node)
                removed_at = time.monotonic()
            if removed_at and time.monotonic() - removed_at > 8:
                break
    assert {status for status, _ in answers} == {200}, [one for one in answers if one[0] != 200][:3]
    assert len(answers) > answered_before + 8
    wait_until(lambda: len(server.worker_pids("answers")) == 2, what="the end of the node's workers")


async def _until_up(cluster: RayCluster) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{cluster.port}", timeout=5) as client:
        while True:
            try:
                if (await client.get("/readyz")).text == "ok":
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.25)


async def test_replicas_come_and_go_with_the_work(deploy: Any) -> None:
    """None before the first request, which waits for one; more under load; none again after `keep_alive`."""
    few = {"batch": {"max_items": 2}, "keep_alive": "4s", "replicas": {"max": 2}}
    entry = {**SCRIPTED, **few, "ray": {"num_cpus": 0.1, "upscale_delay": "1s"}}
    server = await asyncio.to_thread(deploy, entry)
    assert server.states() == {"answers": "unloaded"}
    assert (await asyncio.to_thread(server.post, ANSWERS, QUESTION)).status_code == 200
    async with aclosing(under_load(server.url, QUESTION, path=ANSWERS, clients=16)) as load:
        until = time.monotonic() + 180
        async for so_far in load:
            answers = so_far
            if await asyncio.to_thread(server.num_replicas, "answers") == 2:
                break
            assert time.monotonic() < until, "no replica was added under load"
    assert {status for status, _ in answers} == {200}
    await asyncio.to_thread(server.wait_for_replicas, "answers", lambda number: number == 0)
    assert server.worker_pids("answers") == []
    assert (await asyncio.to_thread(server.post, ANSWERS, QUESTION)).status_code == 200
