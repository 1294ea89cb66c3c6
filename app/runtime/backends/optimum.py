"""`backend: optimum`: Optimum's ORTModel classes as networks, exported once into the cache folder.

Runs in the environment "optimum" (transformers 4.57). A repository's own files below `onnx/` are used as they are,
where nothing is to be changed about them.
"""

from __future__ import annotations

import logging
import platform
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, GenerationConfig, PreTrainedModel
from transformers.utils import GENERATION_CONFIG_NAME

from app.catalog import ModelSpec
from app.channel.messages import Progress
from app.errors import ModelFailed, NotAvailable
from app.fingerprint import fingerprint
from app.installed import versions_of
from app.runtime.backends.made_files import MadeFiles, Recipe

logger = logging.getLogger(__name__)

TOLERANCES = {None: 1e-4, "int8": 2e-1}
"""By quantization: how far an export's outputs may be from those of the model that it was made of, as a share of the
greatest of them. In float32 ONNX Runtime adds in another order; int8 rounds to 256 steps."""
_LIBRARIES = ("optimum", "optimum-onnx", "onnx", "onnxruntime", "transformers", "torch")
_FOLDER = "onnx"
_SEED = 0
_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class _Class:
    """name: in optimum.onnxruntime. task: of the exporter. has_past: it generates, with keys and values kept."""

    name: str
    task: str
    has_past: bool = False

    @property
    def export_task(self) -> str:
        return f"{self.task}-with-past" if self.has_past else self.task


