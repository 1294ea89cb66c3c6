"""The string types that text tasks are made of."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

MAX_TEXT_CHARS = 1_000_000
"""A longer text is refused before anything tokenizes it: no model's context comes near."""

Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT_CHARS)]

TokenIds = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1, max_length=1_000_000)]
"""A text as its model's tokens."""

Direction = Literal["left", "right", "Left", "Right"]
"""Which end of a text that is too long is cut. Both spellings come from clients."""
