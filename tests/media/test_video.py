"""Videos: every format, the frames that are wanted, every limit."""

from __future__ import annotations

import io
import random
import struct
import sys
from collections.abc import Callable, Sequence

import av
import numpy as np
import pytest

from app.errors import InputTooLarge, InvalidInput, PipeserveError, UnsupportedMedia
from app.media.limits import MediaLimits
from app.media.video import VideoInfo, decode_video, read_frames
from tests.media.files import HEIGHT, WIDTH, av_sound, gif_file, png_of, tone, video_file
from tests.media.memory import at_most

LIMITS = MediaLimits()
PARAM = "inputs[2]"
FORMATS = {
    "MP4": ("mp4", "mpeg4"),
    "MP4 of H.264": ("mp4", "libx264"),
    "QuickTime": ("mov", "mpeg4"),
    "WebM of VP8": ("webm", "libvpx"),
    "WebM of VP9": ("webm", "libvpx-vp9"),
    "Matroska": ("matroska", "mpeg4"),
}
NAMES = [*FORMATS, "GIF"]


def video(name: str, num_frames: int = 10, rate: int = 10) -> bytes:
    if name == "GIF":
        return gif_file(num_frames, 1000 // rate)
    container, codec = FORMATS[name]
    return video_file(container, codec, num_frames=num_frames, rate=rate)


def refused(
    error_class: type[PipeserveError], data: bytes, limits: MediaLimits = LIMITS, indices: Sequence[int] | None = None
) -> str:
    choose = None if indices is None else lambda info: indices
    with pytest.raises(error_class) as caught:
        decode_video(data, limits, param=PARAM, choose=choose)
    assert caught.value.param == PARAM
    assert caught.value.message.startswith(f"{PARAM}: ")
    return caught.value.message


@pytest.mark.parametrize("name", NAMES)
def test_every_format_is_read(name: str) -> None:
    """All frames in their order, and what is known of the video."""
    seen = decode_video(video(name), LIMITS, param=PARAM)
    assert seen.frames.shape == (10, HEIGHT, WIDTH, 3)
    assert seen.frames.dtype == np.uint8
    assert np.abs(seen.frames[:, 5, 5, 0].astype(int) - np.arange(0, 200, 20)).max() <= 6
    assert seen.indices == tuple(range(10))
    assert (seen.info.num_frames, seen.info.width, seen.info.height) == (10, WIDTH, HEIGHT)
    assert seen.info.frames_per_second == pytest.approx(10, rel=0.02)
    assert seen.info.seconds == pytest.approx(1.0, rel=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_wanted_frames_are_read(name: str) -> None:
    """In the order asked, one several times, and the last for an index past the end."""
    frames = read_frames(video(name), LIMITS, param=PARAM, choose=lambda num_frames: [num_frames - 1, 2, 2, 0, 99])
    assert np.abs(frames[:, 5, 5, 0].astype(int) - [180, 40, 40, 0, 180]).max() <= 6


@pytest.mark.parametrize("name", FORMATS)
def test_pixels_are_those_of_the_pipeline(name: str) -> None:
    """The frames that transformers' video-classification pipeline reads with PyAV (`read_video_pyav`)."""
    data = video(name)
    indices = np.linspace(0, 4 * 2 - 1, num=4, dtype=np.int64)
    with av.open(io.BytesIO(data), "r") as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    expected = np.stack([decoded[index] for index in indices])
    assert np.array_equal(read_frames(data, LIMITS, param=PARAM, choose=lambda _: indices.tolist()), expected)


def test_chooser_sees_the_video() -> None:
    """So that it can choose by time, and refuse a video that is too short."""
    seen: list[VideoInfo] = []

    def choose(info: VideoInfo) -> list[int]:
        seen.append(info)
        raise InvalidInput("too short", param=PARAM)

    with pytest.raises(InvalidInput, match="too short"):
        decode_video(video("MP4", 5, 25), LIMITS, param=PARAM, choose=choose)
    assert seen == [VideoInfo(5, 25.0, 0.2, WIDTH, HEIGHT)]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"a text called a.mp4", "not a video"),
        (b"\x00\x00\x00\x18ftypmp42", "video is broken"),
        (b"\x1aE\xdf\xa3webm", "video"),
        (b"GIF89a", "broken"),
    ],
)
def test_what_is_no_video_is_refused(data: bytes, says: str) -> None:
    """422, with the field's name."""
    assert says in refused(InvalidInput, data)


