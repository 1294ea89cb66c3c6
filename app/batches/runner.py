"""Batches as they run: each line of a file becomes a request like any other, of low priority."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import islice
from typing import NamedTuple, Protocol

import msgspec

from app.batches.lines import Line, check_lines, read_lines
from app.batches.records import OUTPUT_PURPOSE, Batch, Problem, Result, Status, StoredFile
from app.batches.store import Store, StoreThread, make_id
from app.errors import Unavailable

MAX_AT_ONCE = 128
"""Requests of all batches: enough to fill the forwards of a model, and few enough to leave room in its queue."""
MAX_BATCHES = 32
"""That are worked on at a time: each has its file open. Others wait, as `validating`."""
_READ_AT_ONCE = 64  # lines
_LAST_WRITES_S = 2.0
_AGAIN_S = 5.0  # until a disk that did not do it is tried again

logger = logging.getLogger(__name__)


class Answer(NamedTuple):
    """Of one request. retry_after_s: set where it may be asked again."""

    status: int
    body: bytes
    retry_after_s: float | None = None


class Ask(Protocol):
    """Answers one request to an endpoint as if its owner had sent it. The body is JSON; so is the answer's."""

    def __call__(self, owner: str, endpoint: str, body: bytes, request_id: str) -> Awaitable[Answer]: ...


