"""What the API process and the forkserver say to each other.

The forkserver sends a reply of 0 when it is ready. For each request, variables of the environment for that worker alone
with a socket attached, it replies with the pid of the worker that it forked, or with minus the errno that prevented it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

import msgspec

MAX_REQUEST_BYTES = 2**14
REPLY = struct.Struct("<q")


def write_request(variables: Mapping[str, str]) -> bytes:
    return msgspec.msgpack.encode(dict(variables))


def read_request(data: bytes) -> dict[str, str]:
    return msgspec.msgpack.decode(data, type=dict[str, str])
