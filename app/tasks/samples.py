"""Small real files, made here: the media of the tasks' examples and of the computation after a load."""

from __future__ import annotations

import base64
import io
import math
import struct
import wave
import zlib

_SIZE = 64
_SAMPLING_RATE = 16_000


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png() -> bytes:
    """64 × 64 pixels: a red disc on a blue and green ground."""
    rows = bytearray()
    for y in range(_SIZE):
        rows.append(0)
        for x in range(_SIZE):
            is_disc = (x - 32) ** 2 + (y - 32) ** 2 < 400
            rows += bytes((220, 40, 40)) if is_disc else bytes((20, 3 * y, 255 - 3 * x))
    header = struct.pack(">IIBBBBB", _SIZE, _SIZE, 8, 2, 0, 0, 0)
    parts = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(bytes(rows), 9)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def _wav() -> bytes:
    """Half a second of a tone that rises from 300 to 600 Hz: 16 kHz, mono, 16 bits."""
    file = io.BytesIO()
    count = _SAMPLING_RATE // 2
    phases = (2 * math.pi * (300 + 300 * at / count) * at / _SAMPLING_RATE for at in range(count))
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(_SAMPLING_RATE)
        sound.writeframes(b"".join(struct.pack("<h", int(12_000 * math.sin(phase))) for phase in phases))
    return file.getvalue()


def _gif() -> bytes:
    """A film of 8 frames of 16 × 16 pixels in which a bright column moves to the right."""
    header = b"GIF89a" + struct.pack("<HHBBB", 16, 16, 0x80, 0, 0) + bytes((10, 10, 60, 250, 220, 40))
    frames = b"".join(_gif_frame(column * 2) for column in range(8))
    return header + frames + b";"


def _gif_frame(bright: int) -> bytes:
    """Uncompressed in the manner of GIF: every third code clears the table, so that codes stay three bits wide."""
    codes = []
    for place in range(256):
        if place % 2 == 0:
            codes.append(4)  # clear
        codes.append(1 if bright <= place % 16 < bright + 2 else 0)
    codes.append(5)  # end
    bits = sum(code << (3 * index) for index, code in enumerate(codes))
    packed = bits.to_bytes((3 * len(codes) + 7) // 8, "little")
    blocks = b"".join(
        bytes((len(part),)) + part for part in (packed[at : at + 255] for at in range(0, len(packed), 255))
    )
    control = b"\x21\xf9\x04" + struct.pack("<BHBB", 0, 10, 0, 0)
    image = b"\x2c" + struct.pack("<HHHHB", 0, 0, 16, 16, 0)
    return control + image + b"\x02" + blocks + b"\x00"


PNG, WAV, GIF = _png(), _wav(), _gif()
PNG_BASE64, WAV_BASE64, GIF_BASE64 = (base64.b64encode(file).decode() for file in (PNG, WAV, GIF))
