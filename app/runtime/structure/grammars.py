"""Structures (a JSON schema, a regular expression, ...) compiled by llguidance for one tokenizer."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import llguidance.hf
import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from transformers import PreTrainedTokenizerBase

from app.errors import InvalidInput, NotAvailable
from app.runtime.structure.schemas import DEFINITIONS, parts_of, require_modest

MAX_BYTES = 256 * 1024
MAX_COMPILED = 128
MAX_CHOICES = 1000
MAX_TRIED = 256
# Some hundredths of a second for a first token and thousandths for each further one, some megabytes for each text:
# a step computes all texts' tokens, and by llguidance's own limits `(a{1000}){1000}` holds it up for seconds.
_LIMITS = LLParserLimits(
    initial_lexer_fuel=200_000,
    step_lexer_fuel=50_000,
    max_lexer_states=20_000,
    max_grammar_size=200_000,
    verbose_errors=False,
)
_WHITESPACE: Any = {"whitespace_flexible": True, "whitespace_pattern": r"[ \n\t]{0,16}"}
"""Where a schema leaves it to the model; for ever would be too long."""


class CompiledGrammar:
    """Implements `Grammar`. Any thread may ask for a matcher."""

    def __init__(self, compiled: LLMatcher) -> None:
        self._compiled = compiled

    def matcher(self) -> TokenMatcher:
        return TokenMatcher(self._compiled.deep_copy())


class TokenMatcher:
    """Implements `Matcher`: follows one sequence."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher

    def fill(self, mask: np.ndarray) -> None:
        """Nothing may come where a token is more work than `_LIMITS` allow."""
        self._matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        if self._matcher.is_error():
            mask[:] = 0

    def accept(self, token: int) -> bool:
        return bool(self._matcher.consume_token(token))

    @property
    def is_finished(self) -> bool:
        return bool(self._matcher.is_stopped())

    @property
    def is_accepting(self) -> bool:
        """Whether what there is would do."""
        return bool(self._matcher.is_accepting())


class Grammars:
    """Compiles for one tokenizer, and keeps what it compiled last. Owned by one thread.

    vocabulary_size: logits of the model, often more than the tokenizer has tokens. end_ids: the model's end tokens.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, vocabulary_size: int, end_ids: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._vocabulary_size = vocabulary_size
        self._end_ids = list(end_ids)
        self._compiled: OrderedDict[str, CompiledGrammar] = OrderedDict()

    @cached_property
    def _tokens(self) -> LLTokenizer:
        if not getattr(self._tokenizer, "is_fast", False):
            raise NotAvailable("Structured output needs a fast tokenizer, which this model does not have.")
        end = self._end_ids or self._tokenizer.eos_token_id
        if end is None:
            raise NotAvailable("Structured output needs an end token, which this model does not have.")
        try:
            return llguidance.hf.from_tokenizer(self._tokenizer, n_vocab=self._vocabulary_size, eos_token=end)
        except ValueError as error:  # a kind of tokenizer that llguidance does not know
            raise NotAvailable(f"Structured output cannot follow this model's tokenizer: {error}.") from error

    @cached_property
    def is_available(self) -> bool:
        """Whether anything can be compiled for this tokenizer."""
        try:
            return bool(self._tokens)
        except NotAvailable:
            return False

    def compile(self, structure: Mapping[str, Any], *, param: str) -> CompiledGrammar:
        """structure: `Structure` of app/tasks/completion.py. Raises InvalidInput that says what is wrong with it."""
        key = json.dumps(structure, sort_keys=True)
        if len(key) > MAX_BYTES:
            raise InvalidInput(f"{param} has {len(key)} bytes; the limit is {MAX_BYTES}.", param=param)
        if key in self._compiled:
            self._compiled.move_to_end(key)
            return self._compiled[key]
        grammar = self._grammar(structure["kind"], structure.get("value"), param)
        require_modest(structure, param=param)
        matcher = LLMatcher(self._tokens, grammar, log_level=0, limits=_LIMITS)
        if not matcher.is_error():
            matcher.compute_bitmask()  # the first is the most work: here no other text waits for it
        if matcher.is_error():
            place = self._place_of_fault(structure["value"]) if structure["kind"] == "json_schema" else ""
            raise InvalidInput(f"{param}: {place and f'at {place}: '}{_readable(matcher.get_error())}", param=param)
        self._compiled[key] = CompiledGrammar(matcher)
        if len(self._compiled) > MAX_COMPILED:
            self._compiled.popitem(last=False)
        return self._compiled[key]

    def _grammar(self, kind: str, value: Any, param: str) -> str:
        try:
            match kind:
                case "json_object":
                    return LLMatcher.grammar_from_json_schema({"type": "object"}, defaults=_WHITESPACE)
                case "json_schema":
                    if not isinstance(value, dict | bool):
                        raise InvalidInput(f"{param} must be a JSON schema, an object.", param=param)
                    return LLMatcher.grammar_from_json_schema(json.dumps(value), defaults=_WHITESPACE)
                case "regex":
                    return LLMatcher.grammar_from_regex(_text(value, param))
                case "choice":
                    return LLMatcher.grammar_from_lark(_choices(value, param))
                case _:
                    return LLMatcher.grammar_from_lark(_text(value, param))
        except ValueError as error:
            raise InvalidInput(f"{param}: {_readable(str(error))}", param=param) from None

    def _place_of_fault(self, schema: Any) -> str:
        """The innermost part of a schema that cannot be held even alone, such as `properties.tags.items`."""
        shared = {name: schema[name] for name in DEFINITIONS if isinstance(schema, dict) and name in schema}
        place, part, num_tried = "", schema, 0
        while True:
            for name, inner in parts_of(part):
                num_tried += 1
                if num_tried > MAX_TRIED:
                    return place
                if not self._can_hold({**shared, **inner}):
                    place, part = f"{place}.{name}" if place else name, inner
                    break
            else:
                return place

    def _can_hold(self, schema: Mapping[str, Any]) -> bool:
        try:
            grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema))
        except ValueError:
            return False
        return not LLMatcher(self._tokens, grammar, log_level=0, limits=_LIMITS).is_error()


def _text(value: Any, param: str) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidInput(f"{param} must be a text that is not empty.", param=param)
    return value


def _choices(value: Any, param: str) -> str:
    if not isinstance(value, list) or not value or not all(isinstance(one, str) and one for one in value):
        raise InvalidInput(f"{param} must be a list of texts that are not empty.", param=param)
    if len(value) > MAX_CHOICES:
        raise InvalidInput(f"{param} has {len(value)} choices; the limit is {MAX_CHOICES}.", param=param)
    return "start: " + " | ".join(json.dumps(one, ensure_ascii=False) for one in value)


_TOO_MUCH = "it is more work than a token of one text may be"
_WORDS = {
    "NoExtension": "nothing matches it",
    "NoExtensionBias": "nothing matches it",
    "LexerTooComplex": _TOO_MUCH,
    "ParserTooComplex": _TOO_MUCH,
}
"""For llguidance's reasons, where it gives no sentence."""


def _readable(text: str) -> str:
    """llguidance's finding without where in its own code it was."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith((" ", "<state>"))]
    sentence = " ".join(lines[:3])[:400].replace("<non-verbose/>", "").strip() or "it is not a grammar"
    sentence = _WORDS.get(sentence, sentence)
    return sentence if sentence.endswith(".") else f"{sentence}."
