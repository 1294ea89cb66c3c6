"""models.yaml: every form of declaring a pipeline is understood, every mistake is a sentence with its place."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.catalog import Catalog, ModelSpec, ModerationSpec, RaySpec, ScalingSpec, read_catalog
from app.declaration.form import LATER_KEYS, LATER_TOP_LEVEL_KEYS
from app.errors import CatalogError
from app.resolving import resolve
from app.tasks.architectures import ARCHITECTURES, AUTO_CLASSES
from app.tasks.registry import TASKS
from scripts import generate_architectures, generate_models_yaml_reference
from tests.handlers import handler_folder
from tests.unprivileged import as_nobody, public_folder

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
    """What `pipeserve serve` serves by default has a model for every task, declared as such."""
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


def test_cross_encoder_implies_text_ranking(tmp_path: Path) -> None:
    """A classifier with a single label gives a score to a pair of texts; one with several does not."""
    make_model(tmp_path / "ranker", architectures=["BertForSequenceClassification"], id2label={"0": "LABEL_0"})
    assert read_entry(tmp_path, model="./ranker").implied_tasks == ("text-ranking",)
    make_model(tmp_path / "mood", architectures=["BertForSequenceClassification"], id2label={"0": "bad", "1": "good"})
    assert read_entry(tmp_path, model="./mood").implied_tasks == ()


def test_sparse_encoder_keeps_the_head_that_it_needs(tmp_path: Path) -> None:
    """SPLADE's modules are made of a masked language model, not of vectors."""
    folder = make_model(tmp_path / "mine", architectures=["BertForMaskedLM"])
    kinds = ["sentence_transformers.sparse_encoder.models.MLMTransformer", "x.sparse_encoder.models.SpladePooling"]
    (folder / "modules.json").write_text(json.dumps([{"type": kind} for kind in kinds]))
    assert read_entry(tmp_path, model="./mine").tasks == ("fill-mask",)


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
        memory_limit="2GiB",
    )
    assert (spec.id, spec.model, spec.tasks) == ("ner", "acme/ner", ("token-classification",))
    assert (spec.tokenizer, spec.auto_class) == ("acme/tokenizer", "AutoModelForTokenClassification")
    assert (spec.keep_alive_s, spec.queue.deadline_s) == (300.0, 20.0)
    assert (spec.memory_bytes, spec.memory_limit_bytes) == (2**30, 2**31)


def test_hub_model_without_files_is_unresolved(tmp_path: Path) -> None:
    """Its task is found out later; nothing is asked now."""
    spec = read_entry(tmp_path, model="acme/not-on-this-disk")
    assert spec.tasks == ()
    assert spec.problem is None


@pytest.mark.parametrize(
    ("replicas", "workers", "scaling"),
    [
        (3, 3, None),
        ({"max": 4}, 1, ScalingSpec(max_replicas=4)),
        ({"min": 0, "max": 4}, 1, ScalingSpec(min_replicas=0, max_replicas=4)),
        ({"min": 2, "max": 4}, 2, ScalingSpec(min_replicas=2, max_replicas=4)),
    ],
)
def test_range_of_replicas_is_its_least_on_one_machine(
    tmp_path: Path, replicas: Any, workers: int, scaling: ScalingSpec | None
) -> None:
    """At least one worker; what lies between is Ray's."""
    spec = read_entry(tmp_path, model="acme/x", replicas=replicas)
    assert (spec.replicas, spec.scaling) == (workers, scaling)


def test_entry_adds_to_what_defaults_ask_of_a_cluster(tmp_path: Path) -> None:
    """Key by key, as for `batch`."""
    catalog = read(tmp_path, "{defaults: {ray: {num_cpus: 2}}, models: [{model: x/y, ray: {upscale_delay: 5s}}]}")
    assert catalog.models[0].ray == RaySpec(num_cpus=2.0, upscale_delay_s=5.0)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"device": 1}, ("cuda:1", (), None)),
        ({"device": "cuda"}, ("cuda:0", (), None)),
        ({"devices": [0, "cuda:1"]}, (None, ("cuda:0", "cuda:1"), None)),
        ({"devices": [0, 1], "device_map": "sequential"}, (None, ("cuda:0", "cuda:1"), "sequential")),
        ({"device_map": {"model": 0, "lm_head": "cuda:1"}}, (None, (), {"model": "cuda:0", "lm_head": "cuda:1"})),
        ({}, ("cpu", (), None)),
    ],
)
def test_devices_are_numbers_or_names(tmp_path: Path, entry: dict[str, Any], expected: tuple[Any, ...]) -> None:
    """As torch names them. An entry that says where it goes heeds no default about it."""
    catalog = read(tmp_path, json.dumps({"models": [{"model": "x/y", **entry}], "defaults": {"device": "cpu"}}))
    (spec,) = catalog.models
    assert (spec.device, spec.devices, spec.device_map) == expected