class _Running:
    """A batch, as it is now, with the task that runs it."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.task: asyncio.Task[None] | None = None
        self.work: asyncio.Task[None] | None = None  # on its requests


class _Pending(NamedTuple):
    batch_id: str
    result: Result
    is_stored: asyncio.Future[None]


class BatchRunner:
    """Owned by the event loop."""

    def __init__(
        self,
        store: StoreThread,
        ask: Ask,
        *,
        is_accepting: Callable[[], bool],
        clock: Callable[[], float],
        max_line_bytes: int,
        told: Callable[[str], None] = lambda outcome: None,
        max_at_once: int = MAX_AT_ONCE,
    ) -> None:
        """is_accepting: whether the server does; what it refuses while it drains is left for the next one. clock: unix
        time. told: the outcome of each request, "completed" or "failed"."""
        self._store = store
        self._ask = ask
        self._is_accepting = is_accepting
        self._clock = clock
        self._max_line_bytes = max_line_bytes
        self._told = told
        self._turns = asyncio.Semaphore(MAX_BATCHES)
        self._places = asyncio.Semaphore(max_at_once)
        self._running: dict[str, _Running] = {}
        self._pending: list[_Pending] = []
        self._writer: asyncio.Task[None] | None = None
        self._has_resumed = False

    async def start(self) -> None:
        """Go on with the batches of the server before this one."""
        if self._store.has_been_used:
            try:
                await self.resume()
            except Unavailable as error:
                logger.warning("batches that were running stand still: %s", error)

    async def resume(self) -> None:
        """At the latest when somebody asks for files or batches. Raises Unavailable."""
        if self._has_resumed:
            return
        unfinished = await self._store.do(Store.unfinished)
        if not self._has_resumed:
            self._has_resumed = True
            for batch in unfinished:
                self._begin(batch)

    async def stop(self) -> None:
        """Requests that have not been answered are left for the next server."""
        tasks = [one.task for one in self._running.values() if one.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._writer is not None:
            await asyncio.wait({self._writer}, timeout=_LAST_WRITES_S)
            self._writer.cancel()  # of a disk that does not do it; what is not stored is asked again

    # Batches

    async def run(self, batch: Batch) -> None:
        """A new one. Raises Unavailable."""
        await self._store.do(lambda store: store.put_batch(batch))
        self._begin(batch)

    def _begin(self, batch: Batch) -> None:
        running = self._running[batch.id] = _Running(batch)
        running.task = asyncio.create_task(self._run(running), name=f"run {batch.id}")
        running.task.add_done_callback(partial(self._ended, batch.id))

    def _ended(self, batch_id: str, task: asyncio.Task[None]) -> None:
        del self._running[batch_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%s failed, and stands still until the server's next start", batch_id, exc_info=error)

    def latest(self, batch: Batch) -> Batch:
        """As it is now, where it runs."""
        running = self._running.get(batch.id)
        return batch if running is None else running.batch

    def users_of(self, file_id: str) -> list[str]:
        """Batches that run and read it."""
        return [one.batch.id for one in self._running.values() if one.batch.input_file_id == file_id]

    def inputs(self) -> set[str]:
        """The files that batches read that run."""
        return {one.batch.input_file_id for one in self._running.values()}

    @property
    def num_running(self) -> int:
        return len(self._running)

    async def cancel(self, batch: Batch) -> Batch:
        """What is being computed is left; what was answered stays. Nothing happens to one that has ended. Raises
        Unavailable."""
        running = self._running.get(batch.id)
        if running is None or running.batch.status not in ("validating", "in_progress"):
            return self.latest(batch)
        await self._become(running, "cancelling", cancelling_at=self._now())
        if running.work is not None:
            running.work.cancel()
        return running.batch

    async def _become(self, running: _Running, status: Status, **changes: object) -> None:
        running.batch = batch = msgspec.structs.replace(running.batch, status=status, **changes)
        await self._store.do(lambda store: store.put_batch(batch))

    async def _run(self, running: _Running) -> None:
        await self._until_stored(partial(self._count, running))
        async with self._turns:
            if running.batch.status == "validating":
                await self._until_stored(partial(self._validate, running))
            if running.batch.status == "in_progress":
                await self._work_until_expiry(running)
        ended: Status = "completed"
        batch = running.batch
        if batch.status == "failed":
            return
        if batch.status == "cancelling":
            ended = "cancelled"
        elif batch.num_completed + batch.num_failed < batch.num_total:
            ended = "expired"
        await self._until_stored(partial(self._finish, running, ended))

    async def _until_stored(self, step: Callable[[], Awaitable[None]]) -> None:
        """A disk that is full, or away, holds a batch up until it is not."""
        while True:
            try:
                return await step()
            except Unavailable as error:
                logger.error("%s", error)
                await asyncio.sleep(_AGAIN_S)

    async def _count(self, running: _Running) -> None:
        answered = await self._store.do(lambda store: store.answered(running.batch.id))
        failed = sum(answered.values())
        running.batch = msgspec.structs.replace(running.batch, num_completed=len(answered) - failed, num_failed=failed)

    async def _validate(self, running: _Running) -> None:
        batch = running.batch
        path = self._store.path_of(batch.input_file_id)
        try:
            num_lines, problems = await asyncio.to_thread(
                check_lines, path, endpoint=batch.endpoint, max_bytes=self._max_line_bytes
            )
        except FileNotFoundError:  # deleted before the batch was there to use it
            num_lines, problems = 0, [Problem(code="no_file", message="The file is gone.", param="input_file_id")]
        except OSError as error:
            raise Unavailable(f"The input of {batch.id} cannot be read: {error}.") from error
        if running.batch.status != "validating":
            return  # cancelled meanwhile
        now = self._now()
        if problems:
            await self._become(running, "failed", failed_at=now, problems=tuple(problems))
        else:
            await self._become(running, "in_progress", in_progress_at=now, num_total=num_lines)

    # Requests

    async def _work_until_expiry(self, running: _Running) -> None:
        running.work = work = asyncio.create_task(self._work(running), name=f"requests of {running.batch.id}")
        try:
            await asyncio.wait({work}, timeout=max(0.0, running.batch.expires_at - self._clock()))
            if work.done() and not work.cancelled():
                work.result()
        finally:
            work.cancel()
            await asyncio.wait({work})

    async def _work(self, running: _Running) -> None:
        batch = running.batch
        answered = await self._store.do(lambda store: store.answered(batch.id))
        lines = (line for line in self._lines(batch) if line.number not in answered)
        async with asyncio.TaskGroup() as group:
            while some := await asyncio.to_thread(lambda: list(islice(lines, _READ_AT_ONCE))):
                for line in some:
                    await self._places.acquire()
                    task = group.create_task(self._answer(running, line))
                    task.add_done_callback(self._leave)  # also where it is cancelled before it began

    def _lines(self, batch: Batch) -> Iterator[Line]:
        return read_lines(self._store.path_of(batch.input_file_id), max_bytes=self._max_line_bytes)

    def _leave(self, task: asyncio.Task[None]) -> None:
        self._places.release()

    async def _answer(self, running: _Running, line: Line) -> None:
        """It has a place until its answer is stored."""
        batch, request_id = running.batch, make_id("batch_req_")
        answer = await self._final_answer(batch, line, request_id)
        has_failed = answer.status >= 400
        text = _line_of(line, request_id, answer)
        await self._keep(batch.id, Result(line=line.number, has_failed=has_failed, text=text))
        counted = "num_failed" if has_failed else "num_completed"
        running.batch = msgspec.structs.replace(running.batch, **{counted: getattr(running.batch, counted) + 1})
        self._told("failed" if has_failed else "completed")

    async def _final_answer(self, batch: Batch, line: Line, request_id: str) -> Answer:
        """Live requests are told to come again; these do. While the server drains they wait for its end."""
        while True:
            answer = await self._ask(batch.owner, batch.endpoint, line.body, request_id)
            if answer.retry_after_s is None:
                return answer
            if not self._is_accepting():
                await asyncio.Event().wait()
            await asyncio.sleep(answer.retry_after_s)

    async def _keep(self, batch_id: str, result: Result) -> None:
        """What is to be stored while something is being stored goes together after it."""
        is_stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append(_Pending(batch_id, result, is_stored))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write(), name="store results of batches")
        await is_stored

    async def _write(self) -> None:
        while self._pending:
            taken, self._pending = self._pending, []
            results = [(one.batch_id, one.result) for one in taken]
            await self._until_stored(partial(self._store.do, partial(_put, results)))
            for one in taken:
                if not one.is_stored.done():
                    one.is_stored.set_result(None)
        self._writer = None

    # The end

    async def _finish(self, running: _Running, ended: Status) -> None:
        await self._become(running, "cancelling" if ended == "cancelled" else "finalizing", finalizing_at=self._now())
        batch = running.batch
        reason = {"expired": _EXPIRED, "cancelled": _CANCELLED}.get(ended) if batch.in_progress_at else None

        def finish(store: Store) -> Batch:
            answered = store.answered(batch.id)
            left = () if reason is None else (line for line in self._lines(batch) if line.number not in answered)
            files = {
                "output_file_id": self._answers(store, batch, has_failed=False),
                "error_file_id": self._answers(store, batch, has_failed=True, left=left, reason=reason),
            }
            ids = {name: file.id for name, file in files.items() if file is not None}
            failed = sum(answered.values())
            done = msgspec.structs.replace(
                batch,
                status=ended,
                num_completed=len(answered) - failed,
                num_failed=failed,
                **ids,
                **{f"{ended}_at": self._now()},
            )
            store.finish(done, [file for file in files.values() if file is not None])
            return done

        running.batch = await self._store.do(finish)

    def _answers(
        self,
        store: Store,
        batch: Batch,
        *,
        has_failed: bool,
        left: Iterator[Line] | tuple[()] = (),
        reason: tuple[str, str] | None = None,
    ) -> StoredFile | None:
        """The file of them, once it is written; None: there are none. left: requests that nobody answered, for a
        reason. Called on the store's thread."""
        file_id = make_id("file-")
        more = (_unanswered(line, *reason) for line in left) if reason is not None else ()
        num_bytes = store.write_results(batch.id, has_failed=has_failed, path=store.path_of(file_id), more=more)
        if not num_bytes:
            return None
        now = self._now()
        return StoredFile(
            id=file_id,
            owner=batch.owner,
            filename=f"{batch.id}_{'error' if has_failed else 'output'}.jsonl",
            purpose=OUTPUT_PURPOSE,
            num_bytes=num_bytes,
            created_at=now,
            expires_at=now + batch.output_ttl_s,
        )

    def _now(self) -> int:
        return int(self._clock())


@asynccontextmanager
async def batches_running(store: StoreThread, runner: BatchRunner) -> AsyncIterator[None]:
    """Within it batches go on."""
    try:
        await runner.start()
        yield
    finally:
        await runner.stop()
        await store.close()


_EXPIRED = "batch_expired", "This request could not be answered before the end of the batch's completion window."
_CANCELLED = "batch_cancelled", "The batch was cancelled before this request was answered."


def _put(results: Sequence[tuple[str, Result]], store: Store) -> None:
    store.put_results(results)


def _line_of(line: Line, request_id: str, answer: Answer) -> bytes:
    response = {"status_code": answer.status, "request_id": request_id, "body": msgspec.Raw(answer.body)}
    return _encoded(request_id, line, response, None)


def _unanswered(line: Line, code: str, message: str) -> bytes:
    return _encoded(make_id("batch_req_"), line, None, {"code": code, "message": message})


def _encoded(request_id: str, line: Line, response: object, error: object) -> bytes:
    return msgspec.json.encode({"id": request_id, "custom_id": line.custom_id, "response": response, "error": error})
