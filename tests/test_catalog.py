"""models.yaml: every form of declaring a pipeline is understood, every mistake is a sentence with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.catalog import Catalog, ModelSpec, read_catalog
from app.declaration.form import LATER_KEYS, LATER_TOP_LEVEL_KEYS
from app.errors import CatalogError
from app.tasks.architectures import ARCHITECTURES
from app.tasks.registry import TASKS
from scripts import generate_architectures, generate_models_yaml_reference

REPOSITORY = Path(__file__).resolve().parent.parent


def read(folder: Path, text: str) -> Catalog:
    path = folder / "models.yaml"
    path.write_text(text)
    return read_catalog(path)


def read_entry(folder: Path, **entry: Any) -> ModelSpec:
    return read(folder, json.dumps({"models": [entry]})).models[0]


def complaint(folder: Path, text: str) -> str:
    with pytest.raises(CatalogError) as caught:
        read(folder, text)
    return str(caught.value)


def make_model(folder: Path, **config: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_default_catalogue_is_right() -> None:
    """What `pipeserve serve` serves by default has a model for every task."""
    served = {task for spec in read_catalog(REPOSITORY / "models.yaml").models for task in spec.all_tasks}
    assert served == set(TASKS)


@pytest.mark.parametrize("task", TASKS)
def test_task_alone_means_its_default_model(tmp_path: Path, task: str) -> None:
    """The first form: `- task: ...`."""
    spec = read_entry(tmp_path, task=task)
    assert (spec.id, spec.model) == (TASKS[task].default_model,) * 2
    assert spec.revision == TASKS[task].default_revision
    assert spec.tasks == (task,)


@pytest.mark.parametrize(
    ("architecture", "task"),
    [
        ("BertForSequenceClassification", "text-classification"),
        ("DistilBertForQuestionAnswering", "question-answering"),
        ("RobertaForTokenClassification", "token-classification"),
        ("BertForMaskedLM", "fill-mask"),
        ("TapasForQuestionAnswering", "table-question-answering"),
        ("BertModel", "feature-extraction"),
    ],
)
def test_model_alone_is_read_from_its_config(tmp_path: Path, architecture: str, task: str) -> None:
    """The second form: the task comes from the architecture, without loading anything."""
    make_model(tmp_path / "mine", architectures=[architecture])
    spec = read_entry(tmp_path, model="./mine")
    assert spec.tasks == (task,)
    assert spec.model == str(tmp_path / "mine")
    assert spec.id == "./mine"


def test_sentence_transformers_files_make_an_embedding_model(tmp_path: Path) -> None:
    """`modules.json` says more than an architecture made for something else."""
    folder = make_model(tmp_path / "mine", architectures=["BertForMaskedLM"])
    (folder / "modules.json").write_text("[]")
    assert read_entry(tmp_path, model="./mine").all_tasks == ("feature-extraction", "sentence-similarity")


def test_model_card_says_which_of_its_tasks_a_model_is_for(tmp_path: Path) -> None:
    """`pipeline_tag` counts where the weights can do it, and only there."""
    folder = make_model(tmp_path / "mine", architectures=["BertForSequenceClassification"])
    (folder / "README.md").write_text("---\npipeline_tag: zero-shot-classification\n---\n")
    assert read_entry(tmp_path, model="./mine").tasks == ("zero-shot-classification",)
    (folder / "README.md").write_text("---\npipeline_tag: fill-mask\n---\n")
    assert read_entry(tmp_path, model="./mine").tasks == ("text-classification",)


def test_inference_model_implies_zero_shot(tmp_path: Path) -> None:
    """A classifier with a label of entailment answers zero-shot-classification as well."""
    make_model(tmp_path / "nli", architectures=["BertForSequenceClassification"], label2id={"ENTAILMENT": 0, "x": 1})
    assert read_entry(tmp_path, model="./nli").implied_tasks == ("zero-shot-classification",)


def test_every_part_can_be_named(tmp_path: Path) -> None:
    """The third to fifth forms: task and model, a tokenizer and others of their own, an explicit Auto class."""
    spec = read_entry(
        tmp_path,
        id="ner",
        task="ner",
        model="acme/ner",
        tokenizer="acme/tokenizer",
        auto_class="AutoModelForTokenClassification",
        revision="abc",
        keep_alive="5m",
        queue={"deadline": "20s"},
        memory="1GiB",
    )
    assert (spec.id, spec.model, spec.tasks) == ("ner", "acme/ner", ("token-classification",))
    assert (spec.tokenizer, spec.auto_class) == ("acme/tokenizer", "AutoModelForTokenClassification")
    assert (spec.keep_alive_s, spec.queue.deadline_s, spec.memory_bytes) == (300.0, 20.0, 2**30)


def test_hub_model_without_files_is_unresolved(tmp_path: Path) -> None:
    """Its task is found out later; nothing is asked now."""
    spec = read_entry(tmp_path, model="acme/not-on-this-disk")
    assert spec.tasks == ()
    assert spec.problem is None


def test_defaults_yield_to_entries_key_by_key(tmp_path: Path) -> None:
    """Also inside `batch`, `queue` and `parameters`."""
    text = """
defaults: {keep_alive: 1h, batch: {max_items: 8, max_wait_ms: 5}}
models:
  - {task: fill-mask, batch: {max_items: 16}}
  - {task: ner, keep_alive: -1}
