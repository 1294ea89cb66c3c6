"""Custom handlers: a model's own `handler.py`, written for Hugging Face's Inference Endpoints.

Its class `EndpointHandler` is made with the model's folder and called with whole bodies:
https://huggingface.co/docs/inference-endpoints/guides/custom_handler
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from app.catalog import ModelSpec
from app.errors import BackendFailed, InvalidInput, ModelFailed, NotAvailable, PipeserveError
from app.media.answers import Picture
from app.runtime.base import UNWATCHED, Item, Watch

FILE, CLASS = "handler.py", "EndpointHandler"
_MAX_REASON_CHARS = 300

Handler = Callable[[dict[str, Any]], Any]


def load_handler(spec: ModelSpec, folder: Path) -> HandlerModel:
    """Runs the model's code. Call it on the device thread.

    Raises ModelFailed or NotAvailable with a sentence for the operator, and out-of-memory errors as they are.
    """
    try:
        handler = _handler_class(spec, folder)(str(folder))
    except (PipeserveError, MemoryError, torch.OutOfMemoryError):
        raise
    except ImportError as error:
        needed = f'"{error.name}"' if error.name else "a library"
        raise NotAvailable(
            f"The handler of {spec.id} needs {needed}, which is not installed ({_first_line(error)}). Its"
            " requirements.txt is not installed by this server: install what it names beside the server."
        ) from error
    except Exception as error:  # the boundary to code that is not ours: whatever it raises is why the model fails
        raise ModelFailed(f"The handler of {spec.id} cannot start: {_first_line(error)}") from error
    if not callable(handler):
        raise ModelFailed(f"The {CLASS} of {spec.id} has no __call__ that would take a request.")
    return HandlerModel(spec.tasks, handler, folder)


def _handler_class(spec: ModelSpec, folder: Path) -> Any:
    """Of the file as the module `handler`; the files beside it can be imported too, as they can on an endpoint."""
    sys.path.insert(0, str(folder))
    found = importlib.util.spec_from_file_location("handler", folder / FILE)
    if found is None or found.loader is None or not (folder / FILE).is_file():
        raise ModelFailed(f"{spec.id} has no {FILE}.")
    module = importlib.util.module_from_spec(found)
    sys.modules["handler"] = module
    found.loader.exec_module(module)
    if not hasattr(module, CLASS):
        raise ModelFailed(f"The {FILE} of {spec.id} has no class {CLASS}.")
    return getattr(module, CLASS)


class HandlerModel:
    """Implements `LoadedModel`. What the handler computes with, and where, is its own affair."""

    def __init__(self, tasks: Sequence[str], handler: Handler, folder: Path) -> None:
        self._tasks = list(tasks)
        self._handler = handler
        self._folder = folder
        self.devices = _devices_in_use()
        self.dtype = "unknown"
        self.num_parameters = 0
        self.max_length: int | None = None
        self.embedding_size: int | None = None
        self.largest_difference: float | None = None
        self.engine = None
        self.adapters = None
        self.compiled = None

    def tasks(self) -> list[str]:
        return list(self._tasks)

    def stages(self, task: str) -> HandlerStages:
        """Raises NotAvailable for a task that the entry does not declare."""
        if task not in self._tasks:
            raise NotAvailable(f"This model is served by its own handler, which does not say that it can do {task}.")
        return HandlerStages(self._handler, self._folder)

    def warm_up(self) -> None:
        """Nothing: nobody but the handler knows what a request looks like."""

    def set_num_threads(self, num_threads: int) -> None:
        torch.set_num_threads(num_threads)


def _devices_in_use() -> tuple[str, ...]:
    """Where the handler has taken memory."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return tuple(f"cuda:{index}" for index in range(count) if torch.cuda.memory_allocated(index)) or ("cpu",)


class HandlerStages:
    """Implements `Stages`: an input is a whole body, and a forward is one call of the handler."""

    def __init__(self, handler: Handler, folder: Path) -> None:
        self._handler = handler
        self._folder = folder

    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        return [[Item(body, 1)] for body in inputs]

    def forward(self, items: Sequence[Item], watch: Watch = UNWATCHED) -> list[Any]:
        return [self._call(item.features) for item in items]

    def _call(self, body: dict[str, Any]) -> Any:
        """A ValueError that the handler itself raises is its word to the client; every other error is a failure."""
        try:
            return _plain(self._handler(body))
        except ValueError as error:
            if not self._is_own(error):
                raise
            raise InvalidInput(_text(error) or "The handler refuses this request.") from error

    def _is_own(self, error: BaseException) -> bool:
        """Whether a line of the model's own files raised it, and no library below them."""
        frames = traceback.extract_tb(error.__traceback__)
        return bool(frames) and Path(frames[-1].filename).is_relative_to(self._folder)

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> Any:
        return outputs[0]


def _plain(value: Any) -> Any:
    """What JSON can say, arrays, and images as `Picture`: tensors as lists. On the device thread, where tensors live.

    Raises BackendFailed naming the type that has no such form.
    """
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one) for one in value]
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().tolist()
    if type(value).__module__.startswith("PIL."):
        return Picture(value)
    if type(value).__module__ == "numpy":
        return value
    raise BackendFailed(f"the handler's answer holds a {type(value).__name__}, which has no JSON form")


def _text(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:_MAX_REASON_CHARS] if lines else ""


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {_text(error)}" if _text(error) else type(error).__name__
