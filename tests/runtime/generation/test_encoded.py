"""Encoder-decoder models in the engine: what shares a call of `generate`, what streams, what is told of each token."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from app.catalog import BatchSpec
from app.errors import InputTooLarge, InvalidInput
from app.runtime.base import LoadedModel, Stages
from app.runtime.generation.stages import GeneratingStages
from app.tasks.completion import Delta
from tests import tiny
from tests.runtime.compute import answer, answer_together, load
from tests.runtime.generation.driving import Script, arrival

TEXTS = ["a good film", "john smith works in paris and mary in rome , a city of france", "the"]
NAMES = {"t5": "text2text-generation", "bart": "summarization"}
ANSWER_NAMES = {"t5": "generated_text", "bart": "summary_text"}


@pytest.fixture(scope="module")
def models(tiny_dir: Path) -> dict[str, LoadedModel]:
    return {name: load(tiny.build(name, tiny_dir), task) for name, task in NAMES.items()}


@pytest.fixture
def calls(models: dict[str, LoadedModel], monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The rows of each call of `generate`."""
    rows: list[int] = []
    for loaded in models.values():
        model = loaded.engine._whole._model
        own = model.generate

        def counted(*args: Any, own: Any = own, **given: Any) -> Any:
            rows.append(len(given["input_ids"]))
            return own(*args, **given)

        monkeypatch.setattr(model, "generate", counted)
    yield rows


def stages_of(models: dict[str, LoadedModel], name: str) -> Stages:
    return models[name].stages(NAMES[name])


@pytest.mark.parametrize("name", NAMES)
def test_texts_share_a_call_whatever_their_parameters(
    models: dict[str, LoadedModel], calls: list[int], name: str
) -> None:
    """Drawn, penalised, stopped, short and long: each answer is the one that it has alone."""
    stages = stages_of(models, name)
    parameters: list[dict[str, Any]] = [
        {"max_new_tokens": 8},
        {"max_new_tokens": 3, "repetition_penalty": 1.5},
        {"max_new_tokens": 12, "do_sample": True, "seed": 3, "top_k": 9},
        {"max_new_tokens": 12, "min_new_tokens": 12, "no_repeat_ngram_size": 2},
        {"max_new_tokens": 12, "stop": ["e"]},
    ]
    alone = [answer(stages, text, one) for one in parameters for text in TEXTS]
    calls.clear()
    together = answer_together(stages, [(TEXTS, one) for one in parameters])
    assert [one for answers in together for one in answers] == alone
    assert calls == [len(alone)]


def test_calls_are_no_larger_than_the_entry_says(tiny_dir: Path) -> None:
    """In rows, and in tokens with those that padding adds: texts of like length go together."""
    folder = tiny.build("t5", tiny_dir)
    parameters = {"max_new_tokens": 4}
    texts = ["a", "film " * 30, "good", "film " * 29, "the"]
    for batch, expected in (
        (BatchSpec(max_items=2), [2, 2, 1]),
        (BatchSpec(max_tokens=80), [3, 2]),
        (BatchSpec(max_tokens=1), [1, 1, 1, 1, 1]),
    ):
        loaded = load(folder, "text2text-generation", batch=batch)
        model = loaded.engine._whole._model
        rows: list[int] = []
        own = model.generate

        def counted(*args: Any, own: Any = own, rows: list[int] = rows, **given: Any) -> Any:
            rows.append(len(given["input_ids"]))
            return own(*args, **given)

        model.generate = counted
        stages = loaded.stages("text2text-generation")
        alone = [answer(stages, text, parameters) for text in texts]
        rows.clear()
        assert answer_together(stages, [(texts, parameters)]) == [alone]
        assert rows == expected


@pytest.mark.parametrize("name", NAMES)
def test_searches_that_agree_share_a_call(models: dict[str, LoadedModel], calls: list[int], name: str) -> None:
    """Those of other parameters have one of their own; greedy answers are beside them as ever."""
    stages = stages_of(models, name)
    beams, wider, greedy = ({"max_new_tokens": 6, "num_beams": number} for number in (2, 3, 1))
    alone = [[answer(stages, text, one) for text in TEXTS] for one in (beams, wider, greedy)]
    calls.clear()
    assert answer_together(stages, [(TEXTS, beams), (TEXTS, wider), (TEXTS, greedy)]) == alone
    assert calls == [3, 3, 3]


