"""Answers of tasks as HTML: bars, marks in a text, boxes and masks on a picture. Pure; everything is escaped."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

HUES = ("#6366f1", "#f59e0b", "#10b981", "#ef4444", "#a855f7", "#06b6d4", "#ec4899", "#84cc16")
_MAX_BARS = 20
_MAX_BOXES = 100
_MAX_LINES = 300
_MAX_VALUES = 256
_TEXTS = ("generated_text", "summary_text", "translation_text", "text", "answer")

Body = Mapping[str, Any]


def file_html(content: bytes, media_type: str) -> str:
    """An answer that is a file."""
    address = f"data:{escape(media_type)};base64,{base64.b64encode(content).decode()}"
    if media_type.startswith("audio/"):
        return f'<audio class="ps-sound" controls src="{address}"></audio>'
    if media_type.startswith("image/"):
        return f'<img class="ps-picture" alt="The answer" src="{address}">'
    return f'<p class="ps-note">{len(content)} bytes of {escape(media_type)}</p>'


def answer_html(task: str, body: Body, answer: Any) -> str:
    """body: that was asked, its files as base64. Shapes that are not known are shown as JSON."""
    show = _OF_TASK.get(task, _by_shape)
    try:
        return show(body, answer)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        return _json_html(answer)  # a custom model may answer anything


def _by_shape(body: Body, answer: Any) -> str:
    if isinstance(answer, dict):
        answer = [answer]
    if isinstance(answer, list) and answer and all(isinstance(one, dict) for one in answer):
        if all("label" in one and "score" in one for one in answer):
            return bars_html([(str(one["label"]), float(one["score"])) for one in answer])
        if all("answer" in one and "score" in one for one in answer):
            return bars_html([(str(one["answer"]), float(one["score"])) for one in answer])
        name = next((name for name in _TEXTS if name in answer[0]), None)
        if name is not None:
            return "".join(f'<div class="ps-answer">{escape(str(one[name]))}</div>' for one in answer)
    return _json_html(answer)


def bars_html(rows: Sequence[tuple[str, float]]) -> str:
    """Scores beyond 0 to 1 (logits, distances) are drawn against the largest."""
    most = max([1.0, *(abs(score) for _, score in rows)])
    bars = "".join(
        f'<div><span>{escape(label)}</span><output>{score:.3f}</output><i style="--share:{_percent(score / most)}"></i>'
        "</div>"
        for label, score in rows[:_MAX_BARS]
    )
    more = f'<p class="ps-note">and {len(rows) - _MAX_BARS} more</p>' if len(rows) > _MAX_BARS else ""
    return f'<div class="ps-bars">{bars}</div>{more}'


def _percent(share: float) -> str:
    return f"{100 * min(max(share, 0.0), 1.0):.1f}%"


def _labels(body: Body, answer: Any) -> str:
    while isinstance(answer[0], list):
        answer = answer[0]
    return _by_shape(body, answer)


def _entities(body: Body, answer: Any) -> str:
    text = body["inputs"]
    labels = sorted({_label_of(one) for one in answer})
    parts, at = [], 0
    for one in sorted(answer, key=lambda one: int(one["start"])):
        start, end = int(one["start"]), int(one["end"])
        if start < at:
            continue
        label = _label_of(one)
        hue = HUES[labels.index(label) % len(HUES)]
        parts.append(escape(text[at:start]))
        parts.append(
            f'<mark style="--hue:{hue}" title="{float(one["score"]):.3f}">{escape(text[start:end])}'
            f"<small>{escape(label)}</small></mark>"
        )
        at = end
    parts.append(escape(text[at:]))
    none = '<p class="ps-note">No entity was found.</p>' if not answer else ""
    return f'<div class="ps-answer">{"".join(parts)}</div>{none}'


def _label_of(entity: Mapping[str, Any]) -> str:
    return str(entity.get("entity_group") or entity["entity"])


def _span(body: Body, answer: Any) -> str:
    """question-answering: the answer where it stands in the text."""
    best = answer[0] if isinstance(answer, list) else answer
    text, start, end = body["inputs"]["context"], int(best["start"]), int(best["end"])
    marked = (
        f'{escape(text[:start])}<mark style="--hue:{HUES[0]}">{escape(text[start:end])}</mark>{escape(text[end:])}'
        if end > start
        else escape(text)
    )
    found = escape(str(best["answer"])) or "There is no answer in this text."
    return (
        f'<div class="ps-bars"><div><b>{found}</b><output>{float(best["score"]):.3f}</output>'
        f'<i style="--share:{_percent(float(best["score"]))}"></i></div></div><div class="ps-answer">{marked}</div>'
    )


def _filled(body: Body, answer: Any) -> str:
    rows = answer if not isinstance(answer[0], list) else [one for mask in answer for one in mask]
    bars = bars_html([(str(one["token_str"]).strip(), float(one["score"])) for one in rows])
    best = "" if isinstance(answer[0], list) else f'<div class="ps-answer">{escape(str(answer[0]["sequence"]))}</div>'
    return best + bars


def _similar(body: Body, answer: Any) -> str:
    """A row of cells: the warmer, the nearer."""
    rows = "".join(
        f'<tr><th scope="row" title="{escape(text)}">{escape(text)}</th><td style="background:color-mix(in srgb,'
        f' {HUES[0]} {_percent(0.75 * max(score, 0.0))}, transparent)">{score:.3f}</td></tr>'
        for text, score in zip(body["inputs"]["sentences"], answer, strict=True)
    )
    return f'<table class="ps-matrix">{rows}</table>'


def _ranked(body: Body, answer: Any) -> str:
    texts = body["inputs"]["texts"]
    return bars_html([(texts[one["index"]], float(one["score"])) for one in answer])


def _vector(body: Body, answer: Any) -> str:
    """The vector's values as columns above and below a middle."""
    vector = answer
    while isinstance(vector[0], list):
        vector = vector[0]
    most = max((abs(value) for value in vector), default=1.0) or 1.0
    columns = "".join(
        f'<i style="height:{_percent(abs(value) / most)};opacity:{1 if value >= 0 else 0.45}"></i>'
        for value in vector[:_MAX_VALUES]
    )
    first = ", ".join(f"{value:.4f}" for value in vector[:6])
    return (
        f'<div class="ps-vector" role="img" aria-label="The vector\'s values">{columns}</div>'
        f'<p class="ps-note">{len(vector)} values: {first}, ...</p>'
    )


