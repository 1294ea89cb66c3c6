"""`make bench-media`: images, speech and zero-shot texts at 16 concurrent, against the offline ceiling, in one run.

The ceiling is transformers' `pipeline(batch_size=best)` in one process over the same files, with the same compute
threads, decoding included. Prints a Markdown table of ratios; `--quick` measures shorter.
"""

from __future__ import annotations

import argparse
import base64
import importlib.metadata
import io
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.processes import REPOSITORY, THREADS, free_port, last_line, load, running, say, serve_command, wait_until_up
from bench.workload import mixed_texts

CONCURRENCY = 16
BATCH_SIZES = (1, 8, 16)
NUM_FILES = 24
SPEECH = {"max_new_tokens": 24, "num_beams": 1}  # random weights never end a transcript by themselves
LABELS = ["sport", "cooking", "politics"]


@dataclass(frozen=True)
class Contest:
    """files: raw bodies, or JSON ones. Built once, deterministic."""

    name: str
    task: str
    build: Callable[[Path], None]
    bodies: Callable[[], list[bytes]]
    parameters: dict[str, Any] = field(default_factory=dict)  # of the server's entry


def build_vit_base(folder: Path) -> None:
    """86 million parameters, 224 × 224 pixels, 1000 labels."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

    torch.manual_seed(0)
    ViTForImageClassification(ViTConfig(num_labels=1000)).save_pretrained(folder)
    ViTImageProcessorPil().save_pretrained(folder)


def build_nli(folder: Path) -> None:
    """The size of all-MiniLM-L6, with labels of natural language inference."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    from demo.training import minilm_folder

    torch.manual_seed(0)
    names = {0: "contradiction", 1: "neutral", 2: "entailment"}
    sizes = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
    labels = {"id2label": names, "label2id": {name: index for index, name in names.items()}}
    BertForSequenceClassification(BertConfig(**sizes, **labels)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(minilm_folder(), model_max_length=512).save_pretrained(folder)


def build_whisper_tiny(folder: Path) -> None:
    """Whisper-tiny's layers (8 million parameters) with a small vocabulary, which the tests' model has made."""
    import torch
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    from tests.tiny.audio import whisper

    whisper(folder)
    small = WhisperForConditionalGeneration.from_pretrained(folder)
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(WhisperConfig(**{**small.config.to_dict(), **WHISPER_TINY}))
    small.generation_config.max_length = 448
    small.generation_config.alignment_heads = None
    model.generation_config = small.generation_config
    model.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)


WHISPER_TINY = {
    "num_mel_bins": 80,
    "max_target_positions": 448,
    "d_model": 384,
    "encoder_layers": 4,
    "decoder_layers": 4,
    "encoder_attention_heads": 6,
    "decoder_attention_heads": 6,
    "encoder_ffn_dim": 1536,
    "decoder_ffn_dim": 1536,
}