def test_pictures_and_sounds_are_no_videos() -> None:
    """415 for their own formats, 422 for a container in which there is only sound."""
    assert "MP4, QuickTime, WebM, Matroska and GIF" in refused(UnsupportedMedia, png_of(1, 1))
    assert "no video" in refused(InvalidInput, av_sound("ipod", "aac", tone(), 16_000))


@pytest.mark.parametrize("name", NAMES)
def test_broken_bytes_end_in_a_sentence(name: str) -> None:
    """Cut or overwritten anywhere: frames or one of our errors."""
    chance = random.Random(7)
    data = video(name)
    limits = MediaLimits(max_pixels=100_000)
    for attempt in range(60):
        broken = bytearray(data)
        for _ in range(chance.randint(1, 8)):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        del broken[chance.randrange(len(broken)) if attempt % 2 else len(broken) :]
        try:
            assert len(read_frames(bytes(broken), limits, param=PARAM, choose=lambda _: [0, 5])) == 2
        except PipeserveError as error:
            assert error.param == PARAM


@pytest.mark.parametrize("name", NAMES)
def test_limit_of_frames_holds_for_what_is_decoded(name: str) -> None:
    """A long video of which only the beginning is looked at is read; its end is not."""
    data, limits = video(name), MediaLimits(max_frames=5)
    assert len(read_frames(data, limits, param=PARAM, choose=lambda _: [0, 4])) == 2
    assert "6 frames" in refused(InputTooLarge, data, limits, [0, 5])
    assert "10 frames" in refused(InputTooLarge, data, limits)
    assert "6 frames" in refused(InputTooLarge, data, limits, [0] * 6)


@pytest.mark.parametrize("name", NAMES)
def test_limit_of_seconds_holds(name: str) -> None:
    """Before a frame is decoded."""
    assert "the limit is 0.5" in refused(InputTooLarge, video(name), MediaLimits(max_seconds=0.5), [0])


@pytest.mark.parametrize("name", NAMES)
def test_limit_of_pixels_holds(name: str) -> None:
    """By the header; just the limit is read."""
    data = video(name)
    assert "48 x 32" in refused(InputTooLarge, data, MediaLimits(max_pixels=WIDTH * HEIGHT - 1), [0])
    read_frames(data, MediaLimits(max_pixels=WIDTH * HEIGHT), param=PARAM, choose=lambda _: [0])


@pytest.mark.parametrize("name", NAMES)
def test_limit_of_bytes_is_exact(name: str) -> None:
    """Before anything looks into the file."""
    data = video(name)
    read_frames(data, MediaLimits(max_bytes=len(data)), param=PARAM, choose=lambda _: [0])
    refused(InputTooLarge, data, MediaLimits(max_bytes=len(data) - 1), [0])


@pytest.mark.parametrize("name", ["MP4", "GIF"])
def test_frames_have_a_limit_over_all_of_them(name: str) -> None:
    """Ten of the largest are kept, two hundred decoded: many large frames would be gigabytes, or minutes."""
    limits = MediaLimits(max_pixels=WIDTH * HEIGHT)
    data = video(name)
    assert len(read_frames(data, limits, param=PARAM, choose=lambda _: [0] * 10)) == 10
    assert "over all frames" in refused(InputTooLarge, data, limits, [0] * 11)
    assert "over all frames" in refused(InputTooLarge, video(name, 210), limits, [209])


def test_pixels_larger_than_the_header_says_are_not_decoded() -> None:
    """The container says 48 x 32, the stream in it is 640 x 480."""
    small, large = video("MP4 of H.264"), video_file("mp4", "libx264", num_frames=2, size=(640, 480))
    # Width and height stand in the track's header and in the sample entry, as numbers of 16 bits.
    sizes = (b"\x02\x80\x01\xe0", b"\x00\x30\x00\x20")
    assert large.count(sizes[0]) == 1
    assert small.count(sizes[1]) == 1
    lying = large.replace(*sizes)
    refused(InputTooLarge, lying, MediaLimits(max_pixels=10_000), [0])