def _table(body: Body, answer: Any) -> str:
    table = body["inputs"]["table"]
    names = list(table)
    chosen = {(int(row), int(column)) for row, column in answer.get("coordinates", [])}
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = "".join(
        "<tr>"
        + "".join(
            f"<td>{_marked(escape(str(table[name][row])), (row, at) in chosen)}</td>" for at, name in enumerate(names)
        )
        + "</tr>"
        for row in range(len(table[names[0]]))
    )
    return (
        f'<div class="ps-answer"><b>{escape(str(answer["answer"]))}</b></div>'
        f'<table class="ps-table ps-cells ps-answer"><tr>{head}</tr>{rows}</table>'
    )


def _marked(html: str, is_marked: bool) -> str:
    return f'<mark style="--hue:{HUES[0]}">{html}</mark>' if is_marked else html


def _boxes(body: Body, answer: Any) -> str:
    found = list(answer)[:_MAX_BOXES]
    labels = sorted({str(one["label"]) for one in found})
    picture = str(body["inputs"])
    size = _size_of(picture)
    shapes = []
    for one in found:
        box, label = one["box"], str(one["label"])
        hue = HUES[labels.index(label) % len(HUES)]
        x, y = float(box["xmin"]), float(box["ymin"])
        width, height = float(box["xmax"]) - x, float(box["ymax"]) - y
        text = f"{label} {float(one['score']):.2f}"
        shapes.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="1" fill="{hue}" fill-opacity=".12"'
            f' stroke="{hue}" stroke-width="2" vector-effect="non-scaling-stroke"><title>{escape(text)}</title></rect>'
        )
    rows = [(str(one["label"]), float(one["score"])) for one in found]
    none = '<p class="ps-note">Nothing was found above the threshold.</p>'
    return _drawn(picture, size, "".join(shapes)) + (bars_html(rows) if rows else none)


