"""A model of texts by hand: tokenizer, forward, pooling or softmax. What the offline loop and the rivals compute with.

It runs in the rivals' environments too: it imports nothing but torch and transformers, 4.57 or 5.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer


class Encoder:
    """One caller at a time: a tokenizer that threads share gives wrong answers."""

    def __init__(self, task: str, folder: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self.is_embedding = task == "feature-extraction"
        loader = AutoModel if self.is_embedding else AutoModelForSequenceClassification
        self.model: Any = loader.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.max_length = max_tokens(Path(folder), self.tokenizer.model_max_length)

    def collate(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        """Integers of (texts, tokens of the longest)."""
        return dict(
            self.tokenizer(list(texts), padding=True, truncation=True, max_length=self.max_length, return_tensors="pt")
        )

    def forward(self, batch: dict[str, torch.Tensor]) -> Any:
        with torch.inference_mode():
            return self.model(**batch)

    def finish(self, output: Any, batch: dict[str, torch.Tensor]) -> list[Any]:
        """For each text its vector, a row of numpy, of length 1; or its labels, the likeliest first."""
        with torch.inference_mode():
            if self.is_embedding:
                mask = batch["attention_mask"][..., None]
                pooled = (output.last_hidden_state * mask).sum(1) / mask.sum(1)
                return list(torch.nn.functional.normalize(pooled, dim=1).numpy())
            names = self.model.config.id2label
            scores = output.logits.softmax(-1).tolist()
        return [
            sorted(({"label": names[i], "score": one} for i, one in enumerate(row)), key=lambda pair: -pair["score"])
            for row in scores
        ]

    def __call__(self, texts: Sequence[str]) -> list[Any]:
        batch = self.collate(texts)
        return self.finish(self.forward(batch), batch)


def max_tokens(folder: Path, model_max_length: int) -> int:
    """As sentence-transformers' file says, where there is one."""
    settings = folder / "sentence_bert_config.json"
    wanted = json.loads(settings.read_text()).get("max_seq_length") if settings.exists() else None
    return min(wanted or 512, model_max_length, 512)
