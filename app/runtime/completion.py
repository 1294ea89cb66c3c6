"""The stages of completion: a prompt or a chat goes on, in the words of OpenAI's API."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec

from app.errors import InputTooLarge, InvalidInput, NotAvailable
from app.runtime.base import Item
from app.runtime.chat.format import OutputParser, Parsed, TemplateParser
from app.runtime.chat.reading import ChatReader
from app.runtime.generation.defaults import SamplingDefaults, end_ids_of
from app.runtime.generation.encoded import EncoderDecoder
from app.runtime.generation.request import (
    DEFAULT_MAX_NEW_TOKENS,
    Advance,
    Generated,
    GenerationRequest,
    Grammar,
    Ranked,
    Sampling,
)
from app.runtime.generation.stages import GeneratingStages, Writer
from app.runtime.generation.writing import TextWriter, TokenTexts, bytes_of
from app.runtime.multimodal.files import has_files
from app.runtime.parts import Parts, tokenizer_of
from app.runtime.stacking import shape_of
from app.runtime.structure.grammars import Grammars
from app.runtime.tokenizing import check_tokens
from app.tasks.completion import Alternative, Choice, Completion, Delta, Token

MODEL_MAX_BAD_WORD_TOKENS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRequest(GenerationRequest):
    """chat: the input of a chat; None for a bare prompt. text: the prompt's, with `echo`. opens_reasoning: the prompt
    ends within the model's thoughts."""

    chat: Mapping[str, Any] | None = None
    text: str | None = None
    opens_reasoning: bool = False


