"""What a model's files tell a person who looks at it: its card, what there is, the figures of its config. No torch."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from app.declaration.inference import CARD, CONFIG, MAX_FILE_BYTES, FindFile, ModelFilesError, read_config

MAX_CARD_CHARS = 200_000
MAX_FILES = 1000
MAX_LABELS = 1000

_COMMIT = re.compile(r"[0-9a-f]{40}")
_MAX_DEPTH = 4
_FIGURES: Mapping[str, tuple[str, ...]] = {
    "architecture": ("architectures",),
    "model_type": ("model_type",),
    "layers": ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "encoder_layers"),
    "hidden_size": ("hidden_size", "n_embd", "d_model", "dim"),
    "attention_heads": ("num_attention_heads", "n_head", "n_heads", "encoder_attention_heads"),
    "context": ("max_position_embeddings", "n_positions", "max_source_positions"),
    "vocabulary": ("vocab_size",),
    "dtype": ("dtype", "torch_dtype"),
}
"""Names of the figures, and what configs call them."""
_INNER_CONFIGS = ("text_config", "language_config", "vision_config", "encoder")


class FileOfModel(msgspec.Struct, frozen=True, kw_only=True):
    """path: within the model's folder."""

    path: str
    size: int


class About(msgspec.Struct, frozen=True, kw_only=True):
    """card: Markdown without its front matter, which is card_data. problems: sentences about files that are broken."""

    commit: str | None = None
    card: str | None = None
    card_data: dict[str, Any] = {}
    files: list[FileOfModel] = []
    config: dict[str, Any] = {}
    labels: list[str] = []
    problems: list[str] = []


_MEDIA_TYPES: Mapping[str, str] = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
}
"""By the ending of the name. Nothing that a browser would run."""


def commit_of(snapshot: Path) -> str | None:
    """Of a folder in the Hub's cache, which is named after it."""
    return snapshot.name if _COMMIT.fullmatch(snapshot.name) else None


def find_media(find: FindFile, path: str) -> tuple[Path, str] | None:
    """A picture, sound or film in the model's folder, and its media type. None: there is none at this path."""
    folder = _folder(find)
    media_type = _MEDIA_TYPES.get(Path(path).suffix.lower())
    if folder is None or media_type is None or all(file.path != path for file in _files(folder)):
        return None
    return folder / path, media_type


def _folder(find: FindFile) -> Path | None:
    return next((path.parent for name in (CONFIG, CARD) if (path := find(name)) is not None), None)


def read_about(find: FindFile) -> About:
    """Reads the disk, in milliseconds, and nothing but the disk."""
    folder = _folder(find)
    if folder is None:
        return About()
    problems = []
    config: dict[str, Any] = {}
    try:
        config = read_config(find)
    except ModelFilesError as error:
        problems.append(str(error))
    front, card = _card(find(CARD))
    return About(
        commit=commit_of(folder),
        card=card,
        card_data=front,
        files=sorted(_files(folder), key=lambda file: file.path),
        config=_figures(config),
        labels=_labels(config),
        problems=problems,
    )


def _card(path: Path | None) -> tuple[dict[str, Any], str | None]:
    """People write cards by hand: one whose front matter is broken has none."""
    if path is None:
        return {}, None
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return {}, None
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}, None
    front: Any = {}
    if text.startswith("---\n") and (end := text.find("\n---", 4)) > 0:
        try:
            front = json.loads(json.dumps(yaml.safe_load(text[4:end]), default=str))
        except (yaml.YAMLError, ValueError, TypeError, RecursionError):
            front = {}
        text = text[end + 4 :]
    return front if isinstance(front, dict) else {}, text.strip()[:MAX_CARD_CHARS]


def _files(folder: Path) -> Iterator[FileOfModel]:
    """Links lead into the Hub's cache: their sizes are the files'. Hidden files are nobody's business."""
    num = 0
    for place, folders, names in os.walk(folder):
        depth = len(Path(place).relative_to(folder).parts)
        folders[:] = [] if depth >= _MAX_DEPTH else [one for one in folders if not one.startswith(".")]
        for name in names:
            if name.startswith("."):
                continue
            path = Path(place, name)
            try:
                size = path.stat().st_size
            except OSError:  # a link to what is gone
                continue
            yield FileOfModel(path=path.relative_to(folder).as_posix(), size=size)
            num += 1
            if num >= MAX_FILES:
                return


def _figures(config: Mapping[str, Any]) -> dict[str, Any]:
    places = [config, *(inner for name in _INNER_CONFIGS if isinstance(inner := config.get(name), dict))]
    found = {}
    for figure, names in _FIGURES.items():
        values = (place[name] for place in places for name in names if name in place)
        value = next((value for value in values if isinstance(value, int | str | list)), None)
        if isinstance(value, list):
            value = ", ".join(one for one in value if isinstance(one, str))
        if value not in (None, ""):
            found[figure] = value
    return found


def _labels(config: Mapping[str, Any]) -> list[str]:
    table = config.get("id2label")
    if not isinstance(table, dict):
        return []
    labels = [str(label) for label in table.values()]
    return [] if all(re.fullmatch(r"LABEL_\d+", label) for label in labels) else labels[:MAX_LABELS]
