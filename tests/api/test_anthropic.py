"""Anthropic's messages, driven by its own SDK."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anthropic
import pytest
from pydantic import BaseModel

from app import errors
from app.api.access.caller import nobody
from app.api.anthropic.answers import PING
from app.api.anthropic.body import (
    UNUSED,
    UNUSED_IN_BLOCKS,
    UNUSED_IN_SOURCES,
    UNUSED_IN_THINKING,
    UNUSED_IN_TOOLS,
    MessagesBody,
    PromptBody,
)
from app.api.fields import Unused
from app.api.record import RequestRecord
from app.api.sse import event, stream_events
from app.errors import BackendFailed, PipeserveError
from app.tasks.completion import Choice, Completion, Delta, ToolCall
from tests.api.conftest import LiveServer
from tests.api.fake_fleet import FakeFleet

PATH = "/v1/messages"
MODEL = "tiny-text-generation"
HELLO: list[Any] = [{"role": "user", "content": "Hi!"}]
BODY: dict[str, Any] = {"messages": HELLO, "max_tokens": 8}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS: list[Any] = [
    {"name": "weather", "description": "Of a city.", "input_schema": SCHEMA},
    {"name": "time", "input_schema": {"type": "object"}},
]
CALLS = (
    ToolCall(index=0, id="call_a", name="weather", arguments='{"city":"Oslo"}'),
    ToolCall(index=1, id="call_b", name="time", arguments="{}"),
)


def said(text: str, **fields: Any) -> Completion:
    """A completion of one choice."""
    choice = Choice(**{"text": text, "finish_reason": "stop", "num_tokens": 3, **fields})
    return Completion(choices=(choice,), num_prompt_tokens=11, num_cached_tokens=8, num_tokens=3)


@pytest.fixture
def client(server: LiveServer) -> Iterator[anthropic.Anthropic]:
    server.fleet.completion = said("Hello there.")
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0) as made:
        yield made


def asked(server: LiveServer) -> dict[str, Any]:
    """The chat that the worker was sent last."""
    (one_input,) = server.fleet.jobs[-1].inputs
    return dict(one_input)


# Whole messages


def test_text_is_answered(server: LiveServer, client: anthropic.Anthropic) -> None:
    """With its usage: tokens that a cache had are not among the input's."""
    answer = client.messages.create(model=MODEL, max_tokens=8, messages=HELLO, system="Be brief.")
    assert (answer.role, answer.model, answer.stop_reason) == ("assistant", MODEL, "end_turn")
    assert [block.to_dict() for block in answer.content] == [{"type": "text", "text": "Hello there."}]
    assert (answer.usage.input_tokens, answer.usage.cache_read_input_tokens, answer.usage.output_tokens) == (3, 8, 3)
    assert answer.id.startswith("msg_") and answer._request_id
    assert asked(server)["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi!"},
    ]


@pytest.mark.parametrize(
    ("fields", "reason", "stop"),
    [
        ({}, "end_turn", None),
        ({"finish_reason": "length"}, "max_tokens", None),
        ({"stop_reason": "END"}, "stop_sequence", "END"),
        ({"stop_reason": 7}, "end_turn", None),
        ({"finish_reason": "tool_calls", "tool_calls": CALLS}, "tool_use", None),
    ],
)
def test_end_has_anthropics_reason(
    server: LiveServer, client: anthropic.Anthropic, fields: dict[str, Any], reason: str, stop: str | None
) -> None:
    """Streamed or not."""
    server.fleet.completion = said("x", **fields)
    plain = client.messages.create(model=MODEL, max_tokens=8, messages=HELLO)
    with client.messages.stream(model=MODEL, max_tokens=8, messages=HELLO) as stream:
        streamed = stream.get_final_message()
    for answer in (plain, streamed):
        assert (answer.stop_reason, answer.stop_sequence) == (reason, stop)


