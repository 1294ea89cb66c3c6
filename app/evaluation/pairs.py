"""What a metric compares: of each row the model's answer and the reference that the data have, brought to one form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import msgspec

from app.dataset.rows import BadRow
from app.errors import NotAvailable
from app.evaluation.tags import entities_of, places_of
from app.tasks.base import Task


class Kind(Enum):
    """LABEL: labels, the likeliest first; of the reference one. TEXT: a text; of the reference one or several. ANSWER:
    the same, of a question. NUMBER. ENTITIES: a set of (start, end, label). OBJECTS: a list of `Box`. RANKING: places
    and scores of texts; of the reference the relevance of each."""

    LABEL = "labels"
    TEXT = "texts"
    ANSWER = "answers to questions"
    NUMBER = "numbers"
    ENTITIES = "entities"
    OBJECTS = "objects"
    RANKING = "relevances"


_KINDS: Mapping[str, tuple[Kind, ...]] = {
    "audio-classification": (Kind.LABEL,),
    "automatic-speech-recognition": (Kind.TEXT,),
    "document-question-answering": (Kind.ANSWER,),
    "image-classification": (Kind.LABEL,),
    "image-text-to-text": (Kind.TEXT, Kind.ANSWER),
    "image-to-text": (Kind.TEXT,),
    "object-detection": (Kind.OBJECTS,),
    "question-answering": (Kind.ANSWER,),
    "sentence-similarity": (Kind.NUMBER, Kind.RANKING),
    "summarization": (Kind.TEXT,),
    "table-question-answering": (Kind.ANSWER,),
    "text-classification": (Kind.LABEL, Kind.NUMBER),
    "text-generation": (Kind.TEXT, Kind.ANSWER),
    "text-ranking": (Kind.RANKING,),
    "text2text-generation": (Kind.TEXT, Kind.ANSWER),
    "token-classification": (Kind.ENTITIES,),
    "translation": (Kind.TEXT,),
    "video-classification": (Kind.LABEL,),
    "visual-question-answering": (Kind.ANSWER,),
    "zero-shot-audio-classification": (Kind.LABEL,),
    "zero-shot-classification": (Kind.LABEL,),
    "zero-shot-image-classification": (Kind.LABEL,),
    "zero-shot-object-detection": (Kind.OBJECTS,),
}
_TEXT_FIELDS = ("text", "translation_text", "summary_text", "generated_text", "answer")


@dataclass(frozen=True, slots=True)
class Box:
    """In pixels: left, top, width, height. score: 1 of a reference."""

    label: str
    score: float
    bbox: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Pair:
    predicted: Any
    reference: Any


def kinds_of(task: Task) -> tuple[Kind, ...]:
    """Raises NotAvailable."""
    kinds = _KINDS.get(task.name)
    if kinds is None:
        raise NotAvailable(f"There are no metrics of {task.name}; there are some of {', '.join(_KINDS)}.")
    return kinds


def predicted(kind: Kind, answer: Any) -> Any:
    """Of an answer of the task."""
    match kind:
        case Kind.LABEL:
            return tuple(one["label"] for one in answer)
        case Kind.NUMBER:
            return float(answer[0]["score"] if isinstance(answer[0], dict) else answer[0])
        case Kind.ENTITIES:
            return frozenset((one["start"], one["end"], one.get("entity_group") or one["entity"]) for one in answer)
        case Kind.RANKING:
            scores = (
                answer
                if isinstance(answer[0], dict)
                else [{"index": at, "score": one} for at, one in enumerate(answer)]
            )
            return tuple((one["index"], one["score"]) for one in scores)
        case Kind.OBJECTS:
            return [Box(one["label"], one["score"], _corners(one["box"])) for one in answer]
        case _:
            first = answer[0] if isinstance(answer, list) and answer else answer
            return next((str(first[name]) for name in _TEXT_FIELDS if name in first), "") if first else ""


@dataclass(frozen=True, kw_only=True)
class References:
    """Reads the label column. names: of a column of class labels, by number. renamed: the data's labels -> the
    model's. words: the column with the words, or the text, that tags are of. delimiter: what joins words."""

    column: str
    names: Sequence[str] | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)
    words: str | None = None
    delimiter: str = " "

    def read(self, kind: Kind, values: Mapping[str, Any]) -> Any:
        """Raises BadRow."""
        value = values.get(self.column)
        if value is None:
            raise BadRow(f"{self.column}: there is nothing in this column.")
        try:
            return self._entities(value, values) if kind is Kind.ENTITIES else self._read(kind, value)
        except BadRow as error:
            raise BadRow(f"{self.column}: {error}") from None
        except (KeyError, TypeError, ValueError, IndexError, msgspec.DecodeError) as error:
            raise BadRow(f"{self.column}: these are no {kind.value}: {_sentence(error)}.") from None

    def _read(self, kind: Kind, value: Any) -> Any:
        match kind:
            case Kind.LABEL:
                return self._label(value)
            case Kind.NUMBER:
                return float(value)
            case Kind.RANKING:
                return _relevances(value)
            case Kind.OBJECTS:
                return [Box(self._label(_named(one)), 1.0, _bbox(one)) for one in _listed(value)]
            case _:
                return _texts(value)

    def _entities(self, value: Any, values: Mapping[str, Any]) -> frozenset[tuple[int, int, str]]:
        """Of tags of words, or places and labels. Raises BadRow."""
        found = _parsed(value)
        if isinstance(found, list) and found and not isinstance(found[0], Mapping):
            if self.words is None:
                raise BadRow("these are tags: which column has the words is said by --column COLUMN.")
            places = places_of(_parsed(values[self.words]), self.delimiter)
            return frozenset(entities_of([self._label(tag) for tag in found], places))
        return frozenset((int(one["start"]), int(one["end"]), self._label(_named(one))) for one in _listed(found))

    def _label(self, value: Any) -> str:
        if self.names is not None and isinstance(value, int):
            value = self.names[value]
        return self.renamed.get(str(value), str(value))