def _masks(body: Body, answer: Any) -> str:
    found = list(answer)[:_MAX_BOXES]
    picture = str(body["inputs"])
    size = _size_of(picture)
    layers, names = [], []
    for at, one in enumerate(found):
        hue, identity = HUES[at % len(HUES)], f"ps-mask-{at}"
        layers.append(
            f'<mask id="{identity}"><image href="data:image/png;base64,{escape(str(one["mask"]))}" width="{size[0]}"'
            f' height="{size[1]}"/></mask><rect width="{size[0]}" height="{size[1]}" fill="{hue}" fill-opacity=".5"'
            f' mask="url(#{identity})"/>'
        )
        label = str(one.get("label") or f"mask {at + 1}")
        score = one.get("score")
        number = "" if score is None else f"<small>{float(score):.2f}</small>"
        names.append(f'<mark style="--hue:{hue}">{escape(label)}{number}</mark>')
    legend = f'<div class="ps-answer">{" ".join(names)}</div>'
    return _drawn(picture, size, "".join(layers)) + legend


def _depth(body: Body, answer: Any) -> str:
    depth = escape(str(answer["depth"]))
    return (
        f'<div class="ps-pair">{_img(str(body["inputs"]), "The picture")}'
        f'<img class="ps-picture" alt="Its depth" src="data:image/png;base64,{depth}"></div>'
    )


def _lines(body: Body, answer: Any) -> str:
    """keypoint-matching: both pictures side by side, lines between what is the same in them."""
    pairs = answer[0] if answer and isinstance(answer[0], list) else answer
    first, second = (str(one) for one in body["inputs"])
    (width, height), (width_2, height_2) = _size_of(first), _size_of(second)
    gap = max(width, width_2) // 20
    lines = "".join(
        f'<line x1="{float(one["keypoint_image_0"]["x"])}" y1="{float(one["keypoint_image_0"]["y"])}"'
        f' x2="{width + gap + float(one["keypoint_image_1"]["x"])}" y2="{float(one["keypoint_image_1"]["y"])}"'
        f' stroke="{HUES[at % len(HUES)]}" stroke-width="1.5" vector-effect="non-scaling-stroke"'
        f' stroke-opacity="{0.3 + 0.7 * float(one["score"]):.2f}"/>'
        for at, one in enumerate(pairs[:_MAX_LINES])
    )
    return (
        f'<svg class="ps-picture" viewBox="0 0 {width + gap + width_2} {max(height, height_2)}" role="img"'
        f' aria-label="{len(pairs)} points that are the same in both pictures">'
        f'<image href="{_address(first)}" width="{width}" height="{height}"/>'
        f'<image href="{_address(second)}" x="{width + gap}" width="{width_2}" height="{height_2}"/>{lines}</svg>'
        f'<p class="ps-note">{len(pairs)} points</p>'
    )


def _drawn(picture: str, size: tuple[int, int], shapes: str) -> str:
    width, height = size
    return (
        f'<svg class="ps-picture" viewBox="0 0 {width} {height}" role="img"'
        ' aria-label="The picture and what was found">'
        f'<image href="{_address(picture)}" width="{width}" height="{height}"/>{shapes}</svg>'
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


def _json_html(answer: Any) -> str:
    text = json.dumps(answer, indent=2, ensure_ascii=False)
    return f'<pre class="ps-json">{escape(text[:20_000])}</pre>'


_OF_TASK: Mapping[str, Callable[[Body, Any], str]] = {
    "text-classification": _labels,
    "token-classification": _entities,
    "question-answering": _span,
    "fill-mask": _filled,
    "sentence-similarity": _similar,
    "text-ranking": _ranked,
    "feature-extraction": _vector,
    "image-feature-extraction": _vector,
    "table-question-answering": _table,
    "object-detection": _boxes,
    "zero-shot-object-detection": _boxes,
    "image-segmentation": _masks,
    "mask-generation": _masks,
    "depth-estimation": _depth,
    "keypoint-matching": _lines,
}
