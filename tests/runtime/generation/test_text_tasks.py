"""The tasks that write, against `generate` on the same weights: alone, and among strangers of other lengths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from app.errors import InputTooLarge, InvalidInput
from app.runtime.base import Item, Stages
from tests import tiny
from tests.runtime.compute import Job, answer, answer_together, load

PROMPTS = [
    "a good film",
    "the",
    "john smith works in paris and mary in rome , a city of france",
    "who lives in london ?",
]
CHAT = [{"role": "system", "content": "good"}, {"role": "user", "content": "who wrote the first program ?"}]
DECODERS = ["llama-chat", "gpt2"]
ENCODER_DECODERS = {
    "t5": "text2text-generation",
    "bart": "summarization",
    "mbart": "translation",
    "nllb": "translation",
}


@pytest.fixture(scope="module")
def stages(tiny_dir: Path) -> dict[str, Stages]:
    tasks = {**dict.fromkeys(DECODERS, "text-generation"), **ENCODER_DECODERS}
    return {name: load(tiny.build(name, tiny_dir), task).stages(task) for name, task in tasks.items()}


def written(folder: Path, prompt: str, **options: Any) -> str:
    """By `generate` itself, one prompt at a time."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    inputs = tokenizer(prompt, return_tensors="pt")
    with torch.inference_mode():
        tokens = model.generate(**inputs, **{"do_sample": False, **options})
    return str(tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))


def text_of(given: Any) -> str:
    (one,) = given
    (text,) = one.values()
    return str(text)


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("options", [{}, {"repetition_penalty": 1.5}, {"num_beams": 3}, {"min_new_tokens": 4}])
def test_prompt_goes_on_as_generate_has_it(
    stages: dict[str, Stages], tiny_dir: Path, name: str, options: dict[str, Any]
) -> None:
    """Greedy, penalised and by beams."""
    for prompt in PROMPTS:
        parameters = {"max_new_tokens": 9, **options}
        assert text_of(answer(stages[name], prompt, parameters)) == written(tiny_dir / name, prompt, **parameters)


@pytest.mark.parametrize("name", DECODERS)
def test_prompts_of_other_lengths_share_a_forward_and_no_word(stages: dict[str, Stages], name: str) -> None:
    """Different prompts, and different numbers of tokens, in one call: each answer is that of the prompt alone."""
    jobs: list[Job] = [(PROMPTS, {"max_new_tokens": 12}), (PROMPTS[:2], {"max_new_tokens": 3})]
    groups = {items[0].group for inputs, parameters in jobs for items in stages[name].prepare(inputs, parameters)}
    assert len(groups) == 1
    for (inputs, parameters), answers in zip(jobs, answer_together(stages[name], jobs), strict=True):
        assert answers == [answer(stages[name], prompt, parameters) for prompt in inputs]


def test_chat_goes_through_the_template(stages: dict[str, Stages], tiny_dir: Path) -> None:
    """The answer to a conversation, alone and as its next message."""
    prompt = "system : good user : who wrote the first program ? assistant : "
    expected = written(tiny_dir / "llama-chat", prompt, max_new_tokens=6)
    assert text_of(answer(stages["llama-chat"], CHAT, {"max_new_tokens": 6})) == expected
    full = answer(stages["llama-chat"], CHAT, {"max_new_tokens": 6, "return_full_text": True})
    assert full[0]["generated_text"] == [*CHAT, {"role": "assistant", "content": expected}]
    with pytest.raises(InvalidInput, match=r"inputs\[0\]: this model has no chat template"):
        stages["gpt2"].prepare([CHAT], {})


def test_details_tell_every_token(stages: dict[str, Stages]) -> None:
    """Ids, pieces that make up the text, log-probabilities, why it ended; the prompt's tokens when asked for."""
    parameters = {"max_new_tokens": 5, "details": True, "decoder_input_details": True}
    (given,) = answer(stages["llama-chat"], "a good film", parameters)
    details = given["details"]
    assert details["finish_reason"] in ("length", "eos_token")
    assert details["generated_tokens"] == len(details["tokens"]) <= 5
    assert all(token["logprob"] <= 0 for token in details["tokens"])
    assert [token["text"] for token in details["prefill"]][1:] == ["a", "good", "film"]
    pieces = "".join(token["text"] for token in details["tokens"] if not token["special"])
    assert pieces.strip() == given["generated_text"].strip()


