"""What the API process and a worker say to each other: tagged msgspec structs, msgpack on the wire.

Every job that the API process submits is answered exactly once, by a `JobDone` or a `JobFailed`, or by the end of
the connection. Times are seconds; memory is bytes; job ids are unique within one worker connection.
"""

from __future__ import annotations

from typing import Any

import msgspec

from app.catalog import AdapterSpec
from app.errors import BackendFailed, PipeserveError, error_classes
from app.fairness import NOBODY, Flow
from app.tasks.completion import Delta


class ErrorInfo(msgspec.Struct, frozen=True, kw_only=True):
    """An error as data: the code names its class in `app/errors.py`."""

    code: str
    message: str
    param: str | None = None
    retry_after_s: float | None = None

    @classmethod
    def of(cls, error: PipeserveError) -> ErrorInfo:
        return cls(code=error.code, message=error.message, param=error.param, retry_after_s=error.retry_after_s)

    def to_error(self) -> PipeserveError:
        kind = error_classes().get(self.code, BackendFailed)
        return kind(self.message, param=self.param, retry_after_s=self.retry_after_s)


class Timings(msgspec.Struct, frozen=True, kw_only=True):
    """Where a job's time in the worker went. queue_s: waiting between stages; the rest: computing."""

    queue_s: float
    prepare_s: float
    forward_s: float
    finish_s: float


class StageTime(msgspec.Struct, frozen=True, array_like=True):
    """When a job was in a stage: "prepare", "finish"; "prefill" (until a text's first token) or "decode" (until its
    last). Seconds of the clock that all processes of a machine share: `time.perf_counter`."""

    stage: str
    began_at: float
    ended_at: float


# API process -> worker