def test_handler_serves_where_its_code_may_run(tmp_path: Path) -> None:
    """One request at a time; with no config to read, and no task that could be told."""
    handler_folder(tmp_path / "mine")
    spec = read_entry(tmp_path, model="./mine", trust_remote_code=True)
    assert (spec.problem, spec.has_handler, spec.tasks, spec.batch.max_items) == (None, True, ("custom",), 1)
    declared = read_entry(tmp_path, model="./mine", task="ner", trust_remote_code=True)
    assert (declared.has_handler, declared.all_tasks) == (True, ("token-classification",))


def test_handler_that_may_not_run_is_said_so(tmp_path: Path) -> None:
    """Unless a declared task says what else serves the model."""
    handler_folder(tmp_path / "mine")
    problem = read_entry(tmp_path, model="./mine").problem or ""
    assert "trust_remote_code: true" in problem and "`task:`" in problem
    make_model(tmp_path / "both", architectures=["BertForMaskedLM"])
    (tmp_path / "both" / "handler.py").write_text("")
    spec = read_entry(tmp_path, model="./both", task="fill-mask")
    assert (spec.problem, spec.has_handler, spec.tasks) == (None, False, ("fill-mask",))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("parameters", {"top_k": 3}),
        ("batch", {"max_items": 4}),
        ("adapters_folder", "."),
        ("devices", [0, 1]),
        ("device_map", "auto"),
    ],
)
def test_key_that_a_handler_would_not_heed_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    """In the entry; `defaults` may say more than an entry needs."""
    handler_folder(tmp_path / "mine")
    entry = {"model": "./mine", "trust_remote_code": True}
    assert "handler.py" in complaint(tmp_path, json.dumps({"models": [{**entry, key: value}]}))
    assert read(tmp_path, json.dumps({"models": [entry], "defaults": {key: value}})).models[0].has_handler