def test_thoughts_and_calls_are_blocks(server: LiveServer, client: anthropic.Anthropic) -> None:
    """Thoughts first, then the text, then the calls with their input read."""
    server.fleet.completion = said("I look.", reasoning="Oslo?", tool_calls=CALLS, finish_reason="tool_calls")
    answer = client.messages.create(
        model=MODEL, max_tokens=99, messages=HELLO, tools=TOOLS, thinking={"type": "enabled", "budget_tokens": 32}
    )
    thought, text, call, other = answer.content
    assert thought.type == "thinking" and thought.thinking == "Oslo?"
    assert text.type == "text" and text.text == "I look."
    assert call.type == "tool_use" and (call.id, call.name, call.input) == ("call_a", "weather", {"city": "Oslo"})
    assert other.type == "tool_use" and other.input == {}
    functions = [tool["function"] for tool in asked(server)["tools"]]
    assert functions[0] == {"name": "weather", "description": "Of a city.", "parameters": SCHEMA}


def test_call_that_was_cut_keeps_what_was_written(server: LiveServer, client: anthropic.Anthropic) -> None:
    """As a text, for it is no JSON yet."""
    call = ToolCall(index=0, id="call_a", name="weather", arguments='{"city":"Os')
    server.fleet.completion = said("", tool_calls=(call,), finish_reason="length")
    answer = client.messages.create(model=MODEL, max_tokens=4, messages=HELLO, tools=TOOLS)
    block = answer.content[0]
    assert answer.stop_reason == "max_tokens" and block.type == "tool_use"
    assert block.input == {"arguments": '{"city":"Os'}


def test_answer_is_parsed(server: LiveServer, client: anthropic.Anthropic) -> None:
    """By the SDK, into the class whose schema it sent."""

    class City(BaseModel):
        name: str

    server.fleet.completion = said('{"name":"Oslo"}')
    answer = client.messages.parse(model=MODEL, max_tokens=9, messages=HELLO, output_format=City)
    assert answer.parsed_output == City(name="Oslo")
    structure = server.fleet.jobs[-1].parameters["structure"]
    assert structure["kind"] == "json_schema" and structure["value"]["required"] == ["name"]


def test_tokens_are_counted(server: LiveServer, client: anthropic.Anthropic) -> None:
    """By asking for an answer of no tokens."""
    counted = client.messages.count_tokens(model=MODEL, messages=HELLO, system="Be brief.", tools=TOOLS)
    assert counted.input_tokens == 11
    assert server.fleet.jobs[-1].parameters["max_tokens"] == 0 and len(asked(server)["messages"]) == 2


def test_beta_client_is_served(client: anthropic.Anthropic) -> None:
    """Its `?beta=true` is no parameter of ours."""
    answer = client.beta.messages.create(model=MODEL, max_tokens=8, messages=HELLO)
    assert answer.stop_reason == "end_turn"


# Streams

STREAM = [
    Delta(reasoning="Os", num_tokens=1, num_prompt_tokens=11, num_cached_tokens=8),
    Delta(reasoning="lo?", num_tokens=2),
    Delta(text="I ", num_tokens=3),
    Delta(text="look.", num_tokens=4),
    Delta(tool_calls=(ToolCall(index=0, id="call_a", name="weather"),), num_tokens=5),
    Delta(tool_calls=(ToolCall(index=0, arguments='{"city":'),), num_tokens=6),
    Delta(tool_calls=(ToolCall(index=0, arguments='"Oslo"}'), CALLS[1]), num_tokens=7),
    Delta(num_tokens=8, finish_reason="tool_calls"),
]
ORDER = [
    *("message_start", "ping"),
    *("content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"),
    *("content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"),
    *("content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"),
    *("content_block_start", "content_block_delta", "content_block_stop"),
    *("message_delta", "message_stop"),
]


def script(server: LiveServer) -> None:
    """A stream of thoughts, text and two calls."""
    server.fleet.deltas = STREAM
    server.fleet.completion = said("I look.", reasoning="Oslo?", tool_calls=CALLS, finish_reason="tool_calls")


def test_events_come_in_anthropics_order(server: LiveServer) -> None:
    """Each named as its type is."""
    script(server)
    raw = server.post(PATH, {**BODY, "stream": True})
    assert raw.headers["content-type"].startswith("text/event-stream") and raw.headers["request-id"]
    named = [line.removeprefix("event: ") for line in raw.text.splitlines() if line.startswith("event: ")]
    assert named == ORDER
    starts = [line for line in raw.text.splitlines() if '"content_block_start"' in line]
    assert [f'"index":{index}' in line for index, line in enumerate(starts)] == [True] * 4


