"""Images: decoded to RGB, encoded as PNG, JPEG or WebP."""

from __future__ import annotations

import importlib
import io
import struct
import zlib
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from app.errors import InputTooLarge, InvalidInput, UnsupportedMedia
from app.media.limits import MediaLimits
from app.media.sniff import sniff

if TYPE_CHECKING:
    from PIL.Image import Image

# Pillow's reader of each format, called without `Image.open`: that would try some forty formats, of which nobody needs
# the rest, and checks the size by a limit of its own, process-wide, after the fact.
_READERS = {
    "image/png": ("PIL.PngImagePlugin", "PngImageFile"),
    "image/jpeg": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "image/webp": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "image/gif": ("PIL.GifImagePlugin", "GifImageFile"),
    "image/bmp": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "image/tiff": ("PIL.TiffImagePlugin", "TiffImageFile"),
}
READ = "PNG, JPEG, WebP, GIF, BMP and TIFF"
_NAMES = {
    "image/png": "PNG",
    "image/jpeg": "JPEG",
    "image/webp": "WebP",
    "image/gif": "GIF",
    "image/bmp": "BMP",
    "image/tiff": "TIFF",
    "image/heic": "HEIC",
    "image/avif": "AVIF",
    "image/vnd.adobe.photoshop": "Photoshop",
    "application/pdf": "PDF",
}
# What Pillow raises for files that are broken in one way or another: it has no common base.
BROKEN_IMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    NotImplementedError,
    RuntimeError,
    Warning,
    struct.error,
    zlib.error,
)
_MAX_SCANS = 32  # of a progressive JPEG of the largest size; files have about ten
_ORIENTATION = 0x0112  # EXIF


def decode_image(data: bytes, limits: MediaLimits, *, param: str) -> Image:
    """The upright image in RGB, as transformers' `load_image` makes it: the first frame, EXIF orientation applied,
    transparency dropped (the colours below it show). One exception: grey of 16 bits and more is scaled to 8, where
    Pillow's own conversion cuts all that is above 255.

    Raises InvalidInput, InputTooLarge (before anything of the image's size is allocated), UnsupportedMedia.
    """
    image = open_image(data, limits, param=param)
    try:
        image.load()
        return _turned(image, _orientation(image))
    except BROKEN_IMAGE as error:
        raise _broken(image.format or "image", error, param) from None


def open_image(data: bytes, limits: MediaLimits, *, param: str) -> Image:
    """The image with its header read, within the limits, and no pixel decoded. Raises what `decode_image` raises."""
    limits.require_bytes(len(data), param=param)
    media_type = _require_image(data, param)
    from PIL.Image import DecompressionBombError

    name = _NAMES[media_type]
    module, reader = _READERS[media_type]
    try:
        for width, height in _declared_sizes(data, media_type):
            limits.require_pixels(width, height, param=param)
        image: Image = getattr(importlib.import_module(module), reader)(io.BytesIO(data))
    except BROKEN_IMAGE as error:
        raise _broken(name, error, param) from None
    except DecompressionBombError as error:  # a frame behind bytes that only Pillow skips
        raise InputTooLarge(f"{param}: {error}", param=param) from None
    limits.require_pixels(*image.size, param=param)
    _require_modest_work(data, image, limits, param)
    return image


def _require_image(data: bytes, param: str) -> str:
    if not data:
        raise InvalidInput(f"{param}: the file is empty; an image ({READ}) is needed.", param=param)
    media_type = sniff(data)
    if media_type in _READERS:
        return media_type
    if media_type is None:
        raise InvalidInput(f"{param}: this is not an image that is known here; {READ} are.", param=param)
    name = _NAMES.get(media_type, media_type)
    raise UnsupportedMedia(f"{param}: {name} is not read as an image here; {READ} are.", param=param)


def _declared_sizes(data: bytes, media_type: str) -> list[tuple[int, int]]:
    """Sizes that Pillow would allocate for while it only opens the file."""
    if media_type == "image/gif":
        return [(width, height) for width, height, _ in islice(gif_frames(data), 2)]
    if media_type == "image/webp":
        return _webp_sizes(data)
    return []