def test_code_of_the_hub_is_unresolved_until_its_files_are_here(tmp_path: Path) -> None:
    """With a declared task too: whether it has a handler decides how it is asked."""
    assert read_entry(tmp_path, model="acme/not-on-this-disk", task="ner").is_resolved
    assert not read_entry(tmp_path, model="acme/not-on-this-disk", task="ner", trust_remote_code=True).is_resolved


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
        ("{task: no-such-task}", 'there is no task "no-such-task"; this version serves feature-extraction'),
        ("{task: text-clasification}", '(did you mean "text-classification"?)'),
        ("{id: x}", "needs `task` or `model`"),
        ("{id: a b, model: x/y}", "id: 'a b' holds spaces"),
        ('{id: "a\\x07b", model: x/y}', "id: 'a\\x07b' holds spaces or characters that cannot be printed"),
        ('{model: x/y, aliases: ["a\\0"]}', "aliases[0]: 'a\\x00' holds"),
        ("{model: ./my model, task: ner}", "give the entry an `id`"),
        ('{model: x/y, tokenizer: "./a\\0b"}', "tokenizer: it holds characters that cannot be printed"),
        ("{model: ~no-such-user-here/x, task: ner}", "model:"),
        ("{model: x/y, keep_alive: soon}", "keep_alive: 'soon' is not a duration"),
        ("{model: x/y, batch: {max_itms: 1}}", 'batch.max_itms: unknown key "max_itms" (did you mean "max_items"?)'),
        ("{model: x/y, batch: {max_items: 0}}", "batch.max_items: it must be greater than or equal to 1"),
        ("{model: x/y, batch: {max_tokens: 99999999999999999999}}", "batch.max_tokens: it must be less than"),
        ("{model: x/y, batch: 3}", "batch: it must be a mapping (`key: value`), not 3"),
        ("{model: x/y, queue: {deadline: -1}}", "queue.deadline: it must be greater than 0"),
        ("{model: x/y, threads: true}", "threads: it must be a whole number, not true"),
        ("{model: x/y, pinned: 'yes'}", 'pinned: it must be true or false, not "yes"'),
        ("{model: 3}", "model: it must be text, not 3"),
        ("{model: x/y, aliases: a}", 'aliases: it must be a list, not "a"'),
        ("{model: x/y, tasks: []}", "tasks: it must not be empty"),
        ("{model: x/y, dtype: floot16}", 'not "floot16" (did you mean "float16"?)'),
        ("{task: ner, model: x/y, backend: auto, quantization: int9}", 'no backend has "int9"'),
        (
            "{model: x/y, task: text-generation, backend: onnx}",
            "backend: onnx cannot do text-generation; it does audio-classification, automatic-speech-recog",
        ),
        (
            "{model: x/y, tasks: [sentence-similarity, text-classification], backend: onnx}",
            "tasks: an export for onnx gives either the vectors of texts or what text-classification reads: declare an",
        ),
        ("{model: x/y, backend: onnx, quantization: int4}", 'quantization: onnx has no "int4"; there is int8.'),
        (
            "{model: x/y, backend: onnx, dtype: bfloat16}",
            "dtype: onnx does not compute in bfloat16; it does in float32.",
        ),
        ("{model: x/y, backend: openvino, auto_class: AutoModel}", "auto_class: it means nothing to backend openvino."),
        ("{model: x/y, backend: onnx, adapters: [z]}", "adapters: it means nothing to backend onnx."),
        ("{model: x/y, backend: onnx, device_map: auto}", "device_map: it means nothing to backend onnx."),
        ("{model: x/y, file_name: onnx/model.onnx}", "file_name: it means nothing to backend torch."),
        ("{model: x/y, quantization: int9}", 'quantization: torch has no "int9"; there is int8, int8-weights'),
        ("{model: x/y, quantization: int8-weights, adapters: {sql: a/b}}", "quantization: int8-weights: such a model"),
        ("{model: x/y, task: text-generation, compile: true}", "compile: torch does not compile text-generation; it"),
        ("{model: x/y, task: ner, compile: true, quantization: int8}", "compile: a model with `quantization` is not"),
        ("{model: x/y, task: ner, compile: true, devices: [0, 1]}", "compile: a model that is spread over several"),
        ("{model: x/y, task: ner, compile: true, adapters_folder: .}", "compile: a model that takes adapters is not"),
        ("{model: x/y, compile: true, backend: auto}", "compile: it is for backend: torch and vllm, not for auto"),
        ("{model: x/y, compile: 'yes'}", 'compile: it must be true or false, not "yes"'),
        ("{model: x/y, backend: vllm, task: ner}", "backend: vllm cannot do token-classification; it does text-gen"),
        ("{model: x/y, backend: vllm, quantization: int8}", 'quantization: vllm has no "int8"; there is none'),
        ("{model: x/y, backend: vllm, adapters: {sql: a/b}}", "adapters: it means nothing to backend vllm"),
        (
            "{model: x/y, backend: vllm, attn_implementation: sdpa}",
            "attn_implementation: it means nothing to backend vllm",
        ),
        ("{model: x/y, backend: vllm, device_map: auto}", "device_map: it means nothing to backend vllm"),
        ("{model: x/y, replicas: {min: 3, max: 2}}", "replicas: min is 3, and max is 2"),
        ("{model: x/y, replicas: {min: 1}}", "replicas.max: "),
        ("{model: x/y, replicas: {min: 1, maximum: 2}}", "replicas.maximum: unknown key"),
        ("{model: x/y, replicas: many}", "replicas: it must be a whole number from 1 to 64, or a range such as"),
        ("{model: x/y, replicas: 0}", "replicas: it must be a whole number from 1 to 64"),
        ("{model: x/y, ray: {num_gpu: 1}}", 'ray.num_gpu: unknown key "num_gpu" (did you mean "num_gpus"?)'),
        ("{model: x/y, ray: {resources: {big: 0}}}", "ray.resources.big: "),
        ("{model: x/y, memory: 80%}", "memory: '80%' is not a size"),
        ("{model: x/y, device: gpu}", 'device: there is no device "gpu"'),
        ("{model: x/y, devices: 0}", "devices: it must be a list, not 0"),
        ("{model: x/y, devices: [-1]}", 'devices[0]: there is no device "cuda:-1"'),
        ("{model: x/y, devices: [0, cuda]}", "devices: it names a device twice"),
        ("{model: x/y, devices: [0, cpu]}", "devices: cuda:0, cpu: a model is spread over devices of one kind"),
        (
            "{model: x/y, devices: [0, 1], device: 0}",
            "device: cuda:0 is for a model on one device; leave it out beside",
        ),
        ("{model: x/y, devices: [0, 1, 2], replicas: 2}", "devices: 3 devices cannot be shared by 2 replicas"),
        ("{model: x/y, devices: [0], device_map: {model: 0}}", "devices: device_map names the devices"),
        ("{model: x/y, device_map: evenly}", "device_map: it must be auto, balanced, balanced_low_0, sequential, or"),
        ("{model: x/y, device_map: {}}", "device_map: it must be auto"),
        ("{model: x/y, device_map: {model: disk}}", 'device_map: there is no device "disk"'),
        ("{model: x/y, device_map: {model: true}}", "device_map: it must map names of modules to devices, not to true"),
        ("{model: x/y, device_map: {model: 0, lm_head: cpu}}", "device_map: cuda:0, cpu: a model is spread over"),
        ("{model: x/y, devices: [0, 1], adapters_folder: .}", "devices: a model that is spread over several devices"),
        ("{model: x/y, device_map: auto, adapters: {sql: a/b}}", "device_map: a model that is spread over several"),
        ("{model: x/y, device_map: auto, replicas: 2}", "device_map: with replicas, say which `devices` they share"),
        ("{model: x/y, auto_class: AutoModelForMasked}", 'has no "AutoModelForMasked" (did you mean "AutoModelForMask'),
        ("{model: x/y, task: ner, auto_class: AutoModelForMaskedLM}", "AutoModelForMaskedLM cannot do token-classif"),
        ("{model: x/y, task: ner, pooling: mean}", "pooling: it is for embeddings"),
        ("{model: ./folder, task: ner, revision: main}", "revision: a folder has none"),
        ("{tasks: [fill-mask, text-classification], model: x/y}", "no one set of weights"),
        ("{task: fill-mask, parameters: {top_k: -1}}", "parameters.top_k"),
        ("{task: fill-mask, parameters: {topk: 1}}", "parameters.topk"),
        ("{task: text-generation, model: x/y, cache: 1MiB}", "cache: equal requests may have different answers here"),
        ("just text", "models[0]"),
    ],
)
def test_mistake_names_line_entry_and_key(tmp_path: Path, entry: str, says: str) -> None:
    """One sentence with the file, the line, the entry and the key."""
    found = complaint(tmp_path, f"models:\n  - {entry}\n")
    assert says in found
    assert found.startswith(str(tmp_path / "models.yaml"))


