"""The JSON of the routes around the tasks, as `/docs` shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec
from pydantic import BaseModel, Field

from app.activity import STEP_S, WINDOW_S, Activity
from app.catalog import ModelSpec
from app.fleet.requests import ModelStatus, Reloaded
from app.tuning.choices import Choice


class Error(BaseModel):
    """Every error of a task or server route."""

    error: str = Field(description="A sentence for people.")
    error_type: str = Field(description="A code for programs, such as `validation` or `overloaded`.")


class OpenAIErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(BaseModel):
    """Every error of a route that OpenAI's clients speak."""

    error: OpenAIErrorDetail


class AnthropicErrorDetail(BaseModel):
    type: str
    message: str


class AnthropicError(BaseModel):
    """Every error of Anthropic's routes."""

    type: Literal["error"]
    error: AnthropicErrorDetail
    request_id: str


class PlainError(BaseModel):
    """Every error of Ollama's routes and of the Open Inference Protocol's."""

    error: str = Field(description="A sentence for people.")


class Tuned(BaseModel):
    """What `pipeserve tune` chose for an entry that says `backend: auto`."""

    keys: dict[str, Any] = Field(description="As an entry would say it: `backend` and what goes with it.")
    at: str = Field(description="When it was measured (ISO 8601).")


class ModelCard(BaseModel):
    """A declared model, whether loaded or not."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="Unix time at which this server began to serve it.")
    owned_by: str
    aliases: list[str]
    model: str = Field(description="The Hub id, or the name of a local folder.")
    root: str = Field(description="The same; of an adapter, its own.")
    parent: str | None = Field(description="Of an adapter: the model that it is on.")
    revision: str | None
    tasks: list[str] = Field(description="Declared tasks, the entry's own first.")
    implied_tasks: list[str] = Field(description="Tasks that the same weights answer as well.")
    state: str = Field(description="unresolved, unloaded, loading, ready, unloading or failed.")
    reason: str | None = Field(description="Why it failed.")
    device: str | None
    dtype: str | None
    backend: str = Field(description="What computes it.")
    quantization: str | None = Field(default=None, description="What the entry asks for.")
    tuned: Tuned | None = Field(description="Who chose that, where `pipeserve tune` did.")
    memory_bytes: int | None
    num_parameters: int | None
    max_length: int | None = Field(description="Tokens.")
    embedding_size: int | None
    largest_difference: float | None = Field(
        description="Of an export that was made here: from transformers' output, as a share of the largest in it."
    )
    loaded_at: float | None = Field(description="Unix time.")
    last_used_at: float | None = Field(description="Unix time.")
    recent_requests: int = Field(description="In the last six hours, of the model and its adapters.")
    unloads_at: float | None = Field(
        description="Unix time, unless it is used before. null: not loaded, in use, or never."
    )
    in_flight: int = Field(description="Items admitted and not yet answered.")
    queued: int = Field(description="Of these, items that wait.")
    replicas: int
    pinned: bool = Field(description="Neither evicted for others nor unloaded for idleness: by its entry, or by hand.")
    keep_alive_s: float = Field(description="Seconds from the last use to unloading; -1: never.")
    parameters: dict[str, Any] = Field(description="Defaults of this model's requests.")


class ModelFile(BaseModel):
    path: str = Field(description="Within the model's folder.")
    size: int = Field(description="Bytes.")


class TunedCandidate(BaseModel):
    """One of the ways to compute a model that `pipeserve tune` tried."""

    name: str
    keys: dict[str, Any] = Field(description="As an entry would say it.")
    dtype: str | None
    latency_s: dict[str, float] = Field(description="Of a request, by its shape, such as `8 × long`.")
    inputs_per_s: dict[str, float] = Field(description="By the same shapes.")
    speedup: float | None = Field(description="Over plain torch, over the shapes that count.")
    memory_bytes: int | None
    load_s: list[float] = Field(description="Of each load; the first makes what the others find.")
    difference: float | None = Field(description="The largest of any two numbers, from torch in float32.")
    cosine_distance: float | None = Field(description="The same of vectors: 1 - cosine.")
    is_allowed: bool = Field(description="Whether it was exact enough to be chosen.")
    problem: str | None = Field(description="Why it could not be measured, or was given up.")


class Tuning(BaseModel):
    """What `pipeserve tune` measured for the model, for one kind of device."""

    device: str
    at: str = Field(description="When (ISO 8601).")
    aim: str = Field(description="both, latency or throughput.")
    bound: float | None = Field(description="The difference that was allowed.")
    chosen: str = Field(description="A name below.")
    is_used: bool = Field(description="Whether the model is computed by this choice.")
    candidates: list[TunedCandidate]


class ModelDetails(BaseModel):
    """A model, and what its files on this disk say of it; empty before they are there."""

    model: ModelCard
    adapters: list[ModelCard]
    variants: list[ModelCard] = Field(description="Other entries of the same model: computed otherwise, say.")
    commit: str | None = Field(description="Of the Hub's repository.")
    card: str | None = Field(description="Its README in Markdown, without the front matter.")
    card_data: dict[str, Any] = Field(description="The front matter: license, language, base_model, ...")
    files: list[ModelFile]
    config: dict[str, Any] = Field(description="Figures of its config.json under one name each: layers, context, ...")
    labels: list[str] = Field(description="What a classifier tells apart.")
    tuning: list[Tuning]
    problems: list[str] = Field(description="Sentences about files that are broken.")


class ActivityPoint(BaseModel):
    """One step of time that is over."""

    age_s: float = Field(description="Seconds since its end.")
    requests: int = Field(description="That ended in it, however.")
    failed: int = Field(description="Of these, those that ended in an error.")
    p50_s: float | None = Field(description="Half of the answers took no longer; to 4.5 %.")
    p99_s: float | None
    waiting: float = Field(
        description="Requests that waited, on average: what those that ended in the step had waited, over its length."
    )
    generated_tokens: int


class ModelActivity(BaseModel):
    """What a model, with its adapters, did in the last minutes. Of this server since its start; on Ray, of this
    ingress, which knows no waiting and no tokens."""

    id: str
    state: str
    in_flight: int = Field(description="Items admitted and not yet answered, now.")
    queued: int = Field(description="Of these, items that wait.")
    window_s: float
    step_s: float
    points: list[ActivityPoint] = Field(description="The oldest first; steps in which nothing ended are left out.")


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelCard]
    has_more: bool = Field(description="Whether `limit` cut it.")


class ReloadAnswer(BaseModel):
    """What became of the entries of models.yaml."""

    added: list[str] = Field(description="Ids of entries that were not there.")
    changed: list[str] = Field(description="Those that are others now; loaded ones are loaded again where they must.")
    removed: list[str] = Field(description="Those that are gone once what they had begun is answered.")
    unchanged: int = Field(description="How many are as they were.")
    problems: dict[str, str] = Field(description="Of the first two, those that cannot be served, and why.")
    restart_needed: list[str] = Field(description="A sentence for each key that counts from the next start on.")


class LoadProgress(BaseModel):
    """The data of a `progress` event."""

    phase: str = Field(description="download (bytes), load, export (once, for a backend), compile or warmup.")
    done: int
    total: int = Field(description="0 when it cannot be counted.")


class Health(BaseModel):
    status: str


class ModelInfo(BaseModel):
    """What `InferenceClient.get_endpoint_info` reads, in the words of Hugging Face's own servers."""

    model_id: str
    model_sha: str | None
    model_dtype: str | None
    model_device_type: str | None
    model_pipeline_tag: str | None
    max_input_length: int | None
    state: str
    version: str


