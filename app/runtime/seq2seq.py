"""text2text-generation, summarization and translation, which transformers 5 no longer has: on AutoModelForSeq2SeqLM.

As the pipelines of transformers 4.57 did it: the prefix of `task_specific_params` before the text (T5), the tokenizer's
source language and the target language as the first token (mBART, M2M100, NLLB), `>>xx<<` before the text (Marian).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from transformers import GenerationConfig

from app.errors import InvalidInput
from app.runtime.base import Item
from app.runtime.generation.defaults import SamplingDefaults
from app.runtime.generation.encoded import EncoderDecoder
from app.runtime.generation.request import DEFAULT_MAX_NEW_TOKENS, Generated, GenerationRequest, Sampling
from app.runtime.generation.stages import GeneratingStages, Writer
from app.runtime.parts import Parts
from app.runtime.text_generation import TokenWriter, details_of, stops_of
from app.runtime.tokenizing import Encoder
from app.tasks.generation_parameters import GENERATION_KEYS

_OWN = ("num_beams", "min_length", "min_new_tokens")
"""Of the model's generation_config; what else it says of choosing tokens `SamplingDefaults` knows."""
_DRAWN = (
    *("top_k", "top_p", "typical_p", "epsilon_cutoff", "eta_cutoff"),
    *("repetition_penalty", "no_repeat_ngram_size"),
)
_NOT_OF_BEAMS = frozenset({"seed", "max_new_tokens", "max_length"})
_T5_NAMES = {"en": "English", "de": "German", "fr": "French", "ro": "Romanian"}