def test_models_own_configuration_holds(tiny_dir: Path, tmp_path: Path) -> None:
    """Beams unless the request says otherwise; forced and bad tokens, lengths and repetitions with and without them."""
    folder = tmp_path / "bart"
    shutil.copytree(tiny.build("bart", tiny_dir), folder)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    own = {"num_beams": 3, "min_length": 7, "no_repeat_ngram_size": 2, "forced_bos_token_id": 4, "length_penalty": 2.0}
    model.generation_config.update(**own, bad_words_ids=[[6], [9]], early_stopping=True)
    model.generation_config.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    stages = load(folder, "summarization").stages("summarization")
    for text in TEXTS:
        for given in ({}, {"num_beams": 1}):
            with torch.inference_mode():
                tokens = model.generate(**tokenizer(text, return_tensors="pt"), max_new_tokens=10, **given)
            expected = tokenizer.decode(tokens[0], skip_special_tokens=True)
            assert answer(stages, text, {"max_new_tokens": 10, **given}) == [{"summary_text": expected}]


def streamed(stages: Stages, text: str, parameters: dict[str, Any]) -> list[Delta]:
    """Step by step, as a worker has them written."""
    assert isinstance(stages, GeneratingStages)
    (items,) = stages.prepare([text], parameters)
    script = Script({0: [arrival(0, items[0].features)]}).drive(stages.engine)
    writer = stages.writer(items[0], parameters, prompt=0, choice=0)
    deltas = [writer.write([advance]) for advance in script.advances[0]]
    return [delta for delta in deltas if delta is not None]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("num_beams", [1, 2])
def test_stream_has_an_event_for_each_token(models: dict[str, LoadedModel], name: str, num_beams: int) -> None:
    """As they are made, with log-probabilities; those of a beam search at its end."""
    stages = stages_of(models, name)
    parameters = {"max_new_tokens": 7, "min_new_tokens": 5, "num_beams": num_beams, "details": True}
    (whole,) = answer(stages, TEXTS[1], parameters)
    deltas = streamed(stages, TEXTS[1], parameters)
    tokens = [token for delta in deltas for token in delta.tokens]
    assert [token.id for token in tokens] == [token["id"] for token in whole["details"]["tokens"]]
    for token, told in zip(tokens, whole["details"]["tokens"], strict=True):
        assert token.text == told["text"] and token.logprob == pytest.approx(told["logprob"], abs=1e-4)
        assert token.logprob is not None and token.logprob < 0
    assert "".join(token.text for token in tokens if not token.is_special).strip() == whole[ANSWER_NAMES[name]].strip()
    assert deltas[-1].finish_reason == whole["details"]["finish_reason"]
    assert (len(deltas) > 4) is (num_beams == 1)


def test_log_probabilities_are_those_of_the_model(models: dict[str, LoadedModel], tiny_dir: Path) -> None:
    """Of what it wrote, given what came before, whether it was found greedily or by beams."""
    model = AutoModelForSeq2SeqLM.from_pretrained(tiny_dir / "t5").eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_dir / "t5")
    source = tokenizer(TEXTS[0], return_tensors="pt")
    for num_beams in (1, 3):
        parameters = {"max_new_tokens": 6, "num_beams": num_beams, "details": True, "top_n_tokens": 2}
        (told,) = answer(stages_of(models, "t5"), TEXTS[0], parameters)
        written = [token["id"] for token in told["details"]["tokens"]]
        with torch.inference_mode():
            logits = model(**source, decoder_input_ids=torch.tensor([[0, *written[:-1]]])).logits[0]
        expected = logits.log_softmax(-1).gather(-1, torch.tensor(written)[:, None])[:, 0].tolist()
        assert [token["logprob"] for token in told["details"]["tokens"]] == pytest.approx(expected, abs=1e-4)


