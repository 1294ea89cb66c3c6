"""feature-extraction and sentence-similarity against sentence-transformers and plain transformers."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from app.errors import BackendFailed, InputTooLarge, InvalidInput
from app.runtime.base import LoadedModel, Stages
from tests.models import HIDDEN_SIZE, SENTENCE_MAX_LENGTH, build, sentence_encoder
from tests.runtime.compute import answer, answer_together, load
from tests.runtime.golden.make_embeddings import GOLDEN, MINILM, MODELS, PROMPTS, TEXTS, folder_of

TOLERANCE = 1e-5
"""Against sentence-transformers, as promised: the matrix products are the same, summed in another order."""

SHORT = ["I loved this film.", "The cat sleeps on the sofa in a very old house by the river.", "Paris", "a b c d e f g"]


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    recorded: dict[str, Any] = json.loads(GOLDEN.read_text())
    return recorded


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LoadedModel]:
    cache = tmp_path_factory.mktemp("variants")
    return {name: load(folder_of(name, cache), "feature-extraction") for name in MODELS}


@pytest.fixture(scope="module")
def sentences(models_dir: Path) -> Stages:
    return load(models_dir / "sentence-encoder", "feature-extraction").stages("feature-extraction")


@pytest.fixture(scope="module")
def tokens(models_dir: Path) -> Stages:
    return load(models_dir / "encoder", "feature-extraction").stages("feature-extraction")


@pytest.mark.parametrize("name", MODELS)
def test_vectors_are_those_of_sentence_transformers(
    name: str, golden: dict[str, Any], variants: dict[str, LoadedModel]
) -> None:
    """Alone and in one batch, whole and cut, with the default prompt and another."""
    stages, recorded = variants[name].stages("feature-extraction"), golden[name]
    alone = [answer(stages, text) for text in TEXTS]
    (together,) = answer_together(stages, [(TEXTS, {})])
    np.testing.assert_allclose(alone, recorded["vectors"], atol=TOLERANCE)
    np.testing.assert_allclose(together, recorded["vectors"], atol=TOLERANCE)
    (scaled,) = answer_together(stages, [(TEXTS, {"dimensions": 4, "normalize": True})])
    np.testing.assert_allclose(scaled, recorded["cut to 4 and scaled"], atol=TOLERANCE)
    if "as passage" in recorded:
        (passages,) = answer_together(stages, [(TEXTS, {"prompt_name": "passage"})])
        np.testing.assert_allclose(passages, recorded["as passage"], atol=TOLERANCE)
    if variants[name].embedding_size is not None:
        assert len(alone[0]) == variants[name].embedding_size


@pytest.mark.parametrize("name", ["cls_token", "dense", "euclidean"])
def test_cut_vectors_keep_their_length_where_nothing_scales_them(
    name: str, golden: dict[str, Any], variants: dict[str, LoadedModel]
) -> None:
    """`dimensions` alone cuts; models with a Normalize module scale again, these have none."""
    stages = variants[name].stages("feature-extraction")
    (cut,) = answer_together(stages, [(TEXTS, {"dimensions": 4})])
    np.testing.assert_allclose(cut, golden[name]["cut to 4"], atol=TOLERANCE)


@pytest.mark.parametrize("name", [MINILM, "euclidean", "manhattan", "dot", "dense after two"])
def test_similarities_are_those_of_sentence_transformers(
    name: str, golden: dict[str, Any], variants: dict[str, LoadedModel]
) -> None:
    """By the model's own measure."""
    stages = variants[name].stages("sentence-similarity")
    given = {"source_sentence": TEXTS[0], "sentences": TEXTS[1:]}
    np.testing.assert_allclose(answer(stages, given), golden[name]["similarities"], rtol=1e-5, atol=TOLERANCE)
    ((together, _),) = answer_together(stages, [([given, {"source_sentence": "a", "sentences": ["b"]}], {})])
    np.testing.assert_allclose(together, golden[name]["similarities"], rtol=1e-5, atol=TOLERANCE)


def test_measure_can_be_chosen(golden: dict[str, Any], variants: dict[str, LoadedModel]) -> None:
    """A cosine of a model whose files say dot."""
    given = {"source_sentence": TEXTS[0], "sentences": TEXTS[1:]}
    stages = variants["dot"].stages("sentence-similarity")
    cosines = answer(stages, given, {"similarity_fn_name": "cosine"})
    vectors = np.asarray(answer_together(variants["dot"].stages("feature-extraction"), [(TEXTS, {})])[0])
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    np.testing.assert_allclose(cosines, vectors[1:] @ vectors[0], atol=TOLERANCE)
    assert not np.allclose(cosines, golden["dot"]["similarities"], atol=TOLERANCE)