class CompletionStages(GeneratingStages):
    """One item per choice: `best_of` or `n` of them for each input."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        if parts.engine is None:
            raise NotAvailable("This model generates no text.")
        self._tokenizer = tokenizer_of(parts)
        self._chats = ChatReader(parts)
        self._max_length = parts.max_length
        self._defaults = SamplingDefaults(parts.model.generation_config)
        is_encoded = parts.processor is None and parts.model.config.is_encoder_decoder
        self._encoder_decoder = EncoderDecoder(parts.model) if is_encoded else None

    @cached_property
    def _own(self) -> Any:
        """A tokenizer of this thread: encoding sets truncation and padding inside it."""
        return copy.deepcopy(self._tokenizer)

    @cached_property
    def _special(self) -> frozenset[int]:
        return frozenset(self._tokenizer.all_special_ids)

    @cached_property
    def _end_ids(self) -> frozenset[int]:
        return frozenset(end_ids_of(self._model, self._tokenizer))

    @cached_property
    def _grammars(self) -> Grammars:
        return Grammars(
            self._tokenizer,
            vocabulary_size=self._parts.vocabulary_size,
            end_ids=end_ids_of(self._model, self._tokenizer),
        )

    # Prepare

    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        return [self._items(one, parameters, f"inputs[{index}]") for index, one in enumerate(inputs)]

    def _items(self, one_input: Mapping[str, Any], parameters: Mapping[str, Any], param: str) -> list[Item]:
        chat = one_input if "messages" in one_input else None
        if chat is not None and "plain_prompt" in chat and not self._chats.format.has_template:
            one_input, chat = {"prompt": chat["plain_prompt"]}, None
        row: Mapping[str, Any] | None = None
        text: str | None = None
        if chat is not None and has_files(chat["messages"]):
            row = self._chats.row(chat, param)
            ids = row["input_ids"][0].tolist()
        elif chat is not None:
            text = self._chats.format.render(chat, param=f"{param}.messages")
            ids = self._encoded(text, bool(chat.get("add_special_tokens")), param)
        else:
            ids = self._prompt_ids(one_input, f"{param}.prompt")
        ids = self._truncated(ids, parameters)
        max_tokens = self._max_tokens(len(ids), parameters, f"{param}.messages" if chat else f"{param}.prompt")
        sampling = self._sampling(parameters)
        stop_ids = frozenset(self._checked_ids(parameters.get("stop_token_ids", ()), "parameters.stop_token_ids"))
        asked: dict[str, Any] = {"prompt": ids, "max_tokens": max_tokens}
        if self._encoder_decoder is not None:
            asked = self._encoder_decoder.fields(ids, max_tokens)
        num_choices = max(parameters.get("n", 1), parameters.get("best_of", 1))
        requests = [
            CompletionRequest(
                **asked,
                sampling=sampling.of_choice(index),
                min_tokens=parameters.get("min_tokens", 0),
                stops=tuple(parameters.get("stop", ())),
                stop_ids=stop_ids,
                ignores_eos=bool(parameters.get("ignore_eos")),
                grammar=self._grammar(chat, parameters),
                inputs=row,
                group=None if row is None else shape_of(row),
                chat=chat,
                text=self._tokenizer.decode(ids) if parameters.get("echo") else None,
                opens_reasoning=text is not None and self._chats.format.opens_reasoning(text),
            )
            for index in range(num_choices)
        ]
        return [Item(request, len(ids)) for request in requests]

    def _prompt_ids(self, one_input: Mapping[str, Any], param: str) -> list[int]:
        if one_input.get("suffix"):
            name = param.replace("prompt", "suffix")
            raise InvalidInput(f"{name}: this model does not fill in between two texts.", param=name)
        prompt = one_input["prompt"]
        if isinstance(prompt, str):
            return self._encoded(prompt, one_input.get("add_special_tokens") is not False, param)
        if not prompt:
            raise InvalidInput(f"{param} must not be empty.", param=param)
        return self._checked_ids(prompt, param)

    def _encoded(self, text: str, with_special: bool, param: str) -> list[int]:
        ids: list[int] = self._own(text, add_special_tokens=with_special, verbose=False)["input_ids"]
        if not ids:
            raise InvalidInput(f"{param} holds nothing that the model's tokenizer knows.", param=param)
        return ids

    def _checked_ids(self, ids: Sequence[int], param: str) -> list[int]:
        check_tokens(ids, self._parts.vocabulary_size, param)
        return list(ids)

    def _truncated(self, ids: list[int], parameters: Mapping[str, Any]) -> list[int]:
        """The end of the prompt matters most."""
        most = parameters.get("truncate_prompt_tokens")
        if most == -1:
            most = None if self._max_length is None else self._max_length - 1
        return ids if most is None or len(ids) <= most else ids[len(ids) - most :] or ids[-1:]

    def _max_tokens(self, num_tokens: int, parameters: Mapping[str, Any], param: str) -> int:
        given: int | None = parameters.get("max_tokens")
        limit = self._max_length
        if self._encoder_decoder is not None:
            return self._max_tokens_encoded(num_tokens, given, parameters, param)
        if limit is None:
            return 2**20 if given is None else given
        if num_tokens >= limit + (given == 0):
            raise InputTooLarge(
                f"{param} has {num_tokens} tokens; this model's context is {limit} tokens, its answer included.",
                param=param,
            )
        room = limit - num_tokens
        if given is not None and given > room and not parameters.get("clip_max_tokens"):
            raise InputTooLarge(
                f"parameters.max_tokens: {given} tokens and the prompt's {num_tokens} are {num_tokens + given}; this"
                f" model's context is {limit} tokens.",
                param="parameters.max_tokens",
            )
        return room if given is None else min(given, room)

    def _max_tokens_encoded(self, num_tokens: int, given: int | None, parameters: Mapping[str, Any], param: str) -> int:
        """Prompt and answer have a limit each."""
        assert self._encoder_decoder is not None
        if self._max_length is not None and num_tokens > self._max_length:
            raise InputTooLarge(
                f"{param} has {num_tokens} tokens; this model reads {self._max_length} at most.", param=param
            )
        longest = self._encoder_decoder.longest
        if given is not None and longest is not None and parameters.get("clip_max_tokens"):
            given = min(given, longest)
        default = DEFAULT_MAX_NEW_TOKENS if longest is None else longest
        return self._encoder_decoder.max_tokens(given, "parameters.max_tokens", default=default)

    def _sampling(self, parameters: Mapping[str, Any]) -> Sampling:
        wants_logprobs = parameters.get("logprobs") or parameters.get("best_of", 1) > parameters.get("n", 1)
        prompt_logprobs = parameters.get("prompt_logprobs")
        if prompt_logprobs is None and parameters.get("echo") and parameters.get("logprobs"):
            prompt_logprobs = parameters.get("top_logprobs", 0)
        if prompt_logprobs is not None and self._encoder_decoder is not None:
            name = "parameters.prompt_logprobs" if "prompt_logprobs" in parameters else "parameters.echo"
            raise InvalidInput(f"{name}: this model reads its prompt in an encoder, which ranks no tokens.", param=name)
        top_k = parameters.get("top_k")
        allowed = self._checked_ids(parameters.get("allowed_token_ids", ()), "parameters.allowed_token_ids")
        return self._defaults.sampling(
            do_sample=True,
            temperature=parameters.get("temperature"),
            top_p=parameters.get("top_p"),
            top_k=None if top_k is None else max(0, top_k),
            min_p=parameters.get("min_p"),
            typical_p=parameters.get("typical_p"),
            seed=None if parameters.get("seed") is None else parameters["seed"] % 2**63,
            repetition_penalty=parameters.get("repetition_penalty"),
            presence_penalty=parameters.get("presence_penalty"),
            frequency_penalty=parameters.get("frequency_penalty"),
            bias=self._bias(parameters.get("logit_bias", {})),
            allowed=tuple(allowed),
            banned_runs=self._banned(parameters.get("bad_words", ())),
            num_logprobs=parameters.get("top_logprobs", 0) if wants_logprobs else None,
            num_prompt_logprobs=prompt_logprobs,
        )

    def _bias(self, given: Mapping[str, float]) -> tuple[tuple[int, float], ...]:
        param = "parameters.logit_bias"
        for name in given:
            if not name.isdecimal():
                raise InvalidInput(f'{param}: "{name[:32]}" is not the id of a token.', param=param)
        self._checked_ids([int(name) for name in given], param)
        return tuple((int(name), float(value)) for name, value in given.items())

    def _banned(self, words: Sequence[str]) -> tuple[tuple[int, ...], ...]:
        """Each at the start of a text and after a space: many tokenizers write these otherwise."""
        runs = []
        for word in words:
            for text in (word, f" {word.lstrip()}"):
                run = tuple(self._own(text, add_special_tokens=False, verbose=False)["input_ids"])
                if 0 < len(run) <= MODEL_MAX_BAD_WORD_TOKENS:
                    runs.append(run)
        return tuple(dict.fromkeys(runs))

    def _grammar(self, chat: Mapping[str, Any] | None, parameters: Mapping[str, Any]) -> Grammar | None:
        structure = parameters.get("structure")
        of_tools = None if chat is None else self._chats.format.structure_for(chat)
        if structure is not None and of_tools is not None:
            param = "parameters.structure"
            raise InvalidInput(f"{param}: a call of a tool is required, so the answer is no other text.", param=param)
        if structure is not None:
            return self._grammars.compile(structure, param="parameters.structure")
        if chat is None:
            return None
        if of_tools is None:
            of_tools = self._chats.format.structure_of_strict(chat)
            if of_tools is None or not self._grammars.is_available:
                return None
        for index, schema in self._chats.format.schemas_of_calls(chat):
            param = f"inputs.tools[{index}].function.parameters"
            self._grammars.compile({"kind": "json_schema", "value": schema}, param=param)
        return self._grammars.compile(of_tools, param="inputs.tools")

    # While it comes

    def writer(self, item: Item, parameters: dict[str, Any], *, prompt: int, choice: int) -> Writer:
        return _ChoiceWriter(self, item.features, parameters, prompt, choice)

    def text_writer(self, request: CompletionRequest, parameters: Mapping[str, Any]) -> TextWriter:
        markers: frozenset[int] = frozenset()
        if request.chat is not None:
            markers = self._chats.format.markers(request.chat) - self._end_ids
        return TextWriter(
            self._tokenizer,
            stops=request.stops,
            keeps_stop=bool(parameters.get("include_stop_str_in_output")),
            skips_special=parameters.get("skip_special_tokens") is not False,
            markers=markers,
        )

    def parser(self, request: CompletionRequest) -> OutputParser | TemplateParser | None:
        if request.chat is None:
            return None
        return self._chats.format.parser(request.chat, request.prompt, opens_reasoning=request.opens_reasoning)

    def token(self, ranked: Ranked, text: str) -> Token:
        top = tuple(self._alternative(token, logprob) for token, logprob in ranked.top)
        return Token(
            id=ranked.token,
            text=text,
            logprob=ranked.logprob,
            is_special=ranked.token in self._special,
            top=top,
            data=bytes_of(self._tokenizer, ranked.token) if _is_partial(text) else None,
        )

    def _alternative(self, token: int, logprob: float) -> Alternative:
        text = self._tokenizer.decode([token])
        return Alternative(token, text, logprob, bytes_of(self._tokenizer, token) if _is_partial(text) else None)

    # Finish

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> dict[str, Any]:
        generated: list[Generated] = list(outputs)
        request: CompletionRequest = items[0].features
        choices = [self._choice(item.features, one, parameters) for item, one in zip(items, generated, strict=True)]
        wanted = parameters.get("n", 1)
        if len(choices) > wanted:
            order = sorted(range(len(choices)), key=lambda index: _mean_logprob(generated[index]), reverse=True)
            choices = [choices[index] for index in order[:wanted]]
        completion = Completion(
            choices=tuple(choices),
            num_prompt_tokens=generated[0].num_prompt,
            num_cached_tokens=generated[0].num_cached,
            num_tokens=sum(len(one.tokens) for one in generated),
            prompt_tokens=self._prompt_tokens(request, generated[0], parameters),
            prompt_text=request.text,
        )
        builtins: dict[str, Any] = msgspec.to_builtins(completion)
        return builtins

    def _prompt_tokens(
        self, request: CompletionRequest, generated: Generated, parameters: Mapping[str, Any]
    ) -> tuple[Token, ...] | None:
        ranked = generated.prompt_ranked
        if ranked is None and parameters.get("return_token_ids"):
            ranked = [Ranked(token) for token in request.read or request.prompt]
        if ranked is None:
            return None
        texts = TokenTexts(self._tokenizer)
        last = len(ranked) - 1
        return tuple(self.token(one, texts.of(one.token, is_last=place == last)) for place, one in enumerate(ranked))

    def _choice(self, request: CompletionRequest, generated: Generated, parameters: Mapping[str, Any]) -> Choice:
        writer, parser = self.text_writer(request, parameters), self.parser(request)
        text = writer.write(_written(generated.tokens, generated.stop_reason, parameters))
        text += writer.end(generated.stop_reason if isinstance(generated.stop_reason, str) else None)
        parsed = Parsed(text=text) if parser is None else parser.feed(text) + parser.finish()
        tokens: tuple[Token, ...] = ()
        if _wants_tokens(parameters):
            texts = TokenTexts(self._tokenizer)
            last = len(generated.tokens) - 1
            ranked = generated.ranked or [Ranked(token) for token in generated.tokens]
            tokens = tuple(
                self.token(one, texts.of(one.token, is_last=place == last)) for place, one in enumerate(ranked)
            )
        return Choice(
            text=parsed.text,
            finish_reason=finish_reason_of(generated.finish_reason, bool(parsed.tool_calls)),
            reasoning=parsed.reasoning,
            tool_calls=parsed.tool_calls,
            tokens=tokens,
            num_tokens=len(generated.tokens),
            num_reasoning_tokens=self.num_reasoning_tokens(parsed.reasoning),
            stop_reason=generated.stop_reason,
            cumulative_logprob=None if generated.logprobs is None else sum(generated.logprobs),
            seed=generated.seed,
        )

    def num_reasoning_tokens(self, reasoning: str) -> int:
        return len(self._tokenizer.encode(reasoning, add_special_tokens=False)) if reasoning else 0


class _ChoiceWriter:
    """Writes one choice as the client of a stream reads it."""

    def __init__(
        self,
        stages: CompletionStages,
        request: CompletionRequest,
        parameters: Mapping[str, Any],
        prompt: int,
        choice: int,
    ) -> None:
        self._stages = stages
        self._parameters = parameters
        self._prompt, self._choice = prompt, choice
        self._num_prompt = request.num_prompt_tokens
        self._writer = stages.text_writer(request, parameters)
        self._parser = stages.parser(request)
        self._texts = TokenTexts(stages._tokenizer) if _wants_tokens(parameters) else None
        self._num_tokens = 0
        self._reasoning = ""
        self._has_called = False

    def write(self, advances: Sequence[Advance]) -> Delta | None:
        last = advances[-1]
        output: Generated | None = last.output
        tokens = [token for advance in advances for token in advance.tokens]
        self._num_tokens += len(tokens)
        parsed = self._parsed(tokens, output)
        self._reasoning += parsed.reasoning
        self._has_called = self._has_called or bool(parsed.tool_calls)
        told = self._told(advances)
        if output is None and not told and parsed.is_empty:
            return None
        return Delta(
            prompt=self._prompt,
            choice=self._choice,
            text=parsed.text,
            reasoning=parsed.reasoning,
            tool_calls=parsed.tool_calls,
            tokens=told,
            num_tokens=self._num_tokens,
            num_reasoning_tokens=0 if output is None else self._stages.num_reasoning_tokens(self._reasoning),
            num_prompt_tokens=self._num_prompt,
            num_cached_tokens=last.num_cached,
            finish_reason=None if output is None else finish_reason_of(output.finish_reason, self._has_called),
            stop_reason=None if output is None else output.stop_reason,
        )

    def _parsed(self, tokens: list[int], output: Generated | None) -> Parsed:
        if output is not None:
            tokens = _written(tokens, output.stop_reason, self._parameters)
        text = self._writer.write(tokens)
        if output is not None:
            text += self._writer.end(output.stop_reason if isinstance(output.stop_reason, str) else None)
        if self._parser is None:
            return Parsed(text=text)
        parsed = self._parser.feed(text)
        return parsed if output is None else parsed + self._parser.finish()

    def _told(self, advances: Sequence[Advance]) -> tuple[Token, ...]:
        if self._texts is None:
            return ()
        told = []
        for advance in advances:
            ranked = advance.ranked or [Ranked(token) for token in advance.tokens]
            told += [self._stages.token(one, self._texts.of(one.token, is_last=advance.is_last)) for one in ranked]
        return tuple(told)


def _written(tokens: Sequence[int], stop: str | int | None, parameters: Mapping[str, Any]) -> list[int]:
    """Those that are a part of the text: a stop token is none."""
    is_stop = isinstance(stop, int) and bool(tokens) and not parameters.get("include_stop_str_in_output")
    return list(tokens[:-1] if is_stop else tokens)


def _wants_tokens(parameters: Mapping[str, Any]) -> bool:
    return bool(parameters.get("logprobs") or parameters.get("return_token_ids"))


def _is_partial(text: str) -> bool:
    return not text or "\ufffd" in text


def finish_reason_of(reason: str, has_called: bool) -> str:
    """As OpenAI says it."""
    if reason == "length":
        return "length"
    return "tool_calls" if has_called else "stop"


def _mean_logprob(generated: Generated) -> float:
    logprobs = generated.logprobs or [0.0]
    return sum(logprobs) / len(logprobs)
