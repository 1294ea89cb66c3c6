"""What Ray's errors mean to an ingress: of the library, without a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from app.errors import Overloaded
from app.ray.handles import ReplicaLost, ServeHandle

ray_errors = pytest.importorskip("ray.exceptions", reason="the extra `ray` is not installed")
serve_errors = pytest.importorskip("ray.serve.exceptions", reason="the extra `ray` is not installed")


class Response:
    """A call of a `DeploymentHandle`: gives parts, raises an error, or goes on for ever."""

    def __init__(self, parts: list[bytes], error: BaseException | None) -> None:
        self._parts = parts
        self._error = error
        self.is_cancelled = False

    def __await__(self) -> Any:
        return self._answer().__await__()

    async def _answer(self) -> bytes:
        async for part in self:
            return part
        raise AssertionError("there is no answer")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            yield part
        if self._error is not None:
            raise self._error
        await asyncio.Event().wait()

    def cancel(self) -> None:
        self.is_cancelled = True


class Deployment:
    def __init__(self, *parts: bytes, error: BaseException | None = None) -> None:
        self.response = Response(list(parts), error)
        self.asked: list[tuple[str, bool, bytes]] = []

    def options(self, *, method_name: str, stream: bool) -> Any:
        deployment = self

        class Method:
            def remote(self, message: bytes) -> Response:
                deployment.asked.append((method_name, stream, message))
                return deployment.response

        return Method()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ray_errors.ActorDiedError(), ReplicaLost),
        (ray_errors.ActorUnavailableError("gone", b"0" * 16), ReplicaLost),
        (ray_errors.OwnerDiedError("0" * 56, None, ""), ReplicaLost),
        (serve_errors.DeploymentUnavailableError("reviews"), ReplicaLost),
        (asyncio.CancelledError(), ReplicaLost),  # so Ray tells of replicas that it ends
        (serve_errors.BackPressureError(5, 4), Overloaded),
    ],
)
async def test_errors_of_ray_are_told_apart(error: BaseException, expected: type[Exception]) -> None:
    """Of a call and of a stream, which are cancelled then, in case that they go on."""
    deployment = Deployment(error=error)
    with pytest.raises(expected):
        await ServeHandle(deployment).call("submit", b"?")
    assert deployment.response.is_cancelled
    with pytest.raises(expected):
        await anext(ServeHandle(Deployment(error=error)).stream("stream", b"?"))


async def test_answers_come_through() -> None:
    """As bytes, from the method that was named."""
    deployment = Deployment(b"one", b"two")
    handle = ServeHandle(deployment)
    assert await handle.call("submit", b"?") == b"one"
    async with aclosing(handle.stream("stream", b"?")) as parts:
        assert [await anext(parts), await anext(parts)] == [b"one", b"two"]
    assert deployment.asked == [("submit", False, b"?"), ("stream", True, b"?")]
    assert deployment.response.is_cancelled, "a stream that is left goes on"


async def test_own_cancellation_stays_one() -> None:
    """It is the caller's, and no replica's end."""
    deployment = Deployment()
    waiting = asyncio.create_task(ServeHandle(deployment).call("submit", b"?"))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert deployment.response.is_cancelled


async def test_bug_of_a_replica_is_not_tried_again() -> None:
    """Another replica would do no better."""
    error = ray_errors.RayTaskError("submit", "a traceback", ValueError("a bug"))
    with pytest.raises(ray_errors.RayTaskError):
        await ServeHandle(Deployment(error=error)).call("submit", b"?")
