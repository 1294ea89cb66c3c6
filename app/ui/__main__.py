"""`python -m app.ui`: started by the API process, which tells it what it must know on stdin, and ends with it."""

from __future__ import annotations

import os
import sys
import threading

import msgspec

from app.ui.told import Told


def main() -> None:
    told = msgspec.json.decode(sys.stdin.readline(), type=Told)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from app.ui.site import serve

    serve(told)


def _end_with_parent() -> None:
    """Its end of the pipe closes however it ends."""
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
