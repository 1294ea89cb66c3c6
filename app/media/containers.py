"""Files that FFmpeg opens, by PyAV: held to one demuxer, and looked at before, since a few bytes can cost gigabytes."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from typing import Any

from app.errors import InvalidInput
from app.media.limits import MediaLimits

# FFmpeg's demuxers, named so that it never guesses: some of those that it knows open other files.
DEMUXERS = {
    "audio/aac": "aac",
    "audio/mp4": "mov",
    "video/mp4": "mov",
    "video/quicktime": "mov",
    "video/webm": "matroska",
    "video/x-matroska": "matroska",
}
# MP4's tables of samples that need no byte for each sample: of a track (version and flags, the size of all samples,
# their number) and of a fragment (version, flags, number).
_TABLE = re.compile(rb"stsz....(....)(....)", re.DOTALL)
_FRAGMENT = re.compile(rb"trun..(.).(....)", re.DOTALL)
_HAS_BYTES_FOR_EACH = 0x0F  # of the flags: duration, size, flags, offset of each sample


def open_container(av: Any, data: bytes, media_type: str, limits: MediaLimits, *, param: str) -> Any:
    """The open container; to be closed. Raises InvalidInput, av.FFmpegError."""
    if DEMUXERS[media_type] == "mov":
        _require_sound_tables(data, param)
    return av.open(
        io.BytesIO(data), format=DEMUXERS[media_type], metadata_errors="replace", options=codec_options(limits)
    )


def codec_options(limits: MediaLimits) -> dict[str, str]:
    """What FFmpeg compares with this are sides rounded up, so that the exact comparison is left to the caller."""
    return {"max_pixels": str(2 * limits.max_pixels + 2**16), "threads": "1"}


def _require_sound_tables(data: bytes, param: str) -> None:
    """FFmpeg makes an entry of its index, 24 bytes, for each sample that is claimed, as soon as it opens the file."""
    num_samples = 0
    for part in _parts_but_media(data):
        if b"cmov" in part:
            raise InvalidInput(f"{param}: QuickTime files with compressed headers are not read.", param=param)
        num_samples += sum(_number(count) for size, count in _TABLE.findall(part) if _number(size))
        num_samples += sum(
            _number(count) for flags, count in _FRAGMENT.findall(part) if not flags[0] & _HAS_BYTES_FOR_EACH
        )
    if num_samples > len(data):
        raise InvalidInput(f"{param}: the file says that it has more samples than bytes.", param=param)


def _parts_but_media(data: bytes) -> Iterator[bytes]:
    """The boxes of an MP4's first level other than `mdat`, where the samples are: any bytes may stand in those."""
    place = 0
    while place + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, place)
        if size == 1 and place + 16 <= len(data):
            size = struct.unpack_from(">Q", data, place + 8)[0]
        end = place + size if size >= 8 else len(data)
        if kind != b"mdat":
            yield data[place:end]
        place = end


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")