def _texts(value: Any) -> tuple[str, ...]:
    """One, several, or `answers` as SQuAD has them; none of these: the empty answer is right."""
    if isinstance(value, str) and value.startswith(('{"text"', "[")):
        value = _from_json(value)
    if isinstance(value, Mapping):
        value = value["text"]
    if isinstance(value, str | int | float):
        return (str(value),)
    return tuple(map(str, value)) or ("",)


def _relevances(value: Any) -> tuple[float, ...]:
    found = tuple(float(one) for one in _parsed(value))
    if not any(one > 0 for one in found):
        raise BadRow("no text is relevant.")
    return found


def _parsed(value: Any) -> Any:
    """Lists and objects may be JSON, as they are in CSV."""
    return _from_json(value) if isinstance(value, str) and value.lstrip()[:1] in ("[", "{") else value


def _from_json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _listed(value: Any) -> list[Mapping[str, Any]]:
    """Objects, or JSON of them; or a struct of lists, as data sets have it."""
    found = msgspec.json.decode(value) if isinstance(value, str) else value  # a text that is no JSON: says so
    if isinstance(found, Mapping):
        lists = {name: one for name, one in found.items() if isinstance(one, list)}
        return [dict(zip(lists, each, strict=True)) for each in zip(*lists.values(), strict=True)]
    return list(found)


_LABEL_FIELDS = ("label", "entity_group", "entity", "category")


def _named(one: Mapping[str, Any]) -> Any:
    name = next((name for name in _LABEL_FIELDS if name in one), None)
    if name is None:
        raise ValueError(f"there is none of {', '.join(_LABEL_FIELDS)}")
    return one[name]


def _bbox(one: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """`box`, as the models answer it, or COCO's `bbox`: left, top, width, height."""
    if "box" in one:
        return _corners(one["box"])
    left, top, width, height = map(float, one["bbox"])
    return left, top, width, height


def _corners(box: Mapping[str, float]) -> tuple[float, float, float, float]:
    return box["xmin"], box["ymin"], box["xmax"] - box["xmin"], box["ymax"] - box["ymin"]


def _sentence(error: Exception) -> str:
    return f"there is no {error}" if isinstance(error, KeyError) else str(error)
