"""The routes of other servers' dialects, at the root and below each model's URL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from starlette.routing import BaseRoute
from starlette.types import Message, Receive, Scope, Send

from app.api.body import parse_object
from app.api.call import Call, read_call
from app.api.dialects.base import Answers, Asked
from app.api.dialects.table import PLACES, Place, rule_for
from app.api.dialects.vertex import as_predictions, groups_of, instances_of
from app.api.names import agreed, named
from app.api.openai.endpoint import CHAT, COMPLETIONS, OpenAIGeneration
from app.api.record import RequestRecord, record_of
from app.api.renaming import by_names, renamed
from app.api.routing import root_routes
from app.api.tasks import Answered, TaskAnswerer, resolved
from app.catalog import ModelSpec
from app.errors import NotServed
from app.fleet.requests import ModelsAPI
from app.tasks.custom import NAME as CUSTOM
from app.tasks.registry import ALL_TASKS, TASKS, find_task

_BELOW_MODELS = frozenset(path for path in PLACES if path)
_MAX_NAMED = 8


class Dialects:
    """Answers what other servers' clients ask. Owned by the event loop. Implements `Served`."""

    def __init__(
        self,
        answerer: TaskAnswerer,
        generation: OpenAIGeneration,
        *,
        clock: Callable[[], float],
    ) -> None:
        """clock: unix time."""
        self._clock = clock
        self._answerer = answerer
        self._generation = generation

    @property
    def paths(self) -> Collection[str]:
        """Those below a model's URL."""
        return _BELOW_MODELS

    async def answer(self, path: str, path_model: str | None, scope: Scope, receive: Receive, send: Send) -> None:
        """path: a key of PLACES. Raises the errors of `app/errors.py`."""
        place, record = PLACES[path], record_of(scope)
        call = read_call(scope["query_string"], record.headers)
        raw = await self._answerer.read(receive, record)
        body = await _object(raw, record.headers, place)
        names = [name for name in map(named, (path_model, call.model, _model_in(body))) if name is not None]
        if body is not None and place.takes_instances and "instances" in body:
            spec = await self._choose(TASKS, names, call, record.fleet)
            await self._predict(body, spec, call, scope, receive, send)
            return
        if body is not None and place.takes_any and (kind := _openai_kind(body)) is not None:
            model = names[0] if names else None
            await self._generation.answer_body(kind, body, model, call, scope, receive, send)
            return
        rules = [] if body is None else place.rules_for(body)
        tasks = (*place.tasks_for(rules), CUSTOM) if place.takes_any else place.tasks_for(rules)
        spec = await self._choose(tasks, names, call, record.fleet)
        if spec.has_handler and place.takes_any:
            await self._answerer.answer_by_handler(spec, ALL_TASKS[spec.tasks[0]], raw, scope, receive, send)
            return
        rule = rule_for(rules, spec)
        if body is None or rule is None:
            await self._answerer.answer(find_task(spec.tasks[0]), spec.name, scope, _again(raw, receive), send)
            return
        asked = rule.asked(body)
        if asked.is_stream:
            task = ALL_TASKS[asked.task]
            await self._answerer.stream(task, spec, _stream_body(asked, spec), call, scope, receive, send)
            return
        answered = await self._run(asked, asked.inputs, spec, call, scope, receive)
        await self._send(send, asked.present(self._answers(answered, spec, record)), answered, spec, record)

    async def _choose(self, tasks: Iterable[str], names: list[str], call: Call, fleet: ModelsAPI) -> ModelSpec:
        """The named entry, else the first declared that serves one of the tasks. Raises NotServed, InvalidInput."""
        wanted = dict.fromkeys(tasks)
        if (name := agreed(fleet.get, names)) is not None:
            return await self._named(wanted, name, call, fleet)
        for spec in fleet.entries():
            if any(task in wanted for task in spec.all_tasks):
                return spec
        for spec in fleet.entries():
            if not spec.tasks and spec.problem is None:
                return await self._named(wanted, spec.id, call, fleet)
        raise NotServed(f"No model here answers this: it is for {_listed(wanted)}.", param="model")

    async def _named(self, wanted: Mapping[str, None], name: str, call: Call, fleet: ModelsAPI) -> ModelSpec:
        spec = await resolved(fleet, name, call)
        if not any(task in wanted for task in spec.all_tasks):
            text = f'"{spec.id}" does not answer this: it serves {", ".join(spec.all_tasks)}, not {_listed(wanted)}.'
            raise NotServed(text, param="model")
        return spec

    async def _run(
        self, asked: Asked, inputs: list[Any], spec: ModelSpec, call: Call, scope: Scope, receive: Receive
    ) -> Answered:
        body = {**asked.call_fields, "inputs": inputs, "parameters": asked.all_parameters(spec.parameters)}
        with renamed(by_names(asked.names)):
            return await self._answerer.run(ALL_TASKS[asked.task], spec, body, call, record_of(scope), receive)

    def _answers(self, answered: Answered, spec: ModelSpec, record: RequestRecord) -> Answers:
        return Answers(
            fragments=answered.fragments,
            num_tokens=answered.result.num_tokens,
            spec=spec,
            request_id=record.request_id,
            created=int(self._clock()),
            max_length=record.fleet.status(spec.id).max_length,
        )

    async def _predict(
        self, body: dict[str, Any], spec: ModelSpec, call: Call, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Vertex AI's instances, those with equal parameters as one job."""
        record = record_of(scope)
        groups = groups_of(instances_of(body, max_instances=self._answerer.max_inputs), spec, spec.tasks[0])
        try:
            async with asyncio.TaskGroup() as running:
                jobs = [
                    running.create_task(self._run(group.asked[0], group.inputs(), spec, call, scope, receive))
                    for group in groups
                ]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        done = [job.result() for job in jobs]
        found = [
            prediction
            for group, answered in zip(groups, done, strict=True)
            for prediction in group.predictions(self._answers(answered, spec, record))
        ]
        await self._send(send, as_predictions(found), done[0], spec, record)

    async def _send(self, send: Send, body: bytes, answered: Answered, spec: ModelSpec, record: RequestRecord) -> None:
        await self._answerer.send(
            send,
            body,
            answered.result,
            spec,
            record,
            media_type=answered.media_type,
            more_headers=_headers(answered),
        )


async def _object(raw: bytes, headers: Mapping[bytes, bytes], place: Place) -> dict[str, Any] | None:
    """The body, or None for what only a task of media can read. Raises MalformedBody."""
    if place.takes_any and not _looks_like_json(raw):
        return None
    return await parse_object(raw, headers)


def _openai_kind(body: Mapping[str, Any]) -> str | None:
    """A body of OpenAI's, and of vLLM's, says so by its fields."""
    if "messages" in body:
        return CHAT
    return COMPLETIONS if "prompt" in body else None


def _looks_like_json(raw: bytes) -> bool:
    return raw[:64].lstrip()[:1] == b"{"


def _model_in(body: dict[str, Any] | None) -> str | None:
    model = None if body is None else body.get("model")
    return model if isinstance(model, str) else None


def _listed(tasks: Iterable[str]) -> str:
    names = list(tasks)
    shown = ", ".join(names[:_MAX_NAMED])
    return f"{shown}, ..." if len(names) > _MAX_NAMED else shown or "nothing"


def _stream_body(asked: Asked, spec: ModelSpec) -> dict[str, Any]:
    inputs = asked.inputs[0] if len(asked.inputs) == 1 else asked.inputs
    return {**asked.call_fields, "inputs": inputs, "parameters": asked.all_parameters(spec.parameters)}


def _again(raw: bytes, receive: Receive) -> Receive:
    """A channel on which the body, already read, comes once more; then what the client does."""
    waiting: list[Message] = [{"type": "http.request", "body": raw, "more_body": False}]

    async def replayed() -> Message:
        return waiting.pop() if waiting else await receive()

    return replayed


def _headers(answered: Answered) -> list[tuple[bytes, bytes]]:
    """What TGI and TEI say of an answer, in whole milliseconds; `x-queue-time` and `x-total-time` are there anyway."""
    timings = answered.result.timings
    computing_s = timings.prepare_s + timings.forward_s + timings.finish_s
    return [
        (b"x-compute-time", b"%d" % round(computing_s * 1000)),
        (b"x-compute-tokens", b"%d" % answered.result.num_tokens),
        (b"x-prompt-tokens", b"%d" % answered.result.num_tokens),
        (b"x-tokenization-time", b"%d" % round(timings.prepare_s * 1000)),
        (b"x-validation-time", b"%d" % round(timings.prepare_s * 1000)),
        (b"x-inference-time", b"%d" % round(timings.forward_s * 1000)),
    ]


def dialect_routes(dialects: Dialects) -> list[BaseRoute]:
    return root_routes(dialects, tuple(PLACES))