def test_stream_gathers_to_the_whole_message(server: LiveServer, client: anthropic.Anthropic) -> None:
    """As it would have been without a stream."""
    script(server)
    plain = client.messages.create(model=MODEL, max_tokens=99, messages=HELLO, tools=TOOLS)
    with client.messages.stream(model=MODEL, max_tokens=99, messages=HELLO, tools=TOOLS) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == "I look." and final.stop_reason == plain.stop_reason == "tool_use"
    assert [one.to_dict() for one in final.content] == [one.to_dict() for one in plain.content]
    assert final.usage.to_dict() == plain.usage.to_dict()


async def test_async_client_reads_a_stream(server: LiveServer) -> None:
    """The other half of the SDK."""
    script(server)
    async with anthropic.AsyncAnthropic(base_url=server.url, api_key="none", max_retries=0) as client:
        async with client.messages.stream(model=MODEL, max_tokens=9, messages=HELLO) as stream:
            assert "".join([text async for text in stream.text_stream]) == "I look."


def test_late_error_is_an_event(server: LiveServer, client: anthropic.Anthropic) -> None:
    """In Anthropic's shape, which the SDK raises."""
    server.fleet.deltas = [Delta(text="Hel", num_tokens=1)]
    server.fleet.stream_error = BackendFailed("the model failed")
    with pytest.raises(anthropic.APIStatusError) as caught:
        list(client.messages.create(model=MODEL, max_tokens=9, messages=HELLO, stream=True))
    body: Any = caught.value.body
    assert body["type"] == "error" and body["error"] == {"type": "api_error", "message": "the model failed"}
    assert body["request_id"]


async def test_silence_is_filled_with_pings() -> None:
    """Which Anthropic's clients know to skip."""

    async def silent() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b"never"

    told = event("ping", PING)
    assert told == b'event: ping\ndata: {"type":"ping"}\n\n'
    response = await stream_events(
        silent(),
        RequestRecord(request_id="r-1", headers={}, began_at=0.0, caller=nobody(FakeFleet())),
        to_event=bytes,
        error_event=lambda error: b"",
        keep_alive=told,
        keep_alive_s=0.001,
    )
    chunks = aiter(response.body_iterator)
    assert [await anext(chunks), await anext(chunks)] == [told, told]
    await chunks.aclose()  # type: ignore[attr-defined]  # a generator, typed as an iterator


