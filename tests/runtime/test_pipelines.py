"""The classic text tasks against `transformers.pipeline` on the same weights, alone and among strangers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForMaskedLM, BartConfig, BartForSequenceClassification, pipeline

from app.errors import BackendFailed, InputTooLarge, InvalidInput
from app.runtime.base import Stages
from app.runtime.collating import Collator
from app.runtime.pipelines import FillMaskStages, TextClassificationStages
from app.runtime.tokenizing import Tokenizers
from tests.models import LABELS, build
from tests.runtime.compute import Job, answer, answer_together, load, parts_of

TOLERANCE = 1e-5
"""Padding changes the shapes of the matrix products, and with them the order in which float32 numbers are summed."""

TEXTS = [
    "I loved every minute of this film.",
    "Terrible.",
    "Ada Lovelace lived in London, wrote the first program and worked for a company in Paris.",
    "The match ended two goals to one; 3 players of Rome were not good",
]
LONG = "john smith works in paris and mary in rome, a city of france. " * 12  # three windows of 64 tokens

FOLDERS = {
    "text-classification": "sequence-classification",
    "token-classification": "token-classification",
    "fill-mask": "masked-lm",
    "zero-shot-classification": "nli",
}


@pytest.fixture(scope="module")
def stages(models_dir: Path) -> dict[str, Stages]:
    return {task: load(models_dir / folder, task).stages(task) for task, folder in FOLDERS.items()}


@pytest.fixture(scope="module")
def pipes(models_dir: Path) -> dict[str, Any]:
    return {task: pipeline(task, model=str(models_dir / folder), device="cpu") for task, folder in FOLDERS.items()}


def assert_same(given: Any, expected: Any) -> None:
    """Equal but for numbers, which are as near as TOLERANCE."""
    if isinstance(expected, dict):
        assert given.keys() == expected.keys()
        for name in expected:
            assert_same(given[name], expected[name])
    elif isinstance(expected, list):
        assert len(given) == len(expected)
        for one, other in zip(given, expected, strict=True):
            assert_same(one, other)
    elif isinstance(given, float):
        assert given == pytest.approx(float(expected), abs=TOLERANCE)
    else:
        assert given == expected


def assert_same_among_strangers(stages: Stages, jobs: list[Job]) -> None:
    """All jobs in one forward (per group) answer what each input answers alone."""
    for (inputs, parameters), answers in zip(jobs, answer_together(stages, jobs), strict=True):
        for one_input, given in zip(inputs, answers, strict=True):
            assert_same(given, answer(stages, one_input, parameters))


# text-classification


@pytest.mark.parametrize("function", [None, "sigmoid", "softmax", "none"])
@pytest.mark.parametrize("top_k", [None, 1, 2])
def test_text_classification_answers_as_the_pipeline(
    stages: dict[str, Stages], pipes: dict[str, Any], function: str | None, top_k: int | None
) -> None:
    """Every function and number of labels, best first."""
    parameters = {"function_to_apply": function} if function else {}
    expected = pipes["text-classification"](TEXTS, top_k=top_k, **parameters)
    if top_k is not None:
        parameters |= {"top_k": top_k}  # type: ignore[dict-item]
    given = [answer(stages["text-classification"], text, parameters) for text in TEXTS]
    assert_same(given, expected)
    assert all(len(labels) == (top_k or len(LABELS)) for labels in given)


@pytest.mark.parametrize("parameters", [{}, {"function_to_apply": "sigmoid"}])
def test_labels_stay_in_the_models_order(stages: dict[str, Stages], parameters: dict[str, Any]) -> None:
    """All of them, with the same scores, where nobody wants them sorted."""
    best_first = answer(stages["text-classification"], TEXTS[0], parameters)
    given = answer(stages["text-classification"], TEXTS[0], {**parameters, "sort": False, "top_k": 1})
    assert [one["label"] for one in given] == list(LABELS)
    assert sorted(given, key=lambda one: float(one["score"]), reverse=True) == best_first


def test_text_pairs_answer_as_the_pipeline(stages: dict[str, Stages], pipes: dict[str, Any]) -> None:
    """{text, text_pair}, each with its own token types."""
    pairs = [{"text": text, "text_pair": TEXTS[1]} for text in TEXTS]
    expected = [pipes["text-classification"](pair, top_k=None) for pair in pairs]
    assert_same([answer(stages["text-classification"], pair) for pair in pairs], expected)


def test_classified_texts_keep_their_answers_among_strangers(stages: dict[str, Stages]) -> None:
    """Texts and pairs, with parameters of their own, in one forward."""
    pair = {"text": TEXTS[0], "text_pair": TEXTS[2]}
    jobs: list[Job] = [
        (TEXTS, {}),
        (TEXTS[1:2], {"top_k": 1}),
        ([pair], {"function_to_apply": "sigmoid"}),
        ([LONG], {"truncate": True, "function_to_apply": "none"}),
    ]
    assert_same_among_strangers(stages["text-classification"], jobs)


def test_rows_with_other_numbers_of_end_tokens_do_not_meet(models_dir: Path) -> None:
    """BART classifies at the last end token and raises where rows differ in how many they have."""
    config = BartConfig(
        vocab_size=400, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=64,
        num_labels=2, pad_token_id=0, bos_token_id=2, eos_token_id=3, decoder_start_token_id=3,
    )  # fmt: skip
    tokenizer = pipeline("text-classification", model=str(models_dir / "sequence-classification")).tokenizer
    bart = BartForSequenceClassification(config).eval()
    stages = TextClassificationStages(parts_of(bart, tokenizer, 64))
    pair = {"text": TEXTS[0], "text_pair": TEXTS[1]}
    groups = [items[0].group for job in ([TEXTS[0], TEXTS[1]], [pair]) for items in stages.prepare(job, {})]
    assert groups == [1, 1, 2]
    assert_same_among_strangers(stages, [(TEXTS, {}), ([pair], {})])


# token-classification


@pytest.mark.parametrize("strategy", [None, "none", "simple", "first", "average", "max"])
@pytest.mark.parametrize("ignored", [None, [], ["O", "B-PER", "PER"]])
def test_token_classification_answers_as_the_pipeline(
    stages: dict[str, Stages], pipes: dict[str, Any], strategy: str | None, ignored: list[str] | None
) -> None:
    """Every strategy, "simple" where none is given, and every list of ignored labels."""
    parameters: dict[str, Any] = {} if ignored is None else {"ignore_labels": ignored}
    pipe = pipes["token-classification"]
    expected = [pipe(text, aggregation_strategy=strategy or "simple", **parameters) for text in TEXTS]
    assert any(expected), "the tiny model finds nothing"
    if strategy is not None:
        parameters["aggregation_strategy"] = strategy
    assert_same([answer(stages["token-classification"], text, parameters) for text in TEXTS], expected)


@pytest.mark.parametrize("stride", [0, 5, 30])
def test_windows_answer_as_the_pipeline(stages: dict[str, Stages], pipes: dict[str, Any], stride: int) -> None:
    """A long text in overlapping windows, one item each."""
    parameters = {"stride": stride}
    assert len(stages["token-classification"].prepare([LONG], parameters)[0]) > 2
    expected = pipes["token-classification"](LONG, aggregation_strategy="simple", stride=stride)
    assert_same(answer(stages["token-classification"], LONG, parameters), expected)


@pytest.mark.parametrize("delimiter", [None, "_", ""])
def test_words_answer_as_the_pipeline(stages: dict[str, Stages], pipes: dict[str, Any], delimiter: str | None) -> None:
    """Offsets count in the text that the delimiter joins."""
    words = TEXTS[2].split()
    parameters: dict[str, Any] = {"is_split_into_words": True}
    if delimiter is not None:
        parameters["delimiter"] = delimiter
    expected = pipes["token-classification"]([words], aggregation_strategy="simple", **parameters)
    expected = expected[0] if isinstance(expected[0], list) else expected
    assert_same(answer(stages["token-classification"], words, parameters), expected)


def test_tagged_texts_keep_their_answers_among_strangers(stages: dict[str, Stages]) -> None:
    """Texts, windows and words in one forward."""
    jobs: list[Job] = [
        (TEXTS, {"aggregation_strategy": "none"}),
        ([LONG, TEXTS[0]], {"stride": 4}),
        ([TEXTS[2].split(), ["paris"]], {"is_split_into_words": True, "aggregation_strategy": "max"}),
        ([LONG], {"truncate": True}),
    ]
    assert_same_among_strangers(stages["token-classification"], jobs)


@pytest.mark.parametrize(
    ("one_input", "parameters", "param"),
    [
        (["paris"], {}, "inputs[0]"),
        ("paris", {"is_split_into_words": True}, "inputs[0]"),
        ("paris", {"delimiter": "_"}, "parameters.delimiter"),
        ("paris", {"stride": 62}, "parameters.stride"),
        ("paris", {"stride": 64}, "parameters.stride"),
        ("paris", {"stride": 2, "aggregation_strategy": "none"}, "parameters.stride"),
    ],
)
def test_bad_token_classification_names_its_parameter(
    stages: dict[str, Stages], one_input: Any, parameters: dict[str, Any], param: str
) -> None:
    """What the task's schema cannot know."""
    with pytest.raises(InvalidInput) as caught:
        stages["token-classification"].prepare([one_input], parameters)
    assert caught.value.param == param


