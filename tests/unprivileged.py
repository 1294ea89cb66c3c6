"""What a user without rights is told, also where the tests are run by root, whom no mode of a file stops."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

_NOBODY = 65534


def as_nobody(ask: Callable[[], str]) -> str:
    """The answer of a forked child that has given up root. It must start no threads."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(_NOBODY)
                os.setuid(_NOBODY)
            answer = ask()
        except BaseException as error:  # the child's end: what went wrong is its answer
            answer = repr(error)
        os.write(writer, answer.encode()[:4096])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return answer


@contextmanager
def public_folder() -> Iterator[Path]:
    """A folder that this user may look into, unlike pytest's own."""
    with TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)