@pytest.mark.parametrize(
    ("declared", "quantised", "problem"),
    [
        ({}, {"quant_method": "gptq"}, "this checkpoint is quantised with gptq, which needs the packages optimum and"),
        ({}, {"quant_method": "vptq"}, "this checkpoint is quantised with vptq, which needs the package vptq."),
        ({"device": "cpu"}, {"quant_method": "vptq"}, "needs the package vptq and a CUDA device."),
        ({"quantization": "int8"}, {"quant_method": "fp8"}, "quantised already, with fp8; leave out `quantization`."),
        ({"quantization": "int8"}, {"load_in_8bit": True}, "quantised already, with bitsandbytes"),
        ({}, {"quant_method": "fp8"}, None),  # computed in bfloat16 where there is no GPU
        ({}, {"quant_method": "of-tomorrow"}, None),  # transformers knows
    ],
)
def test_checkpoint_that_is_quantised_is_failed_where_it_cannot_be_loaded(
    tmp_path: Path, declared: dict[str, Any], quantised: dict[str, Any], problem: str | None
) -> None:
    """As far as its config.json says so; the other entries serve."""
    make_model(tmp_path / "m", architectures=["BertForMaskedLM"], quantization_config=quantised)
    spec = read_entry(tmp_path, model="./m", **declared)
    assert spec.problem is None if problem is None else problem in (spec.problem or "")


@pytest.mark.parametrize("key", sorted(LATER_KEYS))
def test_key_of_a_later_version_is_refused_by_name(tmp_path: Path, key: str) -> None:
    """What this version cannot do is never ignored."""
    found = complaint(tmp_path, json.dumps({"models": [{"task": "fill-mask", key: 1}]}))
    assert f'"{key}" is not supported by this version' in found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "must hold `models:`"),
        ("models: []", "models.yaml:1: models: it must not be empty"),
        ("modls: []", 'unknown key "modls" (did you mean "models"?)'),
        ("models: [{task: ner}]\nqueue: 5", "models.yaml:2: queue: it must be a mapping"),
        ("models: [{task: ner}]\nbudget: {cpu: 120%}", "models.yaml:2: budget.cpu: '120%' is not a size"),
        ("models: [{task: ner}]\nbudget: {gpu: 8GiB}", 'budget.gpu: there is no device "gpu"'),
        ("models: [{task: ner}]\ndefaults: {model: x}", 'models.yaml:2: defaults: unknown key "model"'),
        ("models: [{task: ner}]\ndefaults: {parameters: {truncat: true}}", '(did you mean "truncate"?)'),
        ("models: [{task: ner}]\ndefaults: {drain: 5s}", 'defaults: "drain" is not supported by this version'),
    ],
)
def test_other_mistakes_of_the_file(tmp_path: Path, text: str, says: str) -> None:
    """At the top, and in `defaults`."""
    assert says in complaint(tmp_path, text)


