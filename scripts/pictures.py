"""A task's answer as a small picture, in SVG: bars of labels, boxes and masks on the image, words in colours, waves."""

from __future__ import annotations

import base64
import io
import textwrap
import wave
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any

import numpy as np
from PIL import Image

from app.tasks.base import Task
from app.tasks.samples import GIF_BASE64, PNG, PNG_BASE64, WAV, WAV_BASE64

WIDTH = 640
MARGIN = 16
IMAGE = 192  # pixels of the sample image's side, as it is drawn
INK, PALE, BAR = "#1f2937", "#6b7280", "#6366f1"
COLOURS = ("#ef4444", "#10b981", "#3b82f6", "#f59e0b", "#8b5cf6", "#ec4899", "#14b8a6", "#84cc16")
CHARACTER = 0.56  # of its size: how wide a character is, about


class Sheet:
    """Elements below each other; `y` is where the next begins."""

    def __init__(self) -> None:
        self.y = float(MARGIN)
        self._elements: list[str] = []

    def add(self, element: str) -> None:
        self._elements.append(element)

    def rectangle(self, x: float, y: float, width: float, height: float, fill: str, more: str = "") -> None:
        self.add(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="{fill}" {more}/>')

    def words(self, x: float, y: float, text: str, *, size: int = 14, fill: str = INK, more: str = "") -> None:
        self.add(f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{fill}" {more}>{escape(text)}</text>')

    def paragraph(self, text: str, *, x: float = MARGIN, size: int = 14, fill: str = INK) -> None:
        for line in textwrap.wrap(text, int((WIDTH - MARGIN - x) / (size * CHARACTER))) or [""]:
            self.words(x, self.y + size, line, size=size, fill=fill)
            self.y += size * 1.5
        self.y += 6

    def image(self, x: float, y: float, side: float, png: bytes, more: str = "") -> None:
        data = base64.b64encode(png).decode()
        self.add(
            f'<image x="{x:g}" y="{y:g}" width="{side:g}" height="{side:g}" preserveAspectRatio="none"'
            f' href="data:image/png;base64,{data}" {more}/>'
        )

    def svg(self) -> str:
        height = self.y + MARGIN
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}"'
            ' font-family="system-ui, sans-serif">\n'
            f'<rect width="{WIDTH}" height="{height:g}" rx="8" fill="#f9fafb"/>\n'
            + "\n".join(self._elements)
            + "\n</svg>\n"
        )


def picture(task: Task, body: dict[str, Any], answer: Any) -> str:
    """body: canonical; answer: as JSON, whole."""
    sheet = Sheet()
    DRAWN[task.name](sheet, body, answer)
    return sheet.svg()


def _bars(sheet: Sheet, rows: Iterable[tuple[str, float]], x: float = MARGIN) -> None:
    label_width = (WIDTH - x) * 0.42
    room = WIDTH - MARGIN - x - label_width - 60
    for label, score in list(rows)[:8]:
        sheet.words(
            x, sheet.y + 14, textwrap.shorten(label, int(label_width / (13 * CHARACTER)), placeholder="…"), size=13
        )
        sheet.rectangle(x + label_width, sheet.y + 3, room, 14, "#e5e7eb", 'rx="3"')
        sheet.rectangle(x + label_width, sheet.y + 3, max(2, room * min(max(score, 0), 1)), 14, BAR, 'rx="3"')
        sheet.words(x + label_width + room + 8, sheet.y + 15, f"{score:.3f}", size=12, fill=PALE)
        sheet.y += 24


def _beside(sheet: Sheet, media: str, draw: Callable[[float], None]) -> None:
    """The example's image, sound or film at the left, something at its right."""
    top, side = sheet.y, 128.0
    if media == "sound":
        _wave(sheet, WAV, MARGIN, top, side, 64)
        side_height = 64.0
    else:
        sheet.image(MARGIN, top, side, PNG if media == "image" else _first_frame(), 'image-rendering="pixelated"')
        side_height = side
    draw(MARGIN + side + 20)
    sheet.y = max(sheet.y, top + side_height)


def _first_frame() -> bytes:
    file = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(GIF_BASE64))).convert("RGB").save(file, "PNG")
    return file.getvalue()


def _media_of(body: dict[str, Any]) -> str | None:
    given = str(body["inputs"])
    kinds = {PNG_BASE64: "image", WAV_BASE64: "sound", GIF_BASE64: "film"}
    return next((kind for content, kind in kinds.items() if content in given), None)


