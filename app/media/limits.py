"""How large a file may be before anything decodes it."""

from __future__ import annotations

import msgspec


class MediaLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The `media:` of models.yaml. max_bytes: of one file. max_pixels: of one image or frame. max_seconds: of one sound
    or video. max_frames: of one video that are decoded. allow_hosts: such as `*.example.org`; none: any public host."""

    max_bytes: int = 32 * 2**20
    max_pixels: int = 50_000_000
    max_seconds: float = 3600.0
    max_frames: int = 1024
    allow_urls: bool = False
    allow_hosts: tuple[str, ...] = ()
