"""The stages of transcription: each window of a sound is heard by itself and can be read while it is written."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec
import torch
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE

from app.errors import InvalidInput
from app.runtime.audio.speech import ListeningStages, generate_arguments, same_attention, wrong
from app.runtime.audio.telling import Heard, Telling
from app.runtime.audio.windows import cut
from app.runtime.audio.writing import WrittenRows
from app.runtime.base import UNWATCHED, Item, Watch
from app.runtime.finite import require_finite
from app.runtime.generation.request import Advance, Ranked
from app.runtime.generation.seeds import seeded
from app.runtime.generation.stages import Writer
from app.runtime.generation.watching import Abandoned
from app.runtime.generation.writing import TextWriter, TokenTexts, bytes_of
from app.runtime.parts import Parts
from app.runtime.stacking import Row
from app.tasks.completion import Delta, Token
from app.tasks.transcription import Transcription, num_audio_tokens

_NUM_BEGINNING = 4
"""Tokens that begin Whisper's text: start, language, task, no timestamps."""
_DEFAULT_NEW_TOKENS = 256  # the pipeline's
_SAME_NAMES = ("language", "temperature", "top_k", "top_p", "seed", "repetition_penalty", "max_new_tokens")
_HEARD_NAMES = ("input_features", "input_values")
_DRAWN = ("temperature", "top_k", "top_p")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a request wants of its sound, but for the language. values: for `generate`, sorted by name."""

    translates: bool = False
    prompt: tuple[int, ...] = ()
    values: tuple[tuple[str, Any], ...] = ()
    seed: int | None = None
    has_segments: bool = False
    has_words: bool = False
    has_logprobs: bool = False

    @property
    def num_prompt_tokens(self) -> int:
        """Of its text: the first says that it is one."""
        return max(0, len(self.prompt) - 1)

    @property
    def wants_logprobs(self) -> bool:
        return self.has_logprobs or self.has_segments

    @property
    def is_timed(self) -> bool:
        return self.has_segments or self.has_words


@dataclass(slots=True)
class Sound:
    """language: Whisper's token, None until the first of the windows is heard. Owned by the device thread."""

    seconds: float
    language: int | None


@dataclass(frozen=True, slots=True)
class SoundWindow:
    """position: among those of its sound."""

    row: Row
    sound: Sound
    plan: Plan
    begin_s: float
    seconds: float
    position: int


