"""What is fuzzed: each target takes bytes as they may come from outside, and says how they were answered.

An answer is an outcome: that they were read, or the code of an error of `app/errors.py`. Everything else that is raised
is a finding, as are a process that ends, one that takes more memory than it may, and one that takes too long.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

import msgspec
import orjson
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from app.api.accept import preferred
from app.api.body import parse_body
from app.api.call import read_call
from app.api.connection import Connection
from app.api.form import read_form
from app.api.json_text import line_of
from app.api.open_inference.mapping import TaskTensors
from app.api.open_inference.messages import HEADER_LENGTH, read_request
from app.api.sse import event
from app.channel.frames import ChannelError, Inbox, Outbox
from app.channel.messages import Cancel, Deltas, FromWorker, Heartbeat, JobDelta, JobDone, Submit, Timings, ToWorker
from app.errors import PipeserveError
from app.media.audio import decode_audio
from app.media.images import decode_image
from app.media.limits import MediaLimits
from app.media.sniff import sniff
from app.media.video import decode_video
from app.settings import Settings
from app.tasks.completion import Delta
from app.tasks.registry import TASKS
from app.tasks.requests import RequestParser
from app.tasks.samples import PNG, WAV
from tests.hostile.every import MODEL, every_app

READ = "read"
LIMITS = MediaLimits(max_bytes=2**20, max_pixels=2**20, max_seconds=20.0, max_frames=32)

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Target:
    """seeds: sound inputs. run: returns the outcome, raises what is a finding. tokens: see `edited`."""

    name: str
    seeds: Callable[[], Sequence[bytes]]
    run: Callable[[bytes], str]
    tokens: tuple[bytes, ...] = ()


def _outcome(work: Callable[[], object]) -> str:
    try:
        work()
    except PipeserveError as error:
        str(error).encode()  # a sentence that can be told
        return error.code
    return READ


def _at_once(work: Coroutine[Any, Any, T]) -> T:
    """Of a coroutine that waits for nothing, as readers of small bodies do."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("it waited for something")


# Bodies. The first line is the Content-Type.

_JSON_TOKENS = (
    *(b"{", b"}", b"[", b"]", b'"', b":", b",", b"\\", b"null", b"true", b"-0", b"1e999", b"1e-999", b"0.1", b"NaN"),
    *(b"\\ud800", b"\\u0000", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"[" * 200, b'{"a":' * 200, b"9" * 400),
    *(b"18446744073709551616", b'"inputs":', b'"parameters":', b"data:;base64,", b"http://127.0.0.1/", b"\\u2028"),
)
_FORM_TOKENS = (
    *(b"\r\n", b"--b", b"--b--", b"\r\n--b\r\n", b"--", b"name=", b'filename="f"', b"filename*=utf-8''%ff", b";", b'"'),
    *(b"charset=undefined", b"charset=idna", b"charset=unicode_escape", b"\\", b"\xff\xfe", b":", b"\0", b"boundary="),
)


def _run_body(data: bytes) -> str:
    content_type, _, raw = data.partition(b"\n")
    headers = {b"content-type": content_type}
    return _outcome(lambda: [_at_once(parse_body(raw, headers, TASKS[name])) for name in _BODY_TASKS])


_BODY_TASKS = ("text-classification", "image-classification", "document-question-answering")


def _body_seeds() -> list[bytes]:
    bodies = [orjson.dumps(TASKS[name].example.body) for name in _BODY_TASKS]
    files = [PNG, WAV, b"GIF89a", b"%PDF-1.4"]
    return [b"application/json\n" + body for body in bodies] + [b"image/png\n" + one for one in files] + _form_seeds()


def _form_seeds() -> list[bytes]:
    parts = b"".join(
        b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n' % (name, more, value)
        for name, more, value in (
            (b"file", b'; filename="x.png"\r\nContent-Type: image/png', PNG),
            (b"top_k", b"", b"3"),
            (b"parameters", b"", b'{"top_k": 2}'),
            (b"question", b"", "Wie heißt das?".encode()),
        )
    )
    return [b"multipart/form-data; boundary=b\n" + parts + b"--b--\r\n"]


