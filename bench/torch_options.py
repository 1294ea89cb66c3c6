"""What the torch backend's options give and cost, on encoders: `python -m bench.torch_options minilm|bert-base`.

Milliseconds of CPU time of one thread, the least of some interleaved rounds: other processes add little to them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, BertConfig, BertModel, BitsAndBytesConfig, TorchAoConfig

from app.runtime.compiling import Compiled
from app.runtime.packing import pack
from app.runtime.quantizing import quantise
from bench.workload import mixed_texts
from demo.training import minilm_folder

SHAPES = [(rows, width) for width in (16, 128) for rows in (1, 8, 32)]


def packed(load: Callable[..., Any]) -> Any:
    model = load()
    pack(model)
    return model


def packed_half(load: Callable[..., Any]) -> Any:
    """As of a checkpoint in half precision: held in float16."""
    model = load().half().float()
    pack(model)
    return model


def int8(load: Callable[..., Any]) -> Any:
    model = load()
    quantise(model)
    return model


def torch_int8(load: Callable[..., Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(load(), {torch.nn.Linear}, dtype=torch.qint8)


def int8_weights(load: Callable[..., Any]) -> Any:
    from torchao.quantization import Int8WeightOnlyConfig

    return load(quantization_config=TorchAoConfig(Int8WeightOnlyConfig()))


def bnb_8bit(load: Callable[..., Any]) -> Any:
    return load(quantization_config=BitsAndBytesConfig(load_in_8bit=True))


def bnb_4bit(load: Callable[..., Any]) -> Any:
    return load(quantization_config=BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4"))


@torch.inference_mode()
def compiled(load: Callable[..., Any]) -> Any:
    model = load()
    with Compiled([model]).warming_up():
        for rows in (1, 2):
            model(input_ids=torch.ones(rows, 16, dtype=torch.long))
    return model


VARIANTS: dict[str, Callable[..., Any]] = {
    "float32": lambda load: load(),
    "packed": packed,
    "packed-half": packed_half,
    "int8": int8,
    "torch-int8": torch_int8,
    "int8-weights": int8_weights,
    "bitsandbytes-8bit": bnb_8bit,
    "bitsandbytes-4bit": bnb_4bit,
    "compile": compiled,
}


def bert_base(folder: Path) -> Path:
    torch.manual_seed(0)
    BertModel(BertConfig()).save_pretrained(folder)
    return folder


@torch.inference_mode()
def vectors(model: Any, texts: list[str]) -> torch.Tensor:
    from transformers import AutoTokenizer

    inputs = AutoTokenizer.from_pretrained(minilm_folder())(texts, padding=True, return_tensors="pt")
    mask = inputs["attention_mask"][..., None]
    return torch.nn.functional.normalize((model(**inputs)[0].float() * mask).sum(1) / mask.sum(1))


@torch.inference_mode()
def milliseconds(models: dict[str, Any], num_rows: int, width: int, num_rounds: int) -> dict[str, float]:
    ids = torch.randint(1000, 20000, (num_rows, width))
    taken: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(num_rounds):
        for name, model in models.items():
            began_at = time.process_time()
            model(input_ids=ids)
            taken[name].append((time.process_time() - began_at) * 1000)
    return {name: min(values) for name, values in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=["minilm", "bert-base"])
    parser.add_argument("variants", nargs="*", default=["float32", "packed", "packed-half", "int8", "torch-int8"])
    parser.add_argument("--rounds", type=int, default=4)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made:
        folder = minilm_folder() if arguments.model == "minilm" else bert_base(Path(made))

        def load(**options: Any) -> Any:
            return AutoModel.from_pretrained(folder, dtype=torch.float32, **options).eval()

        models = {name: VARIANTS[name](load) for name in arguments.variants}
    texts = mixed_texts()[:32]
    exact = vectors(load() if arguments.model == "minilm" else models["float32"], texts)
    print(f"| {arguments.model} | least cosine | " + " | ".join(f"{rows}x{width}" for rows, width in SHAPES) + " |")
    print("|---" * (len(SHAPES) + 2) + "|")
    taken = [milliseconds(models, *shape, arguments.rounds) for shape in SHAPES]
    for name, model in models.items():
        cosine = float((vectors(model, texts) * exact).sum(1).min())
        print(f"| {name} | {cosine:.4f} | " + " | ".join(f"{shape[name]:.1f}" for shape in taken) + " |", flush=True)


if __name__ == "__main__":
    main()
