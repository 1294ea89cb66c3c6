"""Framing: what goes in comes out, in pieces of any size, big ones never in the way of small ones."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.channel.frames import MAX_FRAME_BYTES, ChannelError, Inbox, Outbox, is_control
from app.channel.messages import Cancel, FromWorker, Heartbeat, Load, StageBegan, Submit, ToWorker
from app.errors import InvalidInput


def submit(job_id: int, text: str = "") -> Submit:
    return Submit(job_id=job_id, task="fill-mask", inputs=[text], parameters={})


def worker_inbox() -> Inbox[ToWorker]:
    return Inbox(msgspec.msgpack.Decoder(ToWorker))


def drain(outbox: Outbox, limit_bytes: int = 2**18) -> bytes:
    data = b""
    while outbox:
        data += b"".join(outbox.take(limit_bytes))
    return data


@given(texts=st.lists(st.text(max_size=50), max_size=8), cuts=st.lists(st.integers(1, 60), min_size=1, max_size=20))
def test_messages_survive_any_cut(texts: list[str], cuts: list[int]) -> None:
    """However the kernel cuts the stream, the messages come out whole and in order."""
    outbox = Outbox()
    sent = [submit(index, text) for index, text in enumerate(texts)]
    for message in sent:
        outbox.push(message)
    data = drain(outbox)
    inbox = worker_inbox()
    received: list[ToWorker] = []
    while data:
        for cut in cuts:
            received += inbox.feed(data[:cut])
            data = data[cut:]
    assert received == sent


def test_a_small_message_overtakes_a_large_one() -> None:
    """A message above the frame limit is chunked, and what was pushed after it does not wait for its end."""
    outbox = Outbox()
    large, small = submit(1, "x" * (3 * MAX_FRAME_BYTES)), submit(2, "small")
    outbox.push(large)
    outbox.push(small)
    assert worker_inbox().feed(drain(outbox)) == [small, large]


def test_no_frame_is_larger_than_the_limit() -> None:
    """A take of one byte gives one frame, and a frame is at most 1 MiB, its header included."""
    outbox = Outbox()
    outbox.push(submit(1, "x" * (3 * MAX_FRAME_BYTES)))
    sizes = []
    while outbox:
        sizes.append(len(b"".join(outbox.take(1))))
    assert len(sizes) == 4
    assert max(sizes) == MAX_FRAME_BYTES


def test_two_large_messages_take_turns() -> None:
    """Streams are interleaved frame by frame and put together again."""
    outbox = Outbox()
    first, second = submit(1, "x" * (2 * MAX_FRAME_BYTES)), submit(2, "y" * (2 * MAX_FRAME_BYTES))
    outbox.push(first)
    outbox.push(second)
    kinds = []
    data = b""
    while outbox:
        frame = b"".join(outbox.take(1))
        kinds.append(frame[100:101])
        data += frame
    assert kinds[:4] == [b"x", b"y", b"x", b"y"]
    assert worker_inbox().feed(data) == [first, second]


def test_control_goes_before_data() -> None:
    """A control message is in the next frames, whatever was pushed before it."""
    outbox = Outbox()
    outbox.push(submit(1, "x" * (3 * MAX_FRAME_BYTES)))
    outbox.take(1)
    outbox.push(Cancel(job_id=1), control=True)
    assert worker_inbox().feed(b"".join(outbox.take(1))[:100])[0] == Cancel(job_id=1)


def test_a_large_control_message_is_whole_before_data() -> None:
    """An announcement of very many jobs spans frames and still goes out in one take."""
    outbox = Outbox()
    announcement = StageBegan(stage="forward", job_ids=[2**40] * 200_000)
    outbox.push(announcement, control=True)
    inbox: Inbox[FromWorker] = Inbox(msgspec.msgpack.Decoder(FromWorker))
    assert inbox.feed(b"".join(outbox.take(1))) == [announcement]
    assert not outbox


def test_control_messages_are_the_five() -> None:
    """Heartbeat, Cancel, StageBegan, SetThreads and Stop are control, loads and jobs are not."""
    assert is_control(Heartbeat(rss_bytes=0))
    assert is_control(Cancel(job_id=1))
    assert not is_control(Load(spec={}, num_threads=1))
    assert not is_control(submit(1))


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 64,
        b"\x00" * 64,
        b"\x01\x00\x00\x00\x00\x00\x00\x00\x01\xc1",
        b"\x01\x00\x00\x00\x00\x00\x00\x00\x07\xc0",
        b"\x01\x00\x00\x00\x00\x00\x00\x00\x01\xc0",
        b"GET / HTTP/1.1\r\nHost: pipeserve\r\n\r\n",
    ],
)
def test_garbage_is_a_channel_error(data: bytes) -> None:
    """An oversize or empty frame, unknown flags, broken msgpack and msgpack that is no message end the channel."""
    with pytest.raises(ChannelError):
        worker_inbox().feed(data)


@given(st.binary(min_size=20, max_size=300))
def test_random_bytes_are_never_anything_but_a_channel_error(data: bytes) -> None:
    """No byte sequence makes the inbox raise another error."""
    try:
        worker_inbox().feed(data)
    except ChannelError:
        pass


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, "\ud800"])
def test_a_value_without_msgpack_form_is_invalid_input(value: object) -> None:
    """What a client may send in JSON but msgpack cannot hold is that client's error; the outbox goes on."""
    outbox = Outbox()
    with pytest.raises(InvalidInput):
        outbox.push(Submit(job_id=1, task="fill-mask", inputs=[value], parameters={}))
    outbox.push(submit(2))
    assert worker_inbox().feed(drain(outbox)) == [submit(2)]


def test_bytes_pass_as_they_are() -> None:
    """Media travels as raw bytes."""
    outbox = Outbox()
    outbox.push(Submit(job_id=1, task="image-classification", inputs=[b"\x00\xff"], parameters={}))
    (received,) = worker_inbox().feed(drain(outbox))
    assert isinstance(received, Submit)
    assert received.inputs == [b"\x00\xff"]
