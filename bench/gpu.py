"""`python -m bench.gpu`: served against the bare forward pass in bfloat16 on a GPU, at saturation, with GPU busy time.

BERT-base, BERT-large, ViT-base and Whisper-small shapes with random weights. The bare forward runs batches that lie on
the GPU already, at the best of several sizes; the server gets single requests, 256 concurrent. GPU busy is the share
of samples of `nvidia-smi` (every 100 ms) in which a kernel ran. `--tiny` runs the same code on a CPU with tiny shapes:
that it works, not how fast. Whisper answers with four tokens, so that its encoder is most of the work.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import page
from bench.processes import free_port, last_line, load, running, say, serve_command, wait_until_up, write_catalog
from bench.workload import TEXTS

BATCH_SIZES = (8, 32, 64, 128)
CONCURRENCY = 256
NEW_TOKENS = 4
Batch = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """build: writes the model's files; tiny: of a size for a CPU. batch: inputs of a forward of so many. bodies: raw
    requests. forward: what is the bare pass of this model."""

    name: str
    task: str
    build: Callable[[Path, bool], None]
    batch: Callable[[Any, int], Batch]
    bodies: Callable[[], list[bytes]]
    forward: Callable[[Any, Batch], Any]
    auto_class: str
    parameters: dict[str, Any]


def _bert(large: bool) -> Callable[[Path, bool], None]:
    def build(folder: Path, tiny: bool) -> None:
        from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

        from demo.training import minilm_folder

        sizes = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
        small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
        BertForSequenceClassification(BertConfig(**(small if tiny else sizes if large else {}))).save_pretrained(folder)
        AutoTokenizer.from_pretrained(minilm_folder(), model_max_length=512).save_pretrained(folder)

    return build


def _vit(folder: Path, tiny: bool) -> None:
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    ViTForImageClassification(ViTConfig(num_labels=1000, **(small if tiny else {}))).save_pretrained(folder)
    ViTImageProcessorPil().save_pretrained(folder)


def _whisper(folder: Path, tiny: bool) -> None:
    """Whisper-small's layers with a small vocabulary, which the tests' model has made."""
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    from tests.tiny.audio import whisper

    whisper(folder)
    if tiny:
        return
    small = WhisperForConditionalGeneration.from_pretrained(folder)
    sizes = {"d_model": 768, "encoder_layers": 12, "decoder_layers": 12, "num_mel_bins": 80}
    sizes |= {"encoder_attention_heads": 12, "decoder_attention_heads": 12, "max_target_positions": 448}
    sizes |= {"encoder_ffn_dim": 3072, "decoder_ffn_dim": 3072, "max_source_positions": 1500}
    model = WhisperForConditionalGeneration(WhisperConfig(**{**small.config.to_dict(), **sizes}))
    small.generation_config.max_length, small.generation_config.alignment_heads = 448, None
    model.generation_config = small.generation_config
    model.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)


def _tokens(model: Any, size: int) -> Batch:
    import torch

    ids = torch.randint(1000, 2000, (size, 128), device=model.device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _pixels(model: Any, size: int) -> Batch:
    import torch

    side = model.config.image_size
    return {"pixel_values": torch.randn(size, 3, side, side, device=model.device, dtype=model.dtype)}


def _spectrogram(model: Any, size: int) -> Batch:
    import torch

    config = model.config
    frames = 2 * config.max_source_positions
    shape = (size, config.num_mel_bins, frames)
    return {"input_features": torch.randn(*shape, device=model.device, dtype=model.dtype)}


def _text_bodies() -> list[bytes]:
    return [json.dumps({"inputs": text}).encode() for text in TEXTS["medium"]()]


def _sound_bodies() -> list[bytes]:
    import numpy
    import soundfile

    files = []
    for index in range(16):
        file = io.BytesIO()
        tone = numpy.sin(numpy.arange(16000 * 10) * (0.02 + 0.002 * index)).astype(numpy.float32) * 0.3
        soundfile.write(file, tone, 16000, format="WAV", subtype="PCM_16")
        files.append(file.getvalue())
    return files


def _picture_bodies() -> list[bytes]:
    from bench.media import pictures

    return pictures()


def _generate(model: Any, batch: Batch) -> Any:
    return model.generate(**batch, max_new_tokens=NEW_TOKENS, num_beams=1)


def _call(model: Any, batch: Batch) -> Any:
    return model(**batch)


def _text(name: str, *, large: bool) -> Shape:
    return Shape(
        name=name,
        task="text-classification",
        build=_bert(large),
        batch=_tokens,
        bodies=_text_bodies,
        forward=_call,
        auto_class="AutoModelForSequenceClassification",
        parameters={},
    )


SHAPES = {
    shape.name: shape
    for shape in (
        _text("bert-base", large=False),
        _text("bert-large", large=True),
        Shape(
            name="vit-base",
            task="image-classification",
            build=_vit,
            batch=_pixels,
            bodies=_picture_bodies,
            forward=_call,
            auto_class="AutoModelForImageClassification",
            parameters={},
        ),
        Shape(
            name="whisper-small",
            task="automatic-speech-recognition",
            build=_whisper,
            batch=_spectrogram,
            bodies=_sound_bodies,
            forward=_generate,
            auto_class="AutoModelForSpeechSeq2Seq",
            parameters={"max_new_tokens": NEW_TOKENS, "num_beams": 1},
        ),
    )
}


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What differs between a GPU's measurement and the check on a CPU."""

    device: str
    dtype: str
    is_tiny: bool
    concurrency: int
    batch_sizes: tuple[int, ...]
    seconds: float


