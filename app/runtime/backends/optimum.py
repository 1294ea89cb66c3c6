"""`backend: optimum` and `optimum-intel`: models of Optimum's classes in the place of transformers' own.

Each lives in the environment of its name (transformers 4.57); a module beside this one opens and writes its files. What
a model's repository has of them is used as it is, where nothing is to be changed about it, and compared with the
model's weights where these are there; else an export is made once, and kept in the cache folder.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, GenerationConfig, PreTrainedModel
from transformers.utils import GENERATION_CONFIG_NAME

from app.catalog import ModelSpec
from app.channel.messages import Progress
from app.errors import NotAvailable
from app.fetching import has_weights
from app.fingerprint import fingerprint
from app.installed import versions_of
from app.made_files import MadeFiles, Recipe
from app.runtime.backends.exporting import require_small

LIBRARIES = {
    "optimum": "app.runtime.backends.optimum_onnx",
    "optimum-intel": "app.runtime.backends.optimum_intel",
}
"""By backend, the module that opens and writes its files; imported when a model wants it."""
_SEED = 0


@dataclass(frozen=True)
class Head:
    """name: of Optimum's classes, after ORTModel or OVModel. task: of the exporters. has_past: it generates, with keys
    and values kept."""

    name: str
    task: str
    has_past: bool = False

    @property
    def export_task(self) -> str:
        return f"{self.task}-with-past" if self.has_past else self.task


HEADS: Mapping[str, Head] = {
    "AutoModel": Head("ForFeatureExtraction", "feature-extraction"),
    "AutoModelForTextEncoding": Head("ForFeatureExtraction", "feature-extraction"),
    "AutoModelForSequenceClassification": Head("ForSequenceClassification", "text-classification"),
    "AutoModelForTokenClassification": Head("ForTokenClassification", "token-classification"),
    "AutoModelForMaskedLM": Head("ForMaskedLM", "fill-mask"),
    "AutoModelForQuestionAnswering": Head("ForQuestionAnswering", "question-answering"),
    "AutoModelForImageClassification": Head("ForImageClassification", "image-classification"),
    "AutoModelForSemanticSegmentation": Head("ForSemanticSegmentation", "semantic-segmentation"),
    "AutoModelForAudioClassification": Head("ForAudioClassification", "audio-classification"),
    "AutoModelForCTC": Head("ForCTC", "automatic-speech-recognition"),
    "AutoModelForCausalLM": Head("ForCausalLM", "text-generation", has_past=True),
    "AutoModelForSeq2SeqLM": Head("ForSeq2SeqLM", "text2text-generation", has_past=True),
    "AutoModelForSpeechSeq2Seq": Head("ForSpeechSeq2Seq", "automatic-speech-recognition", has_past=True),
    "AutoModelForImageTextToText": Head("ForVision2Seq", "image-to-text", has_past=True),
}
"""By the Auto class that loads the same head in transformers."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """model: an ORTModel or OVModel, which the stages use as they use a PreTrainedModel. precision: what it computes
    in. difference: from the model in transformers, as in `TOLERANCES`; None: its weights are not there."""

    model: Any
    precision: str
    difference: float | None


def load_network(
    spec: ModelSpec,
    folder: Path,
    export: Path | None,
    skeleton: PreTrainedModel,
    auto_class: str,
    load_eager: Callable[[], PreTrainedModel],
    *,
    num_threads: int,
    made_files: MadeFiles,
    progress: Callable[[Progress], None],
) -> Network:
    """export: the first of the files that the model's repository has for the backend; None: they are made. skeleton:
    the model without its weights. auto_class: of its task. load_eager: the model in transformers, in float32 on the
    CPU; called only where an export is to be made, or compared for the first time. Raises ModelFailed and
    NotAvailable."""
    head = HEADS.get(auto_class)
    if head is None:
        raise NotAvailable(f"backend: {spec.backend} has no class for {auto_class}.")
    library = importlib.import_module(LIBRARIES[spec.backend])
    dtype = "float32" if spec.dtype == "auto" else spec.dtype
    recipe = Recipe(
        source=fingerprint(folder),
        task=head.export_task,
        backend=spec.backend,
        options={"dtype": dtype, "optimization": spec.optimization, "quantization": spec.quantization},
        versions=versions_of((*library.DISTRIBUTIONS, "transformers", "torch")),
    )

    def open_files(root: Path, below: str = "") -> Any:
        config = AutoConfig.from_pretrained(folder)
        model = library.open_model(head, root, below, config, num_threads=num_threads, dtype=dtype)
        if head.has_past and (folder / GENERATION_CONFIG_NAME).is_file():
            model.generation_config = GenerationConfig.from_pretrained(folder, use_cache=True)
        return model

    def make(part: Path) -> dict[str, Any]:
        progress(Progress(phase="export"))
        eager = load_eager()
        inputs = _example(library.EXPORTER, eager, head)
        expected = outputs_of(eager, inputs)  # before the export, which changes the model
        library.write(spec, part, head, eager)
        return {"difference": require_small(furthest(expected, outputs_of(open_files(part), inputs)), precision)}

    def compare(part: Path) -> dict[str, Any]:
        progress(Progress(phase="export"))
        eager = load_eager()
        try:
            inputs = _example(library.EXPORTER, eager, head)
        except NotAvailable:  # it cannot be exported here, and need not
            return {"difference": None}
        return {"difference": require_small(furthest(outputs_of(eager, inputs), outputs_of(model, inputs)), precision)}

    if export is None:
        precision = spec.quantization or dtype
        made = made_files.get(recipe, make)
        model, difference = open_files(made.folder), made.facts["difference"]
    else:
        root = folder if export.is_relative_to(folder) else folder.parent  # of what sentence-transformers laid out
        model, difference = open_files(root, export.parent.relative_to(root).as_posix().removeprefix(".")), None
        precision = library.precision_of(export, dtype)
        if has_weights(folder, allow_pickle=spec.allow_pickle):
            compared = replace(recipe, options={"dtype": dtype, "export": fingerprint(export.parent)})
            difference = made_files.get(compared, compare).facts["difference"]
    model.named_modules = skeleton.named_modules
    model.get_output_embeddings = skeleton.get_output_embeddings
    return Network(model=model, precision=precision, difference=difference)


def _example(exporter: str, eager: PreTrainedModel, head: Head) -> dict[str, torch.Tensor]:
    """Inputs that the exporter makes up for this model, without keys and values. Raises NotAvailable."""
    from optimum.exporters.tasks import TasksManager

    try:
        make_config = TasksManager.get_exporter_config_constructor(exporter=exporter, model=eager, task=head.task)
    except (KeyError, ValueError) as error:  # not of its tables: a type of models, or a task of one
        raise NotAvailable(f"Optimum cannot export {eager.config.model_type} for {head.task}.") from error
    torch.manual_seed(_SEED)
    return dict(make_config(eager.config).generate_dummy_inputs(framework="pt"))


def outputs_of(model: Any, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Of a forward and, where the model keeps keys and values, of one more token after it."""
    with torch.inference_mode():
        found = model(**inputs, return_dict=True)
        outputs = _floats(found)
        if found.get("past_key_values") is not None:
            following = model(**_one_more(inputs), past_key_values=found.past_key_values, return_dict=True)
            outputs |= {f"next {name}": value for name, value in _floats(following).items()}
    return outputs


def _floats(found: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    return {
        name: value for name, value in found.items() if isinstance(value, torch.Tensor) and value.is_floating_point()
    }


def _one_more(inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The last token again, after all of them."""
    if "decoder_input_ids" in inputs:
        return {**inputs, "decoder_input_ids": inputs["decoder_input_ids"][:, -1:]}
    following = {**inputs, "input_ids": inputs["input_ids"][:, -1:]}
    following["attention_mask"] = torch.nn.functional.pad(inputs["attention_mask"], (0, 1), value=1)
    if "position_ids" in inputs:
        following["position_ids"] = inputs["position_ids"][:, -1:] + 1
    return following


def furthest(expected: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> float:
    """The largest between outputs of the same name, as a share of the greatest number among them."""
    both = [(value, found[name]) for name, value in expected.items() if name in found]
    return max(float((value - other).abs().max() / value.abs().max().clamp(min=1e-6)) for value, other in both)
