"""What the API process tells the pages' process at its start, as one line of JSON on its stdin."""

from __future__ import annotations

import msgspec

PATH = "/ui"
"""Where the pages are, on the server's own port."""
EXTRA = "ui"


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """api_url: of the server, from this machine. certificate: the one that it shows there, where it speaks TLS.
    folder: private to the process, with room for files that visitors upload. max_file_bytes: of one of them."""

    socket: str
    folder: str
    api_url: str
    certificate: str | None = None
    needs_key: bool = False
    has_docs: bool = True
    max_file_bytes: int = 32 * 2**20
