"""How large a file may be before anything decodes it."""

from __future__ import annotations

import msgspec

from app.errors import InputTooLarge


class MediaLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The `media:` of models.yaml. max_bytes: of one file. max_pixels: of one image or frame. max_seconds: of one sound
    or video. max_frames: of one video that are decoded. allow_hosts: such as `*.example.org`; none: any public host.

    The `require_` methods raise InputTooLarge with the limit and what the file has; `param` names the field.
    """

    max_bytes: int = 32 * 2**20
    max_pixels: int = 50_000_000
    max_seconds: float = 3600.0
    max_frames: int = 1024
    allow_urls: bool = False
    allow_hosts: tuple[str, ...] = ()

    def require_bytes(self, num_bytes: int, *, param: str) -> None:
        if num_bytes > self.max_bytes:
            raise InputTooLarge(
                f"{param}: the file has {num_bytes:,} bytes; the limit is {self.max_bytes:,}.", param=param
            )

    def require_pixels(self, width: int, height: int, *, param: str) -> None:
        if width * height > self.max_pixels:
            raise InputTooLarge(
                f"{param}: {width:,} x {height:,} are {width * height:,} pixels; the limit is {self.max_pixels:,}.",
                param=param,
            )

    def require_seconds(self, seconds: float, *, param: str) -> None:
        if seconds > self.max_seconds:
            raise InputTooLarge(
                f"{param}: the file lasts {seconds:,.1f} seconds; the limit is {self.max_seconds:,.1f}.", param=param
            )

    def require_frames(self, num_frames: int, *, param: str) -> None:
        if num_frames > self.max_frames:
            raise InputTooLarge(
                f"{param}: {num_frames:,} frames of the video would have to be decoded; the limit is"
                f" {self.max_frames:,}.",
                param=param,
            )