def test_search_that_nobody_waits_for_ends(models: dict[str, LoadedModel]) -> None:
    """At the next step, if it was the last of its call."""
    stages = stages_of(models, "t5")
    parameters = {"max_new_tokens": 40, "min_new_tokens": 40, "num_beams": 2}
    items = [one for row in stages.prepare(TEXTS[:2], parameters) for one in row]
    expected = answer(stages, TEXTS[1], parameters)
    given = [arrival(key, item.features) for key, item in enumerate(items)]
    script = Script({0: given}, {3: [0]}).drive(models["t5"].engine)
    assert 0 not in script.advances
    assert stages.finish([items[1]], [script.output(1)], parameters) == expected
    left = Script({0: given[:1]}, {3: [0]}).drive(models["t5"].engine)
    assert left.num_steps == 3 and not left.advances


@pytest.mark.parametrize("name", NAMES)
def test_completion_is_what_the_model_makes_of_the_prompt(
    models: dict[str, LoadedModel], tiny_dir: Path, name: str
) -> None:
    """OpenAI's words: greedy as `generate` has it, the encoder's tokens as the prompt's, choices that differ."""
    model = AutoModelForSeq2SeqLM.from_pretrained(tiny_dir / name).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_dir / name)
    source = tokenizer(TEXTS[1], return_tensors="pt")
    model.generation_config.forced_eos_token_id = None  # an answer that is cut is cut
    with torch.inference_mode():
        tokens = model.generate(**source, max_new_tokens=8, do_sample=False)
    stages = models[name].stages("completion")
    parameters = {"max_tokens": 8, "temperature": 0, "logprobs": True, "top_logprobs": 2, "return_token_ids": True}
    told = answer(stages, {"prompt": TEXTS[1]}, parameters)
    (choice,) = told["choices"]
    assert choice["text"] == tokenizer.decode(tokens[0], skip_special_tokens=True)
    assert [one["id"] for one in choice["tokens"]] == tokens[0, 1:].tolist()
    assert told["num_prompt_tokens"] == source["input_ids"].shape[1]
    assert [one["id"] for one in told["prompt_tokens"]] == source["input_ids"][0].tolist()
    drawn = answer(stages, {"prompt": TEXTS[1]}, {"max_tokens": 8, "n": 3, "seed": 1})
    assert len({one["text"] for one in drawn["choices"]}) > 1


@pytest.mark.parametrize(
    ("one_input", "parameters", "error", "says"),
    [
        ({"prompt": "film " * 200}, {}, InputTooLarge, "200 tokens.*128|201 tokens.*128|202 tokens.*128"),
        ({"prompt": "film"}, {"max_tokens": 128}, InvalidInput, "max_tokens.*127"),
        ({"prompt": "film"}, {"prompt_logprobs": 1}, InvalidInput, "prompt_logprobs"),
        ({"prompt": "film"}, {"echo": True, "logprobs": True}, InvalidInput, "echo"),
        ({"messages": [{"role": "user", "content": "film"}]}, {}, InvalidInput, "no chat template"),
    ],
)
def test_completion_that_cannot_be_is_refused(
    models: dict[str, LoadedModel], one_input: Any, parameters: dict[str, Any], error: type[Exception], says: str
) -> None:
    """Before it begins, by name."""
    with pytest.raises(error, match=says):
        models["bart"].stages("completion").prepare([one_input], parameters)


def test_text_generation_inference_asks_it_as_it_asks_a_decoder(models: dict[str, LoadedModel]) -> None:
    """The same text as the task's own; what only a decoder knows is refused."""
    stages = models["t5"].stages("text-generation")
    (told,) = answer(stages, TEXTS[0], {"max_new_tokens": 6, "details": True, "truncate": 100})
    (expected,) = answer(stages_of(models, "t5"), TEXTS[0], {"max_new_tokens": 6, "details": True})
    assert told["generated_text"] == expected["generated_text"]
    assert told["details"]["tokens"] == expected["details"]["tokens"]
    searched = answer(stages, TEXTS[0], {"max_new_tokens": 4, "num_beams": 2, "details": True})
    assert len(searched[0]["details"]["tokens"]) == searched[0]["details"]["generated_tokens"]
    best = answer(stages, TEXTS[0], {"max_new_tokens": 4, "best_of": 3, "details": True})
    assert len(best[0]["details"]["best_of_sequences"]) == 2
    with pytest.raises(InvalidInput, match="decoder_input_details"):
        stages.prepare(TEXTS[:1], {"details": True, "decoder_input_details": True})
