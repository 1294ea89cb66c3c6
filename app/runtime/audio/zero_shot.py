"""The stages of zero-shot-audio-classification: CLAP, which puts sounds and texts into one space."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import ZeroShotAudioClassificationPipeline

from app.errors import InputTooLarge, InvalidInput
from app.media.audio import Samples
from app.runtime.audio.sounds import Sounds
from app.runtime.base import UNWATCHED, Item, Watch
from app.runtime.collating import Collator
from app.runtime.finite import require_finite
from app.runtime.parts import OwnStages, Parts
from app.runtime.stacking import Row
from app.runtime.tokenizing import Encoder
from app.runtime.vision.text_tower import pooled

DEFAULT_TEMPLATE = "This is a sound of {}."
MAX_CACHED_TEXTS = 4096
TEXTS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class SoundWithLabels:
    """texts: each label in its sentence, with its tokens, in the order of the labels (equal ones once)."""

    row: Row
    texts: Mapping[str, Mapping[str, Any]]


class ZeroShotAudioClassificationStages(OwnStages):
    """One item per sound. A label's vector is computed once and kept by the device thread's stages."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        tokenizers = parts.require_tokenizers()
        self._encoder = Encoder(tokenizers, parts.limit)
        self._sounds = Sounds(parts)
        self._collator = Collator(parts.model, tokenizers.shared)
        self._vectors: OrderedDict[str, torch.Tensor] = OrderedDict()
        self._extractor = parts.feature_extractor
        self._pipeline = ZeroShotAudioClassificationPipeline(
            model=parts.model,
            tokenizer=tokenizers.shared,
            feature_extractor=parts.feature_extractor,
            device=parts.device,
        )

    def release(self) -> None:
        self._encoder.release()

    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        texts = self._texts(_sentences(parameters))
        return [[self._item(data, texts, f"inputs[{index}]")] for index, data in enumerate(inputs)]

    def _texts(self, sentences: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        unique = list(dict.fromkeys(sentences))
        try:
            rows = self._encoder.encode(unique)
        except (InputTooLarge, InvalidInput) as error:
            name = "parameters.candidate_labels"
            reason = error.message.partition(" ")[2].partition(". Send")[0]
            raise type(error)(f"{name}: a label {reason.rstrip('.')}.", param=name) from error
        return dict(zip(unique, rows, strict=True))

    def _item(self, data: bytes, texts: Mapping[str, Mapping[str, Any]], param: str) -> Item:
        samples = self._sounds.decode(data, param)
        row = self._sounds.extract(lambda: self._features(samples), param)
        return Item(SoundWithLabels(row, texts), self._sounds.cost(row), self._sounds.group(row))

    def _features(self, samples: Samples) -> Mapping[str, Any]:
        with _same_draws():
            features: Mapping[str, Any] = self._extractor(
                [samples], sampling_rate=self._sounds.sampling_rate, return_tensors="pt"
            )
        return features

    @torch.inference_mode()
    def forward(self, items: Sequence[Item], watch: Watch = UNWATCHED) -> list[torch.Tensor]:
        """Logits of each sound's labels, float32 on CPU: [labels]."""
        vectors = self._vectors_of({text: row for item in items for text, row in item.features.texts.items()})
        inputs = self._sounds.stack([item.features.row for item in items])
        heard = pooled(self._model.get_audio_features(**inputs))
        scale = self._model.logit_scale_a.exp()
        return [
            (scale * torch.stack([vectors[text] for text in item.features.texts]) @ one).float().cpu()
            for item, one in zip(items, heard, strict=True)
        ]

    def _vectors_of(self, texts: Mapping[str, Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """On the device, [size] each, of length 1."""
        found = {}
        for text in texts:
            if text in self._vectors:
                self._vectors.move_to_end(text)
                found[text] = self._vectors[text]
        missing = sorted((text for text in texts if text not in found), key=lambda text: len(texts[text]["input_ids"]))
        for start in range(0, len(missing), TEXTS_AT_ONCE):
            part = missing[start : start + TEXTS_AT_ONCE]
            inputs = self._collator.collate([dict(texts[text]) for text in part])
            found.update(zip(part, pooled(self._model.get_text_features(**inputs)), strict=True))
        self._vectors.update((text, found[text].clone()) for text in missing)
        while len(self._vectors) > MAX_CACHED_TEXTS:
            self._vectors.popitem(last=False)
        return found

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> list[dict[str, Any]]:
        (logits,), (item,) = outputs, items
        require_finite(logits)
        by_text = dict(zip(item.features.texts, logits, strict=True))
        ordered = torch.stack([by_text[text] for text in _sentences(parameters)])
        answer: list[dict[str, Any]] = self._pipeline.postprocess(
            {"logits": ordered[None], "candidate_labels": parameters["candidate_labels"]}
        )
        return answer


def _sentences(parameters: dict[str, Any]) -> list[str]:
    template: str = parameters.get("hypothesis_template", DEFAULT_TEMPLATE)
    return [template.format(label) for label in parameters["candidate_labels"]]


@contextmanager
def _same_draws() -> Iterator[None]:
    """CLAP's extractor listens to a place of a long sound that numpy draws: the same one for the same sound. Only the
    prepare thread extracts, so nobody draws beside it."""
    kept = np.random.get_state()
    np.random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(kept)