def claiming_samples(num_samples: int) -> bytes:
    """An MP4 of three frames whose tables say that there are so many, of a byte each."""
    data = bytearray(video_file(num_frames=3))
    struct.pack_into(">II", data, data.index(b"stsz") + 8, 1, num_samples)
    struct.pack_into(">I", data, data.index(b"stsc") + 16, num_samples)  # all in one chunk
    struct.pack_into(">I", data, data.index(b"stts") + 12, num_samples)
    return bytes(data)


def claiming_samples_in_a_fragment(num_samples: int) -> bytes:
    data = bytearray(video_file(num_frames=3, movflags="frag_keyframe+empty_moov+default_base_moof"))
    place = data.index(b"trun")
    struct.pack_into(">II", data, place + 4, 0x000001, num_samples)  # nothing but where their data begin
    return bytes(data)


@pytest.mark.parametrize("make", [claiming_samples, claiming_samples_in_a_fragment])
def test_claimed_samples_fill_no_index(make: Callable[[int], bytes]) -> None:
    """A hundred million samples, two gigabytes of FFmpeg's index, in two kilobytes."""
    with at_most(500_000_000):
        assert "more samples than bytes" in refused(InvalidInput, make(100_000_000), indices=[0])


def test_fragmented_mp4_is_read() -> None:
    """As browsers record and players stream them."""
    data = video_file(movflags="frag_keyframe+empty_moov+default_base_moof")
    assert decode_video(data, LIMITS, param=PARAM).frames.shape[0] == 10


def test_gif_of_many_large_frames_is_refused_unread() -> None:
    """Ten thousand frames on a canvas of fifty million pixels: hours, by the byte."""
    frame = b"\x21\xf9\x04\x08\x01\x00\x00\x00\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x4c\x01\x00"
    data = b"GIF89a" + struct.pack("<HHBBB", 7000, 7000, 0x80, 0, 0) + bytes(6) + frame * 10_000 + b";"
    with at_most(200_000_000):
        assert "over all frames" in refused(InputTooLarge, data, indices=[900])
        assert "10,000 frames" in refused(InputTooLarge, data)


def test_gif_whose_frames_outgrow_it_is_refused() -> None:
    """A giant second frame in a canvas of one pixel."""
    frames = b"".join(
        b"\x21\xf9\x04\x08\x00\x00\x00\x00\x2c" + struct.pack("<HHHHB", 0, 0, size, size, 0) + b"\x02\x02\x4c\x01\x00"
        for size in (1, 9000)
    )
    data = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6) + frames + b";"
    with at_most(150_000_000):
        refused(InputTooLarge, data, MediaLimits(max_pixels=1_000_000))


def test_gif_of_a_giant_canvas_is_refused() -> None:
    """A few kilobytes that are 65,000 x 65,000 pixels a frame."""
    data = bytearray(gif_file(3))
    data[6:10] = b"\xe8\xfd\xe8\xfd"
    with at_most(100_000_000):
        refused(InputTooLarge, bytes(data))


@pytest.mark.parametrize("name", ["MP4", "WebM of VP8"])
def test_missing_library_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """415 with what to install; a GIF needs nothing more."""
    data = video(name)
    monkeypatch.setitem(sys.modules, "av", None)
    assert 'pip install "pipeserve[video]"' in refused(UnsupportedMedia, data)
    assert len(read_frames(gif_file(), LIMITS, param=PARAM, choose=lambda _: [0])) == 1


def test_only_wanted_frames_are_held() -> None:
    """A hundred frames of a megapixel would be 300 MB, two are 6."""
    data = video_file(num_frames=100, rate=25, size=(1280, 800))
    with at_most(120_000_000):
        assert read_frames(data, LIMITS, param=PARAM, choose=lambda _: [0, 99]).shape == (2, 800, 1280, 3)
