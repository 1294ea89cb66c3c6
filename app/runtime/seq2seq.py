"""text2text-generation, summarization and translation, which transformers 5 no longer has: on AutoModelForSeq2SeqLM.

As the pipelines of transformers 4.57 did it: the prefix of `task_specific_params` before the text (T5), the tokenizer's
source language and the target language as the first token (mBART, M2M100, NLLB), `>>xx<<` before the text (Marian).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from app.errors import InvalidInput
from app.runtime.base import UNWATCHED, Item, Watch
from app.runtime.collating import Collator
from app.runtime.generation.generator import DEFAULT_MAX_NEW_TOKENS, Generated, GenerationOptions, Generator
from app.runtime.parts import OwnStages, Parts
from app.runtime.tokenizing import Encoder, Row

_NOT_FOR_GENERATE = frozenset(
    {"truncate", "clean_up_tokenization_spaces", "seed", "max_new_tokens", "max_length", "src_lang", "tgt_lang"}
)
_T5_NAMES = {"en": "English", "de": "German", "fr": "French", "ro": "Romanian"}


@dataclass(frozen=True, slots=True)
class Source:
    inputs: Row
    options: GenerationOptions


class Text2TextStages(OwnStages):
    """One item per text."""

    answer_name: ClassVar[str] = "generated_text"
    task_names: ClassVar[tuple[str, ...]] = ()
    """Whose `task_specific_params` of the model's config hold, the first that is there."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        tokenizers = parts.require_tokenizers()
        self._tokenizer = tokenizers.shared
        self._encoder = Encoder(tokenizers, parts.limit)
        self._collator = Collator(parts.model, tokenizers.shared)
        self._generator = Generator(parts.model, tokenizers.shared)
        specific = getattr(parts.model.config, "task_specific_params", None) or {}
        self._specific: dict[str, Any] = next((specific[one] for one in self.task_names if one in specific), {})

    def release(self) -> None:
        """Hand the tokenizer on: these stages are not used any more."""
        self._encoder.release()

    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        prefix, forced = self._languages(parameters)
        options = self._options(parameters, forced)
        texts = [prefix + text for text in inputs]
        rows = self._encoder.encode(texts, truncate=parameters.get("truncate") is True)
        return [
            [
                Item(
                    Source({name: row[name] for name in row if self._is_input(name)}, options),
                    len(row["input_ids"]) + options.max_new_tokens,
                    options.group,
                )
            ]
            for row in rows
        ]

    def _is_input(self, name: str) -> bool:
        """A decoder has no token types, though some tokenizers make them."""
        return name != "token_type_ids" and self._collator.is_model_input(name)

    def _languages(self, parameters: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """What goes before each text, and what `generate` is told."""
        return self._specific.get("prefix", ""), {}

    def _options(self, parameters: Mapping[str, Any], forced: Mapping[str, Any]) -> GenerationOptions:
        specific = {name: value for name, value in self._specific.items() if name != "prefix"}
        given = {name: value for name, value in parameters.items() if name not in _NOT_FOR_GENERATE}
        if given.get("temperature") == 0:
            given |= {"do_sample": False, "temperature": 1.0}
        limit = self._max_new_tokens(parameters, specific)
        values = {name: value for name, value in {**specific, **given, **forced}.items() if name != "max_length"}
        return GenerationOptions(
            values=values,
            max_new_tokens=limit,
            seed=parameters.get("seed"),
            depends_on_length=self._model.generation_config.forced_eos_token_id is not None,
        )

    def _max_new_tokens(self, parameters: Mapping[str, Any], specific: Mapping[str, Any]) -> int:
        """No more than the decoder has positions for, its start token aside. Raises InvalidInput for more."""
        positions = getattr(self._model.config, "max_position_embeddings", None)
        given = parameters.get("max_new_tokens")
        if given is None and "max_length" in parameters:
            given = max(1, parameters["max_length"] - 1)  # the start token counts there
        if given is not None and positions is not None and given >= positions:
            name = "parameters.max_new_tokens" if "max_new_tokens" in parameters else "parameters.max_length"
            raise InvalidInput(f"{name}: this model writes {positions - 1} tokens at most.", param=name)
        own: int = given or max(1, (specific.get("max_length") or self._own_max_length()) - 1)
        return own if positions is None else min(own, positions - 1)

    def _own_max_length(self) -> int:
        """What the model's generation_config says, if it says anything: 20 is transformers' word for nothing."""
        config = self._model.generation_config
        if config.max_new_tokens is not None:
            return int(config.max_new_tokens) + 1
        own = config.max_length
        return int(own) if own is not None and own != 20 else DEFAULT_MAX_NEW_TOKENS + 1

    def forward(self, items: Sequence[Item], watch: Watch = UNWATCHED) -> list[Any]:
        """The answers to each text; [] where nobody waits for one."""
        sources: list[Source] = [item.features for item in items]
        inputs = self._collator.collate([source.inputs for source in sources])
        inputs.pop("use_cache", None)
        return self._generator.generate(inputs, [source.options for source in sources], watch)

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> list[dict[str, Any]]:
        (answers,) = outputs
        clean_up = parameters.get("clean_up_tokenization_spaces")
        return [{self.answer_name: self._text(answer, clean_up)} for answer in answers]

    def _text(self, answer: Generated, clean_up: bool | None) -> str:
        options = {} if clean_up is None else {"clean_up_tokenization_spaces": clean_up}
        text: str = self._tokenizer.decode(answer.tokens, skip_special_tokens=True, **options)
        return text


class SummarizationStages(Text2TextStages):
    answer_name = "summary_text"
    task_names = ("summarization",)


class TranslationStages(Text2TextStages):
    answer_name = "translation_text"
    task_names = ("translation", "translation_en_to_de")

    def _languages(self, parameters: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        source, target = parameters.get("src_lang"), parameters.get("tgt_lang")
        if hasattr(self._tokenizer, "src_lang"):
            return "", self._by_tokens(source, target)
        if self._model.config.model_type == "marian":
            return self._by_marker(source, target), {}
        if source is None and target is None:
            return super()._languages(parameters)
        return self._by_words(source, target), {}

    def _by_tokens(self, source: str | None, target: str | None) -> dict[str, Any]:
        """mBART, M2M100, NLLB: the source is set in this thread's tokenizer, the target is the first token."""
        known = self._known_languages()
        for name, language in (("src_lang", source), ("tgt_lang", target)):
            if language is not None and language not in known:
                raise _unknown(name, language, sorted(known))
        # Set for every request: what an earlier one set would stay.
        self._encoder.tokenizer.src_lang = source or self._tokenizer.src_lang
        return {} if target is None else {"forced_bos_token_id": known[target]}

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