MODERATED = """
models:
  - {id: toxicity, model: ./toxic, task: text-classification, aliases: [omni]}
  - {id: words, task: fill-mask}
  - {id: raw, model: x/y, task: text-classification, parameters: {function_to_apply: none}}
moderations:
  %s: %s
"""


def make_toxic_model(folder: Path) -> None:
    labels = {"0": "toxic", "1": "threat"}
    make_model(folder / "toxic", architectures=["BertForSequenceClassification"], id2label=labels)


@pytest.mark.parametrize("name", ["toxicity", "omni"])
def test_moderations_say_what_labels_mean(tmp_path: Path, name: str) -> None:
    """By id or alias; one category or several, one threshold or one for each."""
    make_toxic_model(tmp_path)
    form = "{labels: {toxic: harassment, threat: [violence, hate]}, threshold: 0.7, thresholds: {hate: 0.2}}"
    toxicity, *others = read(tmp_path, MODERATED % (name, form)).models
    assert toxicity.moderation == ModerationSpec(
        labels={"toxic": ("harassment",), "threat": ("violence", "hate")},
        thresholds={"harassment": 0.7, "violence": 0.7, "hate": 0.2},
    )
    assert all(spec.moderation is None for spec in others)


@pytest.mark.parametrize(
    ("name", "form", "says"),
    [
        (
            "toxicty",
            "{labels: {toxic: hate}}",
            'moderations "toxicty": there is no such entry (did you mean "toxicity"',
        ),
        ("words", "{labels: {toxic: hate}}", "this entry is for fill-mask, not text-classification"),
        ("raw", "{labels: {toxic: hate}}", "function_to_apply: none"),
        ("toxicity", "{labels: {toxik: hate}}", 'labels: the model has no label "toxik"; it has threat, toxic'),
        ("toxicity", "{labels: {toxic: hatred}}", "it must be 'harassment'"),
        ("toxicity", "{labels: {toxic: []}}", "moderations.toxicity.labels.toxic: it must not be empty"),
        ("toxicity", "{labels: {}}", "moderations.toxicity.labels: it must not be empty"),
        ("toxicity", "{label: {toxic: hate}}", 'unknown key "label" (did you mean "labels"?)'),
        ("toxicity", "{labels: {toxic: hate}, threshold: 2}", "moderations.toxicity.threshold: it must be less than"),
        ("toxicity", "{labels: {toxic: hate}, thresholds: {violence: 0.1}}", "thresholds: no label means violence"),
        ("toxicity: {labels: {toxic: hate}}\n  omni", "{labels: {toxic: hate}}", "which stands there already"),
    ],
)
def test_mistake_in_moderations_is_named(tmp_path: Path, name: str, form: str, says: str) -> None:
    """With its line, as every other."""
    make_toxic_model(tmp_path)
    found = complaint(tmp_path, MODERATED % (name, form))
    line = 7 + name.count("\n")
    assert says in found and found.startswith(f"{tmp_path / 'models.yaml'}:{line}:")


async def test_moderations_are_checked_once_the_labels_are_known(tmp_path: Path) -> None:
    """As parameters are, for a model that comes from the Hub."""
    make_toxic_model(tmp_path)
    meant = ModerationSpec(labels={"toxik": ("hate",)}, thresholds={"hate": 0.5})
    unresolved = ModelSpec(id="toxicity", model=str(tmp_path / "toxic"), moderation=meant)
    assert '"toxik"' in ((await resolve(unresolved)).problem or "")


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