class Load(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """The first message: what this worker is to become. `spec` is `ModelSpec` as msgpack-ready builtins."""

    spec: dict[str, Any]
    num_threads: int


class Submit(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """One job: a validated request of one or more inputs for one task. media_type: of each input's answer. adapter: of
    the model, to be loaded if it is not there. has_begun: the worker has nothing else, so the job counts as announced
    for the stage `ARRIVAL` from when this is sent. flow, weight: whose it is among others that wait
    (`app/fairness.py`). time_left_s: until nobody waits for its answer; None: no limit. request_id: for the log.
    is_traced: when it was in which stage is wanted."""

    job_id: int
    task: str
    inputs: list[Any]
    parameters: dict[str, Any]
    media_type: str = "application/json"
    is_stream: bool = False  # its parts are wanted as they are made, `FIRST_CREDIT` of them before any `Credit`
    alone: bool = False  # a suspect: share no batch with other jobs
    has_begun: bool = False
    adapter: AdapterSpec | None = None
    flow: Flow = NOBODY
    weight: float = 1.0
    time_left_s: float | None = None
    request_id: str = ""
    is_traced: bool = False


class Cancel(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Nobody waits for this job any more: drop what has not begun, answer nothing."""

    job_id: int


class Credit(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Whoever reads this job's stream has taken so many parts of it: so many more may come."""

    job_id: int
    num_parts: int


class SetThreads(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """The compute threads granted from the next forward on."""

    num_threads: int


class DropAdapter(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Nothing begins with this adapter any more; what has begun goes on."""

    adapter: AdapterSpec


class Measure(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Compute these requests one after the other, each a list of inputs, and say how long each took: `pipeserve tune`.

    The first warms up and is not timed. limit_s: no further one is begun after so long. keeps_outputs: what the network
    gave for each item is wanted.
    """

    task: str
    requests: list[list[Any]]
    parameters: dict[str, Any]
    limit_s: float
    keeps_outputs: bool = False


class Stop(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Finish what is running, answer it, and end."""


# worker -> API process


class Progress(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """How far a load is. phase: "download" (bytes), "load", "export" (for a backend, once), "compile" or "warmup"; but
    for the first not countable: 0 of 0."""

    phase: str
    done: int = 0
    total: int = 0


class Ready(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """The model answers from now on. memory: bytes by device, in the order in which it is spread over them."""

    memory: dict[str, int]
    dtype: str
    num_parameters: int
    load_s: float
    tasks: list[str]
    max_length: int | None = None
    embedding_size: int | None = None
    largest_difference: float | None = None  # of an export from torch, as a share of the largest output
    adapter_problems: dict[str, str] = {}  # why adapters of the spec cannot be used, by id


class LoadFailed(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """The model cannot start: code `out_of_memory`, `not_available`, `model_failed`, ..."""

    error: ErrorInfo


class Heartbeat(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Once a second, from a thread of its own. rss_bytes: resident memory of the worker process."""

    rss_bytes: int


class StageBegan(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """If the worker dies now, these jobs are the suspects. Sent before a stage touches jobs that no stage had, and as
    soon as none has them any more; that jobs moved from one stage to another is told a moment later.

    stage: "prepare", "forward", "finish", "adapter" or `ARRIVAL`. A later message for the same stage replaces the
    earlier; no jobs: idle.
    """

    stage: str
    job_ids: list[int]


class BatchDone(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """One forward, for the metrics. tokens: real ones; padded_tokens: what was computed, padding included. num_misfits:
    calls of the model that its compiled code did not fit. began_at: as in `StageTime`. traced: the jobs of these that
    it had items of."""

    task: str
    num_items: int
    tokens: int
    padded_tokens: int
    forward_s: float
    reason: str = "ok"  # ok, error, out_of_memory (a bisected batch reports each forward)
    num_misfits: int = 0
    began_at: float = 0.0
    traced: list[int] = []


class InputsDone(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """So many more inputs of these jobs, by id, have their answers, and others have not: their permits are free."""

    num_inputs: dict[int, int]


class JobDelta(msgspec.Struct, frozen=True, kw_only=True):
    """A part of one job's stream."""

    job_id: int
    delta: Delta


class Deltas(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """What one step added to all streams that it added something to. A job's parts come before its `JobDone`."""

    parts: list[JobDelta]


class EngineReport(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """How text generation goes, for the metrics; sent a few times a second while it goes. Sequences and tokens of keys
    and values as they are now, counts since the last report. first_token_s, inter_token_s: waits that ended since then,
    of all sequences: from a job's arrival in the worker to a sequence's first token, and between its tokens."""

    num_running: int
    num_waiting: int
    num_used_tokens: int
    limit_tokens: int
    num_steps: int
    num_preemptions: int
    num_prompt_tokens: int
    num_cached_tokens: int
    num_generated_tokens: int
    first_token_s: list[float] = []
    inter_token_s: list[float] = []


class JobDone(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """The answer of a job: one fragment per input, of the media type asked for, encoded where it was made. stages: of a
    traced job, but for its forwards, which are each a `BatchDone` before this."""

    job_id: int
    outputs: list[bytes]
    timings: Timings
    batch_size: int  # the largest batch that one of its items was computed in
    num_tokens: int  # that were read
    num_generated: int = 0  # that were written, of texts
    wait_s: float = 0.0  # from its arrival until its last item was begun; of a text, until its first token
    stages: list[StageTime] = []


class JobFailed(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """stages: as in `JobDone`, until then."""

    job_id: int
    error: ErrorInfo
    stages: list[StageTime] = []


class Measured(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """The answer to `Measure`. seconds: of each timed request, prepare to finish. outputs: each item's numbers in
    float32, of all requests in order. error: why there is nothing of this."""

    seconds: list[float] = []
    outputs: list[bytes] = []
    error: ErrorInfo | None = None


ARRIVAL = "arrival"
"""The stage that a job begins with whose `Submit` says so."""

FIRST_CREDIT = 64
"""Parts of a stream that may be on their way to a reader before it has taken any."""

ToWorker = Load | Submit | Cancel | Credit | SetThreads | DropAdapter | Measure | Stop
FromWorker = (
    Progress
    | Ready
    | LoadFailed
    | Heartbeat
    | StageBegan
    | BatchDone
    | InputsDone
    | Deltas
    | EngineReport
    | JobDone
    | JobFailed
    | Measured
)
