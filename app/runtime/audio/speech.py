"""The stages of automatic-speech-recognition: transformers' pipeline taken apart, so that strangers can meet.

The pipeline cuts a long sound into windows (`preprocess`) and merges what was heard in them (`postprocess`); between
the two each window is an item. CTC models name a token per output; the others generate.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutomaticSpeechRecognitionPipeline, GenerationConfig, StoppingCriteriaList
from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE
from transformers.pipelines.automatic_speech_recognition import rescale_stride

from app.errors import InvalidInput, NotAvailable
from app.media.audio import Samples
from app.runtime.audio.sounds import MAX_SECONDS_AT_ONCE, Sounds
from app.runtime.base import UNWATCHED, Item, Watch
from app.runtime.finite import require_finite
from app.runtime.generation.seeds import seeded
from app.runtime.generation.watching import Abandoned, WatchedRows
from app.runtime.parts import OwnStages, Parts
from app.runtime.stacking import Row
from app.runtime.tokenizing import BAD_INPUT

MAX_UNCUT_S = 60.0
"""Longer sounds are cut into windows unless the request says otherwise; for Whisper what it hears at once counts."""
WINDOW_S = 30.0
MAX_WINDOWS = 512
"""Of one sound: each may hold a megabyte of features while it waits."""

_WHISPER_ONLY = (
    "return_language",
    "language",
    "task",
    "condition_on_prev_tokens",
    "compression_ratio_threshold",
    "logprob_threshold",
    "no_speech_threshold",
)
_NOT_FOR_GENERATE = frozenset({"return_timestamps", "return_language", "chunk_length_s", "stride_length_s", "seed"})


@dataclass(frozen=True, slots=True)
class Window:
    """A window of a sound, or a sound that is not cut. extras: what the pipeline's steps hand on beside the features.

    options: what `generate` is told. is_long: Whisper goes through it by itself.
    """

    row: Row
    extras: dict[str, Any]
    options: dict[str, Any]
    seed: int | None
    is_long: bool


def generate_arguments(pipeline: AutomaticSpeechRecognitionPipeline, given: Mapping[str, Any]) -> dict[str, Any]:
    """What the pipeline calls `generate` with: what is given, and its defaults for what the model's own configuration
    leaves open. Before transformers 5 its defaults go before the model's, so there they are put together here."""
    if hasattr(pipeline, "_prepare_generate_kwargs"):
        return dict(pipeline._prepare_generate_kwargs(dict(given)))
    config, nothing = copy.deepcopy(pipeline.model.generation_config), GenerationConfig()
    defaults = pipeline._default_generation_config.to_diff_dict()
    if config.max_length != nothing.max_length:
        defaults.pop("max_new_tokens", None)
    left_open = {
        name: value for name, value in defaults.items() if getattr(config, name, None) == getattr(nothing, name, None)
    }
    config.update(**left_open)
    return {"generation_config": config, **given}


