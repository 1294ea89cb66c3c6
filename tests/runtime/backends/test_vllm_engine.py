"""vLLM's steps as ours, with a scripted core in vLLM's place."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import pytest

from app.errors import BackendFailed, InvalidInput
from app.runtime.backends.vllm_arguments import SamplingArguments
from app.runtime.backends.vllm_engine import Part, Step, VllmEngine
from app.runtime.generation.request import GenerationRequest, Grammar, Ranked, Sampling
from tests.runtime.generation.driving import Script, arrival

END = 99


class Letters:
    """A tokenizer that only decodes: token 1 is `a`."""

    def decode(self, tokens: Sequence[int], skip_special_tokens: bool = True) -> str:
        return "".join(chr(96 + token) for token in tokens if token != END)


class ScriptedCore:
    """Gives each text its tokens one by one. Implements `Core`."""

    def __init__(self, texts: dict[int, list[int]]) -> None:
        self._texts = {key: deque(tokens) for key, tokens in texts.items()}
        self.running: dict[int, SamplingArguments] = {}
        self.removed: list[int] = []

    def add(
        self,
        key: int,
        prompt: Sequence[int],
        arguments: SamplingArguments,
        *,
        banned_runs: Sequence[Sequence[int]],
        grammar: Grammar | None,
    ) -> None:
        self.running[key] = arguments

    def remove(self, key: int) -> None:
        del self.running[key]
        self.removed.append(key)

    def step(self) -> Step:
        parts = [self._part(key) for key in list(self.running)]
        return Step(parts=parts, num_running=len(self.running), kv_usage=0.25)

    def _part(self, key: int) -> Part:
        token = self._texts[key].popleft()
        is_over = token in self.running[key].stop_token_ids or not self._texts[key]
        if is_over:
            del self.running[key]
        return Part(key=key, tokens=[token], ranked=[Ranked(token, -1.0)], num_cached=2, is_over=is_over)


def engine_of(core: Any) -> VllmEngine:
    return VllmEngine(core, Letters(), end_ids=[END], longest=64, limit_tokens=1000, pool={})


def request(**given: Any) -> GenerationRequest:
    return GenerationRequest(**{"prompt": [1, 2, 3], "max_tokens": 8, **given})


def drive(core: Any, *requests: GenerationRequest, departures: dict[int, list[int]] | None = None) -> Script:
    arrivals = {0: [arrival(key, one) for key, one in enumerate(requests)]}
    return Script(arrivals, departures).drive(engine_of(core))


def test_a_text_comes_token_by_token_and_ends_with_its_reason() -> None:
    """With what was cached and the log-probabilities that were asked for."""
    core = ScriptedCore({0: [4, 5, END]})
    script = drive(core, request(sampling=Sampling(num_logprobs=0)))
    assert [list(one.tokens) for one in script.advances[0]] == [[4], [5], [END]]
    output = script.output(0)
    assert (output.tokens, output.finish_reason, output.num_cached) == ([4, 5, END], "eos_token", 2)
    assert output.logprobs == [-1.0, -1.0, -1.0] and core.removed == []


def test_a_stop_text_ends_it_in_vllm_too() -> None:
    """Across the borders of tokens; what vLLM would go on computing is taken out of it."""
    core = ScriptedCore({0: [4, 1, 2, 5, 6]})
    output = drive(core, request(stops=("ab",))).output(0)
    assert (output.tokens, output.finish_reason, output.stop_reason) == ([4, 1, 2], "stop_sequence", "ab")
    assert core.removed == [0] and not core.running


def test_a_limit_of_vllms_own_is_a_length() -> None:
    """Its last token is told once."""
    script = drive(ScriptedCore({0: [4, 5]}), request(max_tokens=50))
    assert [list(one.tokens) for one in script.advances[0]] == [[4], [5]]
    assert script.output(0).finish_reason == "length"


def test_a_prompt_alone_has_no_tokens() -> None:
    """Though vLLM computes one."""
    core = ScriptedCore({0: [4, 5]})
    output = drive(core, request(max_tokens=0)).output(0)
    assert output.tokens == [] and output.finish_reason == "length" and core.removed == [0]


def test_who_is_not_waited_for_leaves_vllm_and_the_others_go_on() -> None:
    """Between two steps."""
    core = ScriptedCore({0: [4] * 20, 1: [5] * 20})
    script = drive(core, request(), request(), departures={2: [0]})
    assert core.removed[0] == 0 and len(script.advances[0]) == 2
    assert script.output(1).tokens == [5] * 8
    assert [state.num_running for state in script.states][:3] == [2, 2, 1]
    assert script.states[0].num_used_tokens == 250 and script.states[-1].num_generated_tokens == 2 + 8


def test_what_is_refused_is_that_requests_error() -> None:
    """The others are computed."""
    script = drive(ScriptedCore({1: [5, END]}), request(sampling=Sampling(no_repeat_ngram_size=2)), request())
    with pytest.raises(InvalidInput, match="no_repeat_ngram_size"):
        script.output(0)
    assert script.output(1).finish_reason == "eos_token"


def test_what_vllm_gives_up_is_that_texts_error() -> None:
    """With the reason that it gives."""

    class Failing(ScriptedCore):
        def _part(self, key: int) -> Part:
            del self.running[key]
            return Part(key=key, is_over=True, error="it cannot be")

    with pytest.raises(BackendFailed, match="it cannot be"):
        drive(Failing({}), request()).output(0)


def test_an_error_of_vllms_own_ends_the_run() -> None:
    """What state it is in is not known: the worker is to end, and its jobs to run again elsewhere."""

    class Broken(ScriptedCore):
        def step(self) -> Step:
            raise RuntimeError("the engine is broken")

    with pytest.raises(RuntimeError, match="broken"):
        drive(Broken({}), request())
