"""Videos: the frames that a model looks at, and no more of them in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import InputTooLarge, InvalidInput, UnsupportedMedia
from app.media.containers import DEMUXERS, codec_options, open_container
from app.media.images import BROKEN_IMAGE, gif_frames, open_image, to_rgb
from app.media.libraries import load_library
from app.media.limits import MediaLimits
from app.media.sniff import sniff

Frame = NDArray[np.uint8]  # [height, width, 3]

READ = "MP4, QuickTime, WebM, Matroska and GIF"
_MAX_KEPT, _MAX_DECODED = 10, 200  # times `max_pixels`: over all frames that are kept, and that are decoded

_MAX_COUNTED = 1_000_000  # frames, whatever part of them is looked at: counting takes its time, too


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What is known before a frame is decoded. num_frames: counted, not what the header says."""

    num_frames: int
    frames_per_second: float
    seconds: float
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class VideoFrames:
    """frames: [n, height, width, 3], uint8, RGB: one for each of `indices`, in their order."""

    frames: NDArray[np.uint8]
    indices: tuple[int, ...]
    info: VideoInfo


Choose = Callable[[VideoInfo], Sequence[int]]


def read_frames(
    data: bytes, limits: MediaLimits, *, param: str, choose: Callable[[int], Sequence[int]]
) -> NDArray[np.uint8]:
    """The frames' pixels alone: see `decode_video`. choose: the indices, given the number of frames."""
    return decode_video(data, limits, param=param, choose=lambda info: choose(info.num_frames)).frames


def decode_video(data: bytes, limits: MediaLimits, *, param: str, choose: Choose | None = None) -> VideoFrames:
    """The frames that `choose` names, counted from 0 in the order in which they are shown; without it, all.

    Frames are decoded from the first to the last that is wanted, and only the wanted ones are kept. An index may come
    several times, in any order; one past the end gives the last frame, as in files that count a frame too many.
    Pixels are as FFmpeg's `rgb24` (a GIF's as Pillow's), a rotation that the file asks for is not applied: both as in
    transformers' video-classification pipeline.

    Raises InvalidInput, UnsupportedMedia (PyAV missing, too), and InputTooLarge: by the header for bytes, pixels and
    seconds, before decoding for the frames up to the last wanted one, and while decoding where the header lied.
    """
    limits.require_bytes(len(data), param=param)
    if not data:
        raise InvalidInput(f"{param}: the file is empty; a video is needed.", param=param)
    media_type = sniff(data)
    if media_type == "image/gif":
        return _decode_gif(data, limits, param, choose)
    if media_type in DEMUXERS and media_type != "audio/aac":  # M4A: its brand is not always what is in it
        return _decode_by_av(data, media_type, limits, param, choose)
    if media_type is None:
        raise InvalidInput(f"{param}: this is not a video that is known here; {READ} are.", param=param)
    raise UnsupportedMedia(f"{param}: {media_type} is not read as a video here; {READ} are.", param=param)


def _decode_by_av(data: bytes, media_type: str, limits: MediaLimits, param: str, choose: Choose | None) -> VideoFrames:
    av = load_library("av", what="Videos in MP4, QuickTime, WebM and Matroska files", param=param)
    try:
        with open_container(av, data, media_type, limits, param=param) as container:
            if not container.streams.video:
                raise InvalidInput(f"{param}: there is no video in this file.", param=param)
            stream = container.streams.video[0]
            info = _info_of(av, container, stream, limits, param)
            indices = _chosen(info, limits, param, choose)
            container.seek(0)
            stream.thread_type = "NONE"
            stream.codec_context.options = codec_options(limits)
            frames = _kept(container.decode(stream), _pixels_by_av, indices, limits, param)
            return VideoFrames(frames, indices, info)
    except (av.FFmpegError, ValueError, MemoryError) as error:  # absurd sizes end in FFmpeg's ENOMEM
        raise _broken(error, param) from None


def _info_of(av: Any, container: Any, stream: Any, limits: MediaLimits, param: str) -> VideoInfo:
    """Reads all packets, which costs little, to count them: headers may lie about frames and seconds, or not say."""
    context = stream.codec_context
    if context is None:
        raise UnsupportedMedia(f"{param}: the video's codec is not known here.", param=param)
    limits.require_pixels(context.width, context.height, param=param)
    if container.duration is not None:
        limits.require_seconds(container.duration / av.time_base, param=param)
    num_frames, end_s = 0, 0.0
    for packet in container.demux(stream):
        if packet.size:
            num_frames += 1
            if num_frames > _MAX_COUNTED:
                raise InputTooLarge(f"{param}: the video has more than {_MAX_COUNTED:,} frames.", param=param)
            end_s = max(end_s, float((packet.pts or 0) + (packet.duration or 0)) * float(packet.time_base))
    limits.require_seconds(end_s, param=param)
    rate = float(stream.average_rate or 0) or (num_frames / end_s if end_s else 0.0)
    seconds = end_s or (num_frames / rate if rate else 0.0)
    return VideoInfo(num_frames, rate, seconds, context.width, context.height)