class ListeningStages(OwnStages):
    """What the tasks share that write down what is said."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._sounds = Sounds(parts)
        self._extractor = parts.feature_extractor
        self._pipeline = AutomaticSpeechRecognitionPipeline(
            model=parts.model,
            tokenizer=parts.require_tokenizers().shared,  # it only decodes
            feature_extractor=parts.feature_extractor,
            device=parts.device,
        )
        self._kind: str = self._pipeline.type
        if self._kind == "tdt":
            raise NotAvailable("Transducer models of speech recognition cannot be served yet.")
        self._is_whisper = self._kind == "seq2seq_whisper"
        self._checks = _Checks(parts.model, self._kind)

    def _logits(self, rows: Sequence[Row]) -> list[torch.Tensor]:
        """Of a CTC model, for each row [outputs, vocabulary], without padding."""
        found = []
        for row, logits in zip(rows, self._model(**self._sounds.stack(rows)).logits, strict=True):
            own = logits[: self._sounds.num_outputs(row)] if self._sounds.is_padded else logits
            require_finite(own)
            found.append(own)
        return found


class SpeechRecognitionStages(ListeningStages):
    """One item per window. Sampled with a seed, a window is computed by itself."""

    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        self._checks.check(parameters)
        return [self._items(data, parameters, f"inputs[{index}]") for index, data in enumerate(inputs)]

    def _items(self, data: bytes, parameters: dict[str, Any], param: str) -> list[Item]:
        samples = self._sounds.decode(data, param)
        window_s = self._window_s(samples, parameters)
        if window_s:
            self._check_windows(len(samples), window_s, parameters.get("stride_length_s"))
        elif not self._is_whisper:
            self._sounds.require_seconds(samples, param)
        is_long = self._is_whisper and not window_s and len(samples) > self._extractor.n_samples
        options = self._options(parameters, is_long)
        windows = self._pipeline.preprocess(samples, window_s, parameters.get("stride_length_s"))
        rows = self._rows(windows, param)
        return [self._item(row, options, parameters.get("seed"), is_long) for row in rows]

    def _window_s(self, samples: Samples, parameters: dict[str, Any]) -> float:
        """0: the sound is not cut."""
        given: float | None = parameters.get("chunk_length_s")
        if given is not None:
            return given
        if self._is_whisper:
            return float(self._extractor.chunk_length) if len(samples) > self._extractor.n_samples else 0.0
        return WINDOW_S if len(samples) / self._sounds.sampling_rate > MAX_UNCUT_S else 0.0

    def _check_windows(self, num_samples: int, window_s: float, stride_s: Any) -> None:
        """Raises InvalidInput for windows that are too long, do not get on, or are too many."""
        name = "parameters.chunk_length_s"
        most = float(self._extractor.chunk_length) if self._is_whisper else MAX_SECONDS_AT_ONCE
        if window_s > most:
            raise InvalidInput(f"{name} is {window_s:g}; this model hears {most:g} s at once.", param=name)
        stride_s = window_s / 6 if stride_s is None else stride_s
        sides = stride_s if isinstance(stride_s, list) else [stride_s, stride_s]
        align_to, rate = self._pipeline._align_to, self._sounds.sampling_rate
        window, left, right = (round(seconds * rate / align_to) * align_to for seconds in (window_s, *sides))
        step = window - left - right
        if step <= 0:
            raise InvalidInput(
                f"{name} is {window_s:g} s; it must be more than stride_length_s on both sides together.", param=name
            )
        if num_samples / step > MAX_WINDOWS:
            raise InvalidInput(f"{name}: these are more than {MAX_WINDOWS} windows for this sound.", param=name)

    def _rows(self, windows: Iterator[dict[str, Any]], param: str) -> list[dict[str, Any]]:
        rows = [self._sounds.extract(lambda: next(windows), param)]
        # A last window that is too short for the model adds nothing to the one before it.
        with suppress(StopIteration, InvalidInput):
            while True:
                rows.append(self._sounds.extract(lambda: next(windows), param))
        return rows

    def _item(self, row: dict[str, Any], options: dict[str, Any], seed: int | None, is_long: bool) -> Item:
        extras: dict[str, Any] = {name: row.pop(name) for name in ("is_last", "stride") if name in row}
        row.pop("num_frames", None)  # before transformers 5; it would become a part of the answer
        group: Hashable = (_frozen(options), is_long, self._sounds.group(row))
        if is_long:  # not with one that is much shorter: it would wait for this one
            group = (_frozen(options), is_long, row["input_features"].shape[-1] // self._extractor.nb_max_frames)
        if seed is not None or "return_token_timestamps" in options:
            group = object()  # transformers aligns words with the sound over the longest text of a batch
        return Item(Window(row, extras, options, seed, is_long), self._sounds.cost(row), group)

    def _timestamps(self, parameters: dict[str, Any]) -> Any:
        """As the request says, else as the model's files do; None where there are to be none."""
        asked = parameters.get("return_timestamps")
        return asked or (
            getattr(self._model.generation_config, "return_timestamps", None) if self._is_whisper else None
        )

    def _options(self, parameters: dict[str, Any], is_long: bool) -> dict[str, Any]:
        """As the pipeline tells `generate`; a long sound needs times to be gone through, whether asked for or not."""
        if self._kind == "ctc":
            return {}
        options = {name: value for name, value in parameters.items() if name not in _NOT_FOR_GENERATE}
        if isinstance(options.get("temperature"), list):
            options["temperature"] = tuple(options["temperature"])
        timestamps = self._timestamps(parameters)
        if self._is_whisper and (timestamps or is_long):
            options["return_timestamps"] = True
        if timestamps == "word":
            options |= {"return_token_timestamps": True, "return_segments": True}
        if parameters.get("return_language"):
            options["return_segments"] = True
        return options

    # forward

    @torch.inference_mode()
    def forward(self, items: Sequence[Item], watch: Watch = UNWATCHED) -> list[Any]:
        """For each window what `postprocess` takes: its tokens, and how much of it overlaps with its neighbours."""
        windows: list[Window] = [item.features for item in items]
        if self._kind == "ctc":
            return self._recognize(windows)
        try:
            return self._generate(windows, watch)
        except Abandoned:
            return [None] * len(windows)

    def _recognize(self, windows: Sequence[Window]) -> list[dict[str, Any]]:
        outputs = []
        for window, own in zip(windows, self._logits([window.row for window in windows]), strict=True):
            extras = dict(window.extras)
            if "stride" in extras:
                (extras["stride"],) = rescale_stride([extras["stride"]], 1 / self._pipeline._align_to)
            outputs.append({**extras, "tokens": own.argmax(-1)[None].cpu()})
        return outputs

    def _generate(self, windows: Sequence[Window], watch: Watch) -> list[dict[str, Any]]:
        first = windows[0]
        inputs = self._sounds.stack([window.row for window in windows], is_padded=first.is_long)
        heard = inputs.pop("input_features", None)
        heard = inputs.pop("input_values") if heard is None else heard
        rows = WatchedRows(watch, len(windows))
        arguments = generate_arguments(self._pipeline, first.options)
        arguments["stopping_criteria"] = StoppingCriteriaList([rows])
        if self._is_whisper:
            arguments["monitor_progress"] = rows.follow
        with same_attention(self._model), seeded(first.seed, self._model.device):
            generated = self._model.generate(
                **{self._model.main_input_name: heard}, attention_mask=inputs.get("attention_mask"), **arguments
            )
        return [self._output(generated, row, window) for row, window in enumerate(windows)]

    def _output(self, generated: Any, row: int, window: Window) -> dict[str, Any]:
        """As the pipeline's `_forward` makes it, for one row."""
        has_more = isinstance(generated, Mapping)
        tokens = (generated["sequences"] if has_more else generated)[row]
        segments = generated.get("segments") if has_more else None
        output = {**window.extras, "tokens": self._own_tokens(tokens)[None].cpu()}
        if not self._is_whisper and not any(window.extras.get("stride", ())[1:]):
            output.pop("stride", None)  # windows that do not overlap are joined as they are
        if segments is not None and window.options.get("return_token_timestamps"):
            times = [segment["token_timestamps"] for segment in segments[row]]
            output["token_timestamps"] = [torch.cat(times).cpu() if times else torch.zeros(0)]
        language = self._language(segments[row]) if segments is not None and self._is_whisper else None
        if language is not None:
            output["lang_id"] = torch.tensor([language])
        return output

    def _own_tokens(self, tokens: torch.Tensor) -> torch.Tensor:
        """Without what Whisper appends to make all rows equally long."""
        if not self._is_whisper:
            return tokens
        places = (tokens != self._model.generation_config.pad_token_id).nonzero()
        return tokens[: int(places[-1]) + 1 if len(places) else 0]

    def _language(self, segments: Sequence[Mapping[str, Any]]) -> int | None:
        """The token by which the text began; `generate` answers it with the segments alone."""
        languages = set(getattr(self._model.generation_config, "lang_to_id", {}).values())
        if not segments or not languages:
            return None
        result = segments[0]["result"]
        whole = result["sequences"] if isinstance(result, Mapping) else result
        return next((token for token in whole.tolist() if token in languages), None)

    # finish

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = self._pipeline.postprocess(
            [dict(output) for output in outputs],
            return_timestamps=self._timestamps(parameters) or None,
            return_language=parameters.get("return_language"),
        )
        return answer