# Errors


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (errors.Overloaded, 429, "rate_limit_error"),
        (errors.ModelLoading, 503, "overloaded_error"),
        (errors.InputTooLarge, 400, "invalid_request_error"),
        (errors.NotServed, 404, "not_found_error"),
        (errors.DeadlineExceeded, 504, "timeout_error"),
        (errors.BackendFailed, 500, "api_error"),
        (errors.NotAvailable, 501, "api_error"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_errors_have_anthropics_shape(
    server: LiveServer,
    client: anthropic.Anthropic,
    error: type[PipeserveError],
    status: int,
    kind: str,
    stream: bool,
) -> None:
    """Before the first event of a stream too; the request id stands beside them."""
    server.fleet.error = error("a sentence")
    with pytest.raises(anthropic.APIStatusError) as caught:
        client.messages.create(model=MODEL, max_tokens=8, messages=HELLO, stream=stream)
    body: Any = caught.value.body
    assert caught.value.status_code == status
    assert body == {
        "type": "error",
        "error": {"type": kind, "message": "a sentence"},
        "request_id": caught.value.request_id,
    }


def test_wrong_method_is_told_in_anthropics_shape(server: LiveServer) -> None:
    """Whatever the error: all that is answered at these paths has one shape."""
    assert server.get(PATH).json()["error"]["type"] == "invalid_request_error"
    assert server.post(f"{PATH}/batches", {}).json()["error"]["type"] == "not_found_error"


# Messages


def test_blocks_are_messages(server: LiveServer, client: anthropic.Anthropic) -> None:
    """Results of tools are messages of their own; turns of one role are one."""
    messages: list[Any] = [
        {"role": "user", "content": [{"type": "text", "text": "Weather?", "cache_control": {"type": "ephemeral"}}]},
        {"role": "user", "content": "In Oslo."},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Oslo?", "signature": "x"},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": "Oslo"}},
                {"type": "tool_use", "id": "b", "name": "time", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": "rain"},
                {"type": "tool_result", "tool_use_id": "b", "content": [{"type": "text", "text": "No clock"}]},
                {"type": "text", "text": "So?"},
            ],
        },
    ]
    messages[3]["content"][1]["is_error"] = True
    system: list[Any] = [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}]
    client.messages.create(model=MODEL, max_tokens=8, messages=messages, system=system)
    call = {"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
    other = {"id": "b", "type": "function", "function": {"name": "time", "arguments": "{}"}}
    assert asked(server)["messages"] == [
        {"role": "system", "content": "Be brief.\nBe kind."},
        {"role": "user", "content": "Weather?\nIn Oslo."},
        {"role": "assistant", "content": "I look.", "reasoning_content": "Oslo?", "tool_calls": [call, other]},
        {"role": "tool", "content": "rain", "tool_call_id": "a"},
        {"role": "tool", "content": "Error: No clock", "tool_call_id": "b"},
        {"role": "user", "content": "So?"},
    ]
    assert "continue_final_message" not in asked(server)


def test_images_reach_the_worker(server: LiveServer, client: anthropic.Anthropic) -> None:
    """As files, in messages and in results of tools."""
    data = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
    result = {"type": "tool_result", "tool_use_id": "a", "content": [image]}
    messages: list[Any] = [{"role": "user", "content": [result, image, {"type": "text", "text": "What?"}]}]
    client.messages.create(model=MODEL, max_tokens=8, messages=messages)
    tool, user = asked(server)["messages"]
    part = {"type": "image", "image": b"\x89PNG\r\n\x1a\n"}
    assert tool["content"] == [part] and user["content"] == [part, {"type": "text", "text": "What?"}]


def test_answer_goes_on_from_the_assistants_words(server: LiveServer, client: anthropic.Anthropic) -> None:
    """Where its message is the last one."""
    client.messages.create(model=MODEL, max_tokens=8, messages=[*HELLO, {"role": "assistant", "content": "My name is"}])
    chat = asked(server)
    assert chat["continue_final_message"] is True and chat["add_generation_prompt"] is False


def test_answer_can_be_sent_back(server: LiveServer, client: anthropic.Anthropic) -> None:
    """As the SDK gives it."""
    script(server)
    with client.messages.stream(model=MODEL, max_tokens=99, messages=HELLO, tools=TOOLS) as stream:
        final = stream.get_final_message()
    result: Any = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_a", "content": "rain"}]}
    client.messages.create(model=MODEL, max_tokens=9, messages=[*HELLO, final.to_param(), result])
    assert [one["role"] for one in asked(server)["messages"]] == ["user", "assistant", "tool"]


@pytest.mark.parametrize(
    ("thinking", "thinks", "tells"),
    [
        (None, False, False),
        ({"type": "disabled"}, False, False),
        ({"type": "enabled", "budget_tokens": 1024}, True, True),
        ({"type": "adaptive"}, True, True),
        ({"type": "enabled", "budget_tokens": 1024, "display": "summarized"}, True, True),
        ({"type": "enabled", "budget_tokens": 1024, "display": "omitted"}, True, False),
    ],
)
def test_model_thinks_where_it_is_told_to(server: LiveServer, thinking: Any, thinks: bool, tells: bool) -> None:
    """Without a word about it there are no thoughts in the answer, as with Anthropic."""
    server.fleet.completion = said("x")
    assert server.post(PATH, {**BODY, "thinking": thinking}).status_code == 200
    chat = asked(server)
    assert chat["chat_template_kwargs"] == {"enable_thinking": thinks}
    assert chat.get("include_reasoning", True) is tells


@pytest.mark.parametrize(
    ("given", "expected", "parallel"),
    [
        ({"type": "auto"}, {"mode": "auto"}, None),
        ({"type": "any", "disable_parallel_tool_use": True}, {"mode": "required"}, False),
        ({"type": "tool", "name": "time"}, {"mode": "required", "names": ["time"]}, None),
        ({"type": "none"}, {"mode": "none"}, None),
    ],
)
def test_tool_choice_is_understood(server: LiveServer, given: Any, expected: Any, parallel: bool | None) -> None:
    """All its types."""
    server.fleet.completion = said("x")
    assert server.post(PATH, {**BODY, "tools": TOOLS, "tool_choice": given}).status_code == 200
    assert asked(server)["tool_choice"] == expected and asked(server).get("parallel_tool_calls") is parallel


# Fields

HONOURED: dict[str, tuple[Any, str, Any]] = {
    "max_tokens": (7, "max_tokens", 7),
    "stop_sequences": (["END"], "stop", ["END"]),
    "temperature": (0.5, "temperature", 0.5),
    "top_k": (5, "top_k", 5),
    "top_p": (0.5, "top_p", 0.5),
    "output_config": (
        {"format": {"type": "json_schema", "schema": SCHEMA}},
        "structure",
        {"kind": "json_schema", "value": SCHEMA},
    ),
}
"""What is sent, the parameter of `completion` that it becomes, and its value there."""
OTHERWISE = {"model", "messages", "system", "tools", "tool_choice", "thinking", "keep_alive", "stream"}
"""Fields with tests of their own."""


def test_every_field_has_its_place() -> None:
    """No field of the bodies is without a row here; no field of the SDK's is unknown."""
    from anthropic.types.message_create_params import MessageCreateParamsBase

    fields = {*MessagesBody.model_fields, *PromptBody.model_fields}
    assert fields == {*HONOURED, *OTHERWISE}
    assert not fields & {*UNUSED.harmless, *UNUSED.refused} and not set(UNUSED.harmless) & set(UNUSED.refused)
    assert set(MessageCreateParamsBase.__annotations__) <= {*fields, *UNUSED.harmless, *UNUSED.refused}


@pytest.mark.parametrize("name", HONOURED)
def test_field_reaches_the_worker(server: LiveServer, name: str) -> None:
    """As the parameter that it means."""
    value, parameter, expected = HONOURED[name]
    server.fleet.completion = said("x")
    assert server.post(PATH, {**BODY, name: value}).status_code == 200
    assert server.fleet.jobs[-1].parameters[parameter] == expected


def test_effort_reaches_the_template(server: LiveServer) -> None:
    """In OpenAI's word for it, which templates know."""
    server.fleet.completion = said("x")
    assert server.post(PATH, {**BODY, "output_config": {"effort": "low"}}).status_code == 200
    assert asked(server)["chat_template_kwargs"]["reasoning_effort"] == "low"


INSIDE: dict[str, tuple[Unused, str, Callable[[dict[str, Any]], dict[str, Any]]]] = {
    "body": (UNUSED, "", lambda extra: {**BODY, **extra}),
    "blocks": (
        UNUSED_IN_BLOCKS,
        "messages[0].content[0].",
        lambda extra: {**BODY, "messages": [{"role": "user", "content": [{"type": "text", "text": "x", **extra}]}]},
    ),
    "sources": (
        UNUSED_IN_SOURCES,
        "messages[0].content[0].source.",
        lambda extra: {
            **BODY,
            "messages": [
                {"role": "user", "content": [{"type": "image", "source": {"type": "base64", "data": "eA==", **extra}}]}
            ],
        },
    ),
    "tools": (UNUSED_IN_TOOLS, "tools[0].", lambda extra: {**BODY, "tools": [{**TOOLS[0], **extra}]}),
    "thinking": (UNUSED_IN_THINKING, "thinking.", lambda extra: {**BODY, "thinking": {"type": "enabled", **extra}}),
}


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, (unused, _, _) in INSIDE.items() for name in unused.harmless]
)
def test_harmless_field_changes_nothing(server: LiveServer, kind: str, name: str) -> None:
    """Whatever its value: the worker never hears of it."""
    server.fleet.completion = said("x")
    for extra in ({}, {name: ["anything"]}):
        assert server.post(PATH, INSIDE[kind][2](extra)).status_code == 200
    plain, other = server.fleet.jobs[-2:]
    assert (plain.inputs, plain.parameters) == (other.inputs, other.parameters)


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, (unused, _, _) in INSIDE.items() for name in unused.refused]
)
def test_refused_field_is_named(server: LiveServer, kind: str, name: str) -> None:
    """400 with its place and the reason, unless it is null or says what is so anyway."""
    server.fleet.completion = said("x")
    unused, where, body = INSIDE[kind]
    neutral, reason = unused.refused[name]
    if name != "type":
        answer = server.post(PATH, body({name: "anything"}))
        assert answer.status_code == 400
        assert answer.json()["error"]["message"] == f"{where}{name}: {reason}."
    for value in (None, *neutral):
        assert server.post(PATH, body({name: value})).status_code == 200


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "document"}]}]}, "messages[0].content[0].type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "thinking", "thinking": "x"}]}]},
            "messages[0].content[0].type",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "file"}}]}]},
            "messages[0].content[0].source.type",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "data": "!"}}]}]},
            "messages[0].content",
        ),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"name": "a b", "input_schema": SCHEMA}]}, "tools[0].name"),
        ({"tools": [{"name": "a", "input_schema": {"type": "string"}}]}, "tools[0].input_schema"),
        ({"tools": [*TOOLS, TOOLS[0]]}, "tools"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"tools": TOOLS, "tool_choice": {"type": "tool", "name": "no"}}, "tool_choice"),
        ({"thinking": {"type": "between_tools"}}, "thinking.type"),
        ({"temperature": 1.5}, "temperature"),
        ({"top_k": -1}, "top_k"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format"),
        ({"n": 2}, "n"),
    ],
)
def test_wrong_field_is_named(server: LiveServer, body: dict[str, Any], place: str) -> None:
    """400; the sentence begins with the path of the field."""
    answer = server.post(PATH, {**BODY, **body})
    assert answer.status_code == 400 and answer.json()["error"]["type"] == "invalid_request_error"
    assert answer.json()["error"]["message"].startswith(place), answer.text
    assert not server.fleet.jobs


