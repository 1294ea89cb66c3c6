"""What is asked of every contender: the same texts, the same models."""

from __future__ import annotations

import json
import random
from pathlib import Path

NUM_TEXTS = 512
WORDS = (
    "the a of to and in that it was for on are with as they at be this from have or by one had not but what all were "
    "when we there can an your which their said if do will each about how up out them then she many some so these "
    "would other into has more her two like him see time could no make than first been its who now people my made "
    "over did down only way find use may water long little very after words called just where most know get through "
    "back much before go good new write our used me man too any day same right look think also around another came"
).split()


def mixed_texts(seed: int = 0) -> list[str]:
    """NUM_TEXTS texts, lengths log-normal around 16 words and at most 120: many short, some long, as people write."""
    source = random.Random(seed)
    lengths = [min(120, max(3, round(source.lognormvariate(2.8, 0.8)))) for _ in range(NUM_TEXTS)]
    return [" ".join(source.choices(WORDS, k=length)) for length in lengths]


def write_bodies(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"inputs": text}) + "\n" for text in texts))
    return path


def build_bert_base(folder: Path) -> Path:
    """A BERT-base-sized classifier (110 M parameters) with random weights and a real vocabulary; built once."""
    if (folder / "model.safetensors").exists():
        return folder
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    from demo.training import minilm_folder

    torch.manual_seed(0)
    BertForSequenceClassification(BertConfig()).save_pretrained(folder)
    AutoTokenizer.from_pretrained(minilm_folder(), model_max_length=512).save_pretrained(folder)
    return folder
