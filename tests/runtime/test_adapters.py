"""Adapters of models that generate nothing, or that no engine computes, against PEFT on the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModel, AutoModelForSeq2SeqLM, AutoModelForTokenClassification, AutoTokenizer

from app.catalog import AdapterSpec
from app.runtime.adapters import Adapters
from tests import models, tiny
from tests.runtime.compute import answer, load
from tests.tiny.adapters import lora, save, with_peft

TEXT = "ada lovelace lives in london and john smith works in paris"
BERT = ["query", "value"]


def loaded_with(folder: Path, task: str, adapter: Path) -> tuple[Any, Any, Any]:
    """Stages, adapters and the adapter."""
    spec = AdapterSpec(id="one", path=str(adapter))
    model = load(folder, task, adapters=(spec,))
    adapters = model.adapters
    assert isinstance(adapters, Adapters) and not adapters.problems
    return model.stages(task), adapters, adapters.get(spec)


def test_vectors_are_those_of_peft(models_dir: Path, tmp_path: Path) -> None:
    folder = models.build("encoder", models_dir)
    model = AutoModel.from_pretrained(folder).eval()
    adapter = save(model, tmp_path / "one", lora(target_modules=BERT, task_type="FEATURE_EXTRACTION"))
    stages, adapters, one = loaded_with(folder, "feature-extraction", adapter)
    inputs = AutoTokenizer.from_pretrained(folder)(TEXT, return_tensors="pt")
    with torch.inference_mode():
        own, adapted = model(**inputs)[0][0], with_peft(model, adapter)(**inputs)[0][0]
    assert not torch.allclose(own, adapted, atol=1e-2)
    with adapters.active(one):
        torch.testing.assert_close(torch.tensor(answer(stages, TEXT)), adapted, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.tensor(answer(stages, TEXT)), own, atol=1e-5, rtol=0)


def test_entities_are_those_of_the_head_that_was_trained(models_dir: Path, tmp_path: Path) -> None:
    """PEFT saves a classifier along with the adapter."""
    folder = models.build("token-classification", models_dir)
    model = AutoModelForTokenClassification.from_pretrained(folder).eval()
    adapter = save(model, tmp_path / "one", lora(target_modules=BERT, task_type="TOKEN_CLS"))
    stages, adapters, one = loaded_with(folder, "token-classification", adapter)
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def expected(by: Any) -> Any:
        pipeline = transformers.pipeline("token-classification", model=by, tokenizer=tokenizer)
        return [(found["word"], found["entity"], found["score"]) for found in pipeline(TEXT, ignore_labels=[])]

    def found() -> Any:
        parameters = {"aggregation_strategy": "none", "ignore_labels": []}
        return [(found["word"], found["entity"], found["score"]) for found in answer(stages, TEXT, parameters)]

    peft = with_peft(model, adapter)
    with adapters.active(one):
        for told, wanted in zip(found(), expected(peft.merge_and_unload()), strict=True):
            assert told == (*wanted[:2], pytest.approx(wanted[2], abs=1e-4))
    assert [told[:2] for told in found()] == [wanted[:2] for wanted in expected(model)]


def test_summary_is_that_of_peft(tiny_dir: Path, tmp_path: Path) -> None:
    """An encoder-decoder, whose every forward is the adapter's."""
    folder = tiny.build("bart", tiny_dir)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    config = lora(target_modules=["q_proj", "v_proj", "fc1"], task_type="SEQ_2_SEQ_LM")
    adapter = save(model, tmp_path / "one", config)
    stages, adapters, one = loaded_with(folder, "summarization", adapter)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(TEXT, return_tensors="pt")

    def expected(by: Any) -> str:
        return str(tokenizer.decode(by.generate(**inputs, max_new_tokens=12)[0], skip_special_tokens=True))

    own, adapted = expected(model), expected(with_peft(model, adapter))
    assert own != adapted
    parameters = {"max_new_tokens": 12}
    with adapters.active(one):
        assert answer(stages, TEXT, parameters)[0]["summary_text"] == adapted
    assert answer(stages, TEXT, parameters)[0]["summary_text"] == own