class TranscriptionStages(ListeningStages):
    """One item per window. Implements `StreamingStages`."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        config = parts.model.generation_config if self._kind != "ctc" else None
        self._languages: dict[str, int] = getattr(config, "lang_to_id", None) or {} if self._is_whisper else {}
        self._is_english = self._is_whisper and not getattr(config, "is_multilingual", True)
        self._is_multilingual = bool(self._languages) and not self._is_english
        self._has_tasks = self._is_multilingual and hasattr(config, "task_to_id")
        self._telling = Telling(self._pipeline, parts.model)

    @cached_property
    def _tokenizer(self) -> Any:
        """One's own: prompts are encoded with it."""
        return self._parts.require_tokenizers().take()

    def release(self) -> None:
        if "_tokenizer" in self.__dict__:
            self._parts.require_tokenizers().give_back(self.__dict__.pop("_tokenizer"))

    # prepare

    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        parameters = self._without_english(parameters)
        self._check(parameters)
        plan, language = self._plan(parameters), self._language(parameters.get("language"))
        return [self._windows(data, plan, language, f"inputs[{index}]") for index, data in enumerate(inputs)]

    def _without_english(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """A model that knows English alone need not be told."""
        if self._is_english and str(parameters.get("language")).lower() in ("en", "english"):
            return {name: value for name, value in parameters.items() if name != "language"}
        return parameters

    def _check(self, parameters: Mapping[str, Any]) -> None:
        """Raises InvalidInput naming the parameter, in the words of automatic-speech-recognition for what has a name
        there: `task` for a translation, `return_timestamps` for segments and words."""
        wanted = {name: parameters[name] for name in _SAME_NAMES if name in parameters}
        if wanted.get("temperature") == 0:  # the likeliest token, as all models choose
            del wanted["temperature"]
        if parameters.get("translates"):
            wanted["task"] = "translate"
        if parameters.get("has_words") or (parameters.get("has_segments") and self._kind == "ctc"):
            wanted["return_timestamps"] = "word"
        elif parameters.get("has_segments"):
            wanted["return_timestamps"] = True
        self._checks.check(wanted)
        if parameters.get("translates") and not self._has_tasks:
            raise wrong("task", "this model's generation_config.json does not know languages and tasks")
        if parameters.get("prompt") and not (self._is_whisper and hasattr(self._tokenizer, "get_prompt_ids")):
            raise wrong("prompt", "only Whisper models know it")
        if parameters.get("has_logprobs") and self._kind == "ctc":
            raise wrong("has_logprobs", "a CTC model names outputs, not the tokens of a text")

    def _plan(self, parameters: Mapping[str, Any]) -> Plan:
        prompt = self._prompt(parameters.get("prompt"))
        values = {name: parameters[name] for name in ("repetition_penalty",) if name in parameters}
        if parameters.get("temperature"):
            values |= {name: parameters[name] for name in _DRAWN if name in parameters}
        limit = parameters.get("max_new_tokens", _DEFAULT_NEW_TOKENS if prompt and not self._has_max_length else None)
        if limit is not None:
            room = self._num_positions - _NUM_BEGINNING - len(prompt) if self._is_whisper else limit
            values["max_new_tokens"] = min(limit, room)
        return Plan(
            translates=bool(parameters.get("translates")),
            prompt=prompt,
            values=tuple(sorted(values.items())),
            seed=parameters.get("seed"),
            has_segments=bool(parameters.get("has_segments")),
            has_words=bool(parameters.get("has_words")),
            has_logprobs=bool(parameters.get("has_logprobs")),
        )

    @property
    def _has_max_length(self) -> bool:
        return getattr(self._model.generation_config, "max_length", None) is not None

    @property
    def _num_positions(self) -> int:
        return int(self._model.config.max_target_positions)

    def _prompt(self, text: str | None) -> tuple[int, ...]:
        """Its end, as much as Whisper was trained with. Raises InvalidInput for the names of special tokens."""
        if not text or not text.strip():
            return ()
        try:
            begin, *tokens = self._tokenizer.get_prompt_ids(text).tolist()
        except ValueError as error:
            raise wrong("prompt", str(error).rstrip(".")) from None
        return (begin, *tokens[-(self._num_positions // 2 - 1) :])

    def _language(self, name: str | None) -> int | None:
        if name is None or not self._is_multilingual:
            return None
        low = name.lower()
        return self._languages[low if low in self._languages else f"<|{TO_LANGUAGE_CODE.get(low, low)}|>"]

    def _windows(self, data: bytes, plan: Plan, language: int | None, param: str) -> list[Item]:
        samples = self._sounds.decode(data, param)
        rate = self._sounds.sampling_rate
        sound = Sound(len(samples) / rate, language)
        items: list[Item] = []
        for part in cut(samples, rate, param=param):
            try:
                row = self._sounds.extract(lambda: next(self._pipeline.preprocess(part.samples)), param)  # noqa: B023  # called at once
            except InvalidInput:
                if not items:
                    raise
                continue  # an end that is too short for the model
            row.pop("is_last")
            window = SoundWindow(row, sound, plan, part.begin / rate, len(part.samples) / rate, len(items))
            items.append(Item(window, self._sounds.cost(row), self._group(window)))
        return items

    def _group(self, window: SoundWindow) -> Hashable:
        if window.plan.seed is not None or (window.plan.has_words and self._kind != "ctc"):
            return object()  # transformers aligns words with the sound over the longest text of a batch
        return window.plan, self._sounds.group(window.row)

    # forward

    @torch.inference_mode()
    def forward(self, items: Sequence[Item], watch: Watch = UNWATCHED) -> list[Any]:
        """A `Heard` for each window."""
        windows: list[SoundWindow] = [item.features for item in items]
        if self._kind == "ctc":
            return self._hear(windows)
        try:
            return self._listen(windows, watch) if self._is_whisper else self._write(windows, watch)
        except Abandoned:
            return [None] * len(windows)

    def _hear(self, windows: Sequence[SoundWindow]) -> list[Heard]:
        """Of a CTC model: the likeliest token of each output."""
        found = []
        for logits in self._logits([window.row for window in windows]):
            best = logits.float().log_softmax(-1).max(-1)
            found.append(Heard(best.indices.tolist(), best.values.tolist()))
        return found

    def _write(self, windows: Sequence[SoundWindow], watch: Watch) -> list[Heard]:
        """Of a model that writes but knows neither times nor languages."""
        plan, rows = windows[0].plan, self._rows_of(windows, watch)
        inputs = self._sounds.stack([window.row for window in windows])
        values = dict(plan.values)
        arguments = generate_arguments(self._pipeline, {**values, "do_sample": "temperature" in values, "num_beams": 1})
        values_or_features = next(inputs.pop(name) for name in _HEARD_NAMES if name in inputs)
        with seeded(plan.seed, self._model.device):
            self._model.generate(
                **{self._model.main_input_name: values_or_features},
                attention_mask=inputs.get("attention_mask"),
                **arguments,
                **rows.arguments(),
            )
        return [Heard(tokens, logprobs) for tokens, logprobs in zip(rows.tokens, rows.logprobs, strict=True)]

    def _rows_of(self, windows: Sequence[SoundWindow], watch: Watch) -> WrittenRows:
        ends = self._model.generation_config.eos_token_id
        end_ids = frozenset(ends if isinstance(ends, list) else [ends])
        return WrittenRows(watch, len(windows), end_ids=end_ids, wants_logprobs=windows[0].plan.wants_logprobs)

    def _listen(self, windows: Sequence[SoundWindow], watch: Watch) -> list[Heard]:
        """Of Whisper. The encoder runs once: `generate` by itself would run it again to hear the language."""
        plan, rows = windows[0].plan, self._rows_of(windows, watch)
        inputs = self._sounds.stack([window.row for window in windows])
        encoded = self._encoded(inputs["input_features"], watch)
        no_speech = self._begin(windows, encoded)
        arguments = generate_arguments(self._pipeline, {**dict(plan.values), **self._arguments(windows)})
        with same_attention(self._model), seeded(plan.seed, self._model.device):
            generated = self._model.generate(
                encoder_outputs=encoded,
                attention_mask=inputs.get("attention_mask"),
                force_unique_generate_call=True,
                **arguments,
                **rows.arguments(),
            )
        found = []
        for row, tokens in enumerate(rows.tokens):
            times = None
            if plan.has_words:
                begin = rows.num_before
                times = generated["token_timestamps"][row, begin : begin + len(tokens)].cpu()
            found.append(Heard(tokens, rows.logprobs[row], no_speech[row], times))
        return found

    def _encoded(self, features: torch.Tensor, watch: Watch) -> BaseModelOutput:
        """On a CPU window by window, which takes no longer: each is a step, after which clients may have left."""
        encoder, parts = self._model.get_encoder(), []
        for part in torch.split(features, 1 if features.device.type == "cpu" else len(features)):
            parts.append(encoder(part).last_hidden_state)
            watch.step()
            if all(watch.is_cancelled(row) for row in range(len(features))):
                raise Abandoned
        states = torch.cat(parts)
        require_finite(states)
        return BaseModelOutput(last_hidden_state=states)

    def _begin(self, windows: Sequence[SoundWindow], encoded: Any) -> list[float]:
        """By one step of the decoder: the languages that are not known yet, and for segments how likely it is that
        nobody speaks. A sound has one language, that of the first of its windows."""
        plan = windows[0].plan
        hears_language = self._is_multilingual and any(window.sound.language is None for window in windows)
        if not (hears_language or plan.has_segments):
            return [0.0] * len(windows)
        config = self._model.generation_config
        begin = torch.full((len(windows), 1), config.decoder_start_token_id, device=self._model.device)
        logits = self._model(encoder_outputs=encoded, decoder_input_ids=begin, use_cache=False).logits[:, -1].float()
        if hears_language:
            known = torch.tensor(list(self._languages.values()), device=logits.device)
            likeliest = known[logits[:, known].argmax(-1)].tolist()
            for _, row in sorted((window.position, row) for row, window in enumerate(windows)):
                sound = windows[row].sound
                sound.language = likeliest[row] if sound.language is None else sound.language
        no_times = getattr(config, "no_timestamps_token_id", None)
        if no_times is None:
            return [0.0] * len(windows)
        silent: list[float] = logits.softmax(-1)[:, no_times - 1].tolist()
        return silent

    def _arguments(self, windows: Sequence[SoundWindow]) -> dict[str, Any]:
        """For Whisper's `generate`."""
        plan = windows[0].plan
        arguments: dict[str, Any] = {"num_beams": 1, "return_timestamps": plan.is_timed}
        arguments["temperature"] = dict(plan.values).get("temperature", 0.0)
        if self._is_multilingual:
            arguments["language"] = [self._language_token(window.sound) for window in windows]
        if self._has_tasks:
            arguments["task"] = "translate" if plan.translates else "transcribe"
        if plan.prompt:
            arguments["prompt_ids"] = torch.tensor(plan.prompt, device=self._model.device)
        if plan.has_words:
            arguments |= {"return_token_timestamps": True, "return_segments": True}
        return arguments

    def _language_token(self, sound: Sound) -> str:
        return next(token for token, id_ in self._languages.items() if id_ == sound.language)

    # While it comes

    def writer(self, item: Item, parameters: dict[str, Any], *, prompt: int, choice: int) -> Writer:
        return _WindowWriter(self, item.features, prompt=prompt, choice=choice)

    def text(self, heard: Heard) -> str:
        return self._telling.text(heard)

    def before(self, window: SoundWindow) -> str:
        """What parts its text from that of the window before it; Whisper's begin with a space where there is one."""
        return " " if window.position and not self._is_whisper else ""

    def text_writer(self) -> TextWriter:
        return TextWriter(self._telling.tokenizer)

    def text_tokens(self, tokens: Sequence[int]) -> list[int]:
        return [token for token in tokens if self._telling.is_text(token)]

    def token_texts(self) -> TokenTexts:
        return TokenTexts(self._telling.tokenizer)

    def told(self, tokens: Sequence[int], logprobs: Sequence[float], texts: TokenTexts) -> list[Token]:
        """Those of the text, with their log-probabilities. texts: of the window."""
        return [
            Token(id=token, text=texts.of(token), logprob=logprob, data=bytes_of(self._telling.tokenizer, token))
            for token, logprob in zip(tokens, logprobs, strict=True)
            if self._telling.is_text(token)
        ]

    # finish

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> dict[str, Any]:
        windows: list[SoundWindow] = [item.features for item in items]
        plan, sound = windows[0].plan, windows[0].sound
        heard: list[Heard] = list(outputs)
        told = [
            self._telling.timed(one, window.begin_s, window.seconds, has_words=plan.has_words)
            for one, window in zip(heard, windows, strict=True)
            if plan.is_timed
        ]
        texts = [self._telling.text(one) for one in heard]
        transcription = Transcription(
            text=("" if self._is_whisper else " ").join(text for text in texts if text).strip(),
            duration_s=sound.seconds,
            language=self._language_name(sound),
            segments=tuple(segment for segments, _ in told for segment in segments) if plan.has_segments else (),
            words=tuple(word for _, words in told for word in words),
            tokens=tuple(token for one in heard for token in self.told(one.tokens, one.logprobs, self.token_texts()))
            if plan.has_logprobs
            else (),
            num_tokens=sum(self._telling.num_tokens(one) for one in heard),
            num_prompt_tokens=plan.num_prompt_tokens,
        )
        builtins: dict[str, Any] = msgspec.to_builtins(transcription)
        return builtins

    def _language_name(self, sound: Sound) -> str:
        if not self._is_multilingual:
            return "english" if self._is_english else ""
        code = self._language_token(sound).strip("<|>")
        return str(LANGUAGES.get(code, code))


class _WindowWriter:
    """Writes a window as the client of a stream reads it. Implements `Writer`."""

    def __init__(self, stages: TranscriptionStages, window: SoundWindow, *, prompt: int, choice: int) -> None:
        self._stages = stages
        self._before = stages.before(window)
        self._has_logprobs = window.plan.has_logprobs
        self._prompt, self._choice = prompt, choice
        self._writer, self._texts = stages.text_writer(), stages.token_texts()
        self._num_tokens = 0
        self._num_prompt_tokens = num_audio_tokens(window.sound.seconds) + window.plan.num_prompt_tokens

    def write(self, advances: Sequence[Advance]) -> Delta | None:
        heard: Heard | None = advances[-1].output
        tokens = [token for advance in advances for token in advance.tokens]
        self._num_tokens += len(tokens)
        text = self._writer.write(self._stages.text_tokens(tokens))
        if heard is not None:
            # What has no steps (CTC) is there all at once.
            text = text + self._writer.end() if self._num_tokens else self._stages.text(heard)
        if text:
            text, self._before = self._before + text, ""
        ranked = [one for advance in advances for one in advance.ranked] if self._has_logprobs else []
        if heard is None and not text and not ranked:
            return None
        return Delta(
            prompt=self._prompt,
            choice=self._choice,
            text=text,
            tokens=tuple(self._told(ranked)),
            num_tokens=self._num_tokens,
            num_prompt_tokens=self._num_prompt_tokens,
            finish_reason=None if heard is None else "stop",
        )

    def _told(self, ranked: Sequence[Ranked]) -> list[Token]:
        logprobs = [one.logprob or 0.0 for one in ranked]
        return self._stages.told([one.token for one in ranked], logprobs, self._texts)
