"""Text generation for every dialect that chats or completes: OpenAI's, Anthropic's, Ollama's.

A dialect turns its body into a `Wanted`, in the words of the task `completion`, and a `Completion`, or its `Delta`s,
into its answer.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Receive

from app.api.call import Call, task_body
from app.api.names import agreed
from app.api.record import RequestRecord
from app.api.renaming import by_names, renamed
from app.api.tasks import TaskAnswerer, resolved
from app.catalog import ModelSpec
from app.errors import NotServed
from app.fleet.requests import JobResult, ModelsAPI
from app.tasks.completion import GENERATING_TASKS, TASK, Completion, Delta, read_completion


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """inputs: each a `CompletionInput`. parameters: `CompletionParameters`; what is None is unset. names: what the
    client calls a parameter, where that is not our name for it ("max_tokens": "max_completion_tokens")."""

    inputs: Sequence[Mapping[str, Any]]
    parameters: Mapping[str, Any]
    names: Mapping[str, str] = field(default_factory=dict)
    keep_alive: Any = None

    def body(self) -> dict[str, Any]:
        inputs = [{name: value for name, value in one.items() if value is not None} for one in self.inputs]
        return task_body(inputs, self.parameters, self.keep_alive)

    def theirs(self, param: str) -> str:
        """What the client calls a path of `body`."""
        if param.startswith("parameters."):
            param = param.removeprefix("parameters.")
        elif param.startswith("inputs"):
            place, _, rest = param.partition(".")
            several = len(self.inputs) > 1 and place.startswith("inputs[") and rest.startswith("prompt")
            param = f"prompt{place.removeprefix('inputs')}" if several else rest or "prompt"
        return by_names(self.names)(param)


class Generating:
    """Owned by the event loop."""

    def __init__(self, answerer: TaskAnswerer) -> None:
        self._answerer = answerer

    async def choose(self, names: Sequence[str | None], call: Call, record: RequestRecord) -> ModelSpec:
        """The entry that path, query and body agree on, else the first declared that generates text.

        Raises NotServed, InvalidInput, and what loading raises for an entry whose tasks are not known yet.
        """
        name = agreed(record.fleet.get, names)
        if name is None:
            return _first(record.fleet)
        spec = await resolved(record.fleet, name, call)
        if not any(task in GENERATING_TASKS for task in spec.all_tasks):
            served = ", ".join(spec.all_tasks)
            raise NotServed(f'"{spec.id}" generates no text: it serves {served}.', param="model")
        return spec

    async def complete(
        self, spec: ModelSpec, wanted: Wanted, call: Call, record: RequestRecord, receive: Receive
    ) -> tuple[list[Completion], JobResult]:
        """One completion per input. The client's leaving ends the work. Raises the errors of `app/errors.py`, with
        `param` as the client calls it."""
        with renamed(wanted.theirs):
            answered = await self._answerer.run(TASK, spec, wanted.body(), call, record, receive)
        return [read_completion(fragment) for fragment in answered.fragments], answered.result

    async def stream(
        self, spec: ModelSpec, wanted: Wanted, call: Call, record: RequestRecord, receive: Receive
    ) -> AsyncGenerator[Delta | list[Completion], None]:
        """The deltas of all inputs and choices as they are made, then the completions. Raises as `complete`.

        Wait for its first item under `until_disconnect`: a response that streams watches for the client's leaving
        by itself, but only once it has begun.
        """
        with renamed(wanted.theirs):
            job, _ = await self._answerer.job_of(TASK, spec, wanted.body(), call, record, receive)
            async for item in record.fleet.stream(job):
                if isinstance(item, JobResult):
                    record.result = item
                    yield [read_completion(fragment) for fragment in item.outputs]
                else:
                    yield item


def _first(fleet: ModelsAPI) -> ModelSpec:
    for task in GENERATING_TASKS:
        for spec in fleet.entries():
            if task in spec.all_tasks and not spec.has_handler:
                return spec
    raise NotServed("No model here generates text: declare one of text-generation.", param="model")