def test_stop_text_ends_the_answer(stages: dict[str, Stages]) -> None:
    """Among neighbours that go on, and it stays the answer's end."""
    long = text_of(answer(stages["llama-chat"], PROMPTS[0], {"max_new_tokens": 10}))
    stop = long.split()[2]
    jobs: list[Job] = [(PROMPTS, {"max_new_tokens": 10, "stop": [stop], "details": True})]
    ((first, *others),) = answer_together(stages["llama-chat"], jobs)
    assert first[0]["generated_text"].split() == long.split()[:3]
    assert first[0]["details"]["finish_reason"] == "stop_sequence"
    assert any(len(one[0]["generated_text"].split()) > 3 for one in others)


def test_seed_draws_the_same_alone_and_in_company(stages: dict[str, Stages]) -> None:
    """A drawn answer with a seed is computed by itself; without one strangers may share a forward."""
    parameters = {"max_new_tokens": 8, "do_sample": True, "seed": 7}
    alone = answer(stages["llama-chat"], PROMPTS[0], parameters)
    jobs: list[Job] = [(PROMPTS, {"max_new_tokens": 8, "do_sample": True}), (PROMPTS[:1], parameters)]
    assert answer_together(stages["llama-chat"], jobs)[1][0] == alone
    others = [answer(stages["llama-chat"], PROMPTS[0], {**parameters, "seed": seed}) for seed in range(6)]
    assert any(one != alone for one in others)


def test_best_of_keeps_the_likeliest(stages: dict[str, Stages]) -> None:
    """The others come with the details."""
    parameters = {"max_new_tokens": 4, "best_of": 3, "seed": 1, "details": True}
    (given,) = answer(stages["llama-chat"], "the", parameters)

    def mean(tokens: list[dict[str, Any]]) -> float:
        return float(sum(token["logprob"] for token in tokens) / len(tokens))

    best = mean(given["details"]["tokens"])
    others = given["details"]["best_of_sequences"]
    assert len(others) == 2
    assert all(mean(one["tokens"]) <= best + 1e-6 for one in others)


def test_several_answers_come_as_a_list(stages: dict[str, Stages]) -> None:
    """num_return_sequences of them; without chance or beams they would all be one."""
    parameters = {"max_new_tokens": 4, "num_return_sequences": 3, "do_sample": True}
    jobs: list[Job] = [(PROMPTS, parameters)]
    (answers,) = answer_together(stages["llama-chat"], jobs)
    assert [len(one) for one in answers] == [3] * 4
    with pytest.raises(InvalidInput, match="need do_sample"):
        stages["llama-chat"].prepare(PROMPTS, {"num_return_sequences": 3})


def test_prompt_that_is_too_long_is_refused_or_cut(stages: dict[str, Stages]) -> None:
    """The sentence names both numbers; `truncate` keeps the end."""
    with pytest.raises(InputTooLarge, match=r"inputs\[0\] has 20\d tokens; the limit is 127"):
        stages["llama-chat"].prepare(["film " * 200], {})
    with pytest.raises(InvalidInput, match="max_new_tokens"):
        stages["llama-chat"].prepare(["film"], {"max_new_tokens": 127})
    cut = answer(stages["llama-chat"], "film " * 200 + "good", {"truncate": 1, "max_new_tokens": 3})
    assert cut == answer(stages["llama-chat"], "terrible good", {"truncate": 1, "max_new_tokens": 3})


class _Gone:
    """Nobody waits for the first row after two steps."""

    def __init__(self) -> None:
        self.num_steps = 0

    def step(self) -> None:
        self.num_steps += 1

    def is_cancelled(self, index: int) -> bool:
        return index == 0 and self.num_steps >= 2

    def write(self, index: int, tokens: Sequence[int], logprobs: Sequence[float] = ()) -> None:
        pass


@pytest.mark.parametrize("name", ["llama-chat", "bart"])
def test_cancelled_row_ends_and_the_others_go_on(stages: dict[str, Stages], name: str) -> None:
    """Asked at every step; when all rows are left, the forward ends."""
    parameters = {"max_new_tokens": 12, "min_new_tokens": 12}
    items: list[Item] = [one for row in stages[name].prepare(PROMPTS[:2], parameters) for one in row]
    expected = answer(stages[name], PROMPTS[1], parameters)
    watch = _Gone()
    outputs = list(stages[name].forward(items, watch))
    assert watch.num_steps >= 11
    assert stages[name].finish([items[1]], [outputs[1]], parameters) == expected
    alone = _Gone()
    stages[name].forward(items[:1], alone)
    assert alone.num_steps == 2


# Encoder-decoders


