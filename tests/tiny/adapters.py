"""Adapters of random weights, none of them zero, as PEFT saves them; and PEFT itself, to compare with."""

from __future__ import annotations

import copy
import warnings
import zlib
from pathlib import Path
from typing import Any

import torch
from peft import IA3Config, LoraConfig, PeftConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

ATTENTION = ["q_proj", "v_proj"]


def lora(**options: Any) -> PeftConfig:
    return LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": ATTENTION, **options})


def ia3() -> PeftConfig:
    return IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"])


KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "ranked": {
        "target_modules": [*ATTENTION, "down_proj"],
        "use_rslora": True,
        "rank_pattern": {"down_proj": 2},
        "alpha_pattern": {"layers.1.self_attn.q_proj": 1},
        "lora_bias": True,
    },
    "dora": {"use_dora": True},
    "embedding": {"target_modules": ["embed_tokens", "q_proj"]},
    "head": {"modules_to_save": ["lm_head"]},
    "output": {"target_modules": ["lm_head", "q_proj"]},
}
"""Keywords of `lora` by what is special about it."""


def save(model: PreTrainedModel, folder: Path, config: PeftConfig, *, seed: int = 0, scale: float = 0.5) -> Path:
    """The model itself stays as it is."""
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")  # PEFT's, of embeddings that it saves along, and transformers' of PEFT
        torch.manual_seed(seed)  # for what PEFT begins with
        peft = get_peft_model(copy.deepcopy(model), config)
        trained = [(name, weight) for name, weight in peft.named_parameters() if weight.requires_grad]
        with torch.no_grad():
            for name, weight in trained:
                generator = torch.Generator().manual_seed(zlib.crc32(name.encode()) ^ seed)
                weight.add_(torch.randn(weight.shape, generator=generator) * scale)
        peft.save_pretrained(str(folder))
    return folder


def with_peft(model: PreTrainedModel, folder: Path) -> Any:
    """A copy of the model with the adapter, by PEFT alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return PeftModel.from_pretrained(copy.deepcopy(model), str(folder)).eval()
