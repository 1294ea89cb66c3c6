"""A deployment's handle as the ingress needs it: bytes in, bytes out, and Ray's errors told apart."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

from app.errors import Overloaded

TELLING_TIMEOUT_S = 5.0

logger = logging.getLogger(__name__)


class ReplicaLost(Exception):
    """The replica that had the request is gone, or going, and has not answered it."""


class ModelHandle(Protocol):
    """Owned by the event loop of its process."""

    async def call(self, method: str, message: bytes) -> bytes:
        """One replica's answer; there is none: one is started. Cancelling the call cancels it there.

        Raises ReplicaLost, and Overloaded when as many wait already as may.
        """
        ...

    def stream(self, method: str, message: bytes) -> AsyncGenerator[bytes, None]:
        """The same, of what one replica sends until it is done. Leaving it cancels it there."""
        ...

    async def tell_all(self, method: str, message: bytes) -> None:
        """Every replica that is there. Starts none, and does not tell whether they heard it."""
        ...


class ServeHandle:
    """Of Ray Serve: a `DeploymentHandle`."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._calls: dict[str, Any] = {}

    async def call(self, method: str, message: bytes) -> bytes:
        async with _errors_told_apart():
            response = self._method(method).remote(message)
            try:
                answer: bytes = await response
                return answer
            except BaseException:
                response.cancel()  # of one that has ended: nothing
                raise

    async def stream(self, method: str, message: bytes) -> AsyncGenerator[bytes, None]:
        async with _errors_told_apart():
            response = self._method(method, stream=True).remote(message)
            try:
                async for part in response:
                    yield part
            except BaseException:
                response.cancel()
                raise

    async def tell_all(self, method: str, message: bytes) -> None:
        from ray.exceptions import RayError
        from ray.serve.exceptions import RayServeException

        try:
            told = self._handle.broadcast(method, message)
            await told.results_async(timeout_s=TELLING_TIMEOUT_S, return_exceptions=True)
        except (RayError, RayServeException, TimeoutError):
            logger.debug("nobody heard a %s", method)

    def _method(self, name: str, *, stream: bool = False) -> Any:
        """To make one for each call costs more than the call's own share."""
        if name not in self._calls:
            self._calls[name] = self._handle.options(method_name=name, stream=stream)
        return self._calls[name]


@asynccontextmanager
async def _errors_told_apart() -> AsyncIterator[None]:
    from ray.exceptions import RayError, RayTaskError
    from ray.serve.exceptions import BackPressureError, RayServeException

    try:
        yield
    except BackPressureError as error:
        raise Overloaded("As many requests wait for this model as may; try again later.") from error
    except RayTaskError:
        raise  # the replica's own code raised: a bug, and no other replica would do better
    except (RayError, RayServeException) as error:
        raise ReplicaLost(str(error)) from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise ReplicaLost("The call was cancelled by Ray.") from error  # so it tells of some replicas that it ends