def pictures() -> list[bytes]:
    """JPEG files of 640 × 480 pixels: smooth colours with some noise, as photographs compress."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    files = []
    for _ in range(NUM_FILES):
        coarse = random.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        image = np.asarray(Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC)).astype(np.int16)
        noisy = np.clip(image + random.integers(-12, 12, image.shape), 0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(noisy).save(file, "JPEG", quality=85)
        files.append(file.getvalue())
    return files


def sounds() -> list[bytes]:
    """WAV files of 3 to 12 seconds at 16 kHz: tones that glide."""
    import numpy as np
    import soundfile

    random = np.random.default_rng(0)
    files = []
    for _ in range(NUM_FILES):
        times = np.arange(int(16000 * random.uniform(3, 12))) / 16000
        tone = np.sin(2 * np.pi * (random.uniform(100, 300) * times + random.uniform(5, 60) * times**2))
        file = io.BytesIO()
        soundfile.write(file, (0.3 * tone).astype(np.float32), 16000, format="WAV", subtype="PCM_16")
        files.append(file.getvalue())
    return files


def texts() -> list[bytes]:
    return [
        json.dumps({"inputs": text, "parameters": {"candidate_labels": LABELS}}).encode()
        for text in mixed_texts()[: 8 * NUM_FILES]
    ]


CONTESTS = {
    contest.name: contest
    for contest in (
        Contest("vit-base-sized", "image-classification", build_vit_base, pictures),
        Contest(
            "whisper-tiny-sized",
            "automatic-speech-recognition",
            build_whisper_tiny,
            sounds,
            SPEECH,
        ),
        Contest("minilm-sized-nli", "zero-shot-classification", build_nli, texts),
    )
}


def folder_of(contest: Contest) -> Path:
    """Built at the first use."""
    folder = REPOSITORY / ".cache" / "bench" / contest.name
    if not (folder / "model.safetensors").exists():
        folder.mkdir(parents=True, exist_ok=True)
        contest.build(folder)
    return folder


def measure_offline(contest: Contest) -> dict[str, Any]:
    """Files per second at the best batch size, decoding included. Runs in a process of its own."""
    import torch
    from transformers import pipeline

    torch.set_num_threads(THREADS)
    pipe: Any = pipeline(contest.task, model=str(folder_of(contest)), device="cpu")
    bodies = contest.bodies()
    call = CALLS[contest.task]
    call(pipe, bodies[:2], 2)
    found: dict[int, float] = {}
    for size in BATCH_SIZES:
        began = time.perf_counter()
        call(pipe, bodies, size)
        found[size] = len(bodies) / (time.perf_counter() - began)
    best = max(found, key=lambda size: found[size])
    return {"best_batch_size": best, "per_s": found[best], "alone_per_s": found[1]}


def classify_images(pipe: Any, bodies: list[bytes], batch_size: int) -> None:
    from PIL import Image

    pipe([Image.open(io.BytesIO(body)) for body in bodies], batch_size=batch_size)


def transcribe(pipe: Any, bodies: list[bytes], batch_size: int) -> None:
    import soundfile

    arrays = [soundfile.read(io.BytesIO(body), dtype="float32")[0] for body in bodies]
    raw = [{"raw": array, "sampling_rate": 16000} for array in arrays]
    pipe(raw, batch_size=batch_size, generate_kwargs=dict(SPEECH))


def classify_texts(pipe: Any, bodies: list[bytes], batch_size: int) -> None:
    inputs = sorted((json.loads(body)["inputs"] for body in bodies), key=len)
    pipe(inputs, candidate_labels=LABELS, batch_size=batch_size)


CALLS = {
    "image-classification": classify_images,
    "automatic-speech-recognition": transcribe,
    "zero-shot-classification": classify_texts,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short measurements, for a look while working")
    parser.add_argument("--offline", choices=list(CONTESTS), help="measure only this ceiling, here")
    options = parser.parse_args()
    if options.offline:
        sys.stdout.write(json.dumps(measure_offline(CONTESTS[options.offline])) + "\n")
        return
    seconds = 8.0 if options.quick else 20.0
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers"))
    say(
        f"`python -m bench.media{' --quick' if options.quick else ''}` on {os.cpu_count()} cores, {platform.machine()};"
    )
    say(f"{versions}; float32; {THREADS} compute thread(s) for everybody; {CONCURRENCY} concurrent.\n")
    say(
        "| model | task | offline batch 1, per s | offline best (batch), per s | pipeserve per s | of the ceiling |"
        " p50 ms |"
    )
    say("|---|---|---|---|---|---|---|")
    for contest in CONTESTS.values():
        say(row(contest, seconds))


def row(contest: Contest, seconds: float) -> str:
    folder = folder_of(contest)
    offline = last_line([sys.executable, "-m", "bench.media", "--offline", contest.name])
    with tempfile.TemporaryDirectory() as scratch:
        catalog, bodies = Path(scratch, "models.yaml"), Path(scratch, "bodies")
        entry = {"id": contest.name, "task": contest.task, "model": str(folder), "parameters": contest.parameters}
        catalog.write_text(json.dumps({"models": [entry]}))  # JSON is YAML
        bodies.write_bytes(b"\n".join(base64.b64encode(body) for body in contest.bodies()))
        port = free_port()
        with running(serve_command(catalog, port)):
            wait_until_up(port, "/readyz")
            url = f"http://127.0.0.1:{port}/v1/{contest.task}"
            load(url, bodies, CONCURRENCY, 4.0, is_base64=True)  # warm
            ours = load(url, bodies, CONCURRENCY, seconds, is_base64=True)
    if ours["num_failed"]:
        raise RuntimeError(f"{contest.name}: {ours['num_failed']} failed: {ours['first_failure']}")
    cells = [contest.name, contest.task, f"{offline['alone_per_s']:.2f}"]
    cells += [f"{offline['per_s']:.2f} ({offline['best_batch_size']})", f"{ours['requests_per_s']:.2f}"]
    cells += [f"{ours['requests_per_s'] / offline['per_s']:.2f}", f"{ours['p50_ms']:.0f}"]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