def _run_form(data: bytes) -> str:
    content_type, _, raw = data.partition(b"\n")
    form: list[Any] = []
    outcome = _outcome(lambda: form.append(read_form(raw, content_type.decode("latin-1"))))
    for read in form:
        orjson.dumps(read.texts)  # whatever they say, an error can repeat it
    return outcome


# Requests of every task. The first byte chooses the task.


@cache
def _parsers() -> list[RequestParser]:
    return [RequestParser(task, max_inputs=1000) for task in TASKS.values()]


def _request_seeds() -> list[bytes]:
    return [bytes([index]) + orjson.dumps(task.example.body) for index, task in enumerate(TASKS.values())]


def _run_request(data: bytes) -> str:
    """Parsed, and on its way to a worker."""
    parser = _parsers()[data[0] % len(_parsers())] if data else _parsers()[0]

    def work() -> None:
        body = _at_once(parse_body(data[1:], {}, TASKS["text-classification"]))
        parsed = parser.parse(body)
        Outbox().push(Submit(job_id=1, task="", inputs=parsed.inputs, parameters=parsed.parameters))

    return _outcome(work)


# Files


@cache
def _image_seeds() -> list[bytes]:
    from tests.media import files

    image = files.picture()
    names = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
    more = [files.saved(image.convert("P"), "PNG"), files.saved(image, "JPEG", progressive=True)]
    packed = [files.saved(image, "TIFF", compression=kind) for kind in ("tiff_deflate", "tiff_lzw", "jpeg")]
    return [files.saved(image, name) for name in names] + more + packed + [files.gif_file(3)]


@cache
def _sound_seeds() -> list[bytes]:
    from tests.media import files

    tone = files.tone(0.1)
    kinds = (("WAV", None), ("WAV", "FLOAT"), ("FLAC", None), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None))
    by_av = [files.av_sound("mp4", "aac", tone, 16_000), files.av_sound("adts", "aac", tone, 16_000)]
    return [files.sound_file(tone, 16_000, container, subtype) for container, subtype in kinds] + by_av


@cache
def _video_seeds() -> list[bytes]:
    from tests.media import files

    return [
        files.video_file("mp4", num_frames=3),
        files.video_file("mp4", num_frames=3, movflags="frag_keyframe+empty_moov"),
        files.video_file("matroska", num_frames=3),
        files.gif_file(3),
    ]


_MEDIA_TOKENS = (
    *(
        b"\x89PNG\r\n\x1a\n",
        b"IHDR",
        b"IDAT",
        b"IEND",
        b"zTXt",
        b"iCCP",
        b"acTL",
        b"fcTL",
        b"\xff\xd8\xff",
        b"\xff\xda",
    ),
    *(b"GIF89a", b"\x21\xf9\x04", b"\x2c", b"RIFF", b"WEBP", b"VP8X", b"VP8L", b"ANIM", b"BM", b"II*\0", b"MM\0*"),
    *(b"WAVE", b"fmt ", b"data", b"fLaC", b"OggS", b"ID3", b"\xff\xfb", b"ftyp", b"moov", b"trak", b"mdat", b"stsz"),
    *(b"stts", b"trun", b"moof", b"cmov", b"\x1aE\xdf\xa3", b"\x00" * 16, b"\xff" * 16),
)


def _run_image(data: bytes) -> str:
    sniff(data)
    return _outcome(lambda: decode_image(data, LIMITS, param="inputs"))


def _run_sound(data: bytes) -> str:
    return _outcome(lambda: decode_audio(data, 16_000, LIMITS, param="inputs"))


def _run_video(data: bytes) -> str:
    return _outcome(lambda: decode_video(data, LIMITS, param="inputs"))


# The channel between the processes. The first byte says how the rest is cut, the second whose end reads it.

_FROM_WORKER: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)
_TO_WORKER: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)


