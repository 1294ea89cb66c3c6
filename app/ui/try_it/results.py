"""Answers of tasks as HTML: bars, marks in a text, boxes and masks on a picture. Pure; everything is escaped."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from html import escape
from typing import Any

from app.ui.try_it.bars import HUES, bars_html, percent
from app.ui.try_it.pictures import boxes_html, depth_html, lines_html, masks_html
from app.ui.try_it.sounds import sound_html, spoken_html
from app.ui.try_it.vectors import matrix_html, similarities, vector_html

_MAX_JSON_CHARS = 40_000
_MAX_TEXT_CHARS = 400
_MAX_NUMBERS, _SHOWN_NUMBERS = 24, 6
_TEXTS = ("generated_text", "summary_text", "translation_text", "text", "answer")

Body = Mapping[str, Any]


def file_html(content: bytes, media_type: str) -> str:
    """An answer that is a file."""
    address = f"data:{escape(media_type)};base64,{base64.b64encode(content).decode()}"
    if media_type.startswith("audio/"):
        return sound_html(content, address)
    if media_type.startswith("image/"):
        return f'<img class="ps-picture" alt="The answer" src="{address}">'
    return f'<p class="ps-note">{len(content)} bytes of {escape(media_type)}</p>'


def answer_html(task: str, body: Body, answer: Any) -> str:
    """body: that was asked, its files as base64. Shapes that are not known are shown as JSON."""
    show = _OF_TASK.get(task, _by_shape)
    try:
        return show(body, answer)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        return json_html(answer)  # a custom model may answer anything


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
    return json_html(answer)


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
        f'<i style="--share:{percent(float(best["score"]))}"></i></div></div><div class="ps-answer">{marked}</div>'
    )


def _filled(body: Body, answer: Any) -> str:
    rows = answer if not isinstance(answer[0], list) else [one for mask in answer for one in mask]
    bars = bars_html([(str(one["token_str"]).strip(), float(one["score"])) for one in rows])
    best = "" if isinstance(answer[0], list) else f'<div class="ps-answer">{escape(str(answer[0]["sequence"]))}</div>'
    return best + bars


def _similar(body: Body, answer: Any) -> str:
    """One column: the deeper its colour, the nearer the sentence."""
    return matrix_html(body["inputs"]["sentences"], [[float(score)] for score in answer], names=["to the sentence"])


def _vectors(body: Body, answer: Any) -> str:
    """Of several texts with one vector each: how near they are to each other."""
    inputs = body["inputs"]
    if isinstance(inputs, list) and len(inputs) > 1 and all(not isinstance(one[0], list) for one in answer):
        return matrix_html(inputs, similarities(answer)) + vector_html(answer)
    return vector_html(answer)


def _spoken(body: Body, answer: Any) -> str:
    return spoken_html(answer) if "chunks" in answer else _by_shape(body, answer)


def _decided(body: Body, answer: Any) -> str:
    """Each question with its answer; what may be yes or no as how much it is yes."""
    parts = []
    for name, one in answer.items():
        rows = one.get("probabilities") or {"yes": one["noul"]}
        best = f": {one['choice']}" if "choice" in one else ""
        bars = bars_html(sorted(((str(label), float(score)) for label, score in rows.items()), key=lambda row: -row[1]))
        parts.append(f'<h3 class="ps-h3">{escape(f"{name}{best}")}</h3>{bars}')
    return "".join(parts)


def _ranked(body: Body, answer: Any) -> str:
    texts = body["inputs"]["texts"]
    return bars_html([(texts[one["index"]], float(one["score"])) for one in answer])


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


def json_html(answer: Any) -> str:
    text = json.dumps(abridged(answer), indent=2, ensure_ascii=False)
    return f'<pre class="ps-json" tabindex="0">{escape(text[:_MAX_JSON_CHARS])}</pre>'


def abridged(value: Any) -> Any:
    """Without what nobody reads: the middle of long rows of numbers, the rest of files."""
    if isinstance(value, dict):
        return {name: abridged(one) for name, one in value.items()}
    if isinstance(value, str) and len(value) > _MAX_TEXT_CHARS and " " not in value:
        return f"{value[:40]}... ({len(value)} characters)"
    if isinstance(value, list):
        if len(value) > _MAX_NUMBERS and all(isinstance(one, int | float | list) for one in value):
            return [*map(abridged, value[:_SHOWN_NUMBERS]), f"... {len(value) - _SHOWN_NUMBERS} more"]
        return [abridged(one) for one in value]
    return value


_OF_TASK: Mapping[str, Callable[[Body, Any], str]] = {
    "text-classification": _labels,
    "token-classification": _entities,
    "question-answering": _span,
    "fill-mask": _filled,
    "sentence-similarity": _similar,
    "text-ranking": _ranked,
    "feature-extraction": _vectors,
    "image-feature-extraction": _vectors,
    "table-question-answering": _table,
    "automatic-speech-recognition": _spoken,
    "decision": _decided,
    "object-detection": boxes_html,
    "zero-shot-object-detection": boxes_html,
    "image-segmentation": masks_html,
    "mask-generation": masks_html,
    "depth-estimation": depth_html,
    "keypoint-matching": lines_html,
}
