"""Errors about a task's fields, in the client's own names for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from app.errors import InputTooLarge, InvalidInput, UnsupportedMedia


@contextmanager
def renamed(names: Mapping[str, str]) -> Iterator[None]:
    """names: a task's path -> the client's; a path below one of them keeps its rest."""
    try:
        yield
    except (InvalidInput, InputTooLarge, UnsupportedMedia) as error:
        for ours, theirs in names.items():
            param = error.param or ""
            if param == ours or param.startswith((f"{ours}.", f"{ours}[")):
                path = theirs + param.removeprefix(ours)
                message = error.message
                if message.startswith(param):
                    message = path + message.removeprefix(param)
                raise type(error)(message, param=path) from None
        raise
