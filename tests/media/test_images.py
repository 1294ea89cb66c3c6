"""Images: every format and mode, every way to break one, every limit."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.errors import InputTooLarge, InvalidInput, PipeserveError, UnsupportedMedia
from app.media.images import decode_image, encode_image
from app.media.limits import MediaLimits
from tests.media.files import HEIGHT, WIDTH, gif_file, picture, png_chunk, png_of, saved
from tests.media.memory import at_most

LIMITS = MediaLimits()
PARAM = "inputs[2]"


def decode(data: bytes, limits: MediaLimits = LIMITS) -> NDArray[np.uint8]:
    image = decode_image(data, limits, param=PARAM)
    assert image.mode == "RGB"
    return np.asarray(image)


def refused(error_class: type[PipeserveError], data: bytes, limits: MediaLimits = LIMITS) -> str:
    with pytest.raises(error_class) as caught:
        decode_image(data, limits, param=PARAM)
    assert caught.value.param == PARAM
    assert caught.value.message.startswith(f"{PARAM}: ")
    return caught.value.message


@pytest.mark.parametrize(
    ("name", "tolerance"), [("PNG", 0), ("JPEG", 40), ("WEBP", 40), ("GIF", 0), ("BMP", 0), ("TIFF", 0)]
)
def test_every_format_is_read(name: str, tolerance: int) -> None:
    """JPEG and WebP lose something at the borders of the quarters."""
    pixels = decode(saved(picture(), name))
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    difference = np.abs(pixels.astype(int) - np.asarray(picture()))
    assert np.median(difference) <= tolerance / 10
    assert difference[2:6, 2:6].max() <= tolerance


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(name: str, orientation: int) -> None:
    """A photo of a turned camera comes upright, as from transformers' `load_image`."""
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(picture(), name, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    assert np.array_equal(decode(data), np.asarray(expected))
    assert decode(data).shape[:2] == ((WIDTH, HEIGHT) if orientation >= 5 else (HEIGHT, WIDTH))


@pytest.mark.parametrize("orientation", [b"\x00\x09", b"\x00\x00", b"\xff\xff"])
def test_impossible_orientation_means_upright(orientation: bytes) -> None:
    """A broken note beside the pixels does not make the image unusable."""
    exif = b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01" + orientation + bytes(6)
    assert decode(saved(picture(), "PNG", exif=exif)).shape == (HEIGHT, WIDTH, 3)


def grey(mode: str, values: list[float]) -> Image.Image:
    dtype: Any = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
    return Image.fromarray(np.asarray([values], dtype=dtype))


@pytest.mark.parametrize(
    ("mode", "name", "values", "expected"),
    [
        ("I;16", "PNG", [0, 255, 256, 32768, 65535], [0, 0, 1, 128, 255]),
        ("I;16", "TIFF", [0, 255, 256, 32768, 65535], [0, 0, 1, 128, 255]),
        ("I", "TIFF", [0, 100, 255], [0, 100, 255]),
        ("I", "TIFF", [0, 256, 65535], [0, 1, 255]),
        ("I", "TIFF", [0, 2**30, 2**31 - 1], [0, 128, 255]),
        ("I", "TIFF", [-100, 0, 100], [0, 128, 255]),
        ("F", "TIFF", [0.0, 0.5, 1.0], [0, 128, 255]),
        ("F", "TIFF", [0.0, 100.0, 255.0], [0, 100, 255]),
        ("F", "TIFF", [-1.0, 0.0, 1.0], [0, 128, 255]),
        ("F", "TIFF", [1000.0, 1000.0], [0, 0]),
    ],
)
def test_deep_greys_are_scaled(mode: str, name: str, values: list[float], expected: list[int]) -> None:
    """Pillow alone would cut all above 255."""
    pixels = decode(saved(grey(mode, values), name))
    assert pixels[0, :, 0].tolist() == expected
    assert (pixels[..., 0] == pixels[..., 1]).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_pixels_that_are_not_finite_are_refused(value: float) -> None:
    """A TIFF of floats can hold them."""
    assert "not finite" in refused(InvalidInput, saved(grey("F", [0.0, value]), "TIFF"))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "RGB", "I;16"])
def test_modes_of_png_become_rgb(mode: str) -> None:
    """As Pillow's `convert` makes it, deep greys aside."""
    image = picture().convert("L").convert("I").convert(mode) if mode == "I;16" else picture().convert(mode)
    pixels = decode(saved(image, "PNG"))
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    if mode != "I;16":
        assert np.array_equal(pixels, np.asarray(image.convert("RGB")))


def test_inks_become_rgb() -> None:
    """CMYK, as printers send JPEG and TIFF."""
    for name in ("JPEG", "TIFF"):
        pixels = decode(saved(picture().convert("CMYK"), name))
        assert np.abs(pixels[4, 4].astype(int) - (255, 0, 0)).max() < 10


