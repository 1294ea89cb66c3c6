"""Clients that ask one question after the other, and enter each into the books."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

import httpx2 as httpx
import orjson

from tests.chaos.ledger import Answer, Ledger, Question, Timed, is_same

TIMEOUT_S = 150.0  # longer than anything that a worker is given time for
_REFUSED_S = 0.02  # a server that is not there is not asked in a tight loop


def new_client(url: str) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    return httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S, limits=limits, trust_env=False)


async def exchange(client: httpx.AsyncClient, question: Question, request_id: str = "") -> Answer:
    """Never raises: what goes wrong is the answer."""
    headers = {"content-type": "application/json", **({"x-request-id": request_id} if request_id else {})}
    try:
        response = await client.post(question.path, content=orjson.dumps(question.body), headers=headers)
    except httpx.TransportError as error:
        return Answer(status=0, error=f"cut ({type(error).__name__}: {error})")
    if request_id and response.headers.get("x-request-id") != request_id:
        other = response.headers.get("x-request-id")
        return Answer(status=response.status_code, error=f"answered as {other}")
    return _streamed(response) if question.is_stream and response.status_code == 200 else _whole(response)


def _whole(response: httpx.Response) -> Answer:
    try:
        value = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return Answer(status=response.status_code, error=f"{response.status_code}, no JSON: {response.content[:200]!r}")
    if response.status_code == 200:
        return Answer(status=200, value=value)
    return Answer(status=response.status_code, error=f"{response.status_code} {_said(value)}")


def _streamed(response: httpx.Response) -> Answer:
    """The data of all events; the last may be an error."""
    lines = response.content.splitlines()
    events = [orjson.loads(line.removeprefix(b"data:")) for line in lines if line.startswith(b"data:")]
    if events and "error" in events[-1]:
        return Answer(status=200, error=f"stream {_said(events[-1])}")
    return Answer(status=200, value=events)


def _said(value: Any) -> str:
    """`draining: The server is ...`, of a body in Hugging Face's shape."""
    return f"{value.get('error_type')}: {value.get('error')}" if isinstance(value, dict) else str(value)


async def learn(client: httpx.AsyncClient, questions: Iterable[Question]) -> dict[str, Any]:
    """The right answers, from a server that has its peace: each question alone, and twice. Raises RuntimeError."""
    right = {}
    for question in questions:
        answers = [await exchange(client, question) for _ in range(2)]
        if any(answer.error for answer in answers) or not is_same(answers[0].value, answers[1].value):
            raise RuntimeError(f"{question.name} has no right answer even in peace: {answers}")
        right[question.name] = answers[0].value
    return right


class Load:
    """clients: how many by kind; each begins with another question of its kind. Ended by `stop`, or the block's end."""

    def __init__(
        self, client: httpx.AsyncClient, ledger: Ledger, questions: Sequence[Question], clients: Mapping[str, int]
    ) -> None:
        self.ledger = ledger
        self.statuses: Counter[int] = Counter()  # of all answers: what the server must have counted as well
        self._client = client
        self._of_kind = {kind: [one for one in questions if one.kind == kind] for kind in clients}
        self._clients = clients
        self._is_over = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def use(self, client: httpx.AsyncClient) -> None:
        """From the next question on."""
        self._client = client

    async def ask(self, question: Question) -> Answer:
        request_id = self.ledger.send(question)
        sent_at = time.monotonic()
        answer = await exchange(self._client, question, request_id)
        self.ledger.enter(request_id, answer, Timed(question.kind, sent_at, time.monotonic()))
        if answer.status:
            self.statuses[answer.status] += 1
        return answer

    async def ask_all(self, questions: Iterable[Question]) -> list[Answer]:
        """All at once."""
        return await asyncio.gather(*(self.ask(question) for question in questions))

    async def ask_and_leave(self, question: Question, after_s: float) -> None:
        """Go away in the midst of it, if it takes so long."""
        request_id = self.ledger.send(question)
        sent_at = time.monotonic()
        try:
            async with asyncio.timeout(after_s):
                answer = await exchange(self._client, question, request_id)
        except TimeoutError:
            self.ledger.leave(request_id)
        else:
            self.ledger.enter(request_id, answer, Timed(question.kind, sent_at, time.monotonic()))

    async def stop(self) -> None:
        """After the answers that clients wait for."""
        self._is_over.set()
        await asyncio.gather(*self._tasks)
        self._tasks.clear()

    async def __aenter__(self) -> Load:
        for kind, number in self._clients.items():
            self._tasks += [asyncio.create_task(self._run(self._of_kind[kind], start)) for start in range(number)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._tasks.clear()
        await self.stop()

    async def _run(self, questions: Sequence[Question], start: int) -> None:
        number = start
        while not self._is_over.is_set():
            answer = await self.ask(questions[number % len(questions)])
            number += 1
            if not answer.status:
                await asyncio.sleep(_REFUSED_S)