# fill-mask


@pytest.mark.parametrize(
    "parameters", [{}, {"top_k": 1}, {"top_k": 40}, {"targets": ["paris", "rome"]}, {"targets": "london", "top_k": 3}]
)
def test_fill_mask_answers_as_the_pipeline(
    stages: dict[str, Stages], pipes: dict[str, Any], parameters: dict[str, Any]
) -> None:
    """One mask: a flat list; several: one list each."""
    texts = ["the capital of france is [MASK].", "[MASK] is the [MASK] of [MASK]", "good [MASK]"]
    expected = [pipes["fill-mask"](text, **parameters) for text in texts]
    assert_same([answer(stages["fill-mask"], text, parameters) for text in texts], expected)


def test_target_that_is_no_token_stands_for_its_first(stages: dict[str, Stages]) -> None:
    """As in the pipeline; the answer shows which token was ranked."""
    given = answer(stages["fill-mask"], "the [MASK]", {"targets": ["parisian", "paris"]})
    assert [one["token_str"] for one in given] == ["paris"]


def test_filled_texts_keep_their_answers_among_strangers(stages: dict[str, Stages]) -> None:
    """Only the logits at the masks are kept of each row."""
    jobs: list[Job] = [
        (["the capital of france is [MASK].", "[MASK]"], {}),
        (["[MASK] lived in [MASK] " + TEXTS[2]], {"targets": ["paris", "london"], "top_k": 1}),
        (["[MASK] " + LONG], {"truncate": True, "top_k": 7}),
    ]
    assert_same_among_strangers(stages["fill-mask"], jobs)


