"""The stages of text-generation: prompts padded on the left, generated together where their options agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from app.errors import InputTooLarge, InvalidInput
from app.runtime.base import UNWATCHED, Item, Watch
from app.runtime.generation.generator import DEFAULT_MAX_NEW_TOKENS, Generated, GenerationOptions, Generator
from app.runtime.parts import OwnStages, Parts
from app.runtime.tokenizing import Encoder

_NOT_FOR_GENERATE = frozenset(
    {"return_full_text", "details", "decoder_input_details", "stop", "stop_sequence", "truncate", "best_of", "seed"}
)


@dataclass(frozen=True, slots=True)
class Prompt:
    """text: what `return_full_text` puts before the answer; messages: for a conversation."""

    ids: list[int]
    text: str
    messages: list[dict[str, Any]] | None
    options: GenerationOptions


class TextGenerationStages(OwnStages):
    """One item per prompt."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        tokenizers = parts.require_tokenizers()
        self._tokenizer = tokenizers.shared
        self._encoder = Encoder(tokenizers, None)
        self._limit = parts.limit
        self._generator = Generator(parts.model, tokenizers.shared)

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
            [self._item(ids, text, one if chat else None, parameters, f"inputs[{index}]")]
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

    def _item(
        self, ids: list[int], text: str, messages: list[dict[str, Any]] | None, parameters: dict[str, Any], param: str
    ) -> Item:
        ids = self._truncated(ids, parameters.get("truncate"))
        options = self._options(parameters, self._max_new_tokens(len(ids), parameters, param))
        return Item(Prompt(ids, text, messages, options), len(ids) + options.max_new_tokens, options.group)

    def _truncated(self, ids: list[int], truncate: int | bool | None) -> list[int]:
        """The end of the prompt matters most."""
        if truncate is True:
            most = None if self._limit is None else self._limit - 1
            return ids if most is None else ids[-most:]
        return ids[-truncate:] if truncate else ids

    def _max_new_tokens(self, num_tokens: int, parameters: dict[str, Any], param: str) -> int:
        given: int | None = parameters.get("max_new_tokens")
        if given is None and "max_length" in parameters:
            given = max(1, parameters["max_length"] - num_tokens)
        if self._limit is None:
            return given or DEFAULT_MAX_NEW_TOKENS
        if num_tokens >= self._limit:
            raise InputTooLarge(
                f"{param} has {num_tokens} tokens; the limit is {self._limit - 1}. Send truncate to have it cut.",
                param=param,
            )
        if given is not None and num_tokens + given > self._limit:
            name = "parameters.max_new_tokens"
            raise InvalidInput(
                f"{name}: the prompt's {num_tokens} tokens and {given} new ones are more than the model's"
                f" {self._limit}.",
                param=name,
            )
        return given or min(DEFAULT_MAX_NEW_TOKENS, self._limit - num_tokens)

    def _options(self, parameters: dict[str, Any], max_new_tokens: int) -> GenerationOptions:
        values = {name: value for name, value in parameters.items() if name not in _NOT_FOR_GENERATE}
        for name in ("max_length", "max_new_tokens"):
            values.pop(name, None)
        if "do_sample" not in values and any(name in values for name in ("temperature", "top_p", "top_k", "typical_p")):
            values["do_sample"] = True
        if values.get("temperature") == 0:
            values |= {"do_sample": False, "temperature": 1.0}
        best_of = parameters.get("best_of", 1)
        if best_of > 1:
            values |= {"num_return_sequences": best_of, "do_sample": True}
        self._check(values)
        return GenerationOptions(
            values=values,
            max_new_tokens=max_new_tokens,
            stop=_stops(parameters),
            seed=parameters.get("seed"),
            wants_logprobs=bool(parameters.get("details")) or best_of > 1,
        )

    def _check(self, values: dict[str, Any]) -> None:
        is_drawn = values.get("do_sample", self._model.generation_config.do_sample)
        num_answers = values.get("num_return_sequences", 1)
        if num_answers > 1 and not is_drawn and values.get("num_beams", 1) < num_answers:
            name = "parameters.num_return_sequences"
            raise InvalidInput(
                f"{name}: {num_answers} answers need do_sample or as many num_beams; without them all are the same.",
                param=name,
            )

    def forward(self, items: Sequence[Item], watch: Watch = UNWATCHED) -> list[Any]:
        """The answers to each prompt; [] where nobody waits for one."""
        prompts: list[Prompt] = [item.features for item in items]
        width = max(len(prompt.ids) for prompt in prompts)
        pad = self._tokenizer.pad_token_id or 0
        ids = torch.tensor([[pad] * (width - len(prompt.ids)) + prompt.ids for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt.ids)) + [1] * len(prompt.ids) for prompt in prompts])
        inputs = {"input_ids": ids.to(self._model.device), "attention_mask": mask.to(self._model.device)}
        return self._generator.generate(inputs, [prompt.options for prompt in prompts], watch)

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> list[dict[str, Any]]:
        (item,), (answers,) = items, outputs
        if parameters.get("best_of", 1) > 1:
            answers = sorted(answers, key=_mean_logprob, reverse=True)
            best = self._answer(item.features, answers[0], parameters)
            if parameters.get("details"):
                others = [self._sequence(item.features, one, parameters) for one in answers[1:]]
                best["details"]["best_of_sequences"] = others
            return [best]
        return [self._answer(item.features, one, parameters) for one in answers]

    def _answer(self, prompt: Prompt, generated: Generated, parameters: dict[str, Any]) -> dict[str, Any]:
        text: Any = self._tokenizer.decode(generated.tokens, skip_special_tokens=True)
        if parameters.get("return_full_text"):
            text = prompt.text + text
            if prompt.messages is not None:
                text = [*prompt.messages, {"role": "assistant", "content": text[len(prompt.text) :]}]
        answer: dict[str, Any] = {"generated_text": text}
        if parameters.get("details"):
            answer["details"] = self._details(prompt, generated, parameters)
        return answer

    def _sequence(self, prompt: Prompt, generated: Generated, parameters: dict[str, Any]) -> dict[str, Any]:
        """One of the answers that `best_of` did not choose."""
        text = self._tokenizer.decode(generated.tokens, skip_special_tokens=True)
        return {"generated_text": text, **self._details(prompt, generated, parameters)}

    def _details(self, prompt: Prompt, generated: Generated, parameters: dict[str, Any]) -> dict[str, Any]:
        """As Text Generation Inference tells them."""
        prefill = prompt.ids if parameters.get("decoder_input_details") else []
        special = set(self._tokenizer.all_special_ids)
        texts = _pieces(self._tokenizer, generated.tokens)
        return {
            "finish_reason": generated.finish_reason,
            "generated_tokens": len(generated.tokens),
            "seed": prompt.options.seed,
            "prefill": [{"id": token, "text": self._tokenizer.decode([token]), "logprob": None} for token in prefill],
            "tokens": [
                {"id": token, "text": text, "logprob": logprob, "special": token in special}
                for token, text, logprob in zip(generated.tokens, texts, generated.logprobs or [], strict=True)
            ],
        }


def _pieces(tokenizer: Any, tokens: list[int]) -> list[str]:
    """What each token adds to the text; nothing while a character is not complete.

    A few tokens before each are decoded with it: some tokenizers write a word otherwise at the start of a text.
    """
    pieces: list[str] = []
    start, done = 0, 0  # tokens[start:done] is the context of what comes
    for count in range(1, len(tokens) + 1):
        before = tokenizer.decode(tokens[start:done], skip_special_tokens=False)
        longer = tokenizer.decode(tokens[start:count], skip_special_tokens=False)
        is_cut = longer.endswith("\ufffd") and count < len(tokens)
        pieces.append("" if is_cut else longer[len(before) :])
        if not is_cut:
            start, done = done, count
    return pieces


def _stops(parameters: dict[str, Any]) -> tuple[str, ...]:
    stop = parameters.get("stop", [])
    stops = [stop] if isinstance(stop, str) else list(stop)
    if "stop_sequence" in parameters:
        stops.append(parameters["stop_sequence"])
    return tuple(stops)


def _mean_logprob(generated: Generated) -> float:
    logprobs = generated.logprobs or [0.0]
    return sum(logprobs) / len(logprobs)
