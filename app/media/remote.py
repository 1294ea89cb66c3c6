"""Files by URL, for the API process."""

from __future__ import annotations

from app.errors import InvalidInput
from app.media.limits import MediaLimits


class MediaFetcher:
    def __init__(self, limits: MediaLimits) -> None:
        self._limits = limits

    async def fetch(self, url: str, *, param: str) -> bytes:
        raise InvalidInput(f"{param}: URLs are off here; send the file itself or base64.", param=param)
