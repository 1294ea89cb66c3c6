"""What an ingress and a model's replica say to each other, as bytes: msgpack, as on the channel to a worker."""

from __future__ import annotations

from typing import Any

import msgspec

from app.channel.messages import ErrorInfo
from app.errors import PipeserveError
from app.fleet.journal import NOBODYS, Journal
from app.fleet.requests import JobRequest, JobResult, ModelStatus
from app.tasks.completion import Delta


class Answered(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    result: JobResult


class Parts(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Of a stream: what was made since the last ones were sent."""

    deltas: list[Delta]


class Refused(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """An error of `app/errors.py`, as data: it reaches whoever shapes it for the client as what it was."""

    error: ErrorInfo

    @classmethod
    def by(cls, error: PipeserveError) -> Refused:
        return cls(error=ErrorInfo.of(error))


class Standing(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """How a replica is, that was asked for by loading the model."""

    status: ModelStatus


Reply = Answered | Parts | Refused | Standing


def _left_out(value: Any) -> None:
    """Whoever follows a job does so where it began: a journal is not sent, and nobody's stands for it."""
    if not isinstance(value, Journal):
        raise TypeError(f"A {type(value).__name__} was to cross a handle. This is a bug.")


def _put_back(kind: type, value: Any) -> Journal:
    return NOBODYS


_encoder = msgspec.msgpack.Encoder(enc_hook=_left_out)
_requests = msgspec.msgpack.Decoder(JobRequest, dec_hook=_put_back)
_replies = msgspec.msgpack.Decoder(Reply)


def encode(message: JobRequest | Reply) -> bytes:
    return _encoder.encode(message)


def decode_request(message: bytes) -> JobRequest:
    return _requests.decode(message)


def decode_reply(message: bytes) -> Reply:
    reply: Reply = _replies.decode(message)
    return reply
