"""Which of an answer's forms a client wants."""

from __future__ import annotations

from collections.abc import Sequence


def preferred(accept: str, offers: Sequence[str]) -> tuple[str, bool]:
    """The offer that `Accept` likes best (the first of equals), and whether it was asked for by its name.

    A header that likes none of them, or cannot be read, is answered with the first: an answer of another type is of
    more use than none.
    """
    wanted = _ranges(accept)
    scores = {offer: _quality(offer, wanted) for offer in offers}
    best = max(offers, key=lambda offer: scores[offer])
    if scores[best] <= 0:
        return offers[0], False
    return best, best in wanted


def _ranges(accept: str) -> dict[str, float]:
    """Media range -> its weight."""
    found: dict[str, float] = {}
    for part in accept.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    weight = float(parameter[2:])
                except ValueError:
                    weight = 0.0
        if name:
            found[_SAME.get(name, name)] = weight
    return found or {"*/*": 1.0}


def _quality(offer: str, wanted: dict[str, float]) -> float:
    """The most specific range decides."""
    kind = offer.partition("/")[0]
    for name in (offer, f"{kind}/*", "*/*"):
        if name in wanted:
            return wanted[name]
    return 0.0


_SAME = {"audio/x-wav": "audio/wav", "audio/wave": "audio/wav", "audio/mp3": "audio/mpeg", "audio/x-flac": "audio/flac"}
"""Other names of the media types that are offered."""
