"""Batches on real servers with real workers, driven by OpenAI's SDK, with a SIGKILL in the midst of one."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from tests import tiny
from tests.contract.conftest import StartServer
from tests.server import RunningServer, wait_until

NUM_LINES = 600
REVIEWS: dict[str, Any] = {"id": "reviews", "task": "text-classification", "model": "sequence-classification"}


def lines(endpoint: str, bodies: list[dict[str, Any]]) -> bytes:
    requests = [
        {"custom_id": f"line {number}", "method": "POST", "url": endpoint, "body": body}
        for number, body in enumerate(bodies)
    ]
    return b"\n".join(json.dumps(one).encode() for one in requests)


@contextmanager
def client_of(server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def begin(client: openai.OpenAI, endpoint: str, bodies: list[dict[str, Any]]) -> openai.types.Batch:
    file = client.files.create(file=("requests.jsonl", lines(endpoint, bodies)), purpose="batch")
    window: Any = "24h"
    return client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window=window)  # type: ignore[arg-type]  # the SDK names OpenAI's alone


def ended(client: openai.OpenAI, batch_id: str) -> openai.types.Batch:
    wait_until(lambda: client.batches.retrieve(batch_id).status in ("completed", "failed", "expired"), timeout_s=60)
    return client.batches.retrieve(batch_id)


def answers(client: openai.OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    return [json.loads(line) for line in client.files.content(file_id).text.splitlines()]


def test_killed_server_loses_and_repeats_nothing(start_server: StartServer, models_dir: Path) -> None:
    """The next one goes on where it was: every line is answered once, and as a live request is."""
    server = start_server([REVIEWS])
    bodies: list[dict[str, Any]] = [{"inputs": f"film {number}"} for number in range(NUM_LINES)]
    bodies[7] = {"inputs": 7}
    with client_of(server) as client:
        batch = begin(client, "/v1/text-classification", bodies)
        wait_until(lambda: num_answered(client, batch.id) > 20, timeout_s=60)
        server.process.kill()
        server.process.wait()
    server = start_server([REVIEWS])
    with client_of(server) as client:
        before = num_answered(client, batch.id)
        assert 20 < before < NUM_LINES
        done = ended(client, batch.id)
        assert done.status == "completed"
        assert done.request_counts is not None
        assert (done.request_counts.completed, done.request_counts.failed) == (NUM_LINES - 1, 1)
        output = answers(client, done.output_file_id)
        assert [one["custom_id"] for one in output] == [f"line {n}" for n in range(NUM_LINES) if n != 7]
        (wrong,) = answers(client, done.error_file_id)
        assert (wrong["custom_id"], wrong["response"]["status_code"]) == ("line 7", 422)
        live = server.post("/v1/text-classification", bodies[-1]).json()
        assert output[-1]["response"]["body"][0][0]["label"] == live[0][0]["label"]
        assert output[-1]["response"]["body"][0][0]["score"] == pytest.approx(live[0][0]["score"], abs=1e-5)


def num_answered(client: openai.OpenAI, batch_id: str) -> int:
    counts = client.batches.retrieve(batch_id).request_counts
    assert counts is not None
    return counts.completed + counts.failed


def test_stopped_server_leaves_the_rest(start_server: StartServer, tiny_dir: Path) -> None:
    """SIGTERM in the midst of chats: what is running is answered within the drain, what is not is the next one's."""
    entry: dict[str, Any] = {"id": "chat", "task": "text-generation", "model": str(tiny.build("chatml", tiny_dir))}
    server = start_server([entry])
    message = {"role": "user", "content": "hello"}
    bodies: list[dict[str, Any]] = [{"messages": [message], "max_completion_tokens": 32, "seed": 1}] * 150
    with client_of(server) as client:
        batch = begin(client, "/v1/chat/completions", bodies)
        wait_until(lambda: num_answered(client, batch.id) > 0, timeout_s=60)
        assert server.stop(signal.SIGTERM) == 0
    server = start_server([entry])
    with client_of(server) as client:
        done = ended(client, batch.id)
        assert (done.status, done.error_file_id) == ("completed", None)
        output = answers(client, done.output_file_id)
        assert [one["custom_id"] for one in output] == [f"line {number}" for number in range(len(bodies))]
        assert all(one["response"]["body"]["choices"][0]["message"]["content"] for one in output)


def test_live_requests_go_first(server: RunningServer) -> None:
    """Beside a batch a live request waits for no more than what is being computed: it is answered while lines wait."""
    with client_of(server) as client:
        batch = begin(
            client, "/v1/embeddings", [{"input": f"text {number}", "model": "vectors"} for number in range(400)]
        )
        server.post("/v1/text-classification?model=acme/reviews", {"inputs": "a"})
        answer = client.embeddings.create(model="vectors", input="a text")
        assert len(answer.data[0].embedding) > 0
        done = ended(client, batch.id)
        assert done.status == "completed"
        for file_id in (done.input_file_id, done.output_file_id):
            assert file_id is not None
            assert client.files.delete(file_id).deleted