def _frozen(options: dict[str, Any]) -> Hashable:
    return tuple(sorted(options.items()))


@contextmanager
def same_attention(model: Any) -> Iterator[None]:
    """For times of words Whisper's `generate` changes how the model attends, and leaves it so for all who follow."""
    kept = model.config._attn_implementation
    try:
        yield
    finally:
        if model.config._attn_implementation != kept:
            model.config._attn_implementation = kept


class _Checks:
    """Whether a model can do what the parameters ask, found out before anything is computed. Raises InvalidInput."""

    def __init__(self, model: Any, kind: str) -> None:
        self._model = model
        self._kind = kind

    def check(self, parameters: dict[str, Any]) -> None:
        self._check_names(parameters)
        self._check_timestamps(parameters.get("return_timestamps"))
        if self._kind == "ctc":
            return
        if "language" in parameters or "task" in parameters:
            self._check_language(parameters.get("language"))
        if "no_speech_threshold" in parameters and "logprob_threshold" not in parameters:
            raise wrong("no_speech_threshold", "needs logprob_threshold beside it")
        self._check_generation(parameters)

    def _check_names(self, parameters: dict[str, Any]) -> None:
        known = {"return_timestamps", "chunk_length_s", "stride_length_s"}
        for name in parameters:
            if name in _WHISPER_ONLY and self._kind != "seq2seq_whisper":
                raise wrong(name, "only Whisper models know it")
            if self._kind == "ctc" and name not in known:
                raise wrong(name, "this model does not generate, it is a CTC model")
        if isinstance(parameters.get("temperature"), list) and self._kind != "seq2seq_whisper":
            raise wrong("temperature", "only Whisper models try several")

    def _check_timestamps(self, timestamps: Any) -> None:
        if not timestamps:
            return
        if self._kind == "ctc" and timestamps is True:
            raise wrong("return_timestamps", 'a CTC model tells the times of "word" or "char"')
        if self._kind == "seq2seq":
            raise wrong("return_timestamps", "this model knows no times; CTC and Whisper models do")
        if self._kind == "seq2seq_whisper":
            self._check_times_of_whisper(timestamps)

    def _check_times_of_whisper(self, timestamps: Any) -> None:
        config = self._model.generation_config
        if timestamps == "char":
            raise wrong("return_timestamps", 'Whisper tells the times of segments (true) or of each "word"')
        if not hasattr(config, "no_timestamps_token_id"):
            raise wrong("return_timestamps", "this model's generation_config.json does not know times")
        if timestamps == "word" and not getattr(config, "alignment_heads", None):
            raise wrong("return_timestamps", 'for "word" this model\'s generation_config.json lacks alignment_heads')

    def _check_language(self, language: str | None) -> None:
        config = self._model.generation_config
        if not getattr(config, "is_multilingual", True):
            name = "task" if language is None else "language"
            raise wrong(name, "this model knows English alone")
        known = getattr(config, "lang_to_id", None)
        if language is None:
            return
        if known is None:
            raise wrong("language", "this model's generation_config.json does not know languages")
        low = language.lower()
        if low not in known and f"<|{TO_LANGUAGE_CODE.get(low, low)}|>" not in known:
            names = ", ".join(sorted(token.strip("<|>") for token in known))
            raise wrong("language", f"this model does not know {language[:40]!r}; it knows {names}")

    def _check_generation(self, parameters: dict[str, Any]) -> None:
        given = {name: value for name, value in parameters.items() if name not in _NOT_FOR_GENERATE}
        if isinstance(given.get("temperature"), list):
            del given["temperature"]
        most = self._max_tokens()
        for name in ("max_new_tokens", "max_length", "min_new_tokens", "min_length"):
            if most is not None and given.get(name, 0) > most:
                raise wrong(name, f"is {given[name]}; this model writes {most} tokens at most")
        try:
            copy.deepcopy(self._model.generation_config).update(**given)
        except BAD_INPUT as error:
            raise InvalidInput(f"parameters: {error}", param="parameters") from error

    def _max_tokens(self) -> int | None:
        config = getattr(self._model.config, "decoder", self._model.config)
        most = getattr(config, "max_target_positions", None) or getattr(config, "max_position_embeddings", None)
        if most is None:
            return None
        return int(most) - (4 if self._kind == "seq2seq_whisper" else 1)  # the tokens that begin a text


def wrong(name: str, reason: str) -> InvalidInput:
    return InvalidInput(f"parameters.{name}: {reason}.", param=f"parameters.{name}")
