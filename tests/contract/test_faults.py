"""Real processes, real signals: what happens to a model or a client costs nobody else an answer."""

from __future__ import annotations

import os
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.contract.conftest import StartServer, write_catalog
from tests.server import RunningServer, metric, wait_until

REVIEWS: dict[str, Any] = {"id": "reviews", "task": "text-classification", "model": "sequence-classification"}
VECTORS: dict[str, Any] = {"id": "vectors", "task": "feature-extraction", "model": "sentence-encoder"}
URL = "/v1/text-classification"
BODY = {"inputs": "a good film"}


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def state(server: RunningServer, model_id: str) -> str:
    return str(server.get(f"/v1/models/{model_id}").json()["state"])


def test_dead_forkserver_is_started_again_and_takes_no_worker_along(start_server: StartServer) -> None:
    """The loaded model goes on, and the next load works."""
    server = start_server([REVIEWS, VECTORS])
    assert server.post(URL, BODY).status_code == 200
    (worker,) = server.worker_pids("reviews")
    for process in server.descendants():
        if process.pid != worker:
            process.kill()
    assert server.post(URL, BODY).status_code == 200
    assert server.worker_pids("reviews") == [worker]
    assert server.post("/v1/feature-extraction", {"inputs": "a"}).status_code == 200


@pytest.mark.parametrize("stopped", [False, True])
def test_killed_server_leaves_no_process(start_server: StartServer, stopped: bool) -> None:
    """SIGKILL of the API process ends all others within two seconds, stopped ones included."""
    server = start_server([REVIEWS])
    assert server.post(URL, BODY).status_code == 200
    pids = [process.pid for process in server.descendants()]
    assert pids
    if stopped:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
    server.process.kill()
    server.process.wait()
    wait_until(lambda: all(is_gone(pid) for pid in pids), 2, "the end of all processes")


def test_graceful_stop_answers_what_runs_and_refuses_what_comes(start_server: StartServer) -> None:
    """SIGTERM under load: everything accepted is answered, new work gets 503, the exit code is 0."""
    server = start_server([{**REVIEWS, "batch": {"max_items": 1}}])
    server.post(URL, BODY)
    texts = ["a good film " * 15] * 400
    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(server.post, URL, {"inputs": texts}) for _ in range(4)]
        wait_until(
            lambda: metric(server.get("/metrics").text, "pipeserve_in_flight_items", model="reviews") >= 1600,
            what="four requests in flight",
        )
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: server.get("/readyz").status_code == 503, what="not ready")
        refused = server.post(URL, BODY)
        assert refused.status_code == 503
        assert refused.headers["connection"] == "close"
        assert int(refused.headers["retry-after"]) >= 1
        assert server.get("/livez").status_code == 200
        assert [one.result().status_code for one in running] == [200] * 4
    pids = [process.pid for process in server.descendants()]
    assert server.process.wait(30) == 0
    wait_until(lambda: all(is_gone(pid) for pid in pids), 2, "the end of all processes")


def test_client_that_leaves_cancels_its_job(start_server: StartServer) -> None:
    """The permits of a request whose client hung up are free long before it would have been computed."""
    server = start_server([{**REVIEWS, "batch": {"max_items": 1}}])
    server.post(URL, BODY)
    host, port = server.url.removeprefix("http://").split(":")
    body = b'{"inputs": [' + b",".join([b'"a good film and a bad story"'] * 2000) + b"]}"
    head = f"POST {URL} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with socket.create_connection((host, int(port))) as client:
        client.sendall(head + body)
        wait_until(
            lambda: metric(server.get("/metrics").text, "pipeserve_in_flight_items", model="reviews") > 0,
            what="the request in flight",
        )
    wait_until(
        lambda: metric(server.get("/metrics").text, "pipeserve_in_flight_items", model="reviews") == 0,
        what="the end of the job",
    )
    assert metric(server.get("/metrics").text, "pipeserve_jobs_total", outcome="cancelled") == 1


def test_full_queue_answers_429_with_retry_after(start_server: StartServer) -> None:
    """More items than permits: refused at the door; a request larger than the queue is too large."""
    server = start_server([{**REVIEWS, "queue": {"max_items": 1000}, "batch": {"max_items": 1}}])
    server.post(URL, BODY)
    assert server.post(URL, {"inputs": ["a"] * 1001}).status_code == 413
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(server.post, URL, {"inputs": ["a good film " * 15] * 1000})
        wait_until(
            lambda: metric(server.get("/metrics").text, "pipeserve_in_flight_items", model="reviews") > 500,
            what="the first request in flight",
        )
        refused = server.post(URL, {"inputs": ["a"] * 1000})
        assert refused.status_code == 429, refused.text
        assert refused.json()["error_type"] == "overloaded"
        assert int(refused.headers["retry-after"]) >= 1
        assert running.result().status_code == 200


