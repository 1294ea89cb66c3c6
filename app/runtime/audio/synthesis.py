"""The stages of text-to-audio: transformers' pipeline, watched while it speaks.

Most of these models draw what they speak by chance, and their decoders hear the padding of longer neighbours (VITS)
or speak until their own end (SpeechT5, Bark): a text is spoken by itself. MusicGen makes texts of equally many tokens
together.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from transformers import ProcessorMixin, TextToAudioPipeline
from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_TO_SPECTROGRAM_MAPPING

from app.errors import InputTooLarge, InvalidInput, NotAvailable
from app.media.answers import Sound
from app.runtime.base import UNWATCHED, Item, Watch
from app.runtime.finite import require_finite
from app.runtime.generation.seeds import seeded
from app.runtime.generation.watching import Abandoned
from app.runtime.parts import OwnStages, Parts
from app.runtime.stacking import Row, shape_of, stack
from app.runtime.tokenizing import BAD_INPUT

MAX_TOKENS = 4096
"""Of a text for models that know no limit: minutes of speech."""
_TOGETHER = frozenset({"musicgen", "musicgen_melody"})
_NOT_BY_TOKENS = frozenset({"speecht5"})
"""Models with a `generate` of their own, which takes none of the usual keys and says nothing."""
_STEPS = {
    "bark": ("semantic", "coarse_acoustics", "fine_acoustics"),
    "speecht5": ("speecht5.decoder.wrapped_decoder",),
}
"""What a model calls at each step; of all others their direct children."""
_OF_MODELS = ("seed", "speaker_id", "speaker_embeddings")


@dataclass(frozen=True, slots=True)
class TextToSpeak:
    """forward_params, generate_kwargs: as the pipeline takes them."""

    row: Row
    forward_params: dict[str, Any]
    generate_kwargs: dict[str, Any]
    seed: int | None


class TextToAudioStages(OwnStages):
    """One item per text."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._kind: str = parts.model.config.model_type
        makes_spectrograms = type(parts.model) in MODEL_FOR_TEXT_TO_SPECTROGRAM_MAPPING.values()
        if makes_spectrograms and parts.vocoder is None:
            raise NotAvailable(
                "This model makes spectrograms, and what makes sounds of them is missing: declare `vocoder:` beside it,"
                " such as microsoft/speecht5_hifigan."
            )
        vocoder = parts.vocoder.to(parts.device, parts.model.dtype) if makes_spectrograms else None
        processor = parts.processor if isinstance(parts.processor, ProcessorMixin) else None
        self._pipeline = TextToAudioPipeline(
            model=parts.model,
            tokenizer=parts.tokenizers.shared if parts.tokenizers is not None else None,
            processor=processor,
            vocoder=vocoder,
            device=parts.device,
        )
        self._generates = parts.model.can_generate() and self._kind not in _NOT_BY_TOKENS

    @cached_property
    def _reader(self) -> TextToAudioPipeline:
        """The pipeline with a tokenizer of its own: reading changes it."""
        reader = copy.copy(self._pipeline)
        reader.processor = copy.deepcopy(reader.processor)
        if reader.processor is None:
            reader.tokenizer = self._parts.require_tokenizers().take()
        return reader

    def release(self) -> None:
        reader = self.__dict__.pop("_reader", None)
        if reader is not None and reader.processor is None:
            self._parts.require_tokenizers().give_back(reader.tokenizer)

    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        forward_params = self._forward_params(parameters)
        generate_kwargs = self._generate_kwargs(parameters)
        items = []
        for index, text in enumerate(inputs):
            row = self._read(text, f"inputs[{index}]")
            spoken = TextToSpeak(row, forward_params, generate_kwargs, parameters.get("seed"))
            items.append([Item(spoken, row["input_ids"].shape[-1], self._group(spoken))])
        return items

    def _group(self, text: TextToSpeak) -> Hashable:
        if self._kind not in _TOGETHER or text.seed is not None:
            return object()
        return shape_of(text.row), tuple(sorted(text.generate_kwargs.items()))

    def _read(self, text: str, param: str) -> Row:
        try:
            row = dict(self._reader.preprocess(text))
        except ImportError as error:
            raise NotAvailable(f"This model's texts need a library that is not installed: {error}") from error
        except BAD_INPUT as error:
            raise InvalidInput(f"{param} cannot be read: {error}", param=param) from error
        num_tokens = row["input_ids"].shape[-1]
        limit = self._limit()
        if num_tokens == 0:
            raise InvalidInput(f"{param} holds nothing that the model can speak.", param=param)
        if num_tokens > limit:
            raise InputTooLarge(f"{param} has {num_tokens} tokens; the limit is {limit}.", param=param)
        return row

    def _limit(self) -> int:
        known = (self._parts.limit, getattr(self._model.config, "max_text_positions", None), MAX_TOKENS)
        return min(limit for limit in known if limit is not None)

    def _forward_params(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """What only some models take. Raises InvalidInput for the others."""
        params: dict[str, Any] = {}
        config = self._model.config
        speaker = parameters.get("speaker_id")
        if speaker is not None:
            num_speakers = getattr(config, "num_speakers", 1) if self._kind == "vits" else 1
            if speaker >= max(1, num_speakers) or num_speakers <= 1:
                raise wrong("speaker_id", f"this model has {max(1, num_speakers)} voices, counted from 0")
            params["speaker_id"] = speaker
        voice = parameters.get("speaker_embeddings")
        if self._kind == "speecht5":
            size = config.speaker_embedding_dim
            if voice is not None and len(voice) != size:
                raise wrong("speaker_embeddings", f"must have {size} numbers for this model, not {len(voice)}")
            params["speaker_embeddings"] = torch.tensor([voice or [0.0] * size], dtype=self._model.dtype)
        elif voice is not None:
            raise wrong("speaker_embeddings", "only SpeechT5 takes a voice as numbers")
        return params

    def _generate_kwargs(self, parameters: dict[str, Any]) -> dict[str, Any]:
        given = {name: value for name, value in parameters.items() if name not in _OF_MODELS}
        if not self._generates:
            for name in given:
                if name != "max_new_tokens":
                    raise wrong(name, "this model does not generate by tokens")
            return {}
        try:
            copy.deepcopy(self._model.generation_config).update(**given)
        except BAD_INPUT as error:
            raise InvalidInput(f"parameters: {error}", param="parameters") from error
        return given

    @torch.inference_mode()
    def forward(self, items: Sequence[Item], watch: Watch = UNWATCHED) -> list[Any]:
        """Each text's samples, float32 on CPU: [n] or [channels, n]."""
        texts: list[TextToSpeak] = [item.features for item in items]
        inputs = stack([text.row for text in texts], self._model.device, self._model.dtype)
        first = texts[0]
        try:
            with self._watched(watch, len(texts)), seeded(first.seed, self._model.device):
                spoken = self._pipeline._forward(
                    inputs, forward_params=dict(first.forward_params), generate_kwargs=dict(first.generate_kwargs)
                )
        except Abandoned:
            return [None] * len(texts)
        if len(texts) == 1:
            return [self._samples(spoken)]
        return [self._samples({"sequences": one}) for one in spoken["sequences"]]

    def _samples(self, spoken: Any) -> Any:
        return np.atleast_1d(np.asarray(self._pipeline.postprocess(spoken)["audio"], dtype=np.float32))

    @contextmanager
    def _watched(self, watch: Watch, num_rows: int) -> Iterator[None]:
        """The watch is asked whenever the model begins a step; its own loops take no criteria."""

        def look(*_: Any) -> None:
            watch.step()
            if all(watch.is_cancelled(row) for row in range(num_rows)):
                raise Abandoned

        names = _STEPS.get(self._kind)
        modules = [self._model.get_submodule(name) for name in names] if names else list(self._model.children())
        hooks = [module.register_forward_pre_hook(look) for module in modules]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> Sound:
        (samples,) = outputs
        require_finite(samples)
        return Sound(samples, int(self._pipeline.sampling_rate))


def wrong(name: str, reason: str) -> InvalidInput:
    return InvalidInput(f"parameters.{name}: {reason}.", param=f"parameters.{name}")