def _labels(sheet: Sheet, body: dict[str, Any], answer: Any) -> None:
    rows = answer[0] if isinstance(answer[0], list) else answer
    name = next(name for name in ("label", "token_str", "answer") if name in rows[0])
    pairs = [(str(one[name]), float(one["score"])) for one in rows]
    media = _media_of(body)
    if media is None:
        sheet.paragraph(body["inputs"])
        _bars(sheet, pairs)
        return

    def beside(x: float) -> None:
        question = body["inputs"].get("question") if isinstance(body["inputs"], dict) else None
        if question:
            sheet.paragraph(question, x=x)
        _bars(sheet, pairs, x)

    _beside(sheet, media, beside)


def _similarity(sheet: Sheet, body: dict[str, Any], answer: Any) -> None:
    sheet.paragraph(body["inputs"]["source_sentence"])
    _bars(sheet, zip(body["inputs"]["sentences"], answer, strict=True))


def _ranking(sheet: Sheet, body: dict[str, Any], answer: Any) -> None:
    sheet.paragraph(body["inputs"]["query"])
    _bars(sheet, [(body["inputs"]["texts"][one["index"]], one["score"]) for one in answer])


def _decision(sheet: Sheet, body: dict[str, Any], answer: Any) -> None:
    sheet.paragraph(body["inputs"]["state"])
    for name, one in answer.items():
        sheet.words(MARGIN, sheet.y + 14, name, size=13, fill=PALE)
        sheet.y += 24
        _bars(sheet, one.get("probabilities", {name: one.get("noul", 0.0)}).items())


def _spans(sheet: Sheet, text: str, spans: Sequence[tuple[int, int, str]]) -> None:
    """Words in boxes with their labels below, in lines that fit. spans: from, to, label; sorted."""
    size, x = 16, float(MARGIN)
    colours = {label: COLOURS[index % len(COLOURS)] for index, label in enumerate(dict.fromkeys(s[2] for s in spans))}
    at = 0
    for start, end, label in [*spans, (len(text), len(text), "")]:
        for word in text[at:start].split():
            x = _word(sheet, x, word, size)
        if end > start:
            x = _word(sheet, x, text[start:end], size, label, colours[label])
        at = end
    sheet.y += size * 3


def _word(sheet: Sheet, x: float, word: str, size: int, label: str = "", colour: str = "") -> float:
    """Returns where the next begins."""
    width = len(word) * size * 0.6
    if x + width > WIDTH - MARGIN:
        x, sheet.y = float(MARGIN), sheet.y + size * 3
    if label:
        sheet.rectangle(x - 3, sheet.y, width + 6, size * 1.5, colour, 'opacity="0.25" rx="4"')
        sheet.words(x, sheet.y + size * 2.3, label, size=11, fill=colour)
    more = f'font-family="monospace" textLength="{width:g}" lengthAdjust="spacingAndGlyphs"'
    sheet.words(x, sheet.y + size * 1.1, word, size=size, more=more)
    return x + width + size * 0.5


def _entities(sheet: Sheet, body: dict[str, Any], answer: Any) -> None:
    _spans(sheet, body["inputs"], [(one["start"], one["end"], one["entity_group"]) for one in answer])


def _span(sheet: Sheet, body: dict[str, Any], answer: Any) -> None:
    sheet.paragraph(body["inputs"]["question"], fill=PALE)
    label = f"answer, {answer['score']:.2f}"
    _spans(sheet, body["inputs"]["context"], [(answer["start"], answer["end"], label)])


def _vector(sheet: Sheet, body: dict[str, Any], answer: Any) -> None:
    """Each number a cell, blue below zero, red above."""
    if _media_of(body) is None:
        sheet.paragraph(body["inputs"])
    numbers = np.asarray(answer, dtype=float)
    numbers = numbers.reshape(-1, numbers.shape[-1])
    rows = numbers if len(numbers) > 1 else numbers.reshape(8, -1)
    bound = float(np.abs(rows).max()) or 1.0
    share = (rows / bound)[..., None]
    below, above = np.array([37, 99, 235]), np.array([220, 38, 38])
    pixels = 255 + np.where(share > 0, share * (above - 255), -share * (below - 255))
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    height = min(12 * len(rows), 200)
    data = base64.b64encode(file.getvalue()).decode()
    sheet.add(
        f'<image x="{MARGIN}" y="{sheet.y:g}" width="{WIDTH - 2 * MARGIN}" height="{height}" preserveAspectRatio="none"'
        f' image-rendering="pixelated" href="data:image/png;base64,{data}"/>'
    )
    sheet.y += height + 6
    shape = " × ".join(str(number) for number in np.asarray(answer).shape)
    sheet.paragraph(f"{shape} numbers, from {-bound:.2f} (blue) to {bound:.2f} (red)", size=12, fill=PALE)


