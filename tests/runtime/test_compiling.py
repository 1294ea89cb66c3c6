"""A compiled model: equal answers, and nothing compiled under load."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel

from app.errors import ModelFailed, NotAvailable
from app.runtime.base import LoadedModel
from app.runtime.compiling import Compiled, require_compiler
from tests import tiny
from tests.runtime.compute import answer_together, load
from tests.runtime.vision.images import picture, png

TOLERANCE = 1e-5
"""Compiled code adds up in another order: float32 rounding, on numbers around 1."""
TEXTS = ["it", "good film", "a bad film", "the film was good and the actors were not bad", "x", "a very good film"]


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Whether a process compiles is said for all of it; what it has compiled counts against a limit."""
    yield
    torch.compiler.set_stance("default")
    torch._dynamo.reset()


def _encoder() -> Any:
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, vocab_size=100
    )
    return BertModel(config).eval()


def _inputs(num_rows: int, width: int, **more: Any) -> dict[str, Any]:
    mask = torch.ones(num_rows, width, dtype=torch.long)
    mask[0, width // 2 + 1 :] = 0
    return {"input_ids": torch.arange(num_rows * width).view(num_rows, width) % 100, "attention_mask": mask, **more}


@torch.inference_mode()
def test_every_size_fits_what_two_batches_compiled() -> None:
    """Other rows, other widths, another number of threads. What does not fit is counted, and computed all the same.
    (By torch's backend that makes no machine code: which code fits is decided before.)"""
    model, plain = _encoder(), _encoder()
    compiled = Compiled([model], backend="eager")
    assert list(inspect.signature(model.forward).parameters)[:2] == ["input_ids", "attention_mask"]
    with compiled.warming_up():
        model(**_inputs(1, 8))
        model(**_inputs(2, 8))
    threads = torch.get_num_threads()
    try:
        for num_rows, width in ((1, 40), (7, 3), (3, 3), (64, 64)):
            torch.set_num_threads(threads % 2 + 1)
            torch.testing.assert_close(model(**_inputs(num_rows, width))[0], plain(**_inputs(num_rows, width))[0])
        assert compiled.take_misfits() == 0
        other = _inputs(3, 9, token_type_ids=torch.ones(3, 9, dtype=torch.long))
        torch.testing.assert_close(model(**other)[0], plain(**other)[0])
        assert (compiled.take_misfits(), compiled.take_misfits()) == (1, 0)
    finally:
        torch.set_num_threads(threads)


def test_model_that_cannot_be_compiled_says_so() -> None:
    """In one sentence that names the key."""

    class Odd(torch.nn.Module):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return rows + 1

    def refuse(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no such instruction")

    model = Odd()
    with (
        pytest.raises(ModelFailed, match="compile: this model cannot be compiled.*"),
        Compiled([model], backend=refuse).warming_up(),
    ):
        model(torch.ones(3))


def test_model_whose_parts_are_called_is_refused(tiny_dir: Path) -> None:
    """CLIP makes vectors by its towers: its own forward would be compiled for nobody."""
    with pytest.raises(ModelFailed, match="compile: a CLIPModel makes vectors by parts of it"):
        load(tiny.build("clip", tiny_dir), "image-feature-extraction", compile=True, device="cpu")


def test_compiler_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is loaded; a GPU's code needs another."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(NotAvailable, match="no-such-compiler"):
        require_compiler(torch.device("cpu"))
    require_compiler(torch.device("cuda"))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")  # torch's own, in its compiler
@pytest.mark.parametrize(
    ("name", "task", "inputs"),
    [
        ("sequence-classification", "text-classification", TEXTS),
        ("sentence-encoder", "feature-extraction", TEXTS),
        ("vit-classifier", "image-classification", [png(picture(64, 48, seed)) for seed in range(4)]),
        ("vit-encoder", "image-feature-extraction", [png(picture(64, 48, seed)) for seed in range(4)]),
    ],
)
def test_compiled_model_answers_as_the_plain_one(
    models_dir: Path, tiny_dir: Path, name: str, task: str, inputs: list[Any]
) -> None:
    """Alone and together, of every length; nothing is compiled after the load."""
    folder = models_dir / name if (models_dir / name).is_dir() else tiny.build(name, tiny_dir)
    model, plain = load(folder, task, compile=True, device="cpu"), load(folder, task, device="cpu")
    model.warm_up()
    for chosen in (inputs[:1], inputs[1:2], inputs, inputs[2:]):
        given, expected = (_answers(one, task, chosen) for one in (model, plain))
        for left, right in zip(given, expected, strict=True):
            assert left == pytest.approx(right, abs=TOLERANCE)
    assert model.compiled.take_misfits() == 0


def _answers(model: LoadedModel, task: str, inputs: list[Any]) -> list[Any]:
    """The numbers of each, in a fixed order."""
    (answers,) = answer_together(model.stages(task), [(inputs, {})])
    return [
        {one["label"]: one["score"] for one in answer} if isinstance(answer, list) else answer for answer in answers
    ]