CLASSES: Mapping[str, _Class] = {
    "AutoModel": _Class("ORTModelForFeatureExtraction", "feature-extraction"),
    "AutoModelForTextEncoding": _Class("ORTModelForFeatureExtraction", "feature-extraction"),
    "AutoModelForSequenceClassification": _Class("ORTModelForSequenceClassification", "text-classification"),
    "AutoModelForTokenClassification": _Class("ORTModelForTokenClassification", "token-classification"),
    "AutoModelForMaskedLM": _Class("ORTModelForMaskedLM", "fill-mask"),
    "AutoModelForQuestionAnswering": _Class("ORTModelForQuestionAnswering", "question-answering"),
    "AutoModelForImageClassification": _Class("ORTModelForImageClassification", "image-classification"),
    "AutoModelForSemanticSegmentation": _Class("ORTModelForSemanticSegmentation", "semantic-segmentation"),
    "AutoModelForAudioClassification": _Class("ORTModelForAudioClassification", "audio-classification"),
    "AutoModelForCTC": _Class("ORTModelForCTC", "automatic-speech-recognition"),
    "AutoModelForCausalLM": _Class("ORTModelForCausalLM", "text-generation", has_past=True),
    "AutoModelForSeq2SeqLM": _Class("ORTModelForSeq2SeqLM", "text2text-generation", has_past=True),
    "AutoModelForSpeechSeq2Seq": _Class("ORTModelForSpeechSeq2Seq", "automatic-speech-recognition", has_past=True),
    "AutoModelForImageTextToText": _Class("ORTModelForVision2Seq", "image-to-text", has_past=True),
}
"""By the Auto class that loads the same head in transformers."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """model: an ORTModel, which the stages use as they use a PreTrainedModel. difference: to the model that it was
    exported from, as a share of the greatest output; None: it was not exported here."""

    model: Any
    difference: float | None


def load_network(
    spec: ModelSpec,
    folder: Path,
    skeleton: PreTrainedModel,
    auto_class: str,
    load_eager: Callable[[], PreTrainedModel],
    *,
    num_threads: int,
    made_files: MadeFiles,
    progress: Callable[[Progress], None],
) -> Network:
    """skeleton: the model without its weights. auto_class: of its task. load_eager: the model in transformers, in
    float32 on the CPU; called only where an export is to be made. Raises ModelFailed and NotAvailable."""
    chosen = CLASSES.get(auto_class)
    if chosen is None:
        raise NotAvailable(f"backend: optimum has no class for {auto_class}.")
    if spec.quantization is None and spec.optimization is None and any((folder / _FOLDER).glob("*.onnx")):
        model = _open(chosen, folder, num_threads, subfolder=_FOLDER)
        return Network(model=_completed(model, skeleton), difference=None)
    recipe = Recipe(
        source=fingerprint(folder),
        task=chosen.export_task,
        backend="optimum",
        options={"optimization": spec.optimization, "quantization": spec.quantization},
        versions=versions_of(_LIBRARIES),
    )

    def make(part: Path) -> dict[str, Any]:
        progress(Progress(phase="export"))
        return {"difference": _make(spec, part, chosen, load_eager())}

    made = made_files.get(recipe, make)
    model = _open(chosen, made.folder, num_threads)
    difference = float(made.facts["difference"])
    logger.info("%s: Optimum's export differs from the model by %.1e of the greatest output", spec.id, difference)
    return Network(model=_completed(model, skeleton), difference=difference)


def _completed(model: Any, skeleton: PreTrainedModel) -> Any:
    """With what the stages ask of a model beside computing."""
    model.base_model = model
    model.named_modules = skeleton.named_modules
    model.get_output_embeddings = skeleton.get_output_embeddings
    return model


def _open(chosen: _Class, folder: Path, num_threads: int, *, subfolder: str = "") -> Any:
    """folder: with the configuration; subfolder: of it, with the ONNX files."""
    from onnxruntime import SessionOptions
    from optimum import onnxruntime

    options = SessionOptions()
    options.intra_op_num_threads = num_threads
    model = getattr(onnxruntime, chosen.name).from_pretrained(
        folder,
        subfolder=subfolder,
        config=AutoConfig.from_pretrained(folder),
        session_options=options,
        local_files_only=True,
    )
    if chosen.has_past and (folder / GENERATION_CONFIG_NAME).is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder, use_cache=True)
    return model


def _make(spec: ModelSpec, part: Path, chosen: _Class, eager: PreTrainedModel) -> float:
    """Writes the files; how far what they compute is from what they were made of."""
    from optimum.exporters.onnx import onnx_export_from_model

    inputs = _example(eager, chosen)
    expected = _outputs(eager, inputs)  # before the export, which changes the model
    # An optimizer and a quantizer take a decoder with and one without keys and values apart, not merged.
    changes = spec.optimization is not None or spec.quantization is not None
    onnx_export_from_model(
        eager, output=part, task=chosen.export_task, do_validation=False, no_post_process=changes and chosen.has_past
    )
    if spec.optimization is not None:
        _optimize(part, spec.optimization)
    if spec.quantization is not None:
        _quantize(part)
    model = _open(chosen, part, torch.get_num_threads())
    difference = _difference(expected, _outputs(model, inputs))
    if not difference <= TOLERANCES[spec.quantization]:  # NaN is no small difference
        raise ModelFailed(
            f"Optimum's export computes something else than the model: its outputs differ by {difference:.1e} of the"
            f" greatest, and they may by {TOLERANCES[spec.quantization]:.0e}. Use backend: torch."
        )
    return difference


def _optimize(part: Path, level: str) -> None:
    from optimum.onnxruntime import AutoOptimizationConfig, ORTOptimizer

    names = sorted(path.name for path in part.glob("*.onnx"))
    done = part / "optimized"
    try:
        optimizer = ORTOptimizer.from_pretrained(part, file_names=names)
        optimizer.optimize(AutoOptimizationConfig.with_optimization_level(level), save_dir=done, file_suffix="")
    except NotImplementedError as error:
        raise NotAvailable(f"optimization: {level}: Optimum cannot optimize this model: {error}") from error
    _replace_files(part, done)


def _quantize(part: Path) -> None:
    from optimum.onnxruntime import ORTQuantizer

    done = part / "quantized"
    for name in sorted(path.name for path in part.glob("*.onnx")):
        quantizer = ORTQuantizer.from_pretrained(part, file_name=name)
        quantizer.quantize(_quantization(), save_dir=done, file_suffix="")
    if not any(_has_integers(path) for path in done.glob("*.onnx")):
        raise NotAvailable("quantization: int8: this network has no products of matrices, which alone are quantized.")
    _replace_files(part, done)


def _quantization() -> Any:
    """Dynamic int8 in the form that this machine computes fastest. Of matrix products alone: weights of convolutions
    may be computed (wav2vec2), which cannot be quantized."""
    from optimum.onnxruntime import AutoQuantizationConfig

    flags = _CPUINFO.read_text() if _CPUINFO.exists() else ""
    if platform.machine() in ("arm64", "aarch64"):
        made = AutoQuantizationConfig.arm64
    elif "avx512_vnni" in flags:
        made = AutoQuantizationConfig.avx512_vnni
    elif "avx512f" in flags:
        made = AutoQuantizationConfig.avx512
    else:
        made = AutoQuantizationConfig.avx2
    return made(is_static=False, per_channel=True, operators_to_quantize=["MatMul", "Gemm"])


def _has_integers(path: Path) -> bool:
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    return any("Integer" in node.op_type for node in graph.node)


def _replace_files(part: Path, done: Path) -> None:
    """ONNX files by the ones in `done`, which goes."""
    for path in [*part.glob("*.onnx"), *part.glob("*.onnx_data"), *part.glob("*.onnx.data")]:
        path.unlink()
    for path in done.iterdir():
        if ".onnx" in path.name:
            path.rename(part / path.name)
    shutil.rmtree(done)


def _example(eager: PreTrainedModel, chosen: _Class) -> dict[str, torch.Tensor]:
    """Inputs that the exporter makes up for this model, without keys and values."""
    from optimum.exporters.tasks import TasksManager

    try:
        make_config = TasksManager.get_exporter_config_constructor(exporter="onnx", model=eager, task=chosen.task)
    except (KeyError, ValueError) as error:  # not of its tables: a type of models, or a task of one
        raise NotAvailable(f"Optimum cannot export {eager.config.model_type} for {chosen.task}.") from error
    torch.manual_seed(_SEED)
    return dict(make_config(eager.config).generate_dummy_inputs(framework="pt"))


def _outputs(model: Any, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    with torch.inference_mode():
        found = model(**inputs, return_dict=True)
    return {
        name: value for name, value in found.items() if isinstance(value, torch.Tensor) and value.is_floating_point()
    }


def _difference(expected: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> float:
    """The largest between outputs of the same name, as a share of the greatest number among them."""
    both = [(value, found[name]) for name, value in expected.items() if name in found]
    return max(float((value - other).abs().max() / value.abs().max().clamp(min=1e-6)) for value, other in both)
