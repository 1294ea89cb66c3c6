"""Texts of several jobs are prepared in one call, where they may be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any, cast

from app.channel.messages import Submit
from app.errors import InvalidInput
from app.runtime.base import Item, LoadedModel
from app.worker.stage_threads import Preparer

TASK = "text-classification"


class Recording:
    """A model whose stages write down the calls of `prepare`. A text that begins with "!" is refused."""

    adapters = None

    def __init__(self) -> None:
        self.calls: list[list[Any]] = []

    def tasks(self) -> list[str]:
        return [TASK]

    def stages(self, task: str) -> Recording:
        return self

    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        self.calls.append(list(inputs))
        for index, one in enumerate(inputs):
            if isinstance(one, str) and one.startswith("!"):
                raise InvalidInput("no", param=f"inputs[{index}]")
        return [[Item((one, parameters), 1)] for one in inputs]


def prepared(*jobs: Submit) -> tuple[Recording, dict[int, list[Any]]]:
    """The model, and by job the features of its items, or where its error lies."""
    model, clock = Recording(), cast("Iterator[float]", count())
    preparer = Preparer(cast("LoadedModel", model), lambda: next(clock))
    found: dict[int, list[Any]] = {}
    for job in preparer.handle(jobs).jobs:
        features = [item.features[0] for row in job.items for item in row]
        found[job.job_id] = features if job.error is None else [job.error.param]
    return model, found


def submit(job_id: int, *inputs: Any, **parameters: Any) -> Submit:
    return Submit(job_id=job_id, task=TASK, inputs=list(inputs), parameters=parameters)


def test_texts_of_several_jobs_are_prepared_in_one_call() -> None:
    """Each job gets the items of its own inputs, in order."""
    model, found = prepared(submit(1, "a", "b"), submit(2), submit(3, "c"))
    assert model.calls == [["a", "b", "c"]]
    assert found == {1: ["a", "b"], 2: [], 3: ["c"]}


def test_other_parameters_are_another_call() -> None:
    """Jobs keep their order."""
    model, found = prepared(
        submit(1, "a"), submit(2, "b", truncate=True), submit(3, "c", truncate=True), submit(4, "d")
    )
    assert model.calls == [["a"], ["b", "c"], ["d"]]
    assert list(found) == [1, 2, 3, 4]


def test_what_is_no_text_is_prepared_alone() -> None:
    """Decoding a file is the work of many texts: nobody waits for another's."""
    model, _ = prepared(submit(1, b"a"), submit(2, b"b"), submit(3, {"text": "c"}), submit(4, "d"))
    assert model.calls == [[b"a"], [b"b"], [{"text": "c"}], ["d"]]


def test_a_refused_text_is_its_own_jobs_error() -> None:
    """It is found by preparing the jobs one by one, and named by its place in its own job."""
    model, found = prepared(submit(1, "a", "b"), submit(2, "c", "!d"), submit(3, "e"))
    assert found == {1: ["a", "b"], 2: ["inputs[1]"], 3: ["e"]}
    assert model.calls[0] == ["a", "b", "c", "!d", "e"]
