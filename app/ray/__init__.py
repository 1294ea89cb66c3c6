"""Ray Serve: many machines behind the same routes. Only this package imports ray, and nothing but the command imports
this package: a server of one machine knows nothing of it."""

from __future__ import annotations

from typing import Any


def build(arguments: dict[str, Any]) -> Any:
    """The application, for `serve run app.ray:build models=models.yaml` and for a RayService. arguments: those of
    `app/ray/arguments.py`."""
    from app.ray.application import application_of  # ray, which takes seconds, and which not every installation has
    from app.ray.arguments import read_arguments

    return application_of(read_arguments(arguments))
