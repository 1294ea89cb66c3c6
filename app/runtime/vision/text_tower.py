"""The part of CLIP-like models that makes vectors of texts: encoded as each model wants it, and remembered."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch

from app.runtime.parts import Parts
from app.runtime.stacking import Row, stack
from app.runtime.tokenizing import Encoder

MAX_REMEMBERED = 4096
_FIXED_LENGTHS = {"siglip": 64, "siglip2": 64}
"""Models that were trained with every text padded to one length, and no mask."""


def pooled(features: Any) -> torch.Tensor:
    """What `get_text_features` and `get_image_features` answer: a tensor, or an output with one."""
    vectors: torch.Tensor = features if isinstance(features, torch.Tensor) else features.pooler_output
    return vectors


class TextTower:
    """Owned by one thread. encode: on the prepare thread, vectors: on the device thread."""

    def __init__(self, parts: Parts) -> None:
        self._model = parts.model
        tokenizers = parts.require_tokenizers()
        fixed = _FIXED_LENGTHS.get(parts.model.config.model_type)
        self._fixed_length = fixed
        self._pad_id = tokenizers.shared.pad_token_id or 0
        self._has_mask = "attention_mask" in tokenizers.shared.model_input_names
        text_config = getattr(parts.model.config, "text_config", parts.model.config)
        limits = [one for one in (parts.limit, getattr(text_config, "max_position_embeddings", None), fixed) if one]
        self._encoder = Encoder(tokenizers, min(limits, default=None))

    def release(self) -> None:
        self._encoder.release()

    def encode(self, texts: Sequence[str], *, truncate: bool, owners: Sequence[int] | None = None) -> list[Row]:
        """Raises InputTooLarge with `param` such as `inputs[2]`."""
        truncate = truncate or self._fixed_length is not None
        rows = self._encoder.encode(texts, owners=owners, truncate=truncate)
        return [self._tensors(row["input_ids"]) for row in rows]

    def _tensors(self, ids: list[int]) -> Row:
        filling = 0 if self._fixed_length is None else self._fixed_length - len(ids)
        tensors = {"input_ids": torch.tensor([ids + [self._pad_id] * filling])}
        if self._has_mask or self._fixed_length is None:
            tensors["attention_mask"] = torch.tensor([[1] * len(ids) + [0] * filling])
        return tensors

    @torch.inference_mode()
    def vectors(self, rows: Sequence[Row]) -> torch.Tensor:
        """[rows, size] on the model's device. Rows of other lengths are padded under the mask."""
        width = max(row["input_ids"].shape[1] for row in rows)
        padded = [{name: self._padded(name, value, width) for name, value in row.items()} for row in rows]
        inputs = stack(padded, self._model.device, self._model.dtype)
        return pooled(self._model.get_text_features(**inputs))

    def _padded(self, name: str, value: torch.Tensor, width: int) -> torch.Tensor:
        missing = width - value.shape[1]
        filling = self._pad_id if name == "input_ids" else 0
        return torch.nn.functional.pad(value, (0, missing), value=filling) if missing else value


class LabelVectors:
    """The vectors of labels, scaled to length 1, of which the latest are kept: a service asks for the same ones again.

    Owned by the device thread.
    """

    def __init__(self, tower: TextTower) -> None:
        self._tower = tower
        self._kept: OrderedDict[str, torch.Tensor] = OrderedDict()

    def of(self, texts: Sequence[str], rows: Sequence[Row]) -> torch.Tensor:
        """[texts, size]. rows: their tokens."""
        missing = {text: row for text, row in zip(texts, rows, strict=True) if text not in self._kept}
        fresh: dict[str, torch.Tensor] = {}
        if missing:
            vectors = self._tower.vectors(list(missing.values()))
            vectors = vectors / vectors.norm(dim=-1, keepdim=True)
            fresh = dict(zip(missing, vectors, strict=True))
        found = torch.stack([fresh[text] if text in fresh else self._kept[text] for text in texts])
        self._keep(texts, fresh)
        return found

    def _keep(self, texts: Sequence[str], fresh: dict[str, torch.Tensor]) -> None:
        self._kept.update(fresh)
        for text in texts:
            self._kept.move_to_end(text)
        while len(self._kept) > MAX_REMEMBERED:
            self._kept.popitem(last=False)