GPU = Scale(
    device="cuda:0", dtype="bfloat16", is_tiny=False, concurrency=CONCURRENCY, batch_sizes=BATCH_SIZES, seconds=10.0
)
TINY = Scale(device="cpu", dtype="float32", is_tiny=True, concurrency=2, batch_sizes=(1, 2), seconds=0.5)


def measure_bare(shape: Shape, folder: Path, scale: Scale) -> dict[str, Any]:
    """Inputs per second by batch size. Runs in a process of its own, which gives the GPU's memory back."""
    import torch
    import transformers

    loader = getattr(transformers, shape.auto_class)
    model = loader.from_pretrained(folder, dtype=getattr(torch, scale.dtype)).to(scale.device).eval()
    wait = torch.cuda.synchronize if scale.device.startswith("cuda") else _nothing
    found: dict[int, float] = {}
    for size in scale.batch_sizes:
        batch = shape.batch(model, size)
        with torch.inference_mode():
            for _ in range(2):
                shape.forward(model, batch)
            wait()
            began, num = time.perf_counter(), 0
            while (elapsed_s := time.perf_counter() - began) < scale.seconds / 2:
                shape.forward(model, batch)
                wait()
                num += size
        found[size] = num / elapsed_s
    best = max(found, key=lambda size: found[size])
    return {"batch_size": best, "bare_per_s": found[best]}


def _nothing() -> None:
    """A CPU computes at once."""


@contextlib.contextmanager
def watched_gpu(log: Path) -> Iterator[None]:
    """`nvidia-smi`, while the block runs: a line of utilization each 100 ms. Nothing where there is none."""
    if shutil.which("nvidia-smi") is None:
        yield
        return
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "100", "-i", "0"]
    with running(command, log=log):
        yield


def busy_share(log: str) -> float | None:
    """The mean of nvidia-smi's lines (percent), as a share of 1; None without any."""
    values = [float(line) for line in log.splitlines() if line.strip().replace(".", "", 1).isdigit()]
    return sum(values) / len(values) / 100 if values else None


def measure_served(shape: Shape, folder: Path, scale: Scale, scratch: Path) -> dict[str, Any]:
    entry = {"id": "bench", "task": shape.task, "model": str(folder), "device": scale.device, "dtype": scale.dtype}
    batch = {"max_items": max(scale.batch_sizes), "max_tokens": 2**20}
    catalog = write_catalog(scratch, [{**entry, "batch": batch, "parameters": shape.parameters, "preload": True}])
    bodies, log = scratch / "bodies", scratch / "utilization.log"
    bodies.write_bytes(b"\n".join(base64.b64encode(body) for body in shape.bodies()))
    port = free_port()
    with running(serve_command(catalog, port)) as process:
        wait_until_up(port, "/readyz", 120.0, process)
        url = f"http://127.0.0.1:{port}/v1/{shape.task}"
        load(url, bodies, scale.concurrency, scale.seconds / 2, is_base64=True)
        with watched_gpu(log):
            found = load(url, bodies, scale.concurrency, scale.seconds, is_base64=True)
    if found["num_failed"]:
        raise RuntimeError(f"{shape.name}: {found['num_failed']} requests failed: {found['first_failure']}")
    told = log.read_text() if log.exists() else ""
    return {"served_per_s": found["requests_per_s"], "gpu_busy": busy_share(told), "p50_ms": found["p50_ms"]}


def measure(shape: Shape, scale: Scale, scratch: Path) -> dict[str, Any]:
    folder = scratch / shape.name
    folder.mkdir()
    shape.build(folder, scale.is_tiny)
    command = [sys.executable, "-m", "bench.gpu", "--bare", shape.name, "--folder", str(folder)]
    bare = last_line(command + ["--tiny"] * scale.is_tiny)
    return {"model": shape.name, **bare, **measure_served(shape, folder, scale, scratch)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="on a CPU, with tiny shapes: a check of this script")
    parser.add_argument("--only", choices=list(SHAPES), action="append", help="one shape; may be repeated")
    parser.add_argument("--bare", choices=list(SHAPES), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    scale = TINY if options.tiny else GPU
    if options.bare:
        sys.stdout.write(json.dumps(measure_bare(SHAPES[options.bare], options.folder, scale)) + "\n")
        return
    import torch

    if not options.tiny and not torch.cuda.is_available():
        sys.exit("No GPU is seen by torch: `--tiny` checks this script on a CPU.")
    rows = []
    for name in options.only or SHAPES:
        with tempfile.TemporaryDirectory() as scratch:
            rows.append(measure(SHAPES[name], scale, Path(scratch)))
        say(json.dumps(rows[-1]))
    if not options.tiny:
        from bench.all import Run, about

        run = Run(is_quick=False, seconds=scale.seconds, may_install=False, only_rivals=None)
        told = about(run)
        results = page.read()
        results["parts"]["gpu"] = {
            "about": {**told, "machine": f"{torch.cuda.get_device_name(0)}, {told['machine']}"},
            "rows": rows,
        }
        page.write(results)


if __name__ == "__main__":
    main()
