"""A fleet whose answers are a script: what the HTTP layer asks of it is recorded."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterable, Mapping
from typing import Any

import msgspec
import numpy as np
import orjson

from app.api.npy import NPY
from app.catalog import AdapterSpec, Catalog, ModelSpec
from app.channel.messages import Progress, Timings
from app.errors import Draining, ModelFailed, ModelLoading, NotServed, PipeserveError
from app.fleet.directory import Directory
from app.fleet.requests import DeviceUse, JobRequest, JobResult, ModelStatus, Reloaded
from app.tasks.completion import Completion, Delta, Token
from app.tasks.registry import ALL_TASKS
from app.tasks.transcription import Transcription

LABELS = [{"label": "POSITIVE", "score": 0.9}, {"label": "NEGATIVE", "score": 0.1}]
_ANSWERS: Mapping[str, Any] = {
    "text-classification": LABELS,
    "zero-shot-classification": [{"label": "music", "score": 0.8}, {"label": "sport", "score": 0.2}],
    "token-classification": [{"entity_group": "PER", "score": 0.9, "word": "Ada", "start": 0, "end": 3}],
    "fill-mask": [{"score": 0.9, "token": 3, "token_str": "paris", "sequence": "paris is a city"}],
    "feature-extraction": [0.5, -0.25, 0.125],
    "sentence-similarity": [0.75, 0.25],
    "question-answering": {"answer": "Ada", "score": 0.9, "start": 0, "end": 3},
    "text-ranking": [{"index": 1, "score": 0.75}, {"index": 0, "score": 0.25}],
    "sparse-embedding": [{"index": 3, "value": 1.5}],
    "tokenize": [
        {"id": 2, "text": "[CLS]", "special": True, "start": None, "stop": None},
        {"id": 9, "text": "cat", "special": False, "start": 2, "stop": 5},
    ],
    "decode": "a cat",
    "text-generation": [
        {
            "generated_text": "there was",
            "details": {
                "finish_reason": "length",
                "generated_tokens": 2,
                "seed": None,
                "prefill": [],
                "tokens": [
                    {"id": 7, "text": "there", "logprob": -0.5, "special": False},
                    {"id": 8, "text": " was", "logprob": -0.25, "special": False},
                ],
            },
        }
    ],
    "table-question-answering": {"answer": "3", "coordinates": [[0, 0]], "cells": ["3"], "aggregator": "NONE"},
}
_TOKENS = _ANSWERS["text-generation"][0]["details"]["tokens"]
ANSWERS: Mapping[str, Any] = {name: _ANSWERS.get(name, task.example.answer) for name, task in ALL_TASKS.items()}
"""The fragment of one input."""

_MODELS = (
    ModelSpec(id="reviews", model="acme/reviews", tasks=("text-classification",), aliases=("rev",)),
    ModelSpec(id="acme/labels/large", model="acme/labels", tasks=("text-classification", "zero-shot-classification")),
    ModelSpec(id="acme/labels", model="acme/labels", tasks=("zero-shot-classification",)),
    ModelSpec(id="ner", model="/srv/models/ner", tasks=("token-classification",), keep_alive_s=-1),
    ModelSpec(id="mask", model="acme/mask", tasks=("fill-mask",), parameters={"top_k": 3}),
    ModelSpec(id="vectors", model="v", tasks=("feature-extraction",), implied_tasks=("sentence-similarity",)),
    ModelSpec(id="answers", model="acme/answers", tasks=("question-answering",)),
    ModelSpec(id="tables", model="acme/tables", tasks=("table-question-answering",)),
)
_NAMED_TASKS = {task for spec in _MODELS for task in spec.all_tasks}
MODELS = (
    *_MODELS,
    *(ModelSpec(id=f"tiny-{name}", model=name, tasks=(name,)) for name in ALL_TASKS if name not in _NAMED_TASKS),
)
CATALOG = Catalog(models=MODELS)
TIMINGS = Timings(queue_s=0.001, prepare_s=0.002, forward_s=0.003, finish_s=0.004)


def _fragment(request: JobRequest) -> bytes:
    """JSON, or an array for who asks for one."""
    answer = ANSWERS[request.task]
    if request.task == "text-ranking":
        answer = [place for place in answer if place["index"] < len(request.inputs[0]["texts"])]
    elif request.parameters.get("pooling") == "none":
        answer = [answer]  # a text of one token
    if request.media_type != NPY:
        return orjson.dumps(answer)
    file = io.BytesIO()
    np.save(file, np.asarray(answer, np.float32))
    return file.getvalue()


def _token_deltas(request: JobRequest) -> list[Delta]:
    """What a stream of text-generation gives unless a test says otherwise: a delta for each token of its answer."""
    if request.task != "text-generation":
        return []
    tokens = [Token(id=one["id"], text=one["text"], logprob=one["logprob"]) for one in _TOKENS]
    ends = [None] * (len(tokens) - 1) + ["length"]
    return [Delta(tokens=(token,), finish_reason=end) for token, end in zip(tokens, ends, strict=True)]


class FakeFleet:
    """error: what the next submit raises. holds: answers wait for `release`. completion, transcription: what a job of
    that task is answered, for each input. deltas: what a stream gives before it; stream_error: what ends it in their
    place. Owned by the server's event loop."""

    def __init__(self, models: tuple[ModelSpec, ...] = MODELS) -> None:
        self._models = models
        self.reset()

    def reset(self) -> None:
        """As new, for the next test of a server that runs on."""
        models = self._models
        self.specs = {spec.id: spec for spec in models}
        self.states = dict.fromkeys(self.specs, "unloaded")
        self.reasons: dict[str, str] = {}
        self.pinned: set[str] = set()
        self.jobs: list[JobRequest] = []
        self.cancelled: list[str] = []
        self.error: Exception | None = None
        self.load_error: PipeserveError | None = None
        self.load_error_is_late = False
        self.holds = False
        self.completion: Completion | None = None
        self.transcription: Transcription | None = None
        self.deltas: list[Delta] = []
        self.stream_error: Exception | None = None
        self.calls: list[str] = []
        self.is_accepting = True
        self._released = asyncio.Event()
        self._num_running = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    async def start(self) -> None:
        self.calls.append("start")

    async def submit(self, request: JobRequest) -> JobResult:
        self.jobs.append(request)
        if not self.is_accepting:
            raise Draining("The server is shutting down.")
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        if not request.wait_for_load and self.states[request.model_id] != "ready":
            raise ModelLoading(f'"{request.model_id}" is loading.', retry_after_s=2.2)
        self._num_running += 1
        self._is_idle.clear()
        try:
            if self.holds:
                await self._released.wait()
        except asyncio.CancelledError:
            self.cancelled.append(request.request_id)
            raise
        finally:
            self._num_running -= 1
            if not self._num_running:
                self._is_idle.set()
        fragment = _fragment(request)
        if request.task == "completion" and self.completion is not None:
            fragment = msgspec.json.encode(self.completion)
        if request.task == "transcription" and self.transcription is not None:
            fragment = msgspec.json.encode(self.transcription)
        return JobResult(
            outputs=[fragment] * len(request.inputs),
            timings=TIMINGS,
            load_wait_s=0.0,
            total_s=0.01,
            batch_size=7,
            num_tokens=5,
        )

    async def stream(self, request: JobRequest) -> AsyncGenerator[Delta | JobResult, None]:
        result = await self.submit(request)
        for delta in self.deltas or _token_deltas(request):
            yield delta
        if self.stream_error is not None:
            raise self.stream_error
        yield result

    def release(self) -> None:
        self._released.set()

    def entries(self) -> Iterable[ModelSpec]:
        return self.specs.values()

    def changed_statuses(self) -> list[ModelStatus]:
        return self.statuses()

    def reload(self, catalog: Catalog) -> Reloaded:
        """As if nothing had begun."""
        before, self.specs = self.specs, {spec.id: spec for spec in catalog.models}
        self.states = {model_id: self.states.get(model_id, "unloaded") for model_id in self.specs}
        added = [model_id for model_id in self.specs if model_id not in before]
        removed = [model_id for model_id in before if model_id not in self.specs]
        return Reloaded(added=added, removed=removed, num_unchanged=len(before) - len(removed))

    def statuses(self, states: Collection[str] | None = None) -> list[ModelStatus]:
        return [self.status(model_id) for model_id in self.specs if states is None or self.states[model_id] in states]

    def device_uses(self) -> list[DeviceUse]:
        return [DeviceUse(device="cpu", budget_bytes=1000, used_bytes=10)]

    def get(self, name: str) -> ModelSpec:
        return self._spec(name)

    async def load_adapter(self, model: str, adapter: AdapterSpec, *, in_place: bool) -> None:
        if self.error is not None:
            raise self.error
        spec = self._spec(model)
        self.specs[spec.id] = msgspec.structs.replace(spec, adapters=(*spec.adapters, adapter))

    def unload_adapter(self, spec: ModelSpec) -> None:
        kept = tuple(one for one in self.specs[spec.id].adapters if one != spec.adapter)
        self.specs[spec.id] = msgspec.structs.replace(self.specs[spec.id], adapters=kept)

    def status(self, model_id: str) -> ModelStatus:
        spec = self._spec(model_id)
        return ModelStatus(
            spec=spec,
            state=self.states[spec.id],
            reason=self.reasons.get(spec.id),
            pinned=spec.id in self.pinned,
            in_flight=2,
            max_length=128,
        )

    def _spec(self, name: str) -> ModelSpec:
        return Directory(self.entries()).get(name)

    def find(self, task: str, model: str | None) -> ModelSpec:
        if model is not None:
            spec = self._spec(model)
            if task not in spec.all_tasks:
                raise NotServed(f'"{model}" does not serve {task}.', param="model")
            return spec
        for spec in self.specs.values():
            if task in spec.all_tasks:
                return spec
        raise NotServed(f"No model here serves {task}.", param="model")

    async def load(self, model_id: str) -> AsyncIterator[Progress | ModelStatus]:
        spec = self._spec(model_id)
        if self.load_error is not None and not self.load_error_is_late:
            raise self.load_error
        yield Progress(phase="download", done=1, total=2)
        yield Progress(phase="load")
        if self.load_error is not None:
            raise self.load_error
        self.states[spec.id] = "ready"
        if not spec.tasks:
            self.specs[spec.id] = msgspec.structs.replace(spec, tasks=("text-classification",))
        yield self.status(spec.id)

    async def unload(self, model_id: str) -> ModelStatus:
        self.states[self._spec(model_id).id] = "unloaded"
        return self.status(model_id)

    def pin(self, model_id: str) -> ModelStatus:
        self.pinned.add(self._spec(model_id).id)
        return self.status(model_id)

    def unpin(self, model_id: str) -> ModelStatus:
        self.pinned.discard(self._spec(model_id).id)
        return self.status(model_id)

    def fail(self, model_id: str, reason: str) -> None:
        self.states[model_id] = "failed"
        self.reasons[model_id] = reason
        self.error = ModelFailed(reason)

    async def drain(self, timeout_s: float) -> None:
        self.calls.append("drain")
        self.is_accepting = False
        await self._is_idle.wait()

    async def stop(self) -> None:
        self.calls.append("stop")