@pytest.mark.parametrize("adapters", [{"sql": "./sql", "acme/poet": "acme/poet"}, ["./sql", {"path": "acme/poet"}]])
def test_adapters_are_named_or_listed(tmp_path: Path, adapters: Any) -> None:
    """A listed one has its folder's name, or that of its repository."""
    (tmp_path / "sql").mkdir()
    (tmp_path / "sql" / "adapter_config.json").write_text("{}")
    found = read_entry(tmp_path, task="fill-mask", adapters=adapters).adapters
    assert [(one.id, one.path, one.problem) for one in found] == [
        ("sql", str(tmp_path / "sql"), None),
        ("acme/poet", "acme/poet", None),
    ]


def test_adapter_has_a_revision_on_the_hub_alone(tmp_path: Path) -> None:
    """As models have."""
    named = {"poet": {"path": "acme/poet", "revision": "v2"}}
    (poet,) = read_entry(tmp_path, task="fill-mask", adapters=named).adapters
    assert (poet.id, poet.revision) == ("poet", "v2")
    (tmp_path / "sql").mkdir()
    entry = {"task": "fill-mask", "adapters": [{"path": "./sql", "revision": "v2"}]}
    assert "a folder has none" in complaint(tmp_path, json.dumps({"models": [entry]}))


@pytest.mark.parametrize("path", ["./gone", "."])
def test_folder_that_is_no_adapter_fails_that_adapter_alone(tmp_path: Path, path: str) -> None:
    """Its model serves, and its other adapters."""
    spec = read_entry(tmp_path, task="fill-mask", adapters={"sql": path, "poet": "acme/poet"})
    assert spec.problem is None and [one.problem is None for one in spec.adapters] == [False, True]


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("{task: ner, adapters: {a: acme/x}}", '"a" is the id or an alias of models[0] already'),
        ("{id: b, task: ner, adapters: {c: acme/x}, aliases: ['b:c']}", '"b:c" is the id or an alias of models[1]'),
        ("{id: b, task: ner, adapters: [acme/x, acme/x]}", '"acme/x" is there twice'),
        ("{id: b, task: ner, adapters: [{path: acme/x, name: y}]}", 'unknown key "name"'),
        ("{id: b, task: ner, adapters: 5}", "a mapping of names to folders or Hub ids, or a list"),
        ("{id: b, task: ner, adapters: [{id: x}]}", "adapters[0].path"),
        ("{id: b, task: ner, adapters: {'x y': acme/x}}", "holds spaces"),
        ("{id: b, task: ner, adapters: ['./my sql']}", "holds spaces"),
    ],
)
def test_mistake_in_adapters_is_an_error_of_form(tmp_path: Path, entry: str, says: str) -> None:
    """Names are unique among ids, aliases and adapters of the file."""
    found = complaint(tmp_path, f"models:\n  - {{id: a, task: fill-mask}}\n  - {entry}\n")
    assert says in found and "models.yaml:3" in found


def test_missing_folder_fails_its_entry_alone(tmp_path: Path) -> None:
    """The server starts; the entry says what is wrong."""
    gone, there = read(tmp_path, "models: [{id: a, task: ner, model: ./gone}, {id: b, task: ner}]").models
    assert gone.problem is not None
    assert "gone" in gone.problem
    assert there.problem is None


@pytest.mark.parametrize(
    "config",
    [
        "",
        "{",
        "[" * 100_000,
        "[]",
        '{"architectures": ["NoSuchModel"]}',
        '{"architectures": null}',
        '{"architectures": [1, {}]}',
        '{"architectures": "BertModel"}',
    ],
)
def test_broken_config_fails_its_entry_alone(tmp_path: Path, config: str) -> None:
    """Whatever the file holds, it is a sentence."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text(config)
    assert read_entry(tmp_path, model="./mine").problem


@pytest.mark.parametrize(
    ("architecture", "task"),
    [
        ("LlamaForCausalLM", "text-generation"),
        ("ViTModel", "image-feature-extraction"),
        ("CLIPModel", "zero-shot-image-classification"),
        ("ClapModel", "zero-shot-audio-classification"),
        ("WhisperForConditionalGeneration", "automatic-speech-recognition"),
        ("VisionEncoderDecoderModel", "image-to-text"),
        ("LlavaForConditionalGeneration", "image-text-to-text"),
        ("DetrForObjectDetection", "object-detection"),
        ("VitsModel", "text-to-audio"),
    ],
)
def test_architecture_tells_the_task(tmp_path: Path, architecture: str, task: str) -> None:
    """transformers keeps the base models of all media in one list; they are told apart."""
    make_model(tmp_path / "mine", architectures=[architecture])
    assert read_entry(tmp_path, model="./mine").tasks == (task,)


def test_summarizer_is_not_taken_for_a_mask_filler(tmp_path: Path) -> None:
    """BART's class is listed under both."""
    make_model(tmp_path / "mine", architectures=["BartForConditionalGeneration"])
    assert read_entry(tmp_path, model="./mine").tasks == ("text2text-generation",)
    assert read_entry(tmp_path, model="./mine", task="fill-mask").problem is None