def test_deadline_ends_a_request(start_server: StartServer) -> None:
    """`X-Request-Timeout` is kept, with 504."""
    server = start_server([{**REVIEWS, "batch": {"max_items": 1}}])
    server.post(URL, BODY)
    late = server.post(URL, {"inputs": ["a good film " * 15] * 2000}, headers={"X-Request-Timeout": "100ms"})
    assert late.status_code == 504, late.text
    assert server.post(URL, BODY).status_code == 200


def test_caller_that_will_not_wait_gets_503_and_the_load_starts(start_server: StartServer) -> None:
    """`Prefer: respond-async` and `?wait=false` answer at once; later the model is there."""
    server = start_server([REVIEWS, VECTORS])
    refused = server.post(URL, BODY, headers={"Prefer": "respond-async"})
    assert refused.status_code == 503, refused.text
    assert int(refused.headers["retry-after"]) >= 1
    wait_until(lambda: state(server, "reviews") == "ready", what="the load")
    assert server.post("/v1/feature-extraction?wait=false", {"inputs": "a"}).status_code == 503


def test_concurrent_first_requests_load_once(start_server: StartServer) -> None:
    """Everyone waits for the one load."""
    server = start_server([REVIEWS])
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: server.post(URL, BODY), range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert metric(server.get("/metrics").text, "pipeserve_loads_total", outcome="ready") == 1


def test_keep_alive_unloads_after_the_last_use(start_server: StartServer) -> None:
    """Declared per model, or sent with a request; 0 unloads after the answer."""
    server = start_server([{**REVIEWS, "keep_alive": "300ms"}, VECTORS])
    assert server.post(URL, BODY).status_code == 200
    wait_until(lambda: state(server, "reviews") == "unloaded", what="the unload")
    assert server.post("/v1/feature-extraction", {"inputs": "a", "keep_alive": 0}).status_code == 200
    wait_until(lambda: state(server, "vectors") == "unloaded", what="the unload")
    wait_until(lambda: not server.worker_pids("vectors"), what="the end of its process")


def test_load_streams_progress_and_unload_ends_the_process(start_server: StartServer) -> None:
    """Server-sent events tell of the load; the unload is the end of a process."""
    server = start_server([REVIEWS])
    with server.client() as client, client.stream("POST", "/v1/models/reviews/load") as stream:
        events = "".join(stream.iter_text())
    assert '"ready"' in events
    assert server.get("/v1/models/reviews").json()["memory_bytes"] > 0
    assert server.worker_pids("reviews")
    assert server.post("/v1/models/reviews/unload", {}).status_code == 200
    wait_until(lambda: not server.worker_pids("reviews"), what="the end of its process")
    assert state(server, "reviews") == "unloaded"


def test_least_recently_used_model_makes_room(start_server: StartServer) -> None:
    """With a budget for one, the second model evicts the first, and nobody's request fails."""
    server = start_server([REVIEWS, VECTORS])
    server.post(URL, BODY)
    need = server.get("/v1/models/reviews").json()["memory_bytes"]
    entries = [{**REVIEWS, "memory": need}, {**VECTORS, "memory": need}]
    small = start_server(entries, budget={"cpu": int(need * 1.1)})
    for _ in range(2):
        assert small.post(URL, BODY).status_code == 200
        assert small.post("/v1/feature-extraction", {"inputs": "a"}).status_code == 200
    assert metric(small.get("/metrics").text, "pipeserve_evictions_total", reason="memory") >= 3
    assert state(small, "reviews") == "unloaded"


def test_livez_answers_while_a_model_loads(start_server: StartServer) -> None:
    """Liveness has nothing to do with models."""
    server = start_server([REVIEWS])
    loading = threading.Thread(target=server.post, args=(URL, BODY))
    loading.start()
    while loading.is_alive():
        assert server.get("/livez").status_code == 200
    loading.join()


def test_cache_folder_that_cannot_be_written_costs_a_warning(models_dir: Path, tmp_path: Path) -> None:
    """Models are served; what would be kept is not, and an export that has to be kept fails with a sentence."""
    (tmp_path / "file").touch()
    entries = [REVIEWS, {**REVIEWS, "id": "exported", "backend": "onnx"}]
    catalog = write_catalog(tmp_path / "models.yaml", models_dir, entries)
    with RunningServer(catalog, cache_dir=tmp_path / "file" / "cache") as server:
        assert server.post(URL, BODY).status_code == 200
        refused = server.post("/models/exported", BODY)
        told = "".join(server.log)
    assert refused.status_code == 503
    assert "cannot be kept" in refused.json()["error"] and "--cache-dir" in refused.json()["error"]
    assert f"the cache folder {tmp_path}/file/cache cannot be written (Not a directory)" in told
    assert "Traceback" not in told
