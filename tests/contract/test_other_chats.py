"""Anthropic's and Ollama's routes on a real server with real workers, driven by their own SDKs."""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import ollama
import pytest

from tests.server import RunningServer

MODEL = "chatml"
GREEDY = {"top_k": 1}
WEATHER: anthropic.types.ToolParam = {
    "name": "get_weather",
    "input_schema": {
        "type": "object",
        "properties": {"unit": {"enum": ["c", "f"]}},
        "required": ["unit"],
        "additionalProperties": False,
    },
}


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def desktop(server: RunningServer) -> Iterator[ollama.Client]:
    with ollama.Client(host=server.url) as made:
        yield made


def test_message_is_answered_and_streamed(client: anthropic.Anthropic) -> None:
    """The same text both ways; the tokens counted beforehand are those that were read."""
    asked = client.messages.count_tokens(model=MODEL, messages=[{"role": "user", "content": "hello"}])
    whole = client.messages.create(
        model=MODEL, max_tokens=8, extra_body=GREEDY, messages=[{"role": "user", "content": "hello"}]
    )
    with client.messages.stream(
        model=MODEL, max_tokens=8, extra_body=GREEDY, messages=[{"role": "user", "content": "hello"}]
    ) as stream:
        streamed = stream.get_final_message()
    assert [one.to_dict() for one in streamed.content] == [one.to_dict() for one in whole.content] and whole.content
    assert whole.usage.input_tokens + (whole.usage.cache_read_input_tokens or 0) == asked.input_tokens
    assert whole.usage.output_tokens == 8 and whole.stop_reason == "max_tokens"


def test_tool_must_be_used(client: anthropic.Anthropic) -> None:
    """By any model: the grammar sees to it."""
    answer = client.messages.create(
        model=MODEL,
        max_tokens=200,
        messages=[{"role": "user", "content": "hello"}],
        tools=[WEATHER],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
    )
    (block,) = answer.content
    assert block.type == "tool_use" and block.name == "get_weather" and block.input["unit"] in ("c", "f")
    assert answer.stop_reason == "tool_use"


def test_more_tokens_than_there_is_room_for_are_those_there_is_room_for(
    client: anthropic.Anthropic, desktop: ollama.Client
) -> None:
    """These clients send the number that suits another model."""
    answer = client.messages.create(
        model=MODEL, max_tokens=20_000, stop_sequences=["e"], messages=[{"role": "user", "content": "hello"}]
    )
    assert answer.stop_reason in ("stop_sequence", "end_turn", "max_tokens")
    reply = desktop.chat(
        model=MODEL, messages=[{"role": "user", "content": "hello"}], options={"num_predict": 20_000, "stop": ["e"]}
    )
    assert reply.done and reply.eval_count


def test_prompt_of_a_model_without_template_is_read_as_it_is(desktop: ollama.Client) -> None:
    """As if raw."""
    options = {"num_predict": 4, "temperature": 0}
    plain = desktop.generate(model="gpt2", prompt="the", options=options)
    assert plain.response == desktop.generate(model="gpt2", prompt="the", raw=True, options=options).response
    assert plain.response and plain.eval_count == 4
    with pytest.raises(ollama.ResponseError, match="no chat template"):
        desktop.generate(model="gpt2", prompt="the", system="Be brief.", options=options)


def test_desktop_chat_is_streamed(desktop: ollama.Client) -> None:
    """Piece by piece, to the same text."""
    options = {"num_predict": 8, "temperature": 0}
    hello = [{"role": "user", "content": "hello"}]
    parts = list(desktop.chat(model=MODEL, messages=hello, options=options, stream=True))
    whole = desktop.chat(model=MODEL, messages=hello, options=options)
    assert "".join(part.message.content or "" for part in parts) == whole.message.content
    assert len(parts) > 2 and parts[-1].done and parts[-1].eval_count == 8


def test_models_are_listed_as_the_desktop_knows_them(desktop: ollama.Client) -> None:
    """The declared ones, and of these the loaded."""
    desktop.chat(model=MODEL, messages=[{"role": "user", "content": "hello"}], options={"num_predict": 1})
    assert MODEL in [one.model for one in desktop.list().models]
    assert MODEL in [one.model for one in desktop.ps().models]
    assert "completion" in (desktop.show(MODEL).capabilities or [])