class ServerInfo(BaseModel):
    name: str
    version: str
    tasks: dict[str, list[str]] = Field(description="Every task, with the models that answer it.")
    links: dict[str, str]


def model_card(status: ModelStatus, *, created: int, recent: Callable[[str], int]) -> ModelCard:
    """Of an adapter, where the spec has one. recent: requests of the last hours, by id."""
    spec, adapter = status.spec, status.spec.adapter
    problem = None if adapter is None else adapter.problem or status.adapter_problems.get(adapter.id)
    return ModelCard(
        id=spec.id if adapter is None else adapter.id,
        created=created,
        owned_by=_owner(spec.model),
        aliases=list(spec.aliases) if adapter is None else [spec.name],
        model=_source(spec.model),
        root=_source(spec.model if adapter is None else adapter.path),
        parent=None if adapter is None else spec.id,
        revision=spec.revision if adapter is None else adapter.revision,
        tasks=list(spec.tasks),
        implied_tasks=list(spec.implied_tasks),
        state=status.state if problem is None else "failed",
        reason=status.reason if problem is None else problem,
        device=status.device,
        dtype=status.dtype,
        backend=spec.backend,
        quantization=spec.quantization,
        tuned=None if spec.tuned is None else Tuned(keys=spec.tuned.keys, at=spec.tuned.at),
        memory_bytes=status.memory_bytes,
        num_parameters=status.num_parameters,
        max_length=status.max_length,
        embedding_size=status.embedding_size,
        largest_difference=status.largest_difference,
        loaded_at=status.loaded_at,
        last_used_at=status.last_used_at,
        recent_requests=recent(spec.id),
        unloads_at=status.unloads_at,
        in_flight=status.in_flight,
        queued=status.queued,
        replicas=status.replicas,
        pinned=status.pinned,
        keep_alive_s=spec.keep_alive_s,
        parameters=spec.parameters,
    )


def tuning_of(choice: Choice, spec: ModelSpec) -> Tuning:
    return Tuning(
        device=choice.device,
        at=choice.at,
        aim=choice.aim,
        bound=choice.bound,
        chosen=choice.name,
        is_used=spec.tuned is not None and (spec.tuned.keys, spec.tuned.at) == (choice.keys, choice.at),
        candidates=[TunedCandidate(**msgspec.structs.asdict(row)) for row in choice.rows],
    )


def activity_answer(status: ModelStatus, activity: Activity) -> ModelActivity:
    return ModelActivity(
        id=status.spec.id,
        state=status.state,
        in_flight=status.in_flight,
        queued=status.queued,
        window_s=WINDOW_S,
        step_s=STEP_S,
        points=[
            ActivityPoint(
                age_s=round(point.age_s, 2),
                requests=point.num_requests,
                failed=point.num_failed,
                p50_s=point.p50_s,
                p99_s=point.p99_s,
                waiting=point.num_waiting,
                generated_tokens=point.num_tokens,
            )
            for point in activity.of(status.spec.id)
        ],
    )


def reload_answer(reloaded: Reloaded) -> ReloadAnswer:
    return ReloadAnswer(
        added=reloaded.added,
        changed=reloaded.changed,
        removed=reloaded.removed,
        unchanged=reloaded.num_unchanged,
        problems=reloaded.problems,
        restart_needed=reloaded.restart_needed,
    )


def _source(model: str) -> str:
    """Where a folder lies on this machine is nobody's business."""
    return model.rstrip("/").rpartition("/")[2] if model.startswith("/") else model


def _owner(model: str) -> str:
    owner, slash, _ = model.partition("/")
    return owner if slash and owner else "local"