def gif_frames(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Width, height and milliseconds: of the canvas (0 ms), then of each frame, measured to its far corner, which may
    lie outside of the canvas. Nothing is decoded. Raises what BROKEN_IMAGE names."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    yield width, height, 0
    duration_ms = 0
    place = 13 + _num_colour_bytes(flags)
    while (block := data[place : place + 1]) in (_EXTENSION, _FRAME):
        if block == _FRAME:
            left, top, width, height, flags = struct.unpack_from("<HHHHB", data, place + 1)
            yield left + width, top + height, duration_ms
            place += 11 + _num_colour_bytes(flags)
        else:
            if data[place + 1 : place + 3] == _CONTROL:
                duration_ms = 10 * int.from_bytes(data[place + 4 : place + 6], "little")
            place += 2
        while data[place]:  # blocks of at most 255 bytes until an empty one
            place += data[place] + 1
        place += 1


_EXTENSION, _FRAME, _CONTROL = b"\x21", b"\x2c", b"\xf9\x04"


def _num_colour_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _webp_sizes(data: bytes) -> list[tuple[int, int]]:
    kind = data[12:16]
    if kind == b"VP8X":
        return [(1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little"))]
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return [(1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))]
    width, height = struct.unpack_from("<HH", data, 26)
    return [(width & 0x3FFF, height & 0x3FFF)]


def _require_modest_work(data: bytes, image: Image, limits: MediaLimits, param: str) -> None:
    """Small files that are much work: thousands of scans over one JPEG, a TIFF's tiles larger than the image."""
    if image.format == "JPEG":
        num_scans = data.count(b"\xff\xda")
        if num_scans * image.width * image.height > _MAX_SCANS * limits.max_pixels:
            raise InvalidInput(f"{param}: this JPEG has {num_scans} scans, far too many for its size.", param=param)
    if image.format == "TIFF":
        tags = getattr(image, "tag_v2", {})
        tile = [tags.get(tag, 0) for tag in (322, 323)]  # TileWidth, TileLength
        if all(isinstance(side, int) for side in tile):
            limits.require_pixels(*tile, param=param)


def _broken(name: str, error: BaseException, param: str) -> InvalidInput:
    return InvalidInput(f"{param}: the {name} file is broken or cut short: {_short(error)}.", param=param)


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split()).rstrip(".")[:160]
    return text or type(error).__name__


def _orientation(image: Image) -> int:
    """1 for an image that says nothing readable: a broken note beside the pixels does not make them unusable."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except BROKEN_IMAGE:
        return 1
    return orientation if isinstance(orientation, int) else 1


def _turned(image: Image, orientation: int) -> Image:
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    upright = to_rgb(image)
    return upright.transpose(turns[orientation]) if orientation in turns else upright


def to_rgb(image: Image) -> Image:
    """Of a loaded image, a new one. Raises ValueError for floats that are not finite."""
    if image.mode.startswith(("I", "F")):
        return _grey_of_8_bits(image).convert("RGB")
    if isinstance(image.info.get("transparency"), bytes):  # a palette with alphas: Pillow warns of the direct way
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def _grey_of_8_bits(image: Image) -> Image:
    """16 bits lose their lower half, as Pillow does to colours of 16 bits. Of 32 bits nobody knows the range, so that
    the values tell: 0 to 1 (floats), 8 bits, 16 bits, else from the least to the greatest."""
    import numpy as np
    from PIL.Image import fromarray

    values = np.asarray(image)
    if image.mode.startswith("I;16"):
        return fromarray((values >> 8).astype(np.uint8))
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("it holds numbers that are not finite")
    least, greatest = float(values.min()), float(values.max())
    if image.mode == "F" and 0 <= least and greatest <= 1:
        values *= 255
    elif 0 <= least and 255 < greatest <= 65535 and image.mode == "I":
        values //= 256
    elif least < 0 or greatest > 255:
        values = (values - least) * 255 / (greatest - least or 1)
    return fromarray(np.rint(values).astype(np.uint8))


_ENCODERS = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}
WRITTEN = tuple(_ENCODERS)


def encode_image(image: Image, media_type: str, quality: int = 90) -> bytes:
    """quality: of JPEG and WebP, 1 to 100. JPEG has no transparency: it is dropped. Raises UnsupportedMedia."""
    name = _ENCODERS.get(media_type)
    if name is None:
        raise UnsupportedMedia(f"Images are written as {', '.join(_ENCODERS)}, not as {media_type}.")
    file = io.BytesIO()
    if name == "PNG":
        (to_rgb(image) if image.mode not in _PNG_MODES else image).save(file, "PNG")
    elif name == "WEBP":
        (to_rgb(image) if image.mode not in ("RGB", "RGBA") else image).save(file, "WEBP", quality=quality)
    else:
        (to_rgb(image) if image.mode not in ("L", "RGB") else image).save(file, "JPEG", quality=quality)
    return file.getvalue()


_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