def test_transparency_is_dropped() -> None:
    """The colours below it show, as with transformers' `load_image`: in RGBA, in palettes with one or many alphas."""
    image = Image.new("RGBA", (2, 1), (10, 20, 30, 0))
    assert decode(saved(image, "PNG"))[0, 0].tolist() == [10, 20, 30]
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    for transparency in (0, b"\x00\x80"):
        assert decode(saved(palette, "PNG", transparency=transparency))[0, 0].tolist() == [10, 20, 30]


def test_first_frame_is_taken() -> None:
    """Of animations and of TIFFs with several pages."""
    first, second = Image.new("RGB", (4, 4), (250, 0, 0)), Image.new("RGB", (4, 4), (0, 0, 250))
    for name in ("GIF", "TIFF", "WEBP", "PNG"):
        options = {"lossless": True} if name == "WEBP" else {}
        data = saved(first, name, save_all=True, append_images=[second], **options)
        assert decode(data)[0, 0].tolist() == [250, 0, 0]


def test_one_pixel_is_an_image() -> None:
    """Whether a processor takes it is the processor's to say."""
    assert decode(saved(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG")).tolist() == [[[1, 2, 3]]]


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_cut_files_are_refused_or_read(name: str) -> None:
    """Wherever a file ends too early: one sentence, or its image where only what follows the pixels is missing."""
    data = saved(picture(), name)
    for length in range(12, len(data) - 1, max(1, len(data) // 60)):
        try:
            assert decode(data[:length]).shape == (HEIGHT, WIDTH, 3)
        except InvalidInput as error:
            assert error.message.startswith(f"{PARAM}: ")
    refused(InvalidInput, data[: len(data) // 3])


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_broken_bytes_end_in_a_sentence(name: str) -> None:
    """Whatever stands in the file: an image or one of our errors."""
    chance = random.Random(7)
    limits = MediaLimits(max_pixels=1_000_000)
    data = saved(picture(), name, exif=Image.Exif()) if name != "GIF" else gif_file(2)
    for _ in range(300):
        broken = bytearray(data)
        for _ in range(chance.randint(1, 6)):
            broken[chance.randrange(min(len(broken), 400))] = chance.randrange(256)
        try:
            decode(bytes(broken), limits)
        except PipeserveError as error:
            assert error.param == PARAM


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"this is text called cat.png", "not an image"),
        (b"BMW", "not an image"),
        (b"\x89PNG\r\n\x1a\n", "PNG file is broken"),
        (b"GIF89a", "GIF file is broken"),
        (b"RIFF\x00\x00\x00\x00WEBP", "WebP file is broken"),
        (b"\xff\xd8\xff\xe0", "JPEG file is broken"),
    ],
)
def test_what_is_no_image_is_refused(data: bytes, says: str) -> None:
    """422, with the field's name."""
    assert says in refused(InvalidInput, data)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\x00\x00\x00\x18ftypheic", "HEIC"),
        (b"\x00\x00\x00\x18ftypavif", "AVIF"),
        (b"8BPS\x00\x01", "Photoshop"),
        (b"%PDF-1.7", "PDF"),
        (b"fLaC", "audio/flac"),
    ],
)
def test_formats_that_nobody_reads_are_named(data: bytes, name: str) -> None:
    """415, with what is read instead."""
    message = refused(UnsupportedMedia, data)
    assert name in message
    assert "PNG, JPEG, WebP, GIF, BMP and TIFF" in message


def jpeg_of(width: int, height: int) -> bytes:
    data = saved(picture(), "JPEG")
    place = data.index(b"\xff\xc0")
    return data[: place + 5] + struct.pack(">HH", height, width) + data[place + 9 :]


def gif_of(width: int, height: int, frame: tuple[int, int] = (1, 1)) -> bytes:
    screen = struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    control = b"\x21\xf9\x04\x0c\x00\x00\x00\x00"  # cleared to the background: Pillow allocates for that at once
    return b"GIF89a" + screen + control + b"\x2c" + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\x02\x02\x4c\x01\x00;"


def webp_of(width: int, height: int) -> bytes:
    inner = saved(picture(), "WEBP")[12:]
    header = (
        b"VP8X" + struct.pack("<IB3x", 10, 0) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    )
    return b"RIFF" + struct.pack("<I", 4 + len(header) + len(inner)) + b"WEBP" + header + inner


def bmp_of(width: int, height: int) -> bytes:
    data = saved(picture(), "BMP")
    return data[:18] + struct.pack("<ii", width, height) + data[26:]


def tiff_of(width: int, height: int) -> bytes:
    data = bytearray(saved(picture(), "TIFF"))
    (start,) = struct.unpack_from("<I", data, 4)
    for index in range(struct.unpack_from("<H", data, start)[0]):
        place = start + 2 + 12 * index
        tag = struct.unpack_from("<H", data, place)[0]
        if tag in (256, 257):
            struct.pack_into("<HII", data, place + 2, 4, 1, width if tag == 256 else height)
    return bytes(data)


BOMBS: dict[str, Callable[[], bytes]] = {
    "PNG": lambda: png_of(40_000, 40_000, rows=bytes(1_000_000)),
    "JPEG": lambda: jpeg_of(40_000, 40_000),
    "GIF": lambda: gif_of(40_000, 40_000),
    "GIF's frame": lambda: gif_of(1, 1, (40_000, 40_000)),
    "WebP": lambda: webp_of(40_000, 40_000),
    "BMP": lambda: bmp_of(40_000, 40_000),
    "TIFF": lambda: tiff_of(40_000, 40_000),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bomb_is_refused_before_anything_is_allocated(name: str) -> None:
    """1.6 thousand million pixels in a small file: 413 with limit and actual size, and next to no memory."""
    data = BOMBS[name]()
    with at_most(100_000_000):
        message = refused(InputTooLarge, data)
    assert "40,000 x 40,000 are 1,600,000,000 pixels; the limit is 50,000,000" in message


def test_lossless_webp_is_measured() -> None:
    """Its size stands in bits of its own."""
    data = saved(picture(), "WEBP", lossless=True)
    assert data[12:16] == b"VP8L"
    assert "48 x 32" in refused(InputTooLarge, data, MediaLimits(max_pixels=WIDTH * HEIGHT - 1))
    assert np.array_equal(decode(data), np.asarray(picture()))


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_limit_of_pixels_is_exact(name: str) -> None:
    """An image of just the limit is read, one pixel less is 413."""
    data = saved(picture(), name)
    decode(data, MediaLimits(max_pixels=WIDTH * HEIGHT))
    refused(InputTooLarge, data, MediaLimits(max_pixels=WIDTH * HEIGHT - 1))


def test_limit_of_bytes_is_exact() -> None:
    """Before anything looks into the file."""
    data = saved(picture(), "PNG")
    decode(data, MediaLimits(max_bytes=len(data)))
    assert f"{len(data):,} bytes" in refused(InputTooLarge, data, MediaLimits(max_bytes=len(data) - 1))


def test_png_that_claims_less_than_it_holds_is_cut() -> None:
    """The rows beyond the header's size, a decompression bomb, are never inflated."""
    data = png_of(4, 4, rows=bytes(50_000_000))
    with at_most(20_000_000):
        assert decode(data).shape == (4, 4, 3)


def test_png_that_claims_more_than_it_holds_is_refused() -> None:
    """Rows that are not there are not made up."""
    assert "PNG file is broken" in refused(InvalidInput, png_of(4000, 4000, rows=bytes(100)))


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_compressed_text_does_not_blow_up(kind: bytes) -> None:
    """300 MB of zeros in a chunk of text beside the pixels."""
    between = b"\x00\x01\x00\x00\x00" if kind == b"iTXt" else b"\x00\x00"
    content = b"name" + between + zlib.compress(bytes(50_000_000), 9)
    data = png_of(1, 1, *(png_chunk(kind, content) for _ in range(6)), rows=bytes(2))
    with at_most(30_000_000):
        refused(InvalidInput, data)


def test_much_text_beside_a_pixel_is_refused() -> None:
    """Many chunks just below the limit of one."""
    chunk = png_chunk(b"zTXt", b"name\x00\x00" + zlib.compress(bytes(1_000_000), 9))
    assert "text" in refused(InvalidInput, png_of(1, 1, chunk * 80, rows=bytes(2)))


def test_jpeg_of_endless_scans_is_refused() -> None:
    """Each scan of a progressive JPEG costs a pass over the whole image."""
    data = saved(picture(2000, 2000), "JPEG", progressive=True)
    decode(data)
    start = data.rindex(b"\xff\xda")
    scans = data[:start] + data[start : start + 12] * 2000 + data[start:]
    assert "scans" in refused(InvalidInput, scans)


def test_tile_larger_than_its_image_is_refused() -> None:
    """A TIFF's tile is allocated as a whole, whatever part of it the image shows."""
    import PIL.TiffImagePlugin

    tags = PIL.TiffImagePlugin.ImageFileDirectory_v2()
    tags[322], tags[323], tags[324], tags[325] = 64_000, 64_000, 8, 100
    for tag, value in ((256, 16), (257, 16), (258, 8), (259, 8), (262, 1), (277, 1)):
        tags[tag] = value
    file = io.BytesIO()
    file.write(b"II*\x00\x08\x00\x00\x00")
    tags.save(file)
    refused(InputTooLarge, file.getvalue() + bytes(100))


@pytest.mark.parametrize("media_type", ["image/png", "image/jpeg", "image/webp"])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
def test_every_mode_is_written(media_type: str, mode: str) -> None:
    """In every format, and it is read again."""
    image = Image.new(mode, (8, 8))
    assert decode(encode_image(image, media_type)).shape == (8, 8, 3)


def test_quality_costs_bytes() -> None:
    """In JPEG and WebP."""
    noise = Image.effect_noise((64, 64), 80).convert("RGB")
    for media_type in ("image/jpeg", "image/webp"):
        assert len(encode_image(noise, media_type, quality=20)) < len(encode_image(noise, media_type, quality=95))


def test_other_types_are_not_written() -> None:
    """The error says which are."""
    with pytest.raises(UnsupportedMedia, match="image/png, image/jpeg, image/webp"):
        encode_image(picture(), "image/gif")
