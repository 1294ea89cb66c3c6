"""Errors about a task's fields, in the client's own names for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from app.errors import InputTooLarge, InvalidInput, UnsupportedMedia

Rename = Callable[[str], str]
"""A task's path -> the client's."""


def by_names(names: Mapping[str, str]) -> Rename:
    """names: a task's path -> the client's, the first that fits; a path below keeps its rest. "": the body itself."""

    def rename(param: str) -> str:
        for ours, theirs in names.items():
            if param == ours or param.startswith((f"{ours}.", f"{ours}[")):
                rest = param.removeprefix(ours)
                return theirs + rest if theirs else rest.removeprefix(".") or param
        return param

    return rename


@contextmanager
def renamed(rename: Rename) -> Iterator[None]:
    """Raises errors that are raised within about the fields that the client sent, in their sentences too."""
    try:
        yield
    except (InvalidInput, InputTooLarge, UnsupportedMedia) as error:
        ours = error.param
        theirs = None if ours is None else rename(ours)
        if ours is None or theirs is None or theirs == ours:
            raise
        message = error.message
        if message.startswith(ours):
            message = theirs + message.removeprefix(ours)
        raise type(error)(message, param=theirs) from None