@pytest.mark.parametrize("name", ["bart", "mbart", "nllb"])
def test_answer_ends_where_the_decoder_has_no_more_positions(stages: dict[str, Stages], name: str) -> None:
    """128 of them: without a wish that is the end, and who wishes for more is told."""
    items = stages[name].prepare(PROMPTS[:1], {})
    assert items[0][0].features.max_tokens == 127
    assert answer(stages[name], PROMPTS[0])
    for parameter in ({"max_new_tokens": 128}, {"max_length": 200}):
        with pytest.raises(InvalidInput, match="127 tokens at most"):
            stages[name].prepare(PROMPTS[:1], parameter)


def translated(folder: Path, text: str, **options: Any) -> str:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if "src_lang" in options:
        tokenizer.src_lang = options.pop("src_lang")
    if "tgt_lang" in options:
        options["forced_bos_token_id"] = tokenizer.convert_tokens_to_ids(options.pop("tgt_lang"))
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    with torch.inference_mode():
        tokens = model.generate(**tokenizer(text, return_tensors="pt"), do_sample=False, **options)
    return str(tokenizer.decode(tokens[0], skip_special_tokens=True))


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_text_is_made_as_generate_makes_it(stages: dict[str, Stages], tiny_dir: Path, name: str) -> None:
    """Greedy and by beams, for each architecture."""
    for prompt in PROMPTS:
        for options in ({"max_new_tokens": 8}, {"max_new_tokens": 8, "num_beams": 2}):
            given = text_of(answer(stages[name], prompt, dict(options)))
            assert given == translated(tiny_dir / name, prompt, **options)


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_texts_share_a_forward_and_no_word(stages: dict[str, Stages], name: str) -> None:
    """Texts of other lengths are padded under a mask: each answer is that of the text alone."""
    jobs: list[Job] = [(PROMPTS, {"max_new_tokens": 10}), (PROMPTS[1:], {"max_new_tokens": 4})]
    for (inputs, parameters), answers in zip(jobs, answer_together(stages[name], jobs), strict=True):
        assert answers == [answer(stages[name], prompt, parameters) for prompt in inputs]


@pytest.mark.parametrize(("name", "source", "target"), [("mbart", "fr_XX", "de_DE"), ("nllb", "fra_Latn", "deu_Latn")])
def test_languages_are_chosen_per_request(
    stages: dict[str, Stages], tiny_dir: Path, name: str, source: str, target: str
) -> None:
    """Requests with other languages in one prepare thread do not change each other's."""
    plain = answer(stages[name], PROMPTS[2], {"max_new_tokens": 8})
    languages = {"src_lang": source, "tgt_lang": target}
    given = answer(stages[name], PROMPTS[2], {"max_new_tokens": 8, **languages})
    assert text_of(given) == translated(tiny_dir / name, PROMPTS[2], max_new_tokens=8, **languages)
    assert given != plain
    assert answer(stages[name], PROMPTS[2], {"max_new_tokens": 8}) == plain


@pytest.mark.parametrize(
    ("name", "parameters", "says"),
    [
        (
            "mbart",
            {"tgt_lang": "klingon"},
            "parameters.tgt_lang: this model does not know the language 'klingon'.*de_DE",
        ),
        ("nllb", {"src_lang": "xx"}, "parameters.src_lang"),
        ("nllb", {"tgt_lang": "</s>"}, "parameters.tgt_lang"),
    ],
)
def test_unknown_language_is_refused(
    stages: dict[str, Stages], name: str, parameters: dict[str, Any], says: str
) -> None:
    """The sentence lists those that the model knows."""
    with pytest.raises(InvalidInput, match=says):
        stages[name].prepare(["a"], parameters)


def test_prefix_of_the_models_config_goes_before_the_text(stages: dict[str, Stages], tiny_dir: Path) -> None:
    """T5: `task_specific_params`, and languages in words."""
    folder = tiny_dir / "t5"
    model = load(folder, "text2text-generation", implied_tasks=("summarization", "translation"))
    summary = answer(model.stages("summarization"), PROMPTS[2])
    assert summary[0]["summary_text"] == translated(folder, "summarize: " + PROMPTS[2], max_new_tokens=19)
    stages_of = model.stages("translation")
    given = answer(stages_of, PROMPTS[0], {"max_new_tokens": 7})
    assert text_of(given) == translated(folder, "translate English to German: " + PROMPTS[0], max_new_tokens=7)
    french = answer(stages_of, PROMPTS[0], {"max_new_tokens": 7, "src_lang": "en", "tgt_lang": "fr"})
    assert text_of(french) == translated(folder, "translate English to French: " + PROMPTS[0], max_new_tokens=7)
    with pytest.raises(InvalidInput, match="tgt_lang"):
        stages_of.prepare(["a"], {"tgt_lang": "klingon"})
