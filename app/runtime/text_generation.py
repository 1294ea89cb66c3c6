"""The stages of text-generation: how a prompt goes on, in the words of the pipelines and Text Generation Inference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from app.errors import InputTooLarge, InvalidInput
from app.runtime.base import Item
from app.runtime.generation.defaults import SamplingDefaults, end_ids_of
from app.runtime.generation.encoded import EncoderDecoder
from app.runtime.generation.request import (
    DEFAULT_MAX_NEW_TOKENS,
    Advance,
    Generated,
    GenerationRequest,
    Grammar,
    Sampling,
)
from app.runtime.generation.stages import GeneratingStages, Writer
from app.runtime.generation.writing import TokenTexts
from app.runtime.parts import Parts
from app.runtime.structure.grammars import Grammars
from app.runtime.tokenizing import Encoder
from app.tasks.completion import Alternative, Delta, Token
from app.tasks.text_generation import Grammar as GrammarParameter

BEAM_KEYS = (
    *("num_beams", "early_stopping", "length_penalty", "num_return_sequences", "do_sample", "temperature", "top_k"),
    *("top_p", "repetition_penalty", "no_repeat_ngram_size", "min_new_tokens", "min_length"),
)
"""Keywords that `generate` is given for a beam search."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """text: what `return_full_text` puts before the answer; messages: for a conversation."""

    text: str
    messages: list[dict[str, Any]] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptedRequest(GenerationRequest):
    source: Prompt


class TextGenerationStages(GeneratingStages):
    """One item per answer: `num_return_sequences` or `best_of` of them for each prompt; a beam search is one."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        tokenizers = parts.require_tokenizers()
        self._tokenizer = tokenizers.shared
        self._encoder = Encoder(tokenizers, None)
        self._limit = parts.max_length
        self._encoded = EncoderDecoder(parts.model) if parts.model.config.is_encoder_decoder else None
        # A decoder is to have room for one token more.
        self._longest_prompt = self._limit if self._limit is None or self._encoded is not None else self._limit - 1
        self._defaults = SamplingDefaults(parts.model.generation_config)

    def release(self) -> None:
        """Hand the tokenizer on: these stages are not used any more."""
        self._encoder.release()

    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        rendered = [self._render(one, f"inputs[{index}]") for index, one in enumerate(inputs)]
        # A chat template writes the special tokens itself.
        is_chat = [isinstance(one, list) for one in inputs]
        rows: list[list[int]] = [[] for _ in inputs]
        for with_special in (True, False):
            chosen = [index for index, chat in enumerate(is_chat) if chat is not with_special]
            if chosen:
                texts = [rendered[index] for index in chosen]
                encoded = self._encoder.encode(texts, owners=chosen, add_special_tokens=with_special)
                for index, row in zip(chosen, encoded, strict=True):
                    rows[index] = row["input_ids"]
        return [
            self._items(ids, Prompt(text, one if chat else None), parameters, f"inputs[{index}]")
            for index, (ids, text, one, chat) in enumerate(zip(rows, rendered, inputs, is_chat, strict=True))
        ]

    def _render(self, one_input: Any, param: str) -> str:
        if isinstance(one_input, str):
            return one_input
        if not self._tokenizer.chat_template:
            raise InvalidInput(f"{param}: this model has no chat template; send a text.", param=param)
        try:
            text: str = self._tokenizer.apply_chat_template(one_input, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # a template is a program of the model's, which may raise anything
            raise InvalidInput(f"{param}: the model's chat template refuses it: {error}", param=param) from error
        return text

    def _items(self, ids: list[int], source: Prompt, parameters: Mapping[str, Any], param: str) -> list[Item]:
        ids = self._truncated(ids, parameters.get("truncate"))
        max_tokens = self._max_tokens(len(ids), parameters, param)
        num_answers = max(parameters.get("best_of", 1), parameters.get("num_return_sequences", 1))
        beams = self._beams(parameters)
        sampling = self._sampling(parameters)
        if num_answers > 1 and sampling.is_greedy and beams.get("num_beams", 1) < num_answers:
            name = "parameters.num_return_sequences"
            raise InvalidInput(
                f"{name}: {num_answers} answers need do_sample or as many num_beams; without them all are the same.",
                param=name,
            )
        if self._encoded is None:
            asked: dict[str, Any] = {"prompt": ids, "max_tokens": max_tokens}
        else:
            asked = self._encoded.fields(ids, max_tokens)
        requests = [
            PromptedRequest(
                **asked,
                sampling=sampling.of_choice(index),
                min_tokens=self._min_tokens(len(ids), parameters),
                stops=stops_of(parameters),
                grammar=self._grammar(parameters),
                values=beams,
                source=source,
            )
            for index in range(1 if beams else num_answers)
        ]
        return [Item(request, len(ids)) for request in requests]

    @cached_property
    def _grammars(self) -> Grammars:
        end_ids = end_ids_of(self._model, self._tokenizer)
        return Grammars(self._tokenizer, vocabulary_size=self._parts.vocabulary_size, end_ids=end_ids)

    def _grammar(self, parameters: Mapping[str, Any]) -> Grammar | None:
        given = parameters.get("grammar")
        if given is None:
            return None
        structure = GrammarParameter.model_validate(given).structure()
        return self._grammars.compile(structure, param="parameters.grammar")

    def _truncated(self, ids: list[int], truncate: int | bool | None) -> list[int]:
        """The end of the prompt matters most."""
        if truncate is True:
            return ids if self._longest_prompt is None else ids[-self._longest_prompt :]
        return ids[-truncate:] if truncate else ids

    def _max_tokens(self, num_tokens: int, parameters: Mapping[str, Any], param: str) -> int:
        given: int | None = parameters.get("max_new_tokens")
        if given is None and "max_length" in parameters:
            given = max(1, parameters["max_length"] - self._num_begun(num_tokens))
        if self._longest_prompt is not None and num_tokens > self._longest_prompt:
            raise InputTooLarge(
                f"{param} has {num_tokens} tokens; the limit is {self._longest_prompt}. Send truncate to have it cut.",
                param=param,
            )
        name = "parameters.max_new_tokens"
        if self._encoded is not None:
            return self._encoded.max_tokens(given, name, default=DEFAULT_MAX_NEW_TOKENS)
        if self._limit is None:
            return given or DEFAULT_MAX_NEW_TOKENS
        if given is not None and num_tokens + given > self._limit:
            raise InvalidInput(
                f"{name}: the prompt's {num_tokens} tokens and {given} new ones are more than the model's"
                f" {self._limit}.",
                param=name,
            )
        return given or min(DEFAULT_MAX_NEW_TOKENS, self._limit - num_tokens)

    def _num_begun(self, num_tokens: int) -> int:
        """Tokens that stand before the first new one. num_tokens: the prompt's."""
        return num_tokens if self._encoded is None else 1

    def _min_tokens(self, num_tokens: int, parameters: Mapping[str, Any]) -> int:
        if "min_new_tokens" in parameters:
            return int(parameters["min_new_tokens"])
        return max(0, int(parameters.get("min_length", 0)) - self._num_begun(num_tokens))

    def _beams(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Keywords of a beam search, if one is asked for."""
        if parameters.get("num_beams", 1) <= 1:
            return {}
        return {name: parameters[name] for name in BEAM_KEYS if name in parameters}

    def _sampling(self, parameters: Mapping[str, Any]) -> Sampling:
        draws = any(name in parameters for name in ("temperature", "top_p", "top_k", "typical_p"))
        do_sample = parameters.get("do_sample", True if draws or parameters.get("best_of", 1) > 1 else None)
        wants_logprobs = bool(parameters.get("details")) or parameters.get("best_of", 1) > 1
        prompt = 0 if parameters.get("decoder_input_details") else None
        if prompt is not None and self._encoded is not None:
            name = "parameters.decoder_input_details"
            raise InvalidInput(f"{name}: this model reads its prompt in an encoder, which ranks no tokens.", param=name)
        return self._defaults.sampling(
            do_sample=do_sample,
            temperature=parameters.get("temperature"),
            top_k=parameters.get("top_k"),
            top_p=parameters.get("top_p"),
            typical_p=parameters.get("typical_p"),
            epsilon_cutoff=parameters.get("epsilon_cutoff"),
            eta_cutoff=parameters.get("eta_cutoff"),
            repetition_penalty=parameters.get("repetition_penalty"),
            frequency_penalty=parameters.get("frequency_penalty"),
            no_repeat_ngram_size=parameters.get("no_repeat_ngram_size"),
            seed=parameters.get("seed"),
            num_logprobs=parameters.get("top_n_tokens", 0) if wants_logprobs else None,
            num_prompt_logprobs=prompt,
        )

    def writer(self, item: Item, parameters: dict[str, Any], *, prompt: int, choice: int) -> Writer:
        return TokenWriter(self._tokenizer, item)

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> list[dict[str, Any]]:
        request: PromptedRequest = items[0].features
        answers = outputs[0] if request.values else outputs
        if parameters.get("best_of", 1) > 1:
            answers = sorted(answers, key=_mean_logprob, reverse=True)
            best = self._answer(request, answers[0], parameters)
            if parameters.get("details"):
                others = [self._sequence(one, parameters) for one in answers[1:]]
                best["details"]["best_of_sequences"] = others
            return [best]
        return [self._answer(request, one, parameters) for one in answers]

    def _answer(self, request: PromptedRequest, generated: Generated, parameters: Mapping[str, Any]) -> dict[str, Any]:
        text: Any = self._tokenizer.decode(generated.tokens, skip_special_tokens=True)
        source = request.source
        if parameters.get("return_full_text"):
            text = source.text + text
            if source.messages is not None:
                text = [*source.messages, {"role": "assistant", "content": text[len(source.text) :]}]
        answer: dict[str, Any] = {"generated_text": text}
        if parameters.get("details"):
            answer["details"] = details_of(self._tokenizer, generated, parameters)
        return answer

    def _sequence(self, generated: Generated, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """One of the answers that `best_of` did not choose."""
        text = self._tokenizer.decode(generated.tokens, skip_special_tokens=True)
        return {"generated_text": text, **details_of(self._tokenizer, generated, parameters)}


def details_of(tokenizer: Any, generated: Generated, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """As Text Generation Inference tells them."""
    special = set(tokenizer.all_special_ids)
    texts = pieces_of(tokenizer, generated.tokens)
    details: dict[str, Any] = {
        "finish_reason": generated.finish_reason,
        "generated_tokens": len(generated.tokens),
        "seed": generated.seed,
        "prefill": [
            {"id": one.token, "text": tokenizer.decode([one.token]), "logprob": one.logprob}
            for one in generated.prompt_ranked or ()
        ],
        "tokens": [
            {"id": token, "text": text, "logprob": logprob, "special": token in special}
            for token, text, logprob in zip(generated.tokens, texts, generated.logprobs or [], strict=True)
        ],
    }
    if parameters.get("top_n_tokens"):
        details["top_tokens"] = [
            [
                {"id": token, "text": tokenizer.decode([token]), "logprob": logprob, "special": token in special}
                for token, logprob in one.top
            ]
            for one in generated.ranked or ()
        ]
    return details


def pieces_of(tokenizer: Any, tokens: Sequence[int]) -> list[str]:
    """What each token adds to the text."""
    texts = TokenTexts(tokenizer)
    return [texts.of(token, is_last=place + 1 == len(tokens)) for place, token in enumerate(tokens)]


class TokenWriter:
    """One `Token` for each token that is generated."""

    def __init__(self, tokenizer: Any, item: Item) -> None:
        self._tokenizer = tokenizer
        self._texts = TokenTexts(tokenizer)
        self._special = frozenset(tokenizer.all_special_ids)
        self._num_prompt = item.cost
        self._num_tokens = 0

    def write(self, advances: Sequence[Advance]) -> Delta | None:
        searched = advances[-1].output
        if isinstance(searched, list):  # a beam search: all its tokens are certain at once
            best: Generated = searched[0]
            advances = [Advance(advances[-1].key, best.tokens, best.ranked or (), output=best)]
        tokens = [token for advance in advances for token in self._tokens(advance)]
        self._num_tokens += len(tokens)
        output: Generated | None = advances[-1].output
        return Delta(
            tokens=tuple(tokens),
            num_tokens=self._num_tokens,
            num_prompt_tokens=self._num_prompt,
            num_cached_tokens=advances[-1].num_cached,
            finish_reason=None if output is None else output.finish_reason,
        )

    def _tokens(self, advance: Advance) -> list[Token]:
        last = len(advance.tokens) - 1 if advance.is_last else None
        return [
            Token(
                id=token,
                text=self._texts.of(token, is_last=place == last),
                logprob=ranked.logprob,
                is_special=token in self._special,
                top=tuple(alternative_of(self._tokenizer, *one) for one in ranked.top),
            )
            for place, (token, ranked) in enumerate(zip(advance.tokens, advance.ranked, strict=True))
        ]


def alternative_of(tokenizer: Any, token: int, logprob: float) -> Alternative:
    return Alternative(token, tokenizer.decode([token]), logprob)


def stops_of(parameters: Mapping[str, Any]) -> tuple[str, ...]:
    stop = parameters.get("stop", [])
    stops = [stop] if isinstance(stop, str) else list(stop)
    if "stop_sequence" in parameters:
        stops.append(parameters["stop_sequence"])
    return tuple(stops)


def _mean_logprob(generated: Generated) -> float:
    logprobs = generated.logprobs or [0.0]
    return sum(logprobs) / len(logprobs)