class Text2TextStages(GeneratingStages):
    """One item per text; a beam search is one as well."""

    answer_name: ClassVar[str] = "generated_text"
    task_names: ClassVar[tuple[str, ...]] = ()
    """Whose `task_specific_params` of the model's config hold, the first that is there."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        tokenizers = parts.require_tokenizers()
        config = parts.model.generation_config
        self._tokenizer = tokenizers.shared
        self._encoder = Encoder(tokenizers, parts.limit)
        self._asking = EncoderDecoder(parts.model)
        self._defaults = SamplingDefaults(config)
        self._own = {name: value for name in _OWN if (value := getattr(config, name, None)) is not None}
        self._own_limit = _own_limit(config)
        specific = getattr(parts.model.config, "task_specific_params", None) or {}
        self._specific: dict[str, Any] = next((specific[one] for one in self.task_names if one in specific), {})

    def release(self) -> None:
        """Hand the tokenizer on: these stages are not used any more."""
        self._encoder.release()

    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        prefix, first = self._languages(parameters)
        texts = [prefix + text for text in inputs]
        rows = self._encoder.encode(texts, truncate=parameters.get("truncate") is True)
        return [[self._item(row["input_ids"], parameters, first)] for row in rows]

    def _item(self, tokens: list[int], parameters: Mapping[str, Any], first: int | None) -> Item:
        wanted = {**self._own, **self._specific, **parameters}
        max_tokens = self._max_tokens(parameters)
        beams = self._beams(parameters, wanted, first)
        request = GenerationRequest(
            **self._asking.fields(tokens, max_tokens, first=first, closes=True),
            sampling=self._sampling(parameters),
            min_tokens=wanted.get("min_new_tokens") or max(0, (wanted.get("min_length") or 0) - 1),
            stops=stops_of(parameters),
            values=beams,
        )
        return Item(request, len(tokens))

    def _sampling(self, parameters: Mapping[str, Any]) -> Sampling:
        wanted = {**self._specific, **parameters}
        return self._defaults.sampling(
            do_sample=wanted.get("do_sample"),
            temperature=wanted.get("temperature"),
            **{name: wanted.get(name) for name in _DRAWN},
            seed=parameters.get("seed"),
            num_logprobs=parameters.get("top_n_tokens", 0) if parameters.get("details") else None,
        )

    def _beams(self, parameters: Mapping[str, Any], wanted: Mapping[str, Any], first: int | None) -> dict[str, Any]:
        """Keywords of a beam search, if this is one: then `generate` sees to all of it."""
        num_beams = wanted.get("num_beams") or 1
        if num_beams <= 1:
            return {}
        specific = {name: value for name, value in self._specific.items() if name not in ("prefix", "max_length")}
        given = {name: value for name, value in parameters.items() if name in GENERATION_KEYS - _NOT_OF_BEAMS}
        if given.get("temperature") == 0:
            given |= {"do_sample": False, "temperature": 1.0}
        forced = {} if first is None else {"forced_bos_token_id": first}
        return {**specific, **given, **forced, "num_beams": num_beams}

    def _languages(self, parameters: Mapping[str, Any]) -> tuple[str, int | None]:
        """What goes before each text, and the first token of the answer."""
        return self._specific.get("prefix", ""), None

    def _max_tokens(self, parameters: Mapping[str, Any]) -> int:
        """No more than the decoder has positions for. Raises InvalidInput for more."""
        name = "parameters.max_new_tokens" if "max_new_tokens" in parameters else "parameters.max_length"
        given = parameters.get("max_new_tokens")
        if given is None and "max_length" in parameters:
            given = max(1, parameters["max_length"] - 1)  # the start token counts there
        length = self._specific.get("max_length") or self._own_limit
        return self._asking.max_tokens(given, name, default=max(1, length - 1))

    def writer(self, item: Item, parameters: dict[str, Any], *, prompt: int, choice: int) -> Writer:
        return TokenWriter(self._tokenizer, item)

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> list[dict[str, Any]]:
        (answers,) = outputs
        return [self._answer(one, parameters) for one in (answers if isinstance(answers, list) else [answers])]

    def _answer(self, answer: Generated, parameters: Mapping[str, Any]) -> dict[str, Any]:
        clean_up = parameters.get("clean_up_tokenization_spaces")
        options = {} if clean_up is None else {"clean_up_tokenization_spaces": clean_up}
        text = self._tokenizer.decode(answer.tokens, skip_special_tokens=True, **options)
        told: dict[str, Any] = {self.answer_name: text}
        if parameters.get("details"):
            told["details"] = details_of(self._tokenizer, answer, parameters)
        return told


def _own_limit(config: GenerationConfig) -> int:
    """The length that the model's generation_config says, if it says one: 20 is transformers' word for nothing."""
    if config.max_new_tokens is not None:
        return int(config.max_new_tokens) + 1
    own = config.max_length
    return int(own) if own is not None and own != 20 else DEFAULT_MAX_NEW_TOKENS + 1


class SummarizationStages(Text2TextStages):
    answer_name = "summary_text"
    task_names = ("summarization",)


class TranslationStages(Text2TextStages):
    answer_name = "translation_text"
    task_names = ("translation", "translation_en_to_de")

    def _languages(self, parameters: Mapping[str, Any]) -> tuple[str, int | None]:
        source, target = parameters.get("src_lang"), parameters.get("tgt_lang")
        if hasattr(self._tokenizer, "src_lang"):
            return "", self._by_tokens(source, target)
        if self._model.config.model_type == "marian":
            return self._by_marker(source, target), None
        if source is None and target is None:
            return super()._languages(parameters)
        return self._by_words(source, target), None

    def _by_tokens(self, source: str | None, target: str | None) -> int | None:
        """mBART, M2M100, NLLB: the source is set in this thread's tokenizer, the target is the first token."""
        known = self._known_languages()
        for name, language in (("src_lang", source), ("tgt_lang", target)):
            if language is not None and language not in known:
                raise _unknown(name, language, sorted(known))
        # Set for every request: what an earlier one set would stay.
        self._encoder.tokenizer.src_lang = source or self._tokenizer.src_lang
        return None if target is None else known[target]

    def _known_languages(self) -> dict[str, int]:
        """Name -> token."""
        tokenizer: Any = self._tokenizer
        if hasattr(tokenizer, "lang_code_to_id"):
            return dict(tokenizer.lang_code_to_id)
        if hasattr(tokenizer, "lang_code_to_token"):
            return {name: tokenizer.get_lang_id(name) for name in tokenizer.lang_code_to_token}
        names = [token for token in tokenizer.all_special_tokens if "_" in token]
        return {name: tokenizer.convert_tokens_to_ids(name) for name in names}

    def _by_marker(self, source: str | None, target: str | None) -> str:
        """Marian: one pair of languages, or several targets that a token at the beginning of the text chooses."""
        known = sorted(token.strip("><") for token in self._tokenizer.get_vocab() if token.startswith(">>"))
        if target is None:
            return ""
        if not known:
            raise InvalidInput(
                "parameters.tgt_lang: this model translates between two languages; leave it out.",
                param="parameters.tgt_lang",
            )
        if target not in known:
            raise _unknown("tgt_lang", target, known)
        return f">>{target}<< "

    def _by_words(self, source: str | None, target: str | None) -> str:
        """T5: the task in words, in front."""
        known = self._known_words()
        if not known:
            name = "src_lang" if target is None else "tgt_lang"
            raise InvalidInput(
                f"parameters.{name}: this model has no languages to choose from.", param=f"parameters.{name}"
            )
        names = []
        for name, language in (("src_lang", source or "en"), ("tgt_lang", target or "de")):
            word = _T5_NAMES.get(language.split("_")[0].lower(), language)
            if word not in known:
                raise _unknown(name, language, sorted(_T5_NAMES))
            names.append(word)
        return f"translate {names[0]} to {names[1]}: "

    def _known_words(self) -> set[str]:
        is_t5 = self._model.config.model_type in ("t5", "mt5", "umt5", "longt5", "switch_transformers")
        return set(_T5_NAMES.values()) if is_t5 else set()


def _unknown(name: str, language: str, known: Sequence[str]) -> InvalidInput:
    shown = ", ".join(known[:300])
    return InvalidInput(
        f"parameters.{name}: this model does not know the language {language[:40]!r}; it knows {shown}.",
        param=f"parameters.{name}",
    )
