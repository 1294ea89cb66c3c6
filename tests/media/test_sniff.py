"""What a file is, by its first bytes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from app.media.sniff import sniff
from tests.media.files import av_sound, gif_file, picture, png_of, saved, sound_file, tone, video_file

MADE = {
    "image/png": lambda: png_of(1, 1),
    "image/jpeg": lambda: saved(picture(), "JPEG"),
    "image/webp": lambda: saved(picture(), "WEBP"),
    "image/gif": lambda: gif_file(1),
    "image/bmp": lambda: saved(picture(), "BMP"),
    "image/tiff": lambda: saved(picture(), "TIFF"),
    "audio/wav": lambda: sound_file(tone(), 16_000),
    "audio/flac": lambda: sound_file(tone(), 16_000, "FLAC"),
    "audio/ogg": lambda: sound_file(tone(), 16_000, "OGG"),
    "audio/mpeg": lambda: sound_file(tone(), 16_000, "MP3"),
    "audio/aac": lambda: av_sound("adts", "aac", tone(), 16_000),
    "audio/mp4": lambda: av_sound("ipod", "aac", tone(), 16_000),
    "video/mp4": lambda: video_file("mp4"),
    "video/quicktime": lambda: video_file("mov"),
    "video/webm": lambda: video_file("webm", "libvpx"),
    "video/x-matroska": lambda: video_file("matroska"),
}
WRITTEN = {
    "image/avif": b"\x00\x00\x00\x20ftypavif\x00\x00\x00\x00",
    "image/heic": b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00",
    "image/vnd.adobe.photoshop": b"8BPS\x00\x01",
    "application/pdf": b"%PDF-1.7\n",
    "audio/mpeg": b"ID3\x04\x00\x00",
    "video/x-msvideo": b"RIFF\x00\x00\x00\x00AVI LIST",
}


@pytest.mark.parametrize("media_type", MADE)
def test_files_are_told_by_their_bytes(media_type: str) -> None:
    """What the libraries write is what it is taken for."""
    assert sniff(MADE[media_type]()) == media_type


@pytest.mark.parametrize(("media_type", "start"), WRITTEN.items())
def test_files_that_nobody_reads_have_names(media_type: str, start: bytes) -> None:
    """So that an error can say what was sent."""
    assert sniff(start) == media_type


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"BM",
        b"BMW is a car maker of Munich.",
        b"hello",
        b"RIFF",
        b'{"inputs": "a"}',
        b"\xff\xfe\x00\x00a",
        bytes(64),
    ],
)
def test_what_is_no_media_has_no_type(data: bytes) -> None:
    """Text, JSON and fragments are nothing."""
    assert sniff(data) is None


def test_package_costs_nothing_to_import() -> None:
    """The decoding libraries are loaded at their first use, so that the API process may import the package."""
    modules = "answers, audio, images, limits, sniff, video"
    heavy = "('PIL', 'soundfile', 'soxr', 'av', 'torch', 'transformers', 'fastapi')"
    code = f"import sys; from app.media import {modules}; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
