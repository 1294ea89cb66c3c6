"""Answers drawn on the pictures that were asked about. Pure; everything is escaped."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping
from html import escape
from typing import Any

from app.ui.try_it.bars import HUES, bars_html

_MAX_SHAPES = 100
_MAX_LINES = 300

Body = Mapping[str, Any]


def boxes_html(body: Body, answer: Any) -> str:
    found = list(answer)[:_MAX_SHAPES]
    labels = sorted({str(one["label"]) for one in found})
    picture = str(body["inputs"])
    size = _size_of(picture)
    shapes, names = [], []
    for one in sorted(found, key=lambda one: float(one["score"])):  # the surest on top
        box, label = one["box"], str(one["label"])
        hue = HUES[labels.index(label) % len(HUES)]
        x, y = float(box["xmin"]), float(box["ymin"])
        width, height = float(box["xmax"]) - x, float(box["ymax"]) - y
        text = f"{label} {float(one['score']):.2f}"
        shapes.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="1" fill="{hue}" fill-opacity=".12"'
            f' stroke="{hue}" stroke-width="2" vector-effect="non-scaling-stroke"><title>{escape(text)}</title></rect>'
        )
        names.append(_name_on(text, x, y, hue, size))
    rows = [(str(one["label"]), float(one["score"])) for one in sorted(found, key=lambda one: -float(one["score"]))]
    none = '<p class="ps-note">Nothing was found above the threshold.</p>'
    return _drawn(picture, size, "".join([*shapes, *names])) + (bars_html(rows) if rows else none)


def _name_on(text: str, x: float, y: float, hue: str, size: tuple[int, int]) -> str:
    """Above the box, or within it where there is no room; in sizes of the picture, which the browser scales."""
    width, height = size
    letter = max(width, height) / 36
    high, long = 1.5 * letter, (0.64 * len(text) + 0.8) * letter
    left = min(max(x, 0.0), max(width - long, 0.0))
    top = min(max(y - high if y >= high else y, 0.0), height - high)
    return (
        f'<g class="ps-name"><rect x="{left:.1f}" y="{top:.1f}" width="{long:.1f}" height="{high:.1f}" fill="{hue}"/>'
        f'<text x="{left + 0.4 * letter:.1f}" y="{top + 1.1 * letter:.1f}" font-size="{letter:.1f}" fill="#fff">'
        f"{escape(text)}</text></g>"
    )


def masks_html(body: Body, answer: Any) -> str:
    found = list(answer)[:_MAX_SHAPES]
    picture = str(body["inputs"])
    size = _size_of(picture)
    layers, names = [], []
    for at, one in enumerate(found):
        hue = HUES[at % len(HUES)]
        identity = f"ps-mask-{zlib.crc32(str(one['mask']).encode()):x}-{at}"  # one page may have several answers
        layers.append(
            f'<mask id="{identity}"><image href="data:image/png;base64,{escape(str(one["mask"]))}" width="{size[0]}"'
            f' height="{size[1]}"/></mask><rect width="{size[0]}" height="{size[1]}" fill="{hue}" fill-opacity=".5"'
            f' mask="url(#{identity})"/>'
        )
        label = str(one.get("label") or f"mask {at + 1}")
        score = one.get("score")
        number = "" if score is None else f"<small>{float(score):.2f}</small>"
        names.append(f'<mark style="--hue:{hue}">{escape(label)}{number}</mark>')
    legend = f'<div class="ps-answer">{" ".join(names)}</div>' if names else '<p class="ps-note">No mask was found.</p>'
    return _drawn(picture, size, "".join(layers)) + legend


def depth_html(body: Body, answer: Any) -> str:
    depth = escape(str(answer["depth"]))
    return (
        f'<div class="ps-pair">{_img(str(body["inputs"]), "The picture")}'
        f'<img class="ps-picture" alt="Its depth" src="data:image/png;base64,{depth}"></div>'
    )


def lines_html(body: Body, answer: Any) -> str:
    """keypoint-matching: both pictures side by side, lines between what is the same in them."""
    pairs = answer[0] if answer and isinstance(answer[0], list) else answer
    first, second = (str(one) for one in body["inputs"])
    (width, height), (width_2, height_2) = _size_of(first), _size_of(second)
    gap = max(width, width_2) // 20
    lines = "".join(
        _line(one, HUES[at % len(HUES)], width + gap, max(height, height_2) / 90)
        for at, one in enumerate(pairs[:_MAX_LINES])
    )
    return (
        f'<svg class="ps-picture" viewBox="0 0 {width + gap + width_2} {max(height, height_2)}" role="img"'
        f' aria-label="{len(pairs)} points that are the same in both pictures">'
        f'<image href="{_address(first)}" width="{width}" height="{height}"/>'
        f'<image href="{_address(second)}" x="{width + gap}" width="{width_2}" height="{height_2}"/>{lines}</svg>'
        f'<p class="ps-note">{len(pairs) or "No"} points that are the same</p>'
    )


def _line(pair: Mapping[str, Any], hue: str, left: float, radius: float) -> str:
    """left: where the second picture begins."""
    first, second = pair["keypoint_image_0"], pair["keypoint_image_1"]
    x, y, x_2, y_2 = float(first["x"]), float(first["y"]), left + float(second["x"]), float(second["y"])
    ends = "".join(
        f'<circle cx="{cx}" cy="{cy}" r="{radius:.2f}" fill="{hue}" stroke="#fff" stroke-width="1"'
        ' vector-effect="non-scaling-stroke"/>'
        for cx, cy in ((x, y), (x_2, y_2))
    )
    return (
        f'<g opacity="{0.35 + 0.65 * float(pair["score"]):.2f}"><line x1="{x}" y1="{y}" x2="{x_2}" y2="{y_2}"'
        f' stroke="{hue}" stroke-width="1.5" vector-effect="non-scaling-stroke"/>{ends}</g>'
    )


def _drawn(picture: str, size: tuple[int, int], shapes: str) -> str:
    width, height = size
    return (
        f'<svg class="ps-picture" viewBox="0 0 {width} {height}" role="img"'
        ' aria-label="The picture and what was found">'
        # What lies beside the picture is cut off by an inner one.
        f'<svg width="{width}" height="{height}">'
        f'<image href="{_address(picture)}" width="{width}" height="{height}"/>{shapes}</svg></svg>'
    )


def _img(picture: str, alt: str) -> str:
    return f'<img class="ps-picture" alt="{alt}" src="{_address(picture)}">'


def _address(picture: str) -> str:
    return f"data:image/png;base64,{escape(picture)}"


def _size_of(picture: str) -> tuple[int, int]:
    """Of a PNG in base64: the form makes every picture one. Raises ValueError for anything else."""
    head = base64.b64decode(picture[:32])
    if not head.startswith(b"\x89PNG"):
        raise ValueError("this is not a PNG")
    width, height = struct.unpack(">II", head[16:24])
    return width, height