def test_model_without_files_answers_the_pipelines_token_vectors(tokens: Stages, models_dir: Path) -> None:
    """[tokens, size] with special tokens, without a trace of the padding."""
    folder = models_dir / "encoder"
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    (together,) = answer_together(tokens, [(SHORT, {})])
    for text, given in zip(SHORT, together, strict=True):
        with torch.inference_mode():
            expected = model(**tokenizer(text, return_tensors="pt"))[0][0]
        np.testing.assert_allclose(given, expected, atol=1e-5)  # padded and alone sum in another order
        np.testing.assert_allclose(answer(tokens, text), expected, atol=1e-6)


def test_strangers_with_other_parameters_share_a_forward(sentences: Stages) -> None:
    """Each gets what it gets alone: pooling, scaling, prompts and cuts are its own."""
    jobs: list[tuple[list[Any], dict[str, Any]]] = [
        (SHORT, {}),
        (SHORT[:1], {"normalize": False}),
        (SHORT[1:], {"pooling": "none"}),
        (SHORT[:2], {"pooling": "max", "normalize": False}),
        (SHORT, {"prompt_name": "query", "dimensions": 5}),
        ([" ".join(SHORT * 4)], {"truncation_direction": "Left"}),
    ]
    for (inputs, parameters), answers in zip(jobs, answer_together(sentences, jobs), strict=True):
        for one_input, given in zip(inputs, answers, strict=True):
            np.testing.assert_allclose(given, answer(sentences, one_input, parameters), atol=1e-5)
    assert {item.group for items in sentences.prepare(SHORT, {"pooling": "cls"}) for item in items} == {None}


def test_padding_on_the_left_changes_nothing(tmp_path: Path) -> None:
    """Positions are counted without the padding."""
    right = tmp_path / "right"
    left = tmp_path / "left"
    for pooling in ("mean_tokens", "lasttoken", "cls_token", "weightedmean_tokens"):
        for folder, side in ((right, "right"), (left, "left")):
            sentence_encoder(folder, pooling=(pooling,), padding_side=side)
        stages = [load(folder, "feature-extraction").stages("feature-extraction") for folder in (left, right)]
        (on_left,), (on_right,) = (answer_together(one, [(SHORT, {})]) for one in stages)
        np.testing.assert_allclose(on_left, on_right, atol=1e-5)  # other shapes, other order of sums
        (raw,) = answer_together(stages[0], [(SHORT, {"pooling": "none"})])
        np.testing.assert_allclose(raw[0], answer(stages[1], SHORT[0], {"pooling": "none"}), atol=1e-5)


def test_normalize_overrides_the_files(sentences: Stages) -> None:
    """The files scale to length 1; false asks for the pooled vector, whose direction is the same."""
    scaled, raw = answer(sentences, SHORT[0]), answer(sentences, SHORT[0], {"normalize": False})
    assert np.linalg.norm(scaled) == pytest.approx(1, abs=1e-6)
    assert np.linalg.norm(raw) != pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(raw / np.linalg.norm(raw), scaled, atol=1e-6)


def test_dimensions_are_scaled_again_with_normalize(sentences: Stages) -> None:
    """Matryoshka: the leading numbers, at length 1 again."""
    whole, cut = answer(sentences, SHORT[0]), answer(sentences, SHORT[0], {"dimensions": 8})
    np.testing.assert_allclose(cut, whole[:8] / np.linalg.norm(whole[:8]), atol=1e-6)


def test_truncation_direction_chooses_the_end_that_is_cut(sentences: Stages) -> None:
    """`left` keeps the end of the text, and the next text is cut on the right again."""
    begin, end = "paris " * SENTENCE_MAX_LENGTH, "london " * SENTENCE_MAX_LENGTH
    left = answer(sentences, begin + end, {"truncation_direction": "left"})
    np.testing.assert_allclose(left, answer(sentences, end), atol=1e-6)
    for parameters in ({"truncation_direction": "Right"}, {}):
        np.testing.assert_allclose(answer(sentences, begin + end, parameters), answer(sentences, begin), atol=1e-6)


def test_base64_is_the_same_numbers(sentences: Stages) -> None:
    """Little-endian float32; token vectors one by one."""
    encoded = answer(sentences, SHORT[0], {"encoding_format": "base64"})
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(encoded), "<f4"), answer(sentences, SHORT[0]))
    rows = answer(sentences, SHORT[0], {"encoding_format": "base64", "pooling": "none"})
    raw = answer(sentences, SHORT[0], {"pooling": "none"})
    np.testing.assert_array_equal([np.frombuffer(base64.b64decode(row), "<f4") for row in rows], raw)


def test_tokens_are_taken_as_they_are(sentences: Stages, variants: dict[str, LoadedModel], tokens: Stages) -> None:
    """Cut at the end that is asked for, without a prompt before them, for models of any kind."""
    ids = [2, *range(60, 100), 3]
    for side, cut in (("left", ids[-SENTENCE_MAX_LENGTH:]), ("right", ids[:SENTENCE_MAX_LENGTH])):
        given = answer(sentences, ids, {"truncation_direction": side})
        np.testing.assert_allclose(given, answer(sentences, cut), atol=TOLERANCE)
    assert len(answer(tokens, ids)) == len(ids)
    with pytest.raises(InvalidInput, match=r"inputs\[0\]: there is no token 99999; the vocabulary has"):
        answer(sentences, [2, 99999])
    with pytest.raises(InvalidInput, match="prompt_name"):
        answer(sentences, ids, {"prompt_name": "query"})


