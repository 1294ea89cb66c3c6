"""feature-extraction and sentence-similarity, as sentence-transformers computes them from the same files."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tokenizers.normalizers import Lowercase
from tokenizers.normalizers import Sequence as NormalizerSequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from app.errors import InvalidInput
from app.runtime.base import UNWATCHED, Item, Watch
from app.runtime.collating import Collator
from app.runtime.finite import require_finite
from app.runtime.parts import OwnStages, Parts
from app.runtime.sentence_files import SentenceFiles, pooling_modes
from app.runtime.tokenizing import Encoder, Row
from app.runtime.unpadding import is_unpadded

FloatArray = npt.NDArray[np.float32]

TOKEN_VECTORS = SentenceFiles(modes=(), has_files=False)
"""A model without sentence-transformers files, and no pooling declared."""

_SHORTEST = 1e-12
"""The length below which a vector is not scaled, as in torch's `normalize`."""


@dataclass(frozen=True, slots=True)
class Pooling:
    """How one item's token vectors become its vector; no modes: they stay. num_skipped: the prompt's tokens."""

    modes: tuple[str, ...]
    num_skipped: int = 0


@dataclass(frozen=True, slots=True)
class EmbeddingFeatures:
    inputs: Row
    pooling: Pooling


class Embedder:
    """The encoder and what its sentence-transformers files add; shared by all stages of a loaded model."""

    def __init__(self, model: PreTrainedModel, files: SentenceFiles, limit: int | None) -> None:
        """limit: tokens that the transformer itself takes."""
        self.model = model
        self.files = files
        self.limit = min((one for one in (limit, files.max_seq_length) if one is not None), default=None)
        self._layers = files.layers.to(model.device)

    @property
    def size(self) -> int | None:
        """The length of a vector."""
        size = int(self.model.config.hidden_size) * max(1, len(self.files.modes))
        for layer in self._layers.modules():
            size = layer.out_features if isinstance(layer, torch.nn.Linear) else size
        return size

    @torch.inference_mode()
    def embed(self, inputs: dict[str, Any], poolings: Sequence[Pooling]) -> list[torch.Tensor]:
        """Float32 on CPU for each row: its vector, or all its token vectors, padding included, in [tokens, size]."""
        mask = inputs["attention_mask"]
        hidden = self.model(**inputs)[0].to(mask.device, torch.float32)  # a model's end may be on another device
        rows: dict[Pooling, list[int]] = {}
        for index, pooling in enumerate(poolings):
            rows.setdefault(pooling, []).append(index)
        outputs: dict[int, torch.Tensor] = {}
        for pooling, chosen in rows.items():
            is_all = len(chosen) == len(poolings)
            part, part_mask = (hidden, mask) if is_all else (hidden[chosen], mask[chosen])
            vectors = self._layers(pool(part, part_mask, pooling)) if pooling.modes else part
            outputs.update(zip(chosen, vectors.cpu(), strict=True))
        return [outputs[index] for index in range(len(poolings))]

    def lower_case(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Have a tokenizer lower its texts first, where the files ask for it."""
        if not self.files.do_lower_case:
            return
        if not tokenizer.is_fast:
            tokenizer.do_lower_case = True
            return
        normalizer = tokenizer.backend_tokenizer.normalizer
        parts = [Lowercase()] if normalizer is None else [Lowercase(), normalizer]
        tokenizer.backend_tokenizer.normalizer = NormalizerSequence(parts)


@dataclass(kw_only=True)
class EmbeddingParts(Parts):
    """A text encoder's parts. Its tokenizers lower their texts where the model's files ask for it."""

    embedder: Embedder


def pool(hidden: torch.Tensor, mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """[rows, tokens, size] and the attention mask -> [rows, size * modes]. Masked tokens change nothing."""
    places = mask.cumsum(1)  # of each token in its text, from 1
    is_used = (mask > 0) & (places > pooling.num_skipped)
    return torch.cat([_pool(hidden, places, is_used, mode) for mode in pooling.modes], dim=-1)


def _pool(hidden: torch.Tensor, places: torch.Tensor, is_used: torch.Tensor, mode: str) -> torch.Tensor:
    rows = torch.arange(hidden.shape[0], device=hidden.device)
    if mode == "cls":
        return hidden[rows, is_used.int().argmax(1)]
    if mode == "lasttoken":
        return hidden[rows, (places * is_used).argmax(1)]
    if mode == "max":
        return hidden.masked_fill(~is_used[..., None], -torch.inf).amax(1)
    weights = (places * is_used if mode == "weightedmean" else is_used).to(hidden.dtype)
    sums = torch.bmm(weights[:, None], hidden)[:, 0]
    total = weights.sum(1, keepdim=True).clamp(min=1e-9)
    return sums / (total.sqrt() if mode == "mean_sqrt_len_tokens" else total)


class EmbeddingStages(OwnStages):
    """feature-extraction. Owned by one thread; the embedder is shared."""

    def __init__(self, parts: EmbeddingParts) -> None:
        super().__init__(parts)
        self._embedder = embedder = parts.embedder
        self._files = embedder.files
        tokenizers = parts.require_tokenizers()
        self._encoder = Encoder(tokenizers, embedder.limit)
        self._collator = Collator(embedder.model, tokenizers.shared)
        self._is_unpadded = is_unpadded(embedder.model)
        self._prompt_lengths: dict[str, int] = {}

    def release(self) -> None:
        """Hand the tokenizer on: these stages are not used any more."""
        self._encoder.release()

    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        pooling = self._pooling(parameters)
        self._check_dimensions(parameters, pooling)
        return [[item] for item in self._items(inputs, range(len(inputs)), parameters, pooling)]

    def forward(self, items: Sequence[Item], watch: Watch = UNWATCHED) -> list[FloatArray]:
        """[size] per item, or [tokens, size] where it is not pooled; float32."""
        inputs = self._collator.collate([item.features.inputs for item in items])
        vectors = self._embedder.embed(inputs, [item.features.pooling for item in items])
        return [
            (vector if item.features.pooling.modes else self._collator.trim(vector, item.cost)).numpy()
            for vector, item in zip(vectors, items, strict=True)
        ]

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> Any:
        (item,), (vector,) = items, outputs
        is_normalized = parameters.get("normalize")
        if is_normalized is None:
            is_normalized = self._files.normalize and bool(item.features.pooling.modes)
        vector = _finished(vector, is_normalized=is_normalized, dimensions=parameters.get("dimensions"))
        return _as_base64(vector) if parameters.get("encoding_format") == "base64" else vector

    def _items(
        self, texts: Sequence[Any], owners: Sequence[int], parameters: dict[str, Any], pooling: Pooling
    ) -> list[Item]:
        """texts: or their tokens."""
        prompt = self._prompt(parameters) if isinstance(texts[0], str) else self._no_prompt(parameters)
        if prompt:
            texts = [prompt + text for text in texts]
            if not self._files.include_prompt:
                pooling = Pooling(pooling.modes, self._prompt_length(prompt))
        rows = self._encoder.encode(
            texts,
            owners=owners,
            truncate=bool(parameters.get("truncate", self._files.has_files)),
            side=parameters.get("truncation_direction", "right").lower(),
        )
        return [
            Item(
                EmbeddingFeatures({name: row[name] for name in row if self._collator.is_model_input(name)}, pooling),
                len(row["input_ids"]),
                is_unpadded=self._is_unpadded,
            )
            for row in rows
        ]

    def _pooling(self, parameters: dict[str, Any]) -> Pooling:
        if "pooling" not in parameters:
            return Pooling(self._files.modes)
        modes = pooling_modes(parameters["pooling"])
        if modes and len(self._files.layers) and len(modes) != len(self._files.modes):
            name = "parameters.pooling"
            raise InvalidInput(f"{name}: this model's layers need its own pooling.", param=name)
        return Pooling(modes)

    def _check_dimensions(self, parameters: dict[str, Any], pooling: Pooling) -> None:
        dimensions, size = parameters.get("dimensions"), self._embedder.size
        if not pooling.modes:
            size = int(self._embedder.model.config.hidden_size)
        if dimensions is not None and size is not None and dimensions > size:
            name = "parameters.dimensions"
            raise InvalidInput(f"{name} is {dimensions}; this model's vectors have {size}.", param=name)

    def _prompt(self, parameters: dict[str, Any]) -> str:
        name = parameters.get("prompt_name")
        if name is None:
            return self._files.prompts.get(self._files.default_prompt_name or "", "")
        if name not in self._files.prompts:
            known = ", ".join(self._files.prompts) or "none"
            raise InvalidInput(
                f'parameters.prompt_name: this model has no prompt "{name}"; there are: {known}.',
                param="parameters.prompt_name",
            )
        return self._files.prompts[name]

    def _no_prompt(self, parameters: dict[str, Any]) -> str:
        """Tokens stand for all that the model is to read."""
        name = "parameters.prompt_name"
        if "prompt_name" in parameters:
            raise InvalidInput(f"{name}: there is no prompt before tokens; send texts.", param=name)
        return ""

    def _prompt_length(self, prompt: str) -> int:
        """Tokens that stand for the prompt at the beginning of a text; those that end a text do not count."""
        if prompt not in self._prompt_lengths:
            tokenizer = self._encoder.tokenizer
            ids = self._encoder.encode([prompt], truncate=True)[0]["input_ids"]
            self._prompt_lengths[prompt] = len(ids) - (ids[-1] in tokenizer.all_special_ids)
        return self._prompt_lengths[prompt]


class SentenceSimilarityStages(EmbeddingStages):
    """sentence-similarity: an item for the source sentence, then one per sentence."""

    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        groups = [[one["source_sentence"], *one["sentences"]] for one in inputs]
        owners = [index for index, texts in enumerate(groups) for _ in texts]
        texts = [text for group in groups for text in group]
        modes = self._files.modes or ("mean",)
        items = iter(self._items(texts, owners, parameters, Pooling(modes)))
        return [[next(items) for _ in group] for group in groups]

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> list[float]:
        vectors = np.stack(list(outputs))
        source, others = vectors[0], vectors[1:]
        measure = parameters.get("similarity_fn_name", self._files.similarity)
        if self._files.normalize or measure == "cosine":
            source, others = _scaled(source), _scaled(others)
        similarities = _similarities(source, others, measure)
        require_finite(similarities)
        return [float(one) for one in similarities]


def _similarities(source: FloatArray, others: FloatArray, measure: str) -> FloatArray:
    """Greater is closer: distances count negative, as in sentence-transformers."""
    if measure in ("cosine", "dot"):
        return others @ source
    difference = others - source
    distances = np.abs(difference).sum(-1) if measure == "manhattan" else np.linalg.norm(difference, axis=-1)
    similarities: FloatArray = -distances
    return similarities


def _finished(vector: FloatArray, *, is_normalized: bool, dimensions: int | None) -> FloatArray:
    """[..., size], cut to its leading dimensions and scaled."""
    if dimensions is not None:
        vector = vector[..., :dimensions]
    require_finite(vector)
    return np.ascontiguousarray(_scaled(vector) if is_normalized else vector)


def _scaled(vectors: FloatArray) -> FloatArray:
    """To length 1, along the last axis."""
    lengths = np.sqrt(np.square(vectors).sum(-1, keepdims=True))
    scaled: FloatArray = vectors / np.maximum(lengths, _SHORTEST)
    return scaled


def _as_base64(vector: FloatArray) -> str | list[str]:
    """Little-endian float32, each vector by itself."""
    if vector.ndim > 1:
        return [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in vector]
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