def _frame_seeds() -> list[bytes]:
    outbox = Outbox()
    times = Timings(queue_s=0.1, prepare_s=0.1, forward_s=0.1, finish_s=0.1)
    outbox.push(Submit(job_id=1, task="fill-mask", inputs=["a [MASK]", b"\xff"], parameters={"top_k": 3}))
    outbox.push(Cancel(job_id=1), control=True)
    to_worker = b"".join(outbox.take())
    outbox.push(Heartbeat(rss_bytes=2**40), control=True)
    outbox.push(JobDone(job_id=1, outputs=[b"[]"], timings=times, batch_size=1, num_tokens=3))
    outbox.push(Deltas(parts=[JobDelta(job_id=1, delta=Delta(text="a"))]))
    from_worker = b"".join(outbox.take())
    parted = struct.pack("<IIB", 3, 7, 0) + from_worker[9:12] + struct.pack("<IIB", 1, 7, 1) + b"\xc0"
    return [b"\x05\x00" + to_worker, b"\x40\x01" + from_worker, b"\x01\x01" + parted]


def _run_frames(data: bytes) -> str:
    step = 1 + data[0] if data else 1
    decoder: msgspec.msgpack.Decoder[Any] = _FROM_WORKER if data[1:2] > b"\0" else _TO_WORKER
    inbox: Inbox[Any] = Inbox(decoder)
    try:
        for start in range(2, len(data), step):
            inbox.feed(data[start : start + step])
    except ChannelError:
        return "channel_error"
    return READ


# Events: what stands in a stream is one event, for every way of reading lines


def _run_events(data: bytes) -> str:
    text = data.decode("utf-8", "replace")
    for value in (text, {"text": text, text: [text]}):
        line = line_of(value).decode()
        assert line.splitlines() == [line], "a line of a stream is several"
        assert orjson.loads(line) == value
        name, told = event("token", value).decode().removesuffix("\n\n").splitlines()
        assert (name, orjson.loads(told.removeprefix("data: "))) == ("event: token", value)
    return READ


# The Open Inference Protocol. The first line is the length of the JSON, the second a task.


def _tensor_seeds() -> list[bytes]:
    texts = {"inputs": [{"name": "inputs", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]}]}
    pixels = {
        "inputs": [{"name": "inputs", "datatype": "UINT8", "shape": [2, 2, 3], "parameters": {"binary_data_size": 12}}]
    }
    numbers = {
        "id": "7",
        "parameters": {"function_to_apply": "sigmoid", "binary_data_output": True},
        "inputs": [
            {"name": "inputs", "datatype": "BYTES", "shape": [1], "data": ["a"]},
            {"name": "top_k", "datatype": "INT32", "shape": [1], "parameters": {"binary_data_size": 4}},
        ],
        "outputs": [{"name": "label", "parameters": {"binary_data": True}}],
    }
    files = {"inputs": [{"name": "inputs", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 8}}]}
    bodies = [
        (texts, b"", b"text-classification"),
        (pixels, bytes(12), b"image-classification"),
        (numbers, struct.pack("<i", 3), b"text-classification"),
        (files, struct.pack("<I", 4) + b"abcd", b"image-classification"),
    ]
    seeds = []
    for body, binary, task in bodies:
        raw = orjson.dumps(body)
        seeds.append(b"%d\n%s\n%s%s" % (len(raw), task, raw, binary))
    return seeds


@cache
def _tensors(task: str) -> TaskTensors:
    return TaskTensors(TASKS[task])


def _run_tensors(data: bytes) -> str:
    length, _, rest = data.partition(b"\n")
    name, _, raw = rest.partition(b"\n")
    task = name.decode("latin-1")
    tensors = _tensors(task if task in TASKS else "text-classification")

    def work() -> None:
        request = read_request(raw, {HEADER_LENGTH: length} if length else {})
        tensors.check_outputs(request.outputs)
        tensors.body(request.inputs, request.parameters)

    return _outcome(work)


# What stands beside a body. Lines: the query, X-Request-Timeout, Prefer, Accept.


def _run_call(data: bytes) -> str:
    query, timeout, prefer, accept = (data.split(b"\n") + [b""] * 4)[:4]
    preferred(accept.decode("latin-1"), ("application/json", "audio/wav"))
    return _outcome(lambda: read_call(query, {b"x-request-timeout": timeout or b"1", b"prefer": prefer}))


# A connection. The first byte says how the rest is cut, as the network would cut it.