def test_declared_task_without_its_head_fails_its_entry(tmp_path: Path) -> None:
    """Weights without the head would answer at random."""
    make_model(tmp_path / "mine", architectures=["BertForSequenceClassification"])
    problem = read_entry(tmp_path, model="./mine", task="ner").problem
    assert problem is not None
    assert "cannot do token-classification; it is for text-classification" in problem
    assert read_entry(tmp_path, model="./mine", task="zero-shot-classification").problem is None
    assert read_entry(tmp_path, model="./mine", task="feature-extraction").problem is None


@pytest.mark.parametrize("config", [None, "{"])
def test_declared_task_does_not_hide_a_broken_config(tmp_path: Path, config: str | None) -> None:
    """The load would fail, so that `check` says it."""
    (tmp_path / "mine").mkdir()
    if config is not None:
        (tmp_path / "mine" / "config.json").write_text(config)
    assert "config.json" in (read_entry(tmp_path, model="./mine", task="ner").problem or "")


def test_missing_folder_of_a_part_fails_its_entry(tmp_path: Path) -> None:
    """Such as a tokenizer's."""
    make_model(tmp_path / "mine", architectures=["BertForTokenClassification"])
    assert "nowhere" in (read_entry(tmp_path, model="./mine", tokenizer="./nowhere").problem or "")


def test_name_that_no_repository_has_fails_its_entry(tmp_path: Path) -> None:
    """Known without asking the Hub."""
    assert "neither a folder nor" in (read_entry(tmp_path, model="a/b/c", task="ner").problem or "")


def test_early_sentence_transformers_files_are_read(tmp_path: Path) -> None:
    """Their transformer lies in a folder of its own."""
    make_model(tmp_path / "mine" / "0_Transformer", architectures=["BertModel"])
    modules = [{"path": "0_Transformer", "type": "Transformer"}, {"path": "1_Pooling", "type": "Pooling"}]
    (tmp_path / "mine" / "modules.json").write_text(json.dumps(modules))
    spec = read_entry(tmp_path, model="./mine")
    assert (spec.problem, spec.tasks) == (None, ("feature-extraction",))


@pytest.mark.parametrize("card", ["---\n: [\n---", "---\npipeline_tag: [1]\n---", "---", "\udcff"])
def test_broken_card_is_no_card(tmp_path: Path, card: str) -> None:
    """The config says what the model is."""
    make_model(tmp_path / "mine", architectures=["BertForMaskedLM"])
    (tmp_path / "mine" / "README.md").write_bytes(card.encode("utf-8", "surrogateescape"))
    assert read_entry(tmp_path, model="./mine").tasks == ("fill-mask",)


def test_default_parameters_matter_where_a_task_knows_them(tmp_path: Path) -> None:
    """`defaults` is for all entries, of whatever tasks; a wrong value is still wrong."""
    text = "models: [{task: fill-mask}, {task: feature-extraction}]\ndefaults: {parameters: {top_k: %s}}"
    assert len(read(tmp_path, text % 3).models) == 2
    assert "parameters.top_k" in complaint(tmp_path, text % -3)


async def test_parameters_are_checked_once_the_task_is_known(tmp_path: Path) -> None:
    """An unresolved entry's parameters cannot be; its clients must not be blamed for them."""
    make_model(tmp_path / "mine", architectures=["BertForMaskedLM"])
    unresolved = ModelSpec(id="mine", model=str(tmp_path / "mine"), parameters={"top_k": -3})
    assert "parameters.top_k" in ((await resolve(unresolved)).problem or "")
    right = ModelSpec(id="mine", model=str(tmp_path / "mine"), parameters={"top_k": 3})
    assert (await resolve(right)).tasks == ("fill-mask",)


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_speech_of_an_export_is_by_ctc_models(tmp_path: Path, backend: str) -> None:
    """Its text is there after one computation; whoever generates it is told which backends do."""
    for architecture in ("Wav2Vec2ForCTC", "WhisperForConditionalGeneration"):
        make_model(tmp_path / architecture, architectures=[architecture])
    assert read_entry(tmp_path, model="./Wav2Vec2ForCTC", backend=backend).problem is None
    problem = read_entry(tmp_path, model="./WhisperForConditionalGeneration", backend=backend).problem or ""
    assert f"backend: {backend} recognizes speech by CTC models alone, and WhisperForConditionalG" in problem
    assert "use backend: torch, optimum or optimum-intel." in problem
    assert read_entry(tmp_path, model="./WhisperForConditionalGeneration", backend="auto").problem is None