"""
    first, second = read(tmp_path, text).models
    assert (first.keep_alive_s, first.batch.max_items, first.batch.max_wait_ms) == (3600, 16, 5)
    assert (second.keep_alive_s, second.batch.max_items) == (-1, 8)


def test_budget_and_total_queue(tmp_path: Path) -> None:
    """Sizes and shares per device."""
    catalog = read(tmp_path, 'budget: {cpu: 8GiB, "cuda:0": 80%}\nqueue: {max_items: 9}\nmodels: [{task: fill-mask}]')
    assert catalog.budget == {"cpu": 8 * 2**30, "cuda:0": 0.8}
    assert catalog.max_queue_items == 9


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("{task: fill-mask, taks: 1}", 'models[0] "fill-mask": unknown key "taks" (did you mean "tasks"?)'),
        ("{task: no-such-task}", 'There is no task "no-such-task"'),
        ("{id: x}", "needs `task` or `model`"),
        ("{id: a b, model: x/y}", "id"),
        ("{model: x/y, keep_alive: soon}", "keep_alive: 'soon' is not a duration"),
        ("{model: x/y, batch: {max_itms: 1}}", "batch.max_itms: unknown key"),
        ("{model: x/y, batch: {max_items: 0}}", "batch.max_items"),
        ("{model: x/y, dtype: int3}", "dtype"),
        ("{model: x/y, backend: onnx}", "backend"),
        ("{model: x/y, device: gpu}", "device"),
        ("{model: x/y, auto_class: Something}", "auto_class"),
        ("{tasks: [fill-mask, text-classification], model: x/y}", "no one set of weights"),
        ("{task: fill-mask, parameters: {top_k: -1}}", "parameters.top_k"),
        ("{task: fill-mask, parameters: {topk: 1}}", "parameters.topk"),
        ("just text", "models[0]"),
    ],
)
def test_mistake_names_line_entry_and_key(tmp_path: Path, entry: str, says: str) -> None:
    """One sentence with the file, the line, the entry and the key."""
    found = complaint(tmp_path, f"models:\n  - {entry}\n")
    assert says in found
    assert found.startswith(str(tmp_path / "models.yaml"))


@pytest.mark.parametrize("key", sorted(LATER_KEYS))
def test_key_of_a_later_version_is_refused_by_name(tmp_path: Path, key: str) -> None:
    """What this version cannot do is never ignored."""
    found = complaint(tmp_path, json.dumps({"models": [{"task": "fill-mask", key: 1}]}))
    assert f'"{key}" is not supported by this version' in found


@pytest.mark.parametrize("key", sorted(LATER_TOP_LEVEL_KEYS))
def test_top_level_key_of_a_later_version_is_refused_by_name(tmp_path: Path, key: str) -> None:
    """The same at the top."""
    assert f'"{key}" is not supported' in complaint(tmp_path, json.dumps({"models": [{"task": "ner"}], key: 1}))


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    """A line for each."""
    found = complaint(tmp_path, "models:\n  - {task: nope}\n  - {taks: 1}\n  - {id: a, task: ner}\n")
    assert [line.split(":")[1] for line in found.splitlines()] == ["2", "3"]


def test_name_used_twice_is_refused(tmp_path: Path) -> None:
    """Ids and aliases share one space."""
    text = "models:\n  - {id: a, task: ner}\n  - {id: b, task: ner, aliases: [a]}\n"
    assert '"a" is the id or an alias of models[0] already' in complaint(tmp_path, text)


def test_missing_folder_fails_its_entry_alone(tmp_path: Path) -> None:
    """The server starts; the entry says what is wrong."""
    gone, there = read(tmp_path, "models: [{id: a, task: ner, model: ./gone}, {id: b, task: ner}]").models
    assert gone.problem is not None
    assert "gone" in gone.problem
    assert there.problem is None


@pytest.mark.parametrize("config", ["", "{", "[]", '{"architectures": ["NoSuchModel"]}', '{"architectures": null}'])
def test_broken_config_fails_its_entry_alone(tmp_path: Path, config: str) -> None:
    """Whatever the file holds, it is a sentence."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text(config)
    assert read_entry(tmp_path, model="./mine").problem


def test_model_of_a_task_that_is_not_served_says_so(tmp_path: Path) -> None:
    """The sentence names the task."""
    make_model(tmp_path / "mine", architectures=["LlamaForCausalLM"])
    problem = read_entry(tmp_path, model="./mine").problem
    assert problem is not None
    assert "text-generation" in problem


@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=200))
def test_any_text_is_a_catalogue_or_a_catalogue_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """Nothing else ever comes out of reading a file."""
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "models.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(CatalogError):
        read_catalog(folder / "models.yaml")


KEYS = st.sampled_from(
    ["id", "model", "task", "tasks", "batch", "queue", "keep_alive", "parameters", "aliases", "memory"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(entries=st.lists(st.dictionaries(KEYS, VALUES, max_size=4), min_size=1, max_size=3))
def test_any_values_are_a_catalogue_or_a_catalogue_error(
    tmp_path_factory: pytest.TempPathFactory, entries: list[dict[str, Any]]
) -> None:
    """Wrong types in every place are complaints, not crashes."""
    try:
        read(tmp_path_factory.mktemp("fuzz"), json.dumps({"models": entries}))
    except CatalogError as error:
        assert str(error)


def test_table_of_architectures_is_that_of_transformers() -> None:
    """Regenerate it with scripts/generate_architectures.py when transformers changes."""
    assert generate_architectures.architectures() == ARCHITECTURES


def test_reference_lists_exactly_the_accepted_keys() -> None:
    """Regenerate it with scripts/generate_models_yaml_reference.py."""
    assert (REPOSITORY / "docs" / "models-yaml.md").read_text() == generate_models_yaml_reference.page()
