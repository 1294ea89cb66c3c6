"""Files of every format that is read, made by the libraries that write them; and files that lie."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import av
import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image

WIDTH, HEIGHT = 48, 32


def picture(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """Four flat quarters: red, green, blue, white. Flat, so that formats that lose a little lose little."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (255, 0, 0)
    pixels[: height // 2, width // 2 :] = (0, 255, 0)
    pixels[height // 2 :, : width // 2] = (0, 0, 255)
    pixels[height // 2 :, width // 2 :] = (255, 255, 255)
    return Image.fromarray(pixels)


def saved(image: Image.Image, name: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of(width: int, height: int, *chunks: bytes, rows: bytes = b"") -> bytes:
    """A grey PNG with this header, whatever its rows say."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    end = png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + end


def tone(seconds: float = 0.5, rate: int = 16_000, hertz: float = 440.0) -> NDArray[np.float32]:
    """Half loud, faded in and out."""
    times = np.arange(int(seconds * rate)) / rate
    fade = np.minimum(1, np.minimum(times, seconds - times) * 50)
    return np.asarray(0.5 * fade * np.sin(2 * np.pi * hertz * times), dtype=np.float32)


def sound_file(samples: NDArray[Any], rate: int, container: str = "WAV", subtype: str | None = None) -> bytes:
    """samples: [n] or [n, channels]."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=container, subtype=subtype)
    return file.getvalue()


def wav_header(num_bytes: int, rate: int = 16_000, channels: int = 1) -> bytes:
    """16 bits; num_bytes: what it says of its samples."""
    align = 2 * channels
    body = struct.pack(
        "<4sIHHIIHH4sI", b"fmt ", 16, 1, channels, rate, rate * align % 2**32, align, 16, b"data", num_bytes
    )
    return struct.pack("<4sI4s", b"RIFF", min(36 + num_bytes, 2**32 - 1), b"WAVE") + body


def av_sound(container: str, codec: str, samples: NDArray[np.float32], rate: int) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream: Any = output.add_stream(codec, rate=rate)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(samples[None].copy(), format="fltp", layout="mono")
        frame.sample_rate = rate
        for packet in (*stream.encode(frame), *stream.encode()):
            output.mux(packet)
    return file.getvalue()


def greys(num_frames: int, width: int, height: int) -> Iterator[NDArray[np.uint8]]:
    """Frame i is grey of the value 20 i (in the first dozen): a frame tells which it is."""
    return (np.full((height, width, 3), 20 * index % 240, np.uint8) for index in range(num_frames))


def video_file(
    container: str = "mp4",
    codec: str = "mpeg4",
    *,
    num_frames: int = 10,
    rate: int = 10,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    **options: str,
) -> bytes:
    """options: of the container."""
    file = io.BytesIO()
    with av.open(file, "w", format=container, options=options) as output:
        stream: Any = output.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.thread_type = "NONE"
        for pixels in greys(num_frames, *size):
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                output.mux(packet)
        for packet in stream.encode():
            output.mux(packet)
    return file.getvalue()


def gif_file(num_frames: int = 10, duration_ms: int = 100, size: tuple[int, int] = (WIDTH, HEIGHT)) -> bytes:
    frames = [Image.fromarray(pixels) for pixels in greys(num_frames, *size)]
    return saved(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=duration_ms)
