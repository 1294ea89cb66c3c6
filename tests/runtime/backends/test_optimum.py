"""How far Optimum's models are from transformers' own, as far as that can be seen without Optimum's environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from app.declaration.backends import OPTIMUM, OPTIMUM_INTEL
from app.runtime.backends.optimum import HEADS, LIBRARIES, furthest, outputs_of
from app.tasks.registry import ALL_TASKS
from tests.models import build as build_text
from tests.tiny import build as build_tiny

TOKENS = {"input_ids": torch.tensor([[5, 6, 7], [8, 9, 4]]), "attention_mask": torch.ones(2, 3, dtype=torch.long)}


@pytest.fixture
def writer(tiny_dir: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(build_tiny("chatml", tiny_dir)).eval()


@pytest.fixture
def translator(tiny_dir: Path) -> Any:
    return transformers.AutoModelForSeq2SeqLM.from_pretrained(build_tiny("bart", tiny_dir)).eval()


def test_one_token_more_is_what_the_whole_text_gives(writer: Any, translator: Any) -> None:
    """So that an export's keys and values are compared as well."""
    given = {**TOKENS, "decoder_input_ids": TOKENS["input_ids"]}
    for model, inputs, name in ((writer, TOKENS, "input_ids"), (translator, given, "decoder_input_ids")):
        longer = {**inputs, name: torch.cat([inputs[name], inputs[name][:, -1:]], dim=1)}
        if name == "input_ids":
            longer["attention_mask"] = torch.ones(2, 4, dtype=torch.long)
        whole, found = outputs_of(model, longer)["logits"], outputs_of(model, inputs)
        torch.testing.assert_close(found["next logits"], whole[:, -1:], atol=1e-5, rtol=1e-5)


def test_what_is_kept_wrongly_is_a_difference(writer: Any) -> None:
    """Though the first forward is right."""
    expected = outputs_of(writer, TOKENS)
    found = {**expected, "next logits": expected["next logits"] + 0.5 * expected["next logits"].abs().max()}
    assert furthest(expected, found) == pytest.approx(0.5)
    assert furthest(expected, expected) == 0


def test_encoder_has_no_more_tokens(tmp_path: Path) -> None:
    """One forward is all there is to compare."""
    folder = build_text("sequence-classification", tmp_path)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    assert list(outputs_of(model, TOKENS)) == ["logits"]


def test_each_task_of_the_table_has_a_class() -> None:
    """Of both backends, which are those that a module is there for."""
    assert set(LIBRARIES) == {OPTIMUM.name, OPTIMUM_INTEL.name}
    for backend in (OPTIMUM, OPTIMUM_INTEL):
        for task in backend.tasks or ():
            assert set(ALL_TASKS[task].auto_classes) & set(HEADS), task
