"""Content negotiation: which form of an answer `Accept` means."""

from __future__ import annotations

import pytest

from app.api.accept import preferred

SOUND = ("audio/wav", "audio/flac", "audio/ogg", "audio/mpeg", "application/json")
IMAGE = ("image/png", "image/jpeg", "image/webp", "application/json")


@pytest.mark.parametrize(
    ("accept", "offers", "expected"),
    [
        ("", SOUND, ("audio/wav", False)),
        ("*/*", SOUND, ("audio/wav", False)),
        ("audio/*", SOUND, ("audio/wav", False)),
        ("audio/flac", SOUND, ("audio/flac", True)),
        ("audio/x-wav", SOUND, ("audio/wav", True)),
        ("audio/mp3;q=0.5, audio/ogg", SOUND, ("audio/ogg", True)),
        ("application/json", SOUND, ("application/json", True)),
        ("application/json, */*;q=0.1", IMAGE, ("application/json", True)),
        ("image/*, application/json;q=0.9", IMAGE, ("image/png", False)),
        ("image/png;q=0, image/*", IMAGE, ("image/jpeg", False)),
        ("text/html", IMAGE, ("image/png", False)),
        ("nonsense;q=x", IMAGE, ("image/png", False)),
        ("IMAGE/WEBP", IMAGE, ("image/webp", True)),
    ],
)
def test_best_offer_is_chosen(accept: str, offers: tuple[str, ...], expected: tuple[str, bool]) -> None:
    """The most specific range weighs, the first of equals wins, and what cannot be had is answered with the first."""
    assert preferred(accept, offers) == expected
