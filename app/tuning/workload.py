"""What the candidates compute: real inputs of the entry's task, in requests of several sizes."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.catalog import ModelSpec, cached_files
from app.declaration.inference import FindFile
from app.errors import InvalidInput
from app.tasks.registry import ALL_TASKS
from app.tasks.requests import ParsedRequest, RequestParser
from app.tuning.tokens import mask_token

BATCHES = (1, 8, 32)
_COMPARED = 8  # inputs of each length whose outputs are compared
_TIMED_INPUTS = 64  # of a shape; at least _MIN_TIMED requests
_MIN_TIMED = 8
_LENGTHS = {"short": (10, 18), "long": (112, 136)}  # words: about 16 and 128 tokens with the special ones
_NUM_TEXTS = 128
_QUESTION = "What is it about?"
_WORDS = (
    "the of to and a in is it that was for on are as with they at be this from have or by one had but what all were"
    " when we there can an your which their said if will each about how up out then them she many some so these would"
    " other into has more her two like him see time could no make than first been its who now people my made over did"
    " down only way find use may water long little very after words called just where most know get through back much"
    " before go good new write our used me man too any day same right look think also around another came"
).split()

_OF_TEXT: dict[str, Callable[[str], Any]] = {
    "feature-extraction": lambda text: text,
    "text-classification": lambda text: text,
    "token-classification": lambda text: text,
    "zero-shot-classification": lambda text: text,
    "sparse-embedding": lambda text: text,
    "question-answering": lambda text: {"question": _QUESTION, "context": text},
    "text-ranking": lambda text: {"query": _QUESTION, "texts": [text]},
    "sentence-similarity": lambda text: {"source_sentence": _QUESTION, "sentences": [text]},
}
"""How a text becomes an input, for tasks whose cost is in their texts; all others compute their example."""


@dataclass(frozen=True, order=True)
class Shape:
    batch: int  # inputs of one request
    length: str  # short, long; of a file's own texts: own; of other media: example

    def __str__(self) -> str:
        return f"{self.batch} × {self.length}"


@dataclass(frozen=True, kw_only=True)
class Workload:
    """timed: requests by shape, each a list of inputs, the first to warm up. compared: the requests, two
    at most, whose outputs say how exact a candidate is."""

    task: str
    parameters: dict[str, Any]
    timed: dict[Shape, list[list[Any]]]
    compared: list[list[Any]]


def make_workload(spec: ModelSpec, *, batches: Sequence[int] = BATCHES, texts: Sequence[str] | None = None) -> Workload:
    """Of the entry's first task. texts: the user's own. Raises InvalidInput where the task takes none."""
    task = ALL_TASKS[spec.tasks[0]]
    parser = RequestParser(task)
    known = task.parameters.model_fields
    own = {name: value for name, value in spec.parameters.items() if name in known}
    given = {**task.example.body.get("parameters", {}), **own, **({"truncate": True} if "truncate" in known else {})}
    example = parser.parse({**task.example.body, "parameters": given})
    pools = _pools(spec, parser, example, texts)
    order = [Shape(batch, length) for batch in sorted(set(batches)) for length in pools]
    return Workload(
        task=task.name,
        parameters=example.parameters,
        timed={shape: _requests(pools[shape.length], shape.batch) for shape in order},
        compared=[pool[:_COMPARED] for pool in pools.values()],
    )


def read_texts(path: Path) -> list[str]:
    """A text a line. Raises InvalidInput."""
    try:
        texts = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from None
    if not texts:
        raise InvalidInput(f"{path} holds no text; write one a line.")
    return texts


def _pools(
    spec: ModelSpec, parser: RequestParser, example: ParsedRequest, texts: Sequence[str] | None
) -> dict[str, list[Any]]:
    """Inputs by length."""
    task = spec.tasks[0]
    shape = _shaped_text(task, cached_files(spec))
    if shape is None:
        if texts is not None:
            raise InvalidInput(f"{task} is measured on its example: texts of your own are for tasks of texts.")
        return {"example": example.inputs[:1] * _COMPARED}
    own = {"own": list(texts)} if texts is not None else _made_texts()
    return {
        length: parser.parse({**_required(task), "inputs": [shape(text) for text in found]}).inputs
        for length, found in own.items()
    }


def _required(task: str) -> dict[str, Any]:
    """Parameters that a request cannot do without."""
    example = ALL_TASKS[task].example.body
    return {"parameters": example["parameters"]} if "parameters" in example else {}


def _shaped_text(task: str, find: FindFile) -> Callable[[str], Any] | None:
    if task == "fill-mask":
        mask = mask_token(find)
        return lambda text: f"{mask} {text}"  # first: what is too long is cut at its end
    return _OF_TEXT.get(task)


def _made_texts() -> dict[str, list[str]]:
    """The same on every machine. Their lengths differ: what adapts itself to a shape is to meet new ones."""
    source = random.Random(0)
    return {
        length: [" ".join(source.choices(_WORDS, k=source.randint(*bounds))) for _ in range(_NUM_TEXTS)]
        for length, bounds in _LENGTHS.items()
    }


def _requests(pool: Sequence[Any], batch: int) -> list[list[Any]]:
    inputs = itertools.cycle(pool)
    count = 1 + max(_MIN_TIMED, _TIMED_INPUTS // batch)
    return [list(itertools.islice(inputs, batch)) for _ in range(count)]
