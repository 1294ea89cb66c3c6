"""What is stored of files and batches. Times are unix times in whole seconds, as OpenAI's API has them."""

from __future__ import annotations

from typing import Literal

import msgspec

Status = Literal["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]
UNFINISHED: frozenset[Status] = frozenset({"validating", "in_progress", "finalizing", "cancelling"})
BATCH_PURPOSE, OUTPUT_PURPOSE = "batch", "batch_output"


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """owner: the name of the key that it was made with; "" on a server without keys."""

    id: str
    owner: str
    filename: str
    purpose: str
    num_bytes: int
    created_at: int
    expires_at: int | None = None


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """line: of the input file, from 1."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """num_completed: requests that were answered with a status below 400; num_failed: with another one. output_ttl_s:
    how long the files of its answers are kept."""

    id: str
    owner: str
    endpoint: str
    input_file_id: str
    completion_window: str
    created_at: int
    expires_at: int
    output_ttl_s: int
    metadata: dict[str, str] | None = None
    status: Status = "validating"
    problems: tuple[Problem, ...] = ()
    output_file_id: str | None = None
    error_file_id: str | None = None
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    num_total: int = 0
    num_completed: int = 0
    num_failed: int = 0


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Of one request. line: of the input file, from 1. text: the line of an output or error file, without its end."""

    line: int
    has_failed: bool
    text: bytes
