"""Sounds, faster or slower at the same pitch."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from app.errors import UnsupportedMedia
from app.media.audio import Samples
from app.media.libraries import load_library

_WHAT = "Other speeds than 1"
_LAYOUTS = {1: "mono", 2: "stereo"}
_BLOCK = 4096
_TAIL_S = 0.25
"""Of silence behind the sound, so that the filter gives out all of it; cut off again."""


def require_stretching(*, param: str) -> None:
    """Raises UnsupportedMedia where there is no PyAV."""
    load_library("av", what=_WHAT, param=param)


def stretch(samples: Samples, sampling_rate: int, speed: float) -> Samples:
    """samples: [n] or [channels, n], and so is what is returned; speed 2: half as long, to the sample. By FFmpeg's
    `atempo`.

    Raises UnsupportedMedia for more than two channels.
    """
    av = load_library("av", what=_WHAT)
    by_channel = np.atleast_2d(samples)
    layout = _LAYOUTS.get(len(by_channel))
    if layout is None:
        raise UnsupportedMedia(f"{_WHAT} are for one or two channels; this sound has {len(by_channel)}.")
    graph = av.filter.Graph()
    source = graph.add_abuffer(
        sample_rate=sampling_rate, format="fltp", layout=layout, time_base=Fraction(1, sampling_rate)
    )
    tempos = [graph.add("atempo", str(factor)) for factor in _factors(speed)]
    planes = graph.add("aformat", "sample_fmts=fltp")  # `atempo` itself mixes the channels' samples
    graph.link_nodes(source, *tempos, planes, graph.add("abuffersink")).configure()
    parts: list[Any] = []
    padded = np.pad(by_channel, ((0, 0), (0, round(_TAIL_S * sampling_rate * max(1.0, speed)))))
    for begin in range(0, padded.shape[1], _BLOCK):
        block = np.ascontiguousarray(padded[:, begin : begin + _BLOCK])
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
        frame.sample_rate, frame.pts = sampling_rate, begin
        graph.push(frame)
        parts += _pulled(av, graph)
    graph.push(None)
    parts += _pulled(av, graph)
    stretched: Samples = np.concatenate(parts, axis=1)[:, : max(1, round(by_channel.shape[1] / speed))]
    return stretched if samples.ndim == 2 else stretched[0]


def _pulled(av: Any, graph: Any) -> list[Any]:
    """What has come out of it so far."""
    parts = []
    while True:
        try:
            parts.append(graph.pull().to_ndarray())
        except (av.BlockingIOError, av.EOFError):
            return parts


def _factors(speed: float) -> list[float]:
    """Whose product it is, each 0.5 to 2: beyond, `atempo` leaves samples out."""
    factors = []
    while speed > 2:
        factors.append(2.0)
        speed /= 2
    while speed < 0.5:
        factors.append(0.5)
        speed /= 0.5
    return [*factors, speed]
