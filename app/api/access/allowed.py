"""The fleet as the holder of a key sees it. All dialects submit their jobs through it, so that here, and nowhere else,
stands which models and tasks they may use, and what that took."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterable
from contextlib import aclosing, suppress
from itertools import islice

from app.access.clients import Client
from app.access.keys import INFER, Key
from app.access.usage import Used
from app.catalog import AdapterSpec, ModelSpec
from app.channel.messages import Progress
from app.errors import Forbidden, NotServed
from app.fleet.directory import Directory, first_for
from app.fleet.requests import JobRequest, JobResult, ModelsAPI, ModelStatus
from app.tasks.completion import Delta

_MAX_NAMED = 20
_MAX_SHOWN = 200  # characters of a name that nothing has


class AllowedFleet:
    """Implements `ModelsAPI`, whose methods also raise Forbidden. Owned by the event loop."""

    def __init__(self, fleet: ModelsAPI, client: Client) -> None:
        self._fleet = fleet
        self._client = client
        self._key: Key = client.key
        self._is_restricted = client.key.is_restricted
        self._may_use: dict[tuple[str, ...], bool] = {}  # by the names of entries

    # Jobs

    async def submit(self, request: JobRequest) -> JobResult:
        self._check(request)
        result = await self._fleet.submit(request)
        self._client.spend(request.model_id, used_by(request, result))
        return result

    async def stream(self, request: JobRequest) -> AsyncGenerator[Delta | JobResult, None]:
        """A stream that its reader leaves has cost what was written until then."""
        self._check(request)
        latest: dict[tuple[int, int], Delta] = {}
        used: Used | None = None
        try:
            async with aclosing(self._fleet.stream(request)) as parts:
                async for part in parts:
                    if isinstance(part, JobResult):
                        used = used_by(request, part)
                    else:
                        latest[part.prompt, part.choice] = part
                    yield part
        finally:
            if used is not None or latest:
                self._client.spend(request.model_id, used or _used_so_far(latest.values()))

    def _check(self, request: JobRequest) -> None:
        if INFER not in self._key.scopes:
            raise Forbidden(f'The key "{self._key.name}" lacks the scope infer for this.')
        if not self._is_restricted:
            return
        spec = self._fleet.get(request.model_id)
        self._check_model(spec)
        if not self._key.may_do(request.task, spec.all_tasks):
            raise Forbidden(
                f'The key "{self._key.name}" may not use "{spec.id}" for this; its tasks are'
                f" {', '.join(self._key.tasks)}."
            )

    # Models

    def entries(self) -> Iterable[ModelSpec]:
        specs = self._fleet.entries()
        return (one for one in specs if self._may_see(one)) if self._is_restricted else specs

    def statuses(self, states: Collection[str] | None = None) -> list[ModelStatus]:
        statuses = self._fleet.statuses(states)
        return [one for one in statuses if self._may_see(one.spec)] if self._is_restricted else statuses

    def status(self, model_id: str) -> ModelStatus:
        self.get(model_id)
        return self._fleet.status(model_id)

    def get(self, name: str) -> ModelSpec:
        try:
            spec = self._fleet.get(name)
        except NotServed:
            if not self._is_restricted:
                raise
            if ":" in name:  # it may be the adapter of a model that is the key's
                return Directory(self.entries()).get(name)
            text = f'There is no model "{name[:_MAX_SHOWN]}" here; there is {self._mine() or "nothing"}.'
            raise NotServed(text, param="model") from None
        self._check_model(spec)
        return spec

    def find(self, task: str, model: str | None) -> ModelSpec:
        """Where none is named, the first that the key may use."""
        if not self._is_restricted:
            return self._fleet.find(task, model)
        if not self._key.may_do(task, (task,)):
            mine = ", ".join(self._key.tasks)
            raise Forbidden(f'The key "{self._key.name}" may not use the task {task}; its tasks are {mine}.')
        with suppress(NotServed):  # whose sentence would name what the key may not use
            spec = self._fleet.find(task, model)
            if self._may_see(spec):
                return spec
        if model is not None:
            self.get(model)
        elif (first := first_for(task, self.entries())) is not None:
            return first
        return Directory(self.entries()).find(task, model)

    def _may_see(self, spec: ModelSpec) -> bool:
        names = (spec.id, *spec.aliases)
        may = self._may_use.get(names)
        if may is None:
            may = self._may_use[names] = self._key.may_use(names)
        return may and self._key.may_see(spec.all_tasks)

    def _check_model(self, spec: ModelSpec) -> None:
        if not self._is_restricted or self._may_see(spec):
            return
        mine = self._mine() or "none that is here"
        text = f'The key "{self._key.name}" may not use the model "{spec.name}"; it may use {mine}.'
        raise Forbidden(text, param="model")

    def _mine(self) -> str:
        """The models that the key may use, for people."""
        ids = [one.id for one in islice(self.entries(), _MAX_NAMED + 1)]
        return ", ".join(ids[:_MAX_NAMED]) + (", ..." if len(ids) > _MAX_NAMED else "")

    def load(self, model_id: str) -> AsyncIterator[Progress | ModelStatus]:
        return self._fleet.load(self.get(model_id).name)

    async def unload(self, model_id: str) -> ModelStatus:
        return await self._fleet.unload(self.get(model_id).name)

    def pin(self, model_id: str) -> ModelStatus:
        return self._fleet.pin(self.get(model_id).name)

    def unpin(self, model_id: str) -> ModelStatus:
        return self._fleet.unpin(self.get(model_id).name)

    async def load_adapter(self, model: str, adapter: AdapterSpec, *, in_place: bool) -> None:
        await self._fleet.load_adapter(self.get(model).id, adapter, in_place=in_place)

    def unload_adapter(self, spec: ModelSpec) -> None:
        self._check_model(spec)
        self._fleet.unload_adapter(spec)

    @property
    def is_accepting(self) -> bool:
        return self._fleet.is_accepting


def used_by(request: JobRequest, result: JobResult) -> Used:
    """A kept answer was not computed again."""
    timings, share = result.timings, 1.0
    if result.batch_size > request.num_items:
        share = request.num_items / result.batch_size
    return Used(
        jobs=1,
        input_tokens=result.num_tokens,
        output_tokens=result.num_generated,
        seconds=timings.prepare_s + timings.forward_s * share + timings.finish_s,
    )


def _used_so_far(latest: Iterable[Delta]) -> Used:
    """latest: of each choice."""
    prompts = {delta.prompt: delta.num_prompt_tokens for delta in latest}
    return Used(
        jobs=1,
        input_tokens=sum(prompts.values()),
        output_tokens=sum(delta.num_tokens for delta in latest),
    )
