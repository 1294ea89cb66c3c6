"""`python -m app.ui`: started by the API process, which tells it what it must know on stdin, and ends with it."""

from __future__ import annotations

import logging
import mimetypes
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from app.confinement import Bounds, confine
from app.ui.told import Told

_OF_THE_SYSTEM = (
    *("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/ssl/certs", "/etc/ssl/openssl.cnf"),
    *("/etc/hosts", "/etc/localtime", "/etc/nsswitch.conf", "/dev/urandom"),
    *("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/sys/devices/system/cpu"),
)
"""Files and folders that libraries read, none of which is a secret."""


def main() -> None:
    told = msgspec.json.decode(sys.stdin.readline(), type=Told)
    _confine(told)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from app.ui.site import serve

    serve(told)


def _confine(told: Told) -> None:
    """Before there is a second thread. Gradio serves files by their paths: what it must not, it cannot open."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("app.confinement").setLevel(logging.INFO)
    port = urlsplit(told.api_url).port
    assert port is not None, f"{told.api_url} names no port. This is a bug."
    confine("the pages", Bounds(reading=tuple(_read(told)), writing=Path(told.folder), port=port))


def _read(told: Told) -> Iterator[Path]:
    yield from map(Path, {*_OF_THE_SYSTEM, *mimetypes.knownfiles, sys.prefix, sys.base_prefix, *sys.path})
    yield from map(Path, filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)))
    if told.certificate is not None:
        yield Path(told.certificate)


def _end_with_parent() -> None:
    """Its end of the pipe closes however it ends."""
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
