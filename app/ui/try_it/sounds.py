"""Sounds with their waveforms, and what was said in them."""

from __future__ import annotations

import array
import io
import sys
import wave
from collections.abc import Mapping
from html import escape
from typing import Any

_NUM_COLUMNS = 160
_HEIGHT = 64


def sound_html(content: bytes, address: str) -> str:
    """address: of the same sound, for the player. WAV files of 16 bits, as the server makes them, have a waveform."""
    player = f'<audio class="ps-sound" controls aria-label="The answer" src="{address}"></audio>'
    try:
        peaks, seconds = _peaks(content)
    except (wave.Error, EOFError, ValueError):
        return player
    shape = "".join(_column(at, peak * _HEIGHT) for at, peak in enumerate(peaks))
    return (
        f'<svg class="ps-wave" viewBox="0 0 {4 * len(peaks)} {_HEIGHT}" preserveAspectRatio="none" role="img"'
        f' aria-label="Its waveform">{shape}</svg>{player}<p class="ps-note">{seconds:.2f} s</p>'
    )


def _column(at: int, height: float) -> str:
    return f'<rect x="{4 * at}" y="{(_HEIGHT - height) / 2:.1f}" width="2.6" height="{height:.1f}" rx="1.3"/>'


def _peaks(content: bytes) -> tuple[list[float], float]:
    """Of the first channel, in equal parts, 0.02 to 1; and the seconds."""
    with wave.open(io.BytesIO(content)) as sound:
        if sound.getsampwidth() != 2 or sound.getnframes() == 0:
            raise ValueError("there are no samples of 16 bits")
        samples = array.array("h", sound.readframes(sound.getnframes()))
        samples = samples[:: sound.getnchannels()]
        seconds = len(samples) / sound.getframerate()
    if sys.byteorder == "big":
        samples.byteswap()
    num = min(_NUM_COLUMNS, len(samples))
    parts = [samples[len(samples) * at // num : len(samples) * (at + 1) // num] for at in range(num)]
    peaks = [max(max(part), -min(part)) for part in parts]
    most = max(max(peaks), 1)
    return [max(peak / most, 0.02) for peak in peaks], seconds


def spoken_html(answer: Mapping[str, Any]) -> str:
    """The text, and its parts with their times."""
    rows = "".join(
        f'<tr><th scope="row">{_time(one["timestamp"][0])} – {_time(one["timestamp"][1])}</th>'
        f"<td>{escape(str(one['text']).strip())}</td></tr>"
        for one in answer["chunks"]
    )
    text = f'<div class="ps-answer">{escape(str(answer["text"]))}</div>'
    return f'{text}<table class="ps-table ps-cells ps-spoken">{rows}</table>'


def _time(seconds: float | None) -> str:
    """Minutes only where there are some; the last part may have no end."""
    if seconds is None:
        return "…"
    minutes, rest = divmod(float(seconds), 60)
    return f"{minutes:.0f}:{rest:05.2f}" if minutes else f"{rest:.2f} s"