def _decode_gif(data: bytes, limits: MediaLimits, param: str, choose: Choose | None) -> VideoFrames:
    from PIL.Image import DecompressionBombError

    image: Any = open_image(data, limits, param=param)
    try:
        num_frames, seconds = -1, 0.0  # the canvas comes first
        for width, height, duration_ms in gif_frames(data):
            limits.require_pixels(width, height, param=param)
            num_frames += 1
            seconds += duration_ms / 1000
        limits.require_seconds(seconds, param=param)
        rate = num_frames / seconds if seconds else 0.0
        info = VideoInfo(num_frames, rate, seconds, image.width, image.height)
        indices = _chosen(info, limits, param, choose)
        return VideoFrames(_kept(_gif_frames(image), _pixels_by_pillow, indices, limits, param), indices, info)
    except BROKEN_IMAGE as error:
        raise _broken(error, param) from None
    except DecompressionBombError as error:  # a frame behind bytes that only Pillow skips
        raise InputTooLarge(f"{param}: {error}", param=param) from None


def _gif_frames(image: Any) -> Iterator[Any]:
    """The image itself, at one frame after the other."""
    from PIL import ImageSequence

    for frame in ImageSequence.Iterator(image):
        frame.load()
        yield frame


def _pixels_by_av(frame: Any) -> Frame:
    pixels: Frame = frame.to_ndarray(format="rgb24")
    return pixels


def _pixels_by_pillow(image: Any) -> Frame:
    return np.asarray(to_rgb(image))


def _chosen(info: VideoInfo, limits: MediaLimits, param: str, choose: Choose | None) -> tuple[int, ...]:
    """Raises InputTooLarge for more frames, or pixels over all frames, than are decoded or kept."""
    if not info.num_frames:
        raise InvalidInput(f"{param}: the video has no frames.", param=param)
    indices = tuple(int(index) for index in (range(info.num_frames) if choose is None else choose(info)))
    assert indices and min(indices) >= 0, "No frame, or one before the first, is wanted of a video. This is a bug."
    num_decoded = min(max(indices) + 1, info.num_frames)
    limits.require_frames(num_decoded, param=param)
    limits.require_frames(len(indices), param=param)
    _require_total(num_decoded, info, _MAX_DECODED, limits, param)
    _require_total(len(indices), info, _MAX_KEPT, limits, param)
    return indices


def _require_total(num_frames: int, info: VideoInfo, factor: int, limits: MediaLimits, param: str) -> None:
    total, most = num_frames * info.width * info.height, factor * limits.max_pixels
    if total > most:
        raise InputTooLarge(
            f"{param}: {num_frames:,} frames of {info.width:,} x {info.height:,} are {total:,} pixels; the limit over"
            f" all frames is {most:,}.",
            param=param,
        )


def _kept(
    decoded: Iterable[Any],
    pixels_of: Callable[[Any], Frame],
    indices: tuple[int, ...],
    limits: MediaLimits,
    param: str,
) -> NDArray[np.uint8]:
    """decoded: frames of a library, of which only the wanted ones are made into pixels."""
    wanted, last = set(indices), max(indices)
    kept: dict[int, Frame] = {}
    frame: Any = None
    for index, frame in enumerate(decoded):
        limits.require_pixels(frame.width, frame.height, param=param)
        if index in wanted:
            kept[index] = pixels_of(frame)
        if index >= last:
            break
    if frame is None:
        raise InvalidInput(f"{param}: no frame of the video can be decoded.", param=param)
    if not wanted <= kept.keys():
        kept[last] = pixels_of(frame)
    if len({one.shape for one in kept.values()}) > 1:
        raise InvalidInput(f"{param}: the video's frames change their size on the way.", param=param)
    return np.stack([kept[index if index in kept else last] for index in indices])


def _broken(error: BaseException, param: str) -> InvalidInput:
    text = " ".join(str(error).split()).rstrip(".")[:160] or type(error).__name__
    return InvalidInput(f"{param}: the video is broken or cut short: {text}.", param=param)
