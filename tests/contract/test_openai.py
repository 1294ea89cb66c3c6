"""Chats and completions on a real server with real workers, driven by OpenAI's own SDK."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import openai
import pytest

from tests.server import RunningServer

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 6}, "unit": {"enum": ["c", "f"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}
PING: Any = {"type": "function", "function": {"name": "ping"}}
UNHOLDABLE: Any = {
    "type": "function",
    "function": {"name": "odd", "parameters": {"type": "object", "properties": {"a": {"not": {}}}}},
}
IMAGE: Any = {"type": "image_url", "image_url": {"url": "eA=="}}
MODEL = "chatml"


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def chat(client: openai.OpenAI, **more: Any) -> Any:
    given = {"model": MODEL, "messages": HELLO, "max_completion_tokens": 12, "temperature": 0, **more}
    return client.chat.completions.create(**given)


def test_chat_is_answered(client: openai.OpenAI) -> None:
    """With its usage and the reason why it ended."""
    answer = chat(client)
    (choice,) = answer.choices
    assert choice.message.role == "assistant" and choice.message.content and choice.finish_reason == "length"
    assert answer.usage.completion_tokens == 12 and answer.usage.total_tokens == answer.usage.prompt_tokens + 12
    assert answer.model == MODEL and answer.id.startswith("chatcmpl-")


def test_stream_says_what_the_answer_says(client: openai.OpenAI) -> None:
    """Piece by piece, with log-probabilities and usage."""
    whole = chat(client, logprobs=True, top_logprobs=2)
    chunks = list(chat(client, logprobs=True, top_logprobs=2, stream=True, stream_options={"include_usage": True}))
    *parts, last = chunks
    assert "".join(part.choices[0].delta.content or "" for part in parts) == whole.choices[0].message.content
    assert parts[0].choices[0].delta.role == "assistant" and len(parts) > 6
    assert not last.choices and last.usage.completion_tokens == 12 and all(part.usage is None for part in parts)
    told = [one for part in parts for one in part.choices[0].logprobs.content]
    assert [(one.token, one.bytes) for one in told] == [
        (one.token, one.bytes) for one in whole.choices[0].logprobs.content
    ]
    assert parts[-1].choices[0].finish_reason == "length"


def test_seed_makes_it_again_and_choices_differ(client: openai.OpenAI) -> None:
    """n choices of one seed are the same n choices the next time."""
    first, second = (
        [one.message.content for one in chat(client, temperature=1, seed=5, n=3).choices] for _ in range(2)
    )
    assert first == second and len(set(first)) == 3


def test_stop_text_is_no_part_of_the_answer(client: openai.OpenAI) -> None:
    """Nor any piece of it, streamed or not."""
    text = client.completions.create(model="gpt2", prompt="the", max_tokens=8, temperature=0).choices[0].text
    stop = text.split()[2]
    expected = text[: text.index(stop)]
    answer = client.completions.create(model="gpt2", prompt="the", max_tokens=8, temperature=0, stop=stop)
    assert answer.choices[0].text == expected and answer.choices[0].finish_reason == "stop"
    parts = client.completions.create(model="gpt2", prompt="the", max_tokens=8, temperature=0, stop=[stop], stream=True)
    assert "".join(part.choices[0].text for part in parts) == expected


def test_schema_holds_whatever_the_model(client: openai.OpenAI) -> None:
    """Every answer parses and validates."""
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 5},
            "age": {"type": "integer", "minimum": 0, "maximum": 120},
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2},
        },
        "required": ["name", "age", "tags"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": schema, "strict": True}}
    answer = chat(client, response_format=form, n=4, temperature=1, seed=1, max_completion_tokens=900)
    for choice in answer.choices:
        assert choice.finish_reason == "stop"
        jsonschema.validate(json.loads(choice.message.content), schema)


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [({"choice": ["yes", "no"]}, ("yes", "no")), ({"regex": "a{3}-b{2}"}, ("aaa-bb",))],
)
def test_structured_outputs_of_vllm(client: openai.OpenAI, outputs: Any, expected: tuple[str, ...]) -> None:
    """In `extra_body`, as its users send them."""
    answer = chat(client, extra_body={"structured_outputs": outputs})
    assert answer.choices[0].message.content in expected and answer.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("parallel", [True, False])
def test_required_tool_is_called(client: openai.OpenAI, parallel: bool) -> None:
    """Of one that knows no better than to obey the grammar."""
    answer = chat(
        client,
        tools=[WEATHER, PING],
        tool_choice="required",
        parallel_tool_calls=parallel,
        temperature=1,
        seed=1,
        max_completion_tokens=1500,
    )
    (choice,) = answer.choices
    assert choice.finish_reason == "tool_calls" and choice.message.content is None
    for call in choice.message.tool_calls:
        arguments = json.loads(call.function.arguments)
        assert call.id.startswith("call_") and call.function.name in ("get_weather", "ping")
        if call.function.name == "get_weather":
            jsonschema.validate(arguments, WEATHER["function"]["parameters"])
    assert parallel or len(choice.message.tool_calls) == 1


def test_strict_tool_that_the_model_chose_follows_its_schema(client: openai.OpenAI) -> None:
    """From the moment the call begins, which a bias brings about; text without a call stays free."""
    function = {**WEATHER["function"], "strict": True}
    more = {"tools": [{"type": "function", "function": function}, PING], "temperature": 1, "seed": 3}
    begin = "259"  # <tool_call>
    answer = chat(client, **more, logit_bias={begin: 100}, stop=["</tool_call>"], max_completion_tokens=300)
    (choice,) = answer.choices
    assert choice.finish_reason == "tool_calls"
    for call in choice.message.tool_calls:
        if call.function.name == "get_weather":
            jsonschema.validate(json.loads(call.function.arguments), WEATHER["function"]["parameters"])
    assert chat(client, **more, logit_bias={begin: -100}).choices[0].message.content


def test_named_tool_is_streamed_as_openai_streams_it(client: openai.OpenAI) -> None:
    """Id and name first, then the arguments in pieces."""
    choice = {"type": "function", "function": {"name": "get_weather"}}
    parts = list(
        chat(client, tools=[WEATHER, PING], tool_choice=choice, temperature=1, max_completion_tokens=200, stream=True)
    )
    calls = [call for part in parts for call in part.choices[0].delta.tool_calls or []]
    assert calls[0].id and calls[0].function.name == "get_weather" and calls[0].type == "function"
    assert all(call.index == 0 and call.id is None and call.function.name is None for call in calls[1:])
    arguments = json.loads("".join(call.function.arguments or "" for call in calls))
    jsonschema.validate(arguments, WEATHER["function"]["parameters"])
    assert parts[-1].choices[0].finish_reason == "stop"


def test_thoughts_are_told_apart(client: openai.OpenAI) -> None:
    """A template that opens them has them in `reasoning_content`."""
    message = chat(client, extra_body={"chat_template_kwargs": {"enable_thinking": True}}).choices[0].message
    assert message.reasoning_content and message.content == ""


def test_repeated_system_prompt_is_computed_once(client: openai.OpenAI) -> None:
    """`cached_tokens` says so."""
    messages = [{"role": "system", "content": "be brief, be kind, be true " * 4}, *HELLO]
    usages = [chat(client, messages=messages).usage for _ in range(2)]
    assert usages[1].prompt_tokens_details.cached_tokens == usages[1].prompt_tokens - 1


def test_prompts_and_choices_are_in_order(client: openai.OpenAI) -> None:
    """Index: of the prompt times n, plus that of the choice; with echo and log-probabilities."""
    answer = client.completions.create(
        model="gpt2", prompt=["the good", "who"], n=2, max_tokens=3, temperature=0, echo=True, logprobs=1
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert [choice.text[:3] for choice in answer.choices] == ["the", "the", "who", "who"]
    told = answer.choices[0].logprobs
    assert told is not None and told.token_logprobs is not None and told.token_logprobs[0] is None
    assert told.text_offset is not None and told.text_offset[0] == 0
    assert answer.usage is not None and answer.usage.completion_tokens == 12


def test_images_in_a_chat_of_a_model_that_sees(client: openai.OpenAI, server: RunningServer) -> None:
    """Through `generate`, streamed and counted like the rest."""
    from tests import tiny
    from tests.tiny.multimodal import TASKS

    name = next(name for name, task in TASKS.items() if task == "image-text-to-text")
    assert name in tiny.BUILDERS
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    content = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{pixel}"}},
        {"type": "text", "text": "a"},
    ]
    messages = [{"role": "user", "content": content}]
    whole = chat(client, model=name, messages=messages, max_completion_tokens=5)
    parts = chat(client, model=name, messages=messages, max_completion_tokens=5, stream=True)
    assert "".join(part.choices[0].delta.content or "" for part in parts) == whole.choices[0].message.content
    assert whole.usage.completion_tokens <= 5


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"messages": [{"role": "alien", "content": "x"}]}, "messages[0].role"),
        ({"messages": []}, "messages"),
        ({"messages": [*HELLO, {"role": "system", "content": "late"}]}, "messages"),
        ({"messages": [{"role": "user", "content": "a" * 3000}]}, "messages"),
        ({"max_completion_tokens": 5000}, "max_completion_tokens"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"max_completion_tokens": openai.omit, "max_tokens": 9999999}, "max_tokens"),
        ({"temperature": 2.5}, "temperature"),
        ({"n": 1000}, "n"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"logit_bias": {"99999": 1}}, "logit_bias"),
        ({"logit_bias": {"hello": 1}}, "logit_bias"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"extra_body": {"colour": "red"}}, "colour"),
        ({"extra_body": {"use_beam_search": True}}, "use_beam_search"),
        ({"extra_body": {"guided_regex": "a"}}, "guided_regex"),
        ({"extra_body": {"structured_outputs": {"regex": "("}}}, "structured_outputs"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "strin"}}}},
            "response_format",
        ),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "fly"}}}, "tool_choice"),
        ({"tools": [WEATHER, WEATHER]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [{"type": "function", "function": {"name": "x", "parameters": {"type": "array"}}}]}, "tools[0]"),
        ({"tools": [{"type": "function", "function": {"name": "x y"}}]}, "tools[0]"),
        ({"tools": [PING, UNHOLDABLE], "tool_choice": "required"}, "tools[1].function.parameters"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "eA=="}}]}]},
            "messages",
        ),
        ({"model": "gpt2"}, "messages"),
    ],
)
def test_bad_input_is_named(client: openai.OpenAI, given: dict[str, Any], param: str) -> None:
    """400 in OpenAI's shape, with the client's own name of what is wrong, streamed or not."""
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as raised:
            chat(client, **given, stream=stream)
        assert raised.value.param is not None and raised.value.param.startswith(param), raised.value
        assert isinstance(raised.value.body, dict) and raised.value.body["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_too_long_says_both_numbers(client: openai.OpenAI, stream: bool) -> None:
    """And has OpenAI's code; so do more tokens than there is room for."""
    with pytest.raises(openai.BadRequestError) as raised:
        client.completions.create(model=MODEL, prompt="a" * 3000, stream=stream)
    assert raised.value.code == "context_length_exceeded" and raised.value.param == "prompt"
    assert "3000" in raised.value.message and "2048" in raised.value.message
    with pytest.raises(openai.BadRequestError) as raised:
        client.completions.create(model=MODEL, prompt="a" * 1000, max_tokens=2000, stream=stream)
    assert raised.value.code == "context_length_exceeded" and raised.value.param == "max_tokens"
    assert "3000" in raised.value.message and "2048" in raised.value.message


