"""What candidates compute: real inputs of the task."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.catalog import ModelSpec
from app.errors import InvalidInput
from app.tasks.registry import TASKS
from app.tuning.candidates import check_tunable
from app.tuning.workload import Shape, make_workload, read_texts


def spec(task: str, **more: object) -> ModelSpec:
    return ModelSpec(id="a", model="acme/a", tasks=(task,), has_handler=False, **more)  # type: ignore[arg-type]


def test_texts_are_short_and_long_in_batches() -> None:
    """Small shapes first, so that a hopeless candidate is given up early; the first request of each warms up."""
    work = make_workload(spec("text-classification"))
    assert list(map(str, work.timed)) == ["1 × short", "1 × long", "8 × short", "8 × long", "32 × short", "32 × long"]
    for shape, requests in work.timed.items():
        assert len(requests) > 8
        assert all(len(inputs) == shape.batch for inputs in requests)
        words = [len(text.split()) for text in requests[0]]
        assert all(10 <= count <= 18 for count in words) or all(112 <= count <= 136 for count in words)
    assert work.parameters["truncate"] is True


def test_lengths_differ_from_request_to_request() -> None:
    """A backend that prepares itself for a shape meets new ones, as in serving."""
    requests = make_workload(spec("feature-extraction"), batches=[1]).timed[Shape(1, "long")]
    assert len({len(inputs[0].split()) for inputs in requests}) > 10


@pytest.mark.parametrize("task", sorted(TASKS))
def test_every_task_that_can_be_tuned_has_inputs(task: str) -> None:
    """In the task's own form, validated as a request's are; parameters that it needs come from its example."""
    try:
        check_tunable(spec(task))
    except Exception:
        return
    work = make_workload(spec(task), batches=[2])
    assert all(len(requests[0]) == 2 for requests in work.timed.values())
    assert 1 <= len(work.compared) <= 2
    if task == "question-answering":
        assert set(work.compared[0][0]) == {"question", "context"}
    if task == "image-classification":
        assert isinstance(work.compared[0][0], bytes)
    if task == "zero-shot-classification":
        assert work.parameters["candidate_labels"]


def test_mask_is_the_models_own(tmp_path: Path) -> None:
    """RoBERTa's is written otherwise; it comes first, so that cutting the text leaves it."""
    (tmp_path / "special_tokens_map.json").write_text('{"mask_token": {"content": "<mask>"}}')
    folder = ModelSpec(id="a", model=str(tmp_path), tasks=("fill-mask",))
    assert make_workload(folder).compared[0][0].startswith("<mask> ")
    assert make_workload(spec("fill-mask")).compared[0][0].startswith("[MASK] ")


def test_own_texts_take_the_place_of_made_ones(tmp_path: Path) -> None:
    """In order; a file without any, and a task without texts, are sentences."""
    file = tmp_path / "texts.txt"
    file.write_text("one\n\n two \nthree\n")
    work = make_workload(spec("text-classification"), batches=[2], texts=read_texts(file))
    assert work.timed[Shape(2, "own")][:2] == [["one", "two"], ["three", "one"]]
    file.write_text("\n")
    with pytest.raises(InvalidInput, match="no text"):
        read_texts(file)
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_texts(tmp_path / "gone.txt")
    with pytest.raises(InvalidInput, match="image-classification"):
        make_workload(spec("image-classification"), texts=["one"])


def test_the_entrys_parameters_are_used() -> None:
    """As a request without parameters of its own has them."""
    work = make_workload(spec("text-classification", parameters={"top_k": 1}))
    assert work.parameters["top_k"] == 1
