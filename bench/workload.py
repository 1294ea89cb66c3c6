"""What is asked of every contender: the same texts, the same models."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

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


def sized_texts(num_words: int, spread: int, seed: int = 0) -> list[str]:
    """NUM_TEXTS texts of about so many words, each within spread of it. A word here is one token of BERT's."""
    source = random.Random(seed)
    lengths = [num_words + source.randint(-spread, spread) for _ in range(NUM_TEXTS)]
    return [" ".join(source.choices(WORDS, k=length)) for length in lengths]


TEXTS: dict[str, Callable[[], list[str]]] = {
    "short": lambda: sized_texts(14, 2),  # with the two tokens at the ends: about 16
    "medium": lambda: sized_texts(126, 8),
    "mixed": mixed_texts,
}


def write_bodies(path: Path, texts: list[str]) -> Path:
    return write_lines(path, [{"inputs": text} for text in texts])


def write_lines(path: Path, bodies: Iterable[Any]) -> Path:
    path.write_text("".join(json.dumps(body) + "\n" for body in bodies))
    return path


def zipf_weights(num: int, exponent: float = 1.1) -> list[float]:
    """Shares that sum to 1: the n-th most wanted of num is asked for in proportion to 1 / n ** exponent."""
    raw = [1 / rank**exponent for rank in range(1, num + 1)]
    return [one / sum(raw) for one in raw]


def zipf_draws(num: int, num_draws: int, seed: int = 0, exponent: float = 1.1) -> list[int]:
    """Indices below num. Which of them are wanted most is drawn too, so that it is not the order of declaration."""
    source = random.Random(seed)
    ranked = source.sample(range(num), num)
    return source.choices(ranked, zipf_weights(num, exponent), k=num_draws)


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


def copy_minilm(folder: Path, max_tokens: int = 256) -> Path:
    """all-MiniLM-L6-v2 in a folder of its own, for texts of up to so many tokens (its positions end at 512)."""
    if (folder / "copied").exists():
        return folder
    from demo.training import minilm_folder

    shutil.copytree(minilm_folder(), folder, dirs_exist_ok=True)
    settings = folder / "sentence_bert_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "max_seq_length": max_tokens}))
    (folder / "copied").touch()
    return folder
