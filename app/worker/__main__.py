"""`python -P -m app.worker --fd N`: a worker at the socket that it inherits as file descriptor N."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NoReturn

from app.catalog import ModelSpec
from app.channel.messages import Progress
from app.runtime.base import LoadedModel
from app.settings import cache_dir_of
from app.worker.confinement import as_declared
from app.worker.process import become_spawned_worker, serve


def run(fd: int) -> NoReturn:
    serve(fd, load)


def load(spec: ModelSpec, *, num_threads: int, progress: Callable[[Progress], None]) -> LoadedModel:
    with as_declared(spec):
        # Imported here: in a spawned worker torch takes seconds, and heartbeats are to begin before them.
        from app.runtime.loading import load_model

        return load_model(spec, num_threads=num_threads, progress=progress, cache_dir=cache_dir_of(os.environ))


if __name__ == "__main__":
    run(become_spawned_worker())