class _Wire(asyncio.Transport):
    """Keeps what is written, until it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self._is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._is_closed:
            self.written += data

    def is_closing(self) -> bool:
        return self._is_closed

    def close(self) -> None:
        self._is_closed = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def _echo(scope: Scope, receive: Receive, send: Send) -> None:
    message: Any = {"more_body": True}
    while message.get("more_body", False):
        message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


@cache
def _wire_loop() -> tuple[asyncio.AbstractEventLoop, uvicorn.Config]:
    config = uvicorn.Config(_echo, log_config=None, access_log=False)
    config.load()
    return asyncio.new_event_loop(), config


def _wire_seeds() -> list[bytes]:
    head = b"POST /v1/fill-mask HTTP/1.1\r\nhost: a\r\n"
    whole = head + b"content-length: 2\r\n\r\n{}"
    chunked = head + b"transfer-encoding: chunked\r\n\r\n1;a=b\r\n{\r\n1\r\n}\r\n0\r\nx-a: b\r\n\r\n"
    waits = head + b"expect: 100-continue\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"
    return [step + one for step in (b"\xff", b"\x06") for one in (whole, chunked, waits, whole + chunked + whole)]


def _run_wire(data: bytes) -> str:
    """Whatever comes: answers, and of what cannot be read one more and the end."""
    loop, config = _wire_loop()
    return loop.run_until_complete(_on_wire(data[1:], 1 + data[0] if data else 1, config))


async def _on_wire(data: bytes, step: int, config: uvicorn.Config) -> str:
    wire = _Wire()
    protocol = Connection(config, ServerState(), {}, limit_s=30, max_connections=1, cut=lambda reason: None)
    protocol.connection_made(wire)
    for start in range(0, len(data), step):
        if wire.is_closing():
            break
        protocol.data_received(data[start : start + step])
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    protocol.connection_lost(None)
    await asyncio.sleep(0)
    assert wire.written.startswith(b"HTTP/1.1 ") or not wire.written, wire.written
    is_refused = b"connection: close\r\n\r\n{" in wire.written
    assert wire.is_closing() or not is_refused, "refused, and open"
    return wire.written[9:12].decode() or "nothing"


# The whole HTTP layer: a request as text, against a fleet that is a script.

_METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH")
_DOOR_TOKENS = (
    *_JSON_TOKENS,
    *(b"/", b"..", b"%2e%2e%2f", b"%00", b"%ff", b"//", b"?", b"model=", b"/v1/", b"/models/", b"\n", b"stream"),
    *(b"\xe2\x80\xae", b"content-length: 9\n", b"content-encoding: gzip\n", b"accept: text/event-stream\n"),
)


class _Keeper(logging.Handler):
    """Of what the server logs as bugs."""

    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__(logging.ERROR)
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record)


@dataclass
class _Door:
    """One app and its loop, made at the first request; its one model serves every task."""

    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    bugs: list[logging.LogRecord] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.app, self.fleet = every_app(Settings(max_body_bytes=2**20))
        logging.getLogger("app.api.middleware").addHandler(_Keeper(self.bugs))

    def ask(self, method: str, path: bytes, query: bytes, headers: list[tuple[bytes, bytes]], body: bytes) -> int:
        return self.loop.run_until_complete(asyncio.wait_for(self._ask(method, path, query, headers, body), 20))

    async def _ask(
        self, method: str, path: bytes, query: bytes, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> int:
        from urllib.parse import unquote

        self.fleet.reset()
        self.bugs.clear()
        sent: list[Any] = []
        left = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            if left:
                return left.pop()
            await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": unquote(path.decode("ascii", "replace")),
            "raw_path": path,
            "query_string": query,
            "headers": headers,
            "http_version": "1.1",
            "scheme": "http",
            "server": ("127.0.0.1", 80),
            "client": ("127.0.0.1", 1),
            "root_path": "",
            "state": {},
        }
        await self.app(scope, receive, send)
        status: int = sent[0]["status"]
        assert sent[-1].get("more_body", False) is False, "the answer has no end"
        if status >= 500 and status not in (501, 503):
            bug = self.bugs[0].exc_info if self.bugs else None
            raise AssertionError(f"status {status}: {sent[1]['body']!r}") from (bug[1] if bug else None)
        for name, value in sent[0]["headers"]:
            assert not set(name + value) & set(b"\r\n\0"), "a header holds another"
        return status


@cache
def _door() -> _Door:
    return _Door()


@cache
def _door_seeds() -> list[bytes]:
    names = {"{model_id}": MODEL, "{task}": "text-classification", "{version}": "1", "{response_id}": "resp_1"}
    form = b"--b\r\nContent-Disposition: form-data; name=file; filename=a\r\n\r\n%s\r\n--b--\r\n" % WAV
    head = b"POST /v1/audio/%s\ncontent-type: multipart/form-data; boundary=b\n\n"
    seeds = [head % name + form for name in (b"transcriptions", b"translations")]
    for path, operations in _door().app.openapi()["paths"].items():
        for name, value in names.items():
            path = path.replace(name, value)
        for method, operation in operations.items():
            content = operation.get("requestBody", {}).get("content", {})
            example = content.get("application/json", {}).get("example")
            body = b"" if example is None else orjson.dumps(example)
            seeds.append(b"%s %s\n\n%s" % (method.upper().encode(), path.encode(), body))
    return seeds


def _run_door(data: bytes) -> str:
    head, _, body = data.partition(b"\n\n")
    line, *header_lines = head.split(b"\n")
    method, _, target = line.partition(b" ")
    path, _, query = target.partition(b"?")
    headers = [
        (name.strip().lower(), value.strip())
        for name, colon, value in (one.partition(b":") for one in header_lines)
        if colon and name.strip().isalnum() | (b"-" in name) and not set(value) & set(b"\r\n\0")
    ]
    path = b"/" + path.lstrip(b"/")
    word = method.decode("latin-1")
    chosen = word if word in _METHODS else "POST"
    return str(_door().ask(chosen, bytes(one for one in path if 32 < one < 127), query, headers, body))


TARGETS = {
    target.name: target
    for target in (
        Target(name="body", seeds=_body_seeds, run=_run_body, tokens=_JSON_TOKENS + _FORM_TOKENS + _MEDIA_TOKENS),
        Target(name="form", seeds=_form_seeds, run=_run_form, tokens=_FORM_TOKENS),
        Target(name="request", seeds=_request_seeds, run=_run_request, tokens=_JSON_TOKENS),
        Target(name="image", seeds=_image_seeds, run=_run_image, tokens=_MEDIA_TOKENS),
        Target(name="sound", seeds=_sound_seeds, run=_run_sound, tokens=_MEDIA_TOKENS),
        Target(name="video", seeds=_video_seeds, run=_run_video, tokens=_MEDIA_TOKENS),
        Target(
            name="frames", seeds=_frame_seeds, run=_run_frames, tokens=(b"\xc0", b"\xc1", b"\xdf\xff", b"\x91" * 500)
        ),
        Target(
            name="events",
            seeds=lambda: [b"a b\n\nc", "\u2028\u2029\x85\x0b\x1c\r\n".encode(), b"data: x\n\n"],
            run=_run_events,
            tokens=("\u2028".encode(), "\x85".encode(), b"\r", b"\n\n", b"data:", b"\xff", b"\0"),
        ),
        Target(name="tensors", seeds=_tensor_seeds, run=_run_tensors, tokens=_JSON_TOKENS),
        Target(
            name="call",
            seeds=lambda: [b"model=a&wait=false&keep_alive=5m\n20s\nrespond-async\naudio/*;q=0.5, application/json"],
            run=_run_call,
            tokens=(b"%ff", b"&", b"=", b";q=nan", b"1e999", b"-1", b"9" * 400, b",", b"*/*", b"\n", b"%00"),
        ),
        Target(
            name="wire",
            seeds=_wire_seeds,
            run=_run_wire,
            tokens=(
                *(b"\r\n", b"\n", b"\r", b"\0", b" ", b":", b"\r\n\r\n", b"content-length: 1\r\n", b"0\r\n\r\n", b";"),
                *(b"transfer-encoding: chunked\r\n", b"GET / HTTP/1.1\r\n", b"HTTP/2.0", b"fffffffff\r\n", b"\xff"),
                *(b"upgrade: websocket\r\nconnection: upgrade\r\n", b"x: y\r\n" * 130, b"a" * 9000),
            ),
        ),
        Target(name="door", seeds=_door_seeds, run=_run_door, tokens=_DOOR_TOKENS),
    )
}