def test_logits_that_would_not_fit_are_computed_in_parts(models_dir: Path, stages: dict[str, Stages]) -> None:
    """Rows x tokens x vocabulary is bounded: here two rows at a time."""
    model = AutoModelForMaskedLM.from_pretrained(models_dir / "masked-lm").eval()
    tokenizer = pipeline("fill-mask", model=str(models_dir / "masked-lm")).tokenizer
    num_rows: list[int] = []
    model.register_forward_pre_hook(
        lambda module, arguments, keywords: num_rows.append(len(keywords["input_ids"])), with_kwargs=True
    )
    bounded = FillMaskStages(parts_of(model, tokenizer, 64), max_logits_bytes=10_000)
    jobs: list[Job] = [(["good [MASK] film", "[MASK]", "bad [MASK]", "the [MASK]", "a [MASK] [MASK]"], {})]
    given = answer_together(bounded, jobs)
    assert len(num_rows) > 1
    assert_same(given, answer_together(stages["fill-mask"], jobs))


@pytest.mark.parametrize(
    ("text", "parameters", "param"),
    [
        ("no mask", {}, "inputs[0]"),
        (LONG + "[MASK]", {"truncate": True}, "inputs[0]"),
        ("[MASK]", {"top_k": 100_000}, "parameters.top_k"),
        ("[MASK]", {"targets": [" "]}, "parameters.targets"),
    ],
)
def test_bad_fill_mask_names_its_parameter(
    stages: dict[str, Stages], text: str, parameters: dict[str, Any], param: str
) -> None:
    """What the task's schema cannot know."""
    with pytest.raises(InvalidInput) as caught:
        stages["fill-mask"].prepare([text], parameters)
    assert caught.value.param == param


# zero-shot-classification

CANDIDATES = ["sport", "cooking", "politics", "science"]


@pytest.mark.parametrize("multi_label", [None, False, True])
@pytest.mark.parametrize("template", [None, "The text is about {}."])
@pytest.mark.parametrize("labels", [CANDIDATES, CANDIDATES[:1]])
def test_zero_shot_answers_as_the_pipeline(
    stages: dict[str, Stages],
    pipes: dict[str, Any],
    multi_label: bool | None,
    template: str | None,
    labels: list[str],
) -> None:
    """{label, score} per label, best first: the pipeline's two lists, zipped."""
    parameters = {"multi_label": multi_label, "hypothesis_template": template}
    parameters = {name: value for name, value in parameters.items() if value is not None}
    for text in TEXTS:
        expected = pipes["zero-shot-classification"](text, labels, **parameters)
        pairs = zip(expected["labels"], expected["scores"], strict=True)
        given = answer(stages["zero-shot-classification"], text, {"candidate_labels": labels, **parameters})
        assert_same(given, [{"label": label, "score": score} for label, score in pairs])


def test_zero_shot_texts_keep_their_answers_among_strangers(stages: dict[str, Stages]) -> None:
    """Every pair of a text and a label is an item of its own."""
    jobs: list[Job] = [
        (TEXTS, {"candidate_labels": CANDIDATES}),
        (TEXTS[:1], {"candidate_labels": ["good", "bad"], "multi_label": True}),
        ([LONG], {"candidate_labels": CANDIDATES[:2], "truncate": True}),
    ]
    assert [len(items) for items in stages["zero-shot-classification"].prepare(*jobs[0])] == [len(CANDIDATES)] * 4
    assert_same_among_strangers(stages["zero-shot-classification"], jobs)