def test_unknown_model_is_not_found(client: anthropic.Anthropic) -> None:
    """404, as the SDK knows it."""
    with pytest.raises(anthropic.NotFoundError, match="nobody"):
        client.messages.create(model="nobody", max_tokens=8, messages=HELLO)


def test_sdk_speaks_below_a_models_url(server: LiveServer) -> None:
    """Which names the model; errors there have Anthropic's shape."""
    server.fleet.completion = said("Hello there.")
    with anthropic.Anthropic(base_url=f"{server.url}/models/{MODEL}", api_key="none", max_retries=0) as client:
        answer = client.messages.create(model="", max_tokens=8, messages=HELLO)
        assert answer.model == MODEL and server.fleet.jobs[-1].model_id == MODEL
        assert client.messages.count_tokens(model="", messages=HELLO).input_tokens == 11
        with pytest.raises(anthropic.BadRequestError, match="both asked for") as caught:
            client.messages.create(model="reviews", max_tokens=8, messages=HELLO)
        assert isinstance(caught.value.body, dict) and caught.value.body["type"] == "error"


def test_routes_are_documented(server: LiveServer) -> None:
    """Both, below a model's URL too."""
    paths = server.get("/openapi.json").json()["paths"]
    for path in (PATH, f"/models/{{model_id}}{PATH}"):
        assert set(paths[path]) == {"post"} and set(paths[f"{path}/count_tokens"]) == {"post"}


def test_models_are_listed_page_by_page(client: anthropic.Anthropic, server: LiveServer) -> None:
    """In Anthropic's words, to whom its SDK asks; all others get OpenAI's."""
    expected = [card["id"] for card in server.get("/v1/models").json()["data"]]
    found = list(client.models.list(limit=2))  # it asks for the pages that follow
    assert [model.id for model in found] == expected and len(expected) > 4
    assert {(model.type, model.lifecycle) for model in found} == {("model", "active")}
    page = client.models.list(limit=2)
    assert page.has_more and (page.first_id, page.last_id) == (expected[0], expected[1])
    one = client.models.retrieve(expected[1])
    assert one.id == one.display_name == expected[1] and one.created_at == found[0].created_at
    with pytest.raises(anthropic.NotFoundError, match="nobody"):
        client.models.retrieve("nobody")
    with pytest.raises(anthropic.BadRequestError, match="before_id: pages go forward here"):
        client.models.list(before_id=expected[2])