def _boxes(sheet: Sheet, body: dict[str, Any], answer: Any) -> None:
    top, shown = sheet.y, answer[:4]
    sheet.image(MARGIN, top, IMAGE, PNG, 'image-rendering="pixelated"')
    sheet.add(
        f'<svg x="{MARGIN}" y="{top:g}" width="{IMAGE}" height="{IMAGE}" viewBox="0 0 64 64">'
    )  # cut at its edges
    for index, one in enumerate(shown):
        box, more = one["box"], f'stroke="{COLOURS[index]}"'
        width, height = box["xmax"] - box["xmin"], box["ymax"] - box["ymin"]
        sheet.rectangle(box["xmin"], box["ymin"], width, height, "none", more)
    sheet.add("</svg>")
    _legend(sheet, [(f"{one['label']}, {one['score']:.2f}", COLOURS[index]) for index, one in enumerate(shown)])
    sheet.y = top + IMAGE


def _legend(sheet: Sheet, rows: Iterable[tuple[str, str]]) -> None:
    for text, colour in rows:
        sheet.rectangle(MARGIN + IMAGE + 24, sheet.y + 3, 14, 14, colour, 'rx="3"')
        sheet.words(MARGIN + IMAGE + 46, sheet.y + 15, text, size=13)
        sheet.y += 24


def _masks(sheet: Sheet, body: dict[str, Any], answer: Any) -> None:
    top = sheet.y
    sheet.image(MARGIN, top, IMAGE, PNG, 'image-rendering="pixelated"')
    shown = answer[:4]
    if not shown:
        sheet.words(MARGIN + IMAGE + 24, top + 15, "The model was sure of none.", size=13, fill=PALE)
    for index, one in enumerate(shown):
        mask = Image.open(io.BytesIO(base64.b64decode(one["mask"]))).convert("L")
        colour = tuple(bytes.fromhex(COLOURS[index][1:]))
        tinted = Image.merge("RGBA", [*(Image.new("L", mask.size, part) for part in colour), mask])
        file = io.BytesIO()
        tinted.save(file, "PNG")
        sheet.image(MARGIN, top, IMAGE, file.getvalue(), 'opacity="0.55" image-rendering="pixelated"')
    names = [one.get("label") or f"mask {index + 1}" for index, one in enumerate(shown)]
    scores = ["" if one.get("score") is None else f", {one['score']:.2f}" for one in shown]
    _legend(sheet, [(name + score, COLOURS[i]) for i, (name, score) in enumerate(zip(names, scores, strict=True))])
    sheet.y = top + IMAGE


def _image_to(sheet: Sheet, body: dict[str, Any], answer: Any) -> None:
    """The image, and the one that came of it."""
    made = base64.b64decode(answer.get("depth") or answer.get("image"))
    file = io.BytesIO()
    Image.open(io.BytesIO(made)).save(file, "PNG", optimize=True)
    sheet.image(MARGIN, sheet.y, IMAGE, PNG, 'image-rendering="pixelated"')
    sheet.words(MARGIN + IMAGE + 16, sheet.y + IMAGE / 2, "→", size=28, fill=PALE)
    sheet.image(MARGIN + IMAGE + 60, sheet.y, IMAGE, file.getvalue())
    sheet.y += IMAGE


