"""What a file is, by its first bytes alone: names and declared types are not to be trusted."""

from __future__ import annotations

_BY_START = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"II+\x00", "image/tiff"),  # BigTIFF
    (b"MM\x00+", "image/tiff"),
    (b"8BPS", "image/vnd.adobe.photoshop"),
    (b"%PDF-", "application/pdf"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
    (b"\x1aE\xdf\xa3", "video/webm"),  # or Matroska: see below
)
_BY_RIFF_KIND = {b"WAVE": "audio/wav", b"WEBP": "image/webp", b"AVI ": "video/x-msvideo"}
_BY_BRAND = {
    b"M4A ": "audio/mp4",
    b"M4B ": "audio/mp4",
    b"M4P ": "audio/mp4",
    b"qt  ": "video/quicktime",
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"hevc": "image/heic",
    b"heim": "image/heic",
    b"heis": "image/heic",
    b"mif1": "image/heic",
    b"msf1": "image/heic",
}


def sniff(data: bytes) -> str | None:
    """The media type, such as `image/png`; None for what is none of the files that people send as media.

    A file that only begins like one of its type gets that type's name: whether it is whole shows when it is decoded.
    """
    for start, media_type in _BY_START:
        if data.startswith(start):
            return "video/x-matroska" if media_type == "video/webm" and b"matroska" in data[:64] else media_type
    if data[:4] in (b"RIFF", b"RF64"):
        return _BY_RIFF_KIND.get(data[8:12])
    if data[4:8] == b"ftyp":
        return _BY_BRAND.get(data[8:12], "video/mp4")
    if data[4:8] in (b"moov", b"mdat", b"wide"):  # QuickTime files before there were brands
        return "video/quicktime"
    if _is_bitmap(data):
        return "image/bmp"
    return _sniff_stream(data)


def _is_bitmap(data: bytes) -> bool:
    """`BM` alone begins many a text: a bitmap has four reserved bytes and a header of a known size as well."""
    return data[:2] == b"BM" and data[14:18] in tuple(bytes((size, 0, 0, 0)) for size in (12, 40, 52, 56, 64, 108, 124))


def _sniff_stream(data: bytes) -> str | None:
    """MP3 and AAC have no header of their own: an ID3 tag, or the first frame's."""
    if data[:3] == b"ID3":
        return "audio/mpeg"
    if len(data) < 4 or data[0] != 0xFF:
        return None
    if data[1] & 0xF6 == 0xF0:  # ADTS: twelve bits of sync, layer 0
        return "audio/aac" if data[2] >> 2 & 0xF < 13 else None
    # Layers II and III, of a rate: layer I would take in UTF-16's first bytes, FF FE.
    is_frame = data[1] & 0xE0 == 0xE0 and data[1] & 0x18 != 0x08 and data[1] & 0x06 in (2, 4)
    return "audio/mpeg" if is_frame and 0 < data[2] >> 4 < 0xF and data[2] & 0x0C != 0x0C else None
