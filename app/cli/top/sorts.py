"""What `pipeserve top` orders models by."""

from __future__ import annotations

from enum import StrEnum


class Sort(StrEnum):
    REQUESTS = "requests"
    QUEUED = "queued"
    TOKENS = "tokens"
    P99 = "p99"
    ERRORS = "errors"
    MEMORY = "memory"
    IDLE = "idle"
    NAME = "name"