def test_part_of_a_schema_that_cannot_be_held_is_named(client: openai.OpenAI) -> None:
    """By its place, and by the keyword."""
    schema = {"type": "object", "properties": {"tags": {"type": "array", "items": {"not": {"type": "null"}}}}}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    with pytest.raises(openai.BadRequestError) as raised:
        chat(client, response_format=form)
    assert raised.value.param == "response_format"
    assert 'at properties.tags.items: Unimplemented keys: ["not"]' in raised.value.message


async def test_equal_request_ids_are_answered_each_by_itself(client: openai.OpenAI, server: RunningServer) -> None:
    """Whoever names his request as another does, in the header and in vLLM's field."""
    contents = ["hello", "good morning", "who is there ?"]
    messages: list[list[Any]] = [[{"role": "user", "content": content}] for content in contents]
    expected = [chat(client, messages=one).choices[0].message.content for one in messages]
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as together:
        calls = [
            together.chat.completions.create(
                model=MODEL,
                messages=one,
                max_completion_tokens=12,
                temperature=0,
                extra_headers={"X-Request-Id": "the-same"},
                extra_body={"request_id": "the-same"},
            )
            for one in messages
        ]
        answers = await asyncio.gather(*calls)
    assert [one.choices[0].message.content for one in answers] == expected
    assert {one.id for one in answers} == {"chatcmpl-the-same"}


def test_unknown_model_is_404(client: openai.OpenAI) -> None:
    """And one that generates nothing says what it does."""
    for model in ("nobody", "vectors"):
        with pytest.raises(openai.NotFoundError) as raised:
            chat(client, model=model)
        assert raised.value.code == "model_not_found"


@pytest.mark.parametrize("path", ["/models/chatml/v1/chat/completions", "/invocations?model=chatml", "/?model=chatml"])
def test_other_ways_to_the_same_chat(server: RunningServer, path: str) -> None:
    """Below the model's URL, as the JavaScript client asks, and where the body decides."""
    body = {"messages": HELLO, "max_tokens": 4, "temperature": 0}
    with server.client() as client:
        answer = client.post(path, json=body).json()
    assert answer["object"] == "chat.completion" and answer["choices"][0]["message"]["content"]