def test_too_long_is_cut_or_refused(sentences: Stages, tokens: Stages) -> None:
    """With files: cut unless truncate is false. Without: refused unless it is true. Both numbers are named."""
    text = "paris " * 100
    assert len(answer(sentences, text)) == HIDDEN_SIZE
    with pytest.raises(
        InputTooLarge, match=rf"inputs\[1\] has 102 tokens; the limit is {SENTENCE_MAX_LENGTH}"
    ) as caught:
        sentences.prepare(["a", text], {"truncate": False})
    assert caught.value.param == "inputs[1]"
    with pytest.raises(InputTooLarge, match=r"inputs\[0\] has 102 tokens; the limit is 64"):
        tokens.prepare([text], {})
    assert answer(tokens, text, {"truncate": True}).shape == (64, HIDDEN_SIZE)


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"prompt_name": "nothing"}, "parameters.prompt_name"),
        ({"dimensions": HIDDEN_SIZE + 1}, "parameters.dimensions"),
        ({"dimensions": HIDDEN_SIZE + 1, "pooling": "none"}, "parameters.dimensions"),
    ],
)
def test_bad_parameters_are_named(sentences: Stages, parameters: dict[str, Any], param: str) -> None:
    """What only the model can know is refused in prepare."""
    with pytest.raises(InvalidInput) as caught:
        sentences.prepare(["a"], parameters)
    assert caught.value.param == param


def test_text_that_is_no_unicode_is_that_inputs_error(sentences: Stages) -> None:
    """A lone surrogate passes JSON but not the tokenizer; its neighbours are not blamed."""
    with pytest.raises(InvalidInput) as caught:
        sentences.prepare(["good", "bad \ud800", "good"], {})
    assert caught.value.param == "inputs[1]"


def test_too_long_sentence_names_its_input(models_dir: Path) -> None:
    """sentence-similarity has several texts per input."""
    stages = load(models_dir / "encoder", "sentence-similarity").stages("sentence-similarity")
    inputs = [{"source_sentence": "a", "sentences": ["b", long]} for long in ("c", "paris " * 100)]
    with pytest.raises(InputTooLarge) as caught:
        stages.prepare(inputs, {})
    assert caught.value.param == "inputs[1]"


def test_declared_pooling_stands_in_for_files(models_dir: Path, tokens: Stages) -> None:
    """`pooling` and `normalize` in models.yaml."""
    stages = load(models_dir / "encoder", "feature-extraction", pooling="mean", normalize=True).stages(
        "feature-extraction"
    )
    mean = answer(tokens, SHORT[1]).mean(0)
    np.testing.assert_allclose(answer(stages, SHORT[1]), mean / np.linalg.norm(mean), atol=1e-6)
    with pytest.raises(InputTooLarge):
        stages.prepare(["paris " * 100], {})


def test_declared_lower_case_lowers(tmp_path: Path) -> None:
    """`do_lower_case` of sentence_bert_config.json, for a tokenizer that keeps case."""
    folder = build("sentence-encoder", tmp_path)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["normalizer"]["lowercase"] = False
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "do_lower_case": False}))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 32, "do_lower_case": true}')
    lowering = load(folder, "feature-extraction").stages("feature-extraction")
    np.testing.assert_array_equal(answer(lowering, "PARIS"), answer(lowering, "paris"))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 32, "do_lower_case": false}')
    keeping = load(folder, "feature-extraction").stages("feature-extraction")
    assert np.abs(answer(keeping, "PARIS") - answer(keeping, "paris")).max() > 0.01


def test_not_finite_is_an_error(sentences: Stages) -> None:
    """Never null in the answer."""
    (items,) = sentences.prepare(["a"], {})
    vector = np.full(HIDDEN_SIZE, np.nan, np.float32)
    with pytest.raises(BackendFailed, match="not finite"):
        sentences.finish(items, [vector], {})


def test_classifier_also_gives_vectors(models_dir: Path) -> None:
    """Its encoder does: one copy of the weights."""
    both = load(models_dir / "sequence-classification", "text-classification", "feature-extraction")
    assert both.tasks() == ["text-classification", "feature-extraction", "sentence-similarity"]
    assert answer(both.stages("feature-extraction"), "paris").shape == (3, HIDDEN_SIZE)


def test_prompts_are_the_models(variants: dict[str, LoadedModel]) -> None:
    """The error of an unknown prompt lists them."""
    stages = variants["prompts"].stages("feature-extraction")
    with pytest.raises(InvalidInput, match=", ".join(PROMPTS["prompts"])):
        stages.prepare(["a"], {"prompt_name": "document"})