def test_a_backend_brings_its_environment(tmp_path: Path) -> None:
    """What the entry itself names goes before."""
    assert read_entry(tmp_path, task="ner", backend="optimum").env == "optimum"
    assert read_entry(tmp_path, task="ner", backend="optimum", env="mine").env == "mine"
    assert read_entry(tmp_path, task="ner").env is None


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"task": "object-detection"}, "backend: optimum cannot do object-detection"),
        ({"task": "ner", "optimization": "O4"}, "optimization: optimum has no O4; there is O1, O2, O3."),
        ({"task": "ner", "optimization": "O1", "quantization": "int8"}, "optimization: what is optimized cannot be"),
        ({"task": "ner", "quantization": "int4"}, 'quantization: optimum has no "int4"; there is int8.'),
        ({"task": "ner", "dtype": "float16"}, "dtype: optimum does not compute in float16"),
        ({"task": "ner", "device": "cuda:0"}, "device: optimum computes on cpu, not on cuda:0."),
        ({"task": "ner", "adapters": ["./a"]}, "adapters: it means nothing to backend optimum."),
        ({"task": "ner", "backend": "torch", "optimization": "O1"}, "optimization: torch has no O1; there is none."),
    ],
)
def test_what_a_backend_cannot_do_is_told_by_key(tmp_path: Path, entry: dict[str, Any], sentence: str) -> None:
    """At the check, not at the first request."""
    assert sentence in complaint(tmp_path, json.dumps({"models": [{"backend": "optimum", **entry}]}))


def test_vllm_compiles_texts_over_several_devices_too(tmp_path: Path) -> None:
    """It always does so on GPUs: what torch's backend refuses is not wrong there."""
    written = {"task": "text-generation", "backend": "vllm", "compile": True}
    assert read_entry(tmp_path, **written).compile
    assert read_entry(tmp_path, **written, devices=[0, 1]).compile


@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=200))
def test_any_text_is_a_catalogue_or_a_catalogue_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """Nothing else ever comes out of reading a file."""
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "models.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(CatalogError):
        read_catalog(folder / "models.yaml")


KEYS = st.sampled_from(
    ["id", "model", "task", "tasks", "tokenizer", "batch", "queue", "keep_alive", "parameters", "aliases", "memory"]
    + ["revision", "device", "devices", "device_map", "auto_class", "replicas", "threads", "pooling"]
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
    assert generate_architectures.auto_classes() == AUTO_CLASSES


def test_reference_lists_exactly_the_accepted_keys() -> None:
    """Regenerate it with scripts/generate_models_yaml_reference.py."""
    assert (REPOSITORY / "docs" / "models-yaml.md").read_text() == generate_models_yaml_reference.page()


def test_folder_that_may_not_be_read_is_a_problem_of_its_entry() -> None:
    """A sentence with its name and whose rights are meant; nothing else of the file is touched by it."""
    with public_folder() as folder:
        (folder / "closed" / "model").mkdir(parents=True)
        (folder / "closed").chmod(0o700 if os.geteuid() == 0 else 0o000)
        file = folder / "models.yaml"
        file.write_text("models: [{id: a, task: ner, model: ./closed/model, adapters: {b: ./closed/c}}, {task: ner}]")

        def problems() -> str:
            (spec, other) = read_catalog(file).models
            return f"{spec.problem} {spec.adapters[0].problem} {other.problem}"

        closed = folder / "closed"
        said = as_nobody(problems)
        closed.chmod(0o700)
    rights = "Permission denied. It must be readable by the server's user."
    assert (
        said
        == f"The folder {closed}/model cannot be read: {rights} the folder {closed}/c cannot be read: {rights} None"
    )


def test_file_that_may_not_be_read_is_a_sentence() -> None:
    """The file of models itself."""
    with public_folder() as folder:
        file = folder / "models.yaml"
        file.touch(0o600 if os.geteuid() == 0 else 0o000)

        def complaint() -> str:
            with pytest.raises(CatalogError) as caught:
                read_catalog(file)
            return str(caught.value)

        assert as_nobody(complaint) == f"{file}: it cannot be read: Permission denied."