def _matches(sheet: Sheet, body: dict[str, Any], answer: Any) -> None:
    pairs, scale, right = answer if isinstance(answer[0], dict) else answer[0], IMAGE / 64, WIDTH - MARGIN - IMAGE
    for x in (MARGIN, right):
        sheet.image(x, sheet.y, IMAGE, PNG, 'image-rendering="pixelated"')
    for index, one in enumerate(pairs[:12]):
        a, b, colour = one["keypoint_image_0"], one["keypoint_image_1"], COLOURS[index % len(COLOURS)]
        x1, y1 = MARGIN + a["x"] * scale, sheet.y + a["y"] * scale
        x2, y2 = right + b["x"] * scale, sheet.y + b["y"] * scale
        sheet.add(f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{colour}" stroke-width="1.5"/>')
    sheet.y += IMAGE


def _wave(sheet: Sheet, wav: bytes, x: float, y: float, width: float, height: float) -> None:
    """The loudest and the lowest sample of each pixel."""
    with wave.open(io.BytesIO(wav)) as sound:
        samples = np.frombuffer(sound.readframes(sound.getnframes()), dtype=np.int16).astype(float)
    parts = np.array_split(samples, int(width))
    bound = float(np.abs(samples).max()) or 1.0
    middle = y + height / 2
    line = " ".join(
        f"M{x + at:g} {middle - part.max() / bound * height / 2:.1f}V{middle - part.min() / bound * height / 2:.1f}"
        for at, part in enumerate(parts)
    )
    sheet.add(f'<path d="{line}" stroke="{BAR}" stroke-width="1"/>')


def _spoken(sheet: Sheet, body: dict[str, Any], answer: Any) -> None:
    sheet.paragraph(body["inputs"])
    _wave(sheet, base64.b64decode(answer["audio"]), MARGIN, sheet.y, WIDTH - 2 * MARGIN, 96)
    sheet.y += 104
    sheet.paragraph(f"{answer['sampling_rate']} samples a second", size=12, fill=PALE)


def _table(sheet: Sheet, body: dict[str, Any], answer: Any) -> None:
    sheet.paragraph(body["inputs"]["query"])
    columns = body["inputs"]["table"]
    chosen = {tuple(place) for place in answer["coordinates"]}
    width = (WIDTH - 2 * MARGIN) / len(columns)
    for column, (name, cells) in enumerate(columns.items()):
        x = MARGIN + column * width
        sheet.words(x + 8, sheet.y + 17, name, size=13, fill=PALE)
        for row, cell in enumerate(cells):
            y = sheet.y + 26 * (row + 1)
            sheet.rectangle(x, y, width - 2, 24, "#c7d2fe" if (row, column) in chosen else "#e5e7eb", 'rx="3"')
            sheet.words(x + 8, y + 17, cell, size=13)
    sheet.y += 26 * (len(next(iter(columns.values()))) + 1) + 8
    sheet.paragraph(f"{answer['answer']} ({answer['aggregator']})")


def _text(sheet: Sheet, body: dict[str, Any], answer: Any) -> None:
    """What was asked, and the text that came of it."""
    one = answer[0] if isinstance(answer, list) else answer
    name = next(name for name in ("generated_text", "summary_text", "translation_text", "text") if name in one)
    given = body["inputs"]
    if isinstance(given, list):  # messages
        given = next(part["text"] for part in given[0]["content"] if part["type"] == "text")
    media = _media_of(body)
    if media is None:
        sheet.paragraph(given, fill=PALE)
        sheet.paragraph(f"→ {one[name]}")
        return

    def beside(x: float) -> None:
        if _media_of({"inputs": given}) is None:
            sheet.paragraph(given, x=x, fill=PALE)
        sheet.paragraph(f"→ {one[name]}", x=x)

    _beside(sheet, media, beside)


DRAWN: dict[str, Callable[[Sheet, dict[str, Any], Any], None]] = {
    "any-to-any": _text,
    "audio-classification": _labels,
    "automatic-speech-recognition": _text,
    "decision": _decision,
    "depth-estimation": _image_to,
    "document-question-answering": _labels,
    "feature-extraction": _vector,
    "fill-mask": _labels,
    "image-classification": _labels,
    "image-feature-extraction": _vector,
    "image-segmentation": _masks,
    "image-text-to-text": _text,
    "image-to-image": _image_to,
    "image-to-text": _text,
    "keypoint-matching": _matches,
    "mask-generation": _masks,
    "object-detection": _boxes,
    "question-answering": _span,
    "sentence-similarity": _similarity,
    "summarization": _text,
    "table-question-answering": _table,
    "text-classification": _labels,
    "text-generation": _text,
    "text-ranking": _ranking,
    "text-to-audio": _spoken,
    "text2text-generation": _text,
    "token-classification": _entities,
    "translation": _text,
    "video-classification": _labels,
    "visual-question-answering": _labels,
    "zero-shot-audio-classification": _labels,
    "zero-shot-classification": _labels,
    "zero-shot-image-classification": _labels,
    "zero-shot-object-detection": _boxes,
}
