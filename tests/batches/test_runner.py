"""Each request of a batch is answered once, whatever ends in between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.batches.records import UNFINISHED, Batch, StoredFile
from app.batches.runner import Answer, BatchRunner, batches_running
from app.batches.store import StoreThread
from app.errors import Unavailable

ENDPOINT = "/v1/embeddings"
NOW = 1_000
MAX_AT_ONCE = 3
OWNER = "ada"


class Script:
    """Answers requests: a text by itself, a number with 422, those of `held` never. refusals: given first."""

    def __init__(self, *, held: str = "", refusals: Sequence[Answer] = ()) -> None:
        self.asked: list[Any] = []
        self.held = held
        self.refusals = list(refusals)
        self.num_running = self.most_running = 0
        self.is_accepting = True

    async def __call__(self, owner: str, endpoint: str, body: bytes, request_id: str) -> Answer:
        assert (owner, endpoint) == (OWNER, ENDPOINT)
        if self.refusals:
            return self.refusals.pop(0)
        given = json.loads(body)["input"]
        self.asked.append(given)
        self.num_running += 1
        self.most_running = max(self.most_running, self.num_running)
        try:
            await asyncio.sleep(0)
            if isinstance(given, str) and given in self.held:
                await asyncio.Event().wait()
        finally:
            self.num_running -= 1
        return Answer(200 if isinstance(given, str) else 422, json.dumps({"answer": given}).encode())


class Running:
    """A runner before a script, in a folder that the next one may have."""

    def __init__(self, store: StoreThread, runner: BatchRunner, script: Script) -> None:
        self.store = store
        self.runner = runner
        self.script = script

    async def begin(
        self,
        *inputs: Any,
        expires_at: int = 10_000,
        text: str | None = None,
        name: str = "batch_1",
        leaves_file: bool = True,
    ) -> Batch:
        lines = [
            json.dumps({"custom_id": f"id-{one}", "method": "POST", "url": ENDPOINT, "body": {"input": one}})
            for one in inputs
        ]
        content = "\n".join(lines) if text is None else text
        file = StoredFile(
            id=f"file-{name}", owner=OWNER, filename="in", purpose="batch", num_bytes=len(content), created_at=1
        )
        if leaves_file:
            await self.store.do(lambda store: store.path_of(file.id).write_text(content))
        await self.store.do(lambda store: store.add_file(file))
        batch = Batch(
            id=name,
            owner=OWNER,
            endpoint=ENDPOINT,
            input_file_id=file.id,
            completion_window="24h",
            created_at=1,
            expires_at=expires_at,
            output_ttl_s=60,
        )
        await self.runner.run(batch)
        return batch

    async def batch(self) -> Batch:
        found = await self.store.do(lambda store: store.batch("batch_1", OWNER))
        assert found is not None
        return self.runner.latest(found)

    async def ended(self) -> Batch:
        await until(lambda: self.runner.num_running == 0)
        batch = await self.batch()
        assert batch.status not in UNFINISHED
        return batch

    def lines(self, file_id: str | None) -> list[dict[str, Any]]:
        assert file_id is not None
        return [json.loads(line) for line in self.store.path_of(file_id).read_bytes().splitlines()]


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_so():  # noqa: ASYNC110  # what it is has no event
            await asyncio.sleep(0.005)


@asynccontextmanager
async def server(folder: Path, script: Script | None = None, *, now: float = NOW) -> AsyncIterator[Running]:
    script = script if script is not None else Script()
    store = StoreThread(folder)
    runner = BatchRunner(
        store,
        script,
        is_accepting=lambda: script.is_accepting,
        clock=lambda: now,
        max_line_bytes=1_000,
        max_at_once=MAX_AT_ONCE,
    )
    async with batches_running(store, runner):
        yield Running(store, runner, script)


async def test_every_line_is_answered(tmp_path: Path) -> None:
    """In the order of the lines, errors in a file of their own, so many at a time."""
    async with server(tmp_path) as running:
        await running.begin("a", "b", 3, "d", "e", "f", 7)
        batch = await running.ended()
        assert (batch.status, batch.num_total, batch.num_completed, batch.num_failed) == ("completed", 7, 5, 2)
        output, errors = running.lines(batch.output_file_id), running.lines(batch.error_file_id)
        assert [one["custom_id"] for one in output] == ["id-a", "id-b", "id-d", "id-e", "id-f"]
        assert [one["custom_id"] for one in errors] == ["id-3", "id-7"]
        assert output[0]["response"]["status_code"] == 200
        assert output[0]["response"]["body"] == {"answer": "a"}
        assert errors[0]["response"]["status_code"] == 422
        assert output[0]["error"] is None
        assert running.script.most_running == MAX_AT_ONCE


async def test_wrong_file_fails_the_batch(tmp_path: Path) -> None:
    """And none of its requests is asked."""
    async with server(tmp_path) as running:
        await running.begin(text="{}")
        batch = await running.ended()
        assert (batch.status, batch.failed_at, [one.line for one in batch.problems]) == ("failed", NOW, [1])
        assert running.script.asked == []


async def test_next_server_goes_on(tmp_path: Path) -> None:
    """What was answered is not asked again; what was running is; each stands once in the output."""
    script = Script(held="def")
    async with server(tmp_path, script) as running:
        await running.begin(*"abcdefgh")
        await until(lambda: script.num_running == MAX_AT_ONCE)
        assert (await running.batch()).num_completed == 3
    following = Script()
    async with server(tmp_path, following) as running:
        batch = await running.ended()
        assert (batch.status, batch.num_total, batch.num_completed) == ("completed", 8, 8)
        assert [one["custom_id"] for one in running.lines(batch.output_file_id)] == [f"id-{one}" for one in "abcdefgh"]
    assert sorted(following.asked) == list("defgh")


async def test_refused_for_now_is_asked_again(tmp_path: Path) -> None:
    """Its refusal is no answer."""
    refusal = Answer(429, b"{}", retry_after_s=0.01)
    async with server(tmp_path, Script(refusals=[refusal] * 3)) as running:
        await running.begin("a", "b")
        batch = await running.ended()
        assert (batch.num_completed, batch.num_failed, batch.error_file_id) == (2, 0, None)


async def test_what_a_draining_server_refuses_is_left_for_the_next(tmp_path: Path) -> None:
    """It is neither answered nor asked again and again."""
    script = Script(refusals=[Answer(503, b"{}", retry_after_s=0.01)] * 2)
    script.is_accepting = False
    async with server(tmp_path, script) as running:
        await running.begin("a")
        await until(lambda: len(script.refusals) == 1)
        await asyncio.sleep(0.05)
        assert len(script.refusals) == 1
    async with server(tmp_path) as running:
        assert (await running.ended()).num_completed == 1


async def test_cancelled_batch_keeps_what_was_answered(tmp_path: Path) -> None:
    """The rest stands in the file of errors; a second time nothing happens."""
    script = Script(held="bcd")
    async with server(tmp_path, script) as running:
        batch = await running.begin(*"abcde")
        await until(lambda: script.num_running == MAX_AT_ONCE)
        assert (await running.runner.cancel(batch)).status == "cancelling"
        ended = await running.ended()
        assert (ended.status, ended.cancelled_at, ended.num_completed) == ("cancelled", NOW, 1)
        assert [one["custom_id"] for one in running.lines(ended.output_file_id)] == ["id-a"]
        left = running.lines(ended.error_file_id)
        assert [one["custom_id"] for one in left] == ["id-b", "id-c", "id-d", "id-e"]
        assert {one["error"]["code"] for one in left} == {"batch_cancelled"}
        assert await running.runner.cancel(ended) == ended


async def test_batch_expires(tmp_path: Path) -> None:
    """Also where its time ends while no server runs."""
    script = Script(held="bcd")
    async with server(tmp_path, script) as running:
        await running.begin(*"abcd", expires_at=2_000)
        await until(lambda: script.num_running == MAX_AT_ONCE)
    async with server(tmp_path, Script(held="abcd"), now=2_000) as running:
        batch = await running.ended()
        assert (batch.status, batch.expired_at, batch.num_completed, batch.num_total) == ("expired", 2_000, 1, 4)
        assert {one["error"]["code"] for one in running.lines(batch.error_file_id)} == {"batch_expired"}


async def test_files_of_running_batches_are_in_use(tmp_path: Path) -> None:
    """And of ended ones not."""
    script = Script(held="a")
    async with server(tmp_path, script) as running:
        batch = await running.begin("a")
        assert (running.runner.users_of(batch.input_file_id), running.runner.inputs()) == (
            [batch.id],
            {batch.input_file_id},
        )
        await running.runner.cancel(batch)
        await running.ended()
        assert (running.runner.users_of(batch.input_file_id), running.runner.inputs()) == ([], set())


async def test_folder_of_another_server_is_waited_for(tmp_path: Path) -> None:
    """A server whose folder is taken starts, and has the batches when the other has ended."""
    script = Script(held="a")
    async with server(tmp_path, script) as first:
        await first.begin("a")
        second = server(tmp_path)
        running = await second.__aenter__()
        with pytest.raises(Unavailable):
            await running.runner.resume()
    await running.runner.resume()
    assert (await running.ended()).num_completed == 1
    await second.__aexit__(None, None, None)


async def test_cancelled_batches_leave_room_for_the_next(tmp_path: Path) -> None:
    """More of them than there are places, each with requests that were being answered and others that waited."""
    script = Script(held="abcdefgh")
    async with server(tmp_path, script) as running:
        for number in range(2 * MAX_AT_ONCE):
            batch = await running.begin(*"abcdefgh", name=f"batch_{number}")
            await until(lambda: script.num_running > 0)
            await running.runner.cancel(batch)
            await until(lambda: running.runner.num_running == 0)
        await running.begin("i", name="batch_last")
        await until(lambda: running.runner.num_running == 0)
        assert script.asked[-1] == "i"


async def test_batch_whose_file_is_gone_fails(tmp_path: Path) -> None:
    """It says so, instead of trying for ever."""
    async with server(tmp_path) as running:
        await running.begin("a", leaves_file=False)
        batch = await running.ended()
        assert (batch.status, [one.code for one in batch.problems]) == ("failed", ["no_file"])
