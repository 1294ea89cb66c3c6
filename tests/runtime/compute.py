"""Running stages as the worker does, without the worker."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.catalog import ModelSpec
from app.runtime.base import Item, LoadedModel, Stages
from app.runtime.loading import load_model
from app.runtime.parts import Parts
from app.runtime.tokenizing import Tokenizers

Job = tuple[list[Any], dict[str, Any]]
"""Inputs and parameters."""


def load(folder: Path, *tasks: str, **declared: Any) -> LoadedModel:
    spec = ModelSpec(id=folder.name, model=str(folder), tasks=tasks, **declared)
    return load_model(spec, num_threads=1, progress=lambda progress: None)


def parts_of(model: Any, tokenizer: Any, limit: int | None) -> Parts:
    """The parts of a text model that was made by hand."""
    return Parts(model=model, folder=Path(), tokenizers=Tokenizers(tokenizer, lambda copied: None), limit=limit)


def answer(stages: Stages, one_input: Any, parameters: dict[str, Any] | None = None) -> Any:
    """The answer to one input, each of its items in a forward of its own."""
    parameters = parameters or {}
    (items,) = stages.prepare([one_input], parameters)
    outputs = [output for item in items for output in stages.forward([item])]
    return stages.finish(items, outputs, parameters)


def answer_together(stages: Stages, jobs: Sequence[Job]) -> list[list[Any]]:
    """The answers of all jobs, with the items of all of them in as few forwards as their groups allow."""
    prepared = [stages.prepare(inputs, parameters) for inputs, parameters in jobs]
    places = [
        (job, index, position)
        for job, rows in enumerate(prepared)
        for index, items in enumerate(rows)
        for position in range(len(items))
    ]
    outputs: dict[tuple[int, int, int], Any] = {}
    groups: dict[Any, list[tuple[int, int, int]]] = {}
    for place in places:
        groups.setdefault(_item(prepared, place).group, []).append(place)
    for members in groups.values():
        computed = stages.forward([_item(prepared, place) for place in members])
        outputs.update(zip(members, computed, strict=True))
    return [
        [
            stages.finish(items, [outputs[job, index, position] for position in range(len(items))], jobs[job][1])
            for index, items in enumerate(rows)
        ]
        for job, rows in enumerate(prepared)
    ]


def _item(prepared: Sequence[Sequence[Sequence[Item]]], place: tuple[int, int, int]) -> Item:
    job, index, position = place
    return prepared[job][index][position]