def test_one_set_of_weights_classifies_both_ways(models_dir: Path) -> None:
    """Several tasks with the same head."""
    both = load(models_dir / "nli", "zero-shot-classification", "text-classification")
    assert both.tasks() == ["zero-shot-classification", "text-classification"]
    assert {one["label"] for one in answer(both.stages("text-classification"), "good")} >= {"entailment"}


def test_label_that_leaves_no_room_is_too_large(stages: dict[str, Stages]) -> None:
    """`truncate` cuts the text; the hypothesis stays whole or is refused."""
    parameters = {"candidate_labels": ["sport " * 100], "truncate": True}
    with pytest.raises(InputTooLarge) as caught:
        stages["zero-shot-classification"].prepare(["a"], parameters)
    assert caught.value.param == "parameters.candidate_labels"
    room = {"candidate_labels": ["sport " * 55], "truncate": True}
    assert stages["zero-shot-classification"].prepare([LONG], room)[0][0].cost == 64


# all of them


@pytest.mark.parametrize("task", FOLDERS)
def test_too_long_text_is_refused_unless_truncate(stages: dict[str, Stages], task: str) -> None:
    """The error has both numbers and the input's place."""
    text = "[MASK] " + "paris " * 100
    parameters = {"candidate_labels": ["sport"]} if task == "zero-shot-classification" else {}
    with pytest.raises(InputTooLarge, match=r"inputs\[1\] has 1\d\d tokens; the limit is 64") as caught:
        stages[task].prepare(["[MASK]", text], parameters)
    assert caught.value.param == "inputs[1]"
    items = stages[task].prepare([text], {**parameters, "truncate": True})
    assert [item.cost for row in items for item in row] == [64]


@pytest.mark.parametrize("task", FOLDERS)
def test_text_that_is_no_unicode_is_that_inputs_error(stages: dict[str, Stages], task: str) -> None:
    """A lone surrogate passes JSON but not the tokenizer."""
    parameters = {"candidate_labels": ["sport"]} if task == "zero-shot-classification" else {}
    with pytest.raises(InvalidInput) as caught:
        stages[task].prepare(["[MASK]", "[MASK] \ud800"], parameters)
    assert caught.value.param == "inputs[1]"


@pytest.mark.parametrize("task", FOLDERS)
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_not_finite_is_an_error(stages: dict[str, Stages], task: str, number: float) -> None:
    """NaN or infinity out of the model is the model's failure."""
    parameters = {"candidate_labels": ["sport"]} if task == "zero-shot-classification" else {}
    (items,) = stages[task].prepare(["[MASK] film"], parameters)
    outputs = [torch.full_like(output, number) for output in stages[task].forward(items)]
    with pytest.raises(BackendFailed, match="not finite"):
        stages[task].finish(items, outputs, parameters)


def test_tokenizer_is_one_threads_own(models_dir: Path) -> None:
    """Stages that encode have a tokenizer of their own; one that is released goes to the next."""
    tokenizer = pipeline("text-classification", model=str(models_dir / "sequence-classification")).tokenizer
    tokenizers = Tokenizers(tokenizer, lambda copied: None)
    first, second = tokenizers.take(), tokenizers.take()
    assert len({id(one) for one in (tokenizer, first, second)}) == 3
    tokenizers.give_back(first)
    assert tokenizers.take() is first


def test_collator_pads_every_input_with_its_own_value(models_dir: Path) -> None:
    """Ids with the padding token, the mask with 0, on the tokenizer's side; names unknown to the model are left out."""
    model = AutoModelForMaskedLM.from_pretrained(models_dir / "masked-lm")
    tokenizer = pipeline("fill-mask", model=str(models_dir / "masked-lm")).tokenizer
    rows = [{"input_ids": ids, "token_type_ids": [1] * len(ids), "else": ids} for ids in ([2, 7, 8], [2])]
    inputs = Collator(model, tokenizer).collate(rows)
    assert inputs["input_ids"].tolist() == [[2, 7, 8], [2, 0, 0]]
    assert inputs["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert inputs["token_type_ids"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert "else" not in inputs
    tokenizer.padding_side = "left"
    inputs = Collator(model, tokenizer).collate(rows)
    assert inputs["input_ids"].tolist() == [[2, 7, 8], [0, 0, 2]]
    assert inputs["position_ids"].tolist() == [[0, 1, 2], [0, 0, 0]]


def test_cached_folder_is_built_once(tmp_path: Path) -> None:
    """The tiny models' own cache."""
    folder = build("masked-lm", tmp_path)
    written_at = (folder / "model.safetensors").stat().st_mtime_ns
    assert build("masked-lm", tmp_path) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written_at
