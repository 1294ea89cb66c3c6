"""OpenAI's Responses, driven by its own SDK."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from app.api.fields import Unused
from app.api.responses.body import (
    INCLUDABLE,
    LOGPROBS,
    UNUSED,
    UNUSED_IN_FORMAT,
    UNUSED_IN_REASONING,
    UNUSED_IN_TEXT,
    UNUSED_IN_TOOLS,
    InputBody,
    ResponseBody,
)
from app.api.responses.items import UNUSED_IN_ITEMS, UNUSED_IN_PARTS
from app.api.responses.store import ResponseStore
from app.errors import BackendFailed
from app.tasks.completion import Alternative, Choice, Completion, Delta, Token, ToolCall
from tests.api.conftest import LiveServer

PATH = "/v1/responses"
MODEL = "tiny-text-generation"
IMAGE = "data:image/png;base64,iVBORw0KGgo="
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL: dict[str, Any] = {"type": "function", "name": "weather", "parameters": SCHEMA, "strict": True}
OTHER_TOOL: dict[str, Any] = {"type": "function", "name": "time", "parameters": None, "strict": None}
TOOLS: list[Any] = [TOOL, OTHER_TOOL]


def said(text: str, **fields: Any) -> Completion:
    """A completion of one choice."""
    choice = Choice(**{"text": text, "finish_reason": "stop", "num_tokens": 3, **fields})
    return Completion(choices=(choice,), num_prompt_tokens=11, num_cached_tokens=8, num_tokens=3)


CALLS = (
    ToolCall(index=0, id="call_a", name="weather", arguments='{"city":"Oslo"}'),
    ToolCall(index=1, id="call_b", name="time", arguments="{}"),
)


@pytest.fixture
def client(server: LiveServer) -> Iterator[openai.OpenAI]:
    server.fleet.completion = said("Hello there.")
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def asked(server: LiveServer) -> dict[str, Any]:
    """The chat that the worker was sent last."""
    (one_input,) = server.fleet.jobs[-1].inputs
    return dict(one_input)


# Whole responses


def test_text_is_answered(server: LiveServer, client: openai.OpenAI) -> None:
    """With its usage, as the SDK reads it."""
    answer = client.responses.create(model=MODEL, input="Hi!", instructions="Be brief.", metadata={"a": "b"})
    assert (answer.status, answer.output_text, answer.model) == ("completed", "Hello there.", MODEL)
    assert answer.id.startswith("resp_") and answer.output[0].id and answer.metadata == {"a": "b"}
    assert answer.usage is not None and answer.usage.input_tokens_details.cache_write_tokens == 0
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (11, 3, 14)
    assert answer.usage.input_tokens_details.cached_tokens == 8
    assert asked(server)["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi!"},
    ]


def test_answer_that_was_cut_is_incomplete(server: LiveServer, client: openai.OpenAI) -> None:
    """And says why; its last item is as incomplete."""
    server.fleet.completion = said("Hello", finish_reason="length")
    answer = client.responses.create(model=MODEL, input="Hi!", max_output_tokens=3)
    assert answer.status == "incomplete" and answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert [item.status for item in answer.output if item.type == "message"] == ["incomplete"]
    assert server.fleet.jobs[-1].parameters["max_tokens"] == 3


def test_calls_and_thoughts_are_items(server: LiveServer, client: openai.OpenAI) -> None:
    """Thoughts first, then the text, then the calls."""
    server.fleet.completion = said(
        "I look.", reasoning="Oslo?", tool_calls=CALLS, finish_reason="tool_calls", num_reasoning_tokens=2
    )
    answer = client.responses.create(model=MODEL, input="Weather?", tools=TOOLS)
    thought, message, call, _ = answer.output
    assert thought.type == "reasoning" and thought.content is not None and thought.content[0].text == "Oslo?"
    assert message.type == "message" and answer.output_text == "I look."
    assert call.type == "function_call"
    assert (call.call_id, call.name, call.arguments, call.status) == (
        "call_a",
        "weather",
        '{"city":"Oslo"}',
        "completed",
    )
    assert answer.usage is not None and answer.usage.output_tokens_details.reasoning_tokens == 2
    tools = asked(server)["tools"]
    assert tools[0] == {"type": "function", "function": {"name": "weather", "parameters": SCHEMA, "strict": True}}
    assert tools[1] == {"type": "function", "function": {"name": "time"}}


def test_thoughts_are_their_own_summary_where_one_is_asked_for(server: LiveServer, client: openai.OpenAI) -> None:
    """Whole: no model here writes another."""
    server.fleet.completion = said("Yes.", reasoning="Hm.")
    answer = client.responses.create(model=MODEL, input="Hi!", reasoning={"effort": "low", "summary": "auto"})
    thought = answer.output[0]
    assert thought.type == "reasoning" and [one.text for one in thought.summary] == ["Hm."] and not thought.content
    assert asked(server)["chat_template_kwargs"] == {"reasoning_effort": "low", "enable_thinking": True}


def test_answer_is_parsed(server: LiveServer, client: openai.OpenAI) -> None:
    """By the SDK, into the class whose schema it sent."""

    class City(BaseModel):
        name: str

    server.fleet.completion = said('{"name":"Oslo"}')
    answer = client.responses.parse(model=MODEL, input="Where?", text_format=City)
    assert answer.output_parsed == City(name="Oslo")
    structure = server.fleet.jobs[-1].parameters["structure"]
    assert structure["kind"] == "json_schema" and structure["value"]["required"] == ["name"]


def test_logprobs_come_where_they_are_asked_for(server: LiveServer, client: openai.OpenAI) -> None:
    """With the likeliest others."""
    top = (Alternative(1, "Hi", -0.5), Alternative(2, "Ho", -1.0))
    server.fleet.completion = said("Hi", tokens=(Token(id=1, text="Hi", logprob=-0.5, top=top),))
    answer = client.responses.create(model=MODEL, input="x", include=["message.output_text.logprobs"], top_logprobs=2)
    message = answer.output[0]
    assert message.type == "message" and message.content[0].type == "output_text"
    assert message.content[0].logprobs is not None
    (logprob,) = message.content[0].logprobs
    assert (logprob.token, logprob.logprob, logprob.bytes) == ("Hi", -0.5, [72, 105])
    assert [one.token for one in logprob.top_logprobs] == ["Hi", "Ho"]


# Streams

STREAM = [
    Delta(reasoning="Os", num_tokens=1),
    Delta(reasoning="lo?", num_tokens=2),
    Delta(text="I ", num_tokens=3),
    Delta(text="look.", num_tokens=4),
    Delta(tool_calls=(ToolCall(index=0, id="call_a", name="weather"),), num_tokens=5),
    Delta(tool_calls=(ToolCall(index=0, arguments='{"city":'),), num_tokens=6),
    Delta(tool_calls=(ToolCall(index=0, arguments='"Oslo"}'), CALLS[1]), num_tokens=7),
    Delta(num_tokens=8, finish_reason="tool_calls"),
]
ORDER = [
    *("response.created", "response.in_progress"),
    *("response.output_item.added", "response.content_part.added"),
    *("response.reasoning_text.delta", "response.reasoning_text.delta", "response.reasoning_text.done"),
    *("response.content_part.done", "response.output_item.done"),
    *("response.output_item.added", "response.content_part.added"),
    *("response.output_text.delta", "response.output_text.delta", "response.output_text.done"),
    *("response.content_part.done", "response.output_item.done"),
    "response.output_item.added",
    *("response.function_call_arguments.delta", "response.function_call_arguments.delta"),
    *("response.function_call_arguments.done", "response.output_item.done"),
    "response.output_item.added",
    *("response.function_call_arguments.delta", "response.function_call_arguments.done", "response.output_item.done"),
    "response.completed",
]


def script(server: LiveServer, **fields: Any) -> None:
    """A stream of thoughts, text and two calls."""
    server.fleet.deltas = STREAM
    server.fleet.completion = said(
        "I look.", reasoning="Oslo?", tool_calls=CALLS, **{"finish_reason": "tool_calls", **fields}
    )


def test_events_come_in_openais_order(server: LiveServer, client: openai.OpenAI) -> None:
    """Numbered from 0, each named as its type is."""
    script(server)
    events = list(client.responses.create(model=MODEL, input="Weather?", tools=TOOLS, stream=True))
    assert [event.type for event in events] == ORDER
    assert [event.sequence_number for event in events] == list(range(len(ORDER)))
    raw = server.post(PATH, {"input": "Weather?", "stream": True})
    named = [line.removeprefix("event: ") for line in raw.text.splitlines() if line.startswith("event: ")]
    assert named == ORDER and raw.headers["content-type"].startswith("text/event-stream")


def test_stream_ends_with_the_whole_response(server: LiveServer, client: openai.OpenAI) -> None:
    """As it would have been without a stream but for its ids."""
    script(server)
    plain = client.responses.create(model=MODEL, input="Weather?")
    with client.responses.stream(model=MODEL, input="Weather?", tools=TOOLS) as stream:
        final = stream.get_final_response()
    assert final.status == "completed" and final.output_text == "I look."
    plainly, streamed = ([item.to_dict() for item in one.output] for one in (plain, final))
    for one in (*plainly, *streamed):
        one.pop("id")
        one.pop("parsed_arguments", None)
        for part in one.get("content") or ():  # type: ignore[attr-defined]
            part.pop("parsed", None)
    assert plainly == streamed and final.usage == plain.usage


def test_summary_has_events_of_its_own(server: LiveServer, client: openai.OpenAI) -> None:
    """In the place of those of the text."""
    script(server)
    events = client.responses.create(model=MODEL, input="x", reasoning={"summary": "detailed"}, stream=True)
    types = [event.type for event in events]
    assert types[2:9] == [
        "response.output_item.added",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
        "response.output_item.done",
    ]


def test_stream_that_was_cut_ends_incomplete(server: LiveServer, client: openai.OpenAI) -> None:
    """With the event of that name."""
    script(server, finish_reason="length")
    *_, last = client.responses.create(model=MODEL, input="x", stream=True)
    assert last.type == "response.incomplete" and last.response.status == "incomplete"
    assert last.response.output[-1].status == "incomplete"  # type: ignore[union-attr]


def test_late_error_fails_the_response(server: LiveServer, client: openai.OpenAI) -> None:
    """What has come stays; the response can be read again as failed."""
    server.fleet.deltas = [Delta(text="Hel", num_tokens=1)]
    server.fleet.stream_error = BackendFailed("the model failed")
    *_, error, last = client.responses.create(model=MODEL, input="x", stream=True)
    assert error.type == "error" and error.code == "backend" and "the model failed" in error.message
    assert last.type == "response.failed" and last.response.error is not None
    assert "request id" in last.response.error.message and last.response.output_text == "Hel"
    assert client.responses.retrieve(last.response.id).status == "failed"


def test_early_error_is_no_stream(server: LiveServer, client: openai.OpenAI) -> None:
    """A status and OpenAI's shape."""
    server.fleet.error = BackendFailed("the model failed")
    with pytest.raises(openai.InternalServerError) as caught:
        client.responses.create(model=MODEL, input="x", stream=True)
    assert "the model failed" in caught.value.message and caught.value.code == "backend"


async def test_async_client_reads_a_stream(server: LiveServer) -> None:
    """The other half of the SDK."""
    script(server)
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        async with client.responses.stream(model=MODEL, input="x") as stream:
            texts = [event.delta async for event in stream if event.type == "response.output_text.delta"]
            final = await stream.get_final_response()
    assert "".join(texts) == final.output_text == "I look."


def test_text_after_a_call_is_another_message(server: LiveServer, client: openai.OpenAI) -> None:
    """Items are told in the order in which they come."""
    server.fleet.deltas = [Delta(tool_calls=CALLS[:1]), Delta(text="Done.")]
    *_, last = client.responses.create(model=MODEL, input="x", stream=True)
    assert last.type == "response.completed"
    assert [item.type for item in last.response.output] == ["function_call", "message"]


# Conversations


def test_items_are_messages(server: LiveServer, client: openai.OpenAI) -> None:
    """One turn of the assistant's is one message."""
    items: list[Any] = [
        {"role": "developer", "content": "Be brief."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Oslo?"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
        {"type": "function_call", "call_id": "a", "name": "weather", "arguments": "{}"},
        {"type": "function_call", "call_id": "b", "name": "time", "arguments": "{}", "status": "completed"},
        {"type": "function_call_output", "call_id": "a", "output": "rain"},
        {"type": "function_call_output", "call_id": "b", "output": [{"type": "input_text", "text": "noon"}]},
        {"role": "assistant", "content": "It rains."},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No more."}]},
    ]
    client.responses.create(model=MODEL, input=items)
    calls = [
        {"id": one, "type": "function", "function": {"name": name, "arguments": "{}"}}
        for one, name in (("a", "weather"), ("b", "time"))
    ]
    assert asked(server)["messages"] == [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "I look.", "reasoning_content": "Oslo?", "tool_calls": calls},
        {"role": "tool", "content": "rain", "tool_call_id": "a"},
        {"role": "tool", "content": "noon", "tool_call_id": "b"},
        {"role": "assistant", "content": "It rains."},
        {"role": "assistant", "content": "No more."},
    ]


def test_images_and_sounds_reach_the_worker(server: LiveServer, client: openai.OpenAI) -> None:
    """As files."""
    parts: list[Any] = [
        {"type": "input_image", "image_url": IMAGE, "detail": "high"},
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
        {"type": "input_text", "text": "What?"},
    ]
    client.responses.create(model=MODEL, input=[{"role": "user", "content": parts}])
    image, sound, text = asked(server)["messages"][0]["content"]
    assert image == {"type": "image", "image": b"\x89PNG\r\n\x1a\n"} and sound["audio"] == b"RIFF"
    assert text == {"type": "text", "text": "What?"}


def test_output_can_be_sent_back(server: LiveServer, client: openai.OpenAI) -> None:
    """As the SDK gives it, parsed fields and all."""
    script(server)
    with client.responses.stream(model=MODEL, input="Weather?", tools=TOOLS) as stream:
        final = stream.get_final_response()
    items: list[Any] = [{"role": "user", "content": "Weather?"}, *final.output]
    client.responses.create(model=MODEL, input=items)
    turn = asked(server)["messages"][1]
    assert turn["content"] == "I look." and turn["reasoning_content"] == "Oslo?"
    assert [call["id"] for call in turn["tool_calls"]] == ["call_a", "call_b"]


def test_response_goes_on_from_another(server: LiveServer, client: openai.OpenAI) -> None:
    """With its input and output before the new input, and without its instructions."""
    first = client.responses.create(model=MODEL, input="One", instructions="Be brief.")
    second = client.responses.create(model=MODEL, input="Two", previous_response_id=first.id)
    third = client.responses.create(model=MODEL, input="Three", previous_response_id=second.id)
    assert third.previous_response_id == second.id
    assert [(one["role"], one["content"]) for one in asked(server)["messages"]] == [
        ("user", "One"),
        ("assistant", "Hello there."),
        ("user", "Two"),
        ("assistant", "Hello there."),
        ("user", "Three"),
    ]


def test_streamed_response_is_gone_on_from(server: LiveServer, client: openai.OpenAI) -> None:
    """As any other: with its calls, which their outputs answer."""
    script(server)
    with client.responses.stream(model=MODEL, input="Weather?", tools=TOOLS) as stream:
        final = stream.get_final_response()
    output: Any = {"type": "function_call_output", "call_id": "call_a", "output": "rain"}
    client.responses.create(model=MODEL, input=[output], previous_response_id=final.id)
    assert [one["role"] for one in asked(server)["messages"]] == ["user", "assistant", "tool"]


def test_unknown_previous_response_is_refused(client: openai.OpenAI) -> None:
    """400 with its name, as OpenAI does."""
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model=MODEL, input="x", previous_response_id="resp_nobody")
    assert caught.value.param == "previous_response_id" and "resp_nobody" in caught.value.message


# The store


def test_response_is_retrieved_and_deleted(client: openai.OpenAI) -> None:
    """Byte for byte what was answered, until it is deleted."""
    made = client.responses.create(model=MODEL, input="Hi!")
    assert client.responses.retrieve(made.id, include=["message.output_text.logprobs"]).to_dict() == made.to_dict()
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError) as caught:
        client.responses.retrieve(made.id)
    assert caught.value.param == "response_id" and caught.value.code is None
    with pytest.raises(openai.NotFoundError):
        client.responses.delete(made.id)


def test_response_that_is_not_to_be_stored_is_not(client: openai.OpenAI) -> None:
    """`store: false`."""
    made = client.responses.create(model=MODEL, input="Hi!", store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


def test_nothing_can_be_cancelled(client: openai.OpenAI) -> None:
    """400 for a response, 404 for none, as OpenAI does."""
    made = client.responses.create(model=MODEL, input="Hi!")
    with pytest.raises(openai.BadRequestError, match="background"):
        client.responses.cancel(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.cancel("resp_nobody")


def test_input_items_come_in_pages(client: openai.OpenAI) -> None:
    """The newest first unless asked otherwise; the SDK turns the pages."""
    items: list[Any] = [{"role": "user", "content": str(number)} for number in range(5)]
    made = client.responses.create(model=MODEL, input=items)
    for order, expected in (("asc", ["0", "1", "2", "3", "4"]), ("desc", ["4", "3", "2", "1", "0"])):
        listed = list(client.responses.input_items.list(made.id, limit=2, order=order))  # type: ignore[arg-type]
        assert [one.to_dict()["content"][0]["text"] for one in listed] == expected  # type: ignore[index]
    page = client.responses.input_items.list(made.id, limit=2)
    assert page.has_more and len(page.data) == 2


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "order=up", "after=nothing", "before=x", "limit=99999999999"]
)
def test_page_that_cannot_be_is_refused(server: LiveServer, client: openai.OpenAI, query: str) -> None:
    """400 with the parameter's name."""
    made = client.responses.create(model=MODEL, input="x")
    answer = server.get(f"{PATH}/{made.id}/input_items?{query}")
    assert answer.status_code == 400 and answer.json()["error"]["param"] == query.partition("=")[0]


def test_finished_response_is_not_streamed_again(server: LiveServer, client: openai.OpenAI) -> None:
    """Refused by name."""
    made = client.responses.create(model=MODEL, input="x")
    with pytest.raises(openai.BadRequestError, match="stream"):
        client.responses.retrieve(made.id, stream=True)


def response(number: int, size: int = 10) -> dict[str, Any]:
    return {"id": f"r{number}", "output": [{"type": "message", "text": "x" * size}]}


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_store_forgets_what_is_old() -> None:
    """After its time, not before."""
    clock = Clock()
    store = ResponseStore(clock=clock, ttl_s=10)
    store.keep(response(1), [], [])
    clock.now += 9.9
    assert store.find("r1") is not None
    clock.now += 0.1
    assert store.find("r1") is None


def test_store_is_bounded() -> None:
    """In number and in bytes: the oldest go; one that is too large alone is not kept and sends none away."""
    store = ResponseStore(clock=Clock(), max_responses=2)
    for number in range(3):
        store.keep(response(number), [], [])
    assert [store.find(f"r{number}") is not None for number in range(3)] == [False, True, True]
    store = ResponseStore(clock=Clock(), max_bytes=400)
    for number in range(3):
        store.keep(response(number, 100), [], [])
    assert [store.find(f"r{number}") is not None for number in range(3)] == [False, True, True]
    store.keep(response(3, 500), [], [])
    assert store.find("r3") is None and store.find("r2") is not None
    store.drop("r1")
    store.keep(response(4, 100), [], [])
    assert store.find("r2") is not None and store.find("r4") is not None


# Fields

HONOURED: dict[str, tuple[Any, str, Any]] = {
    "max_output_tokens": (7, "max_tokens", 7),
    "temperature": (0.5, "temperature", 0.5),
    "top_p": (0.5, "top_p", 0.5),
    "top_logprobs": (3, "top_logprobs", 3),
    "include": ([LOGPROBS], "logprobs", True),
    "text": ({"format": {"type": "json_object"}}, "structure", {"kind": "json_object"}),
}
"""What is sent, the parameter of `completion` that it becomes, and its value there."""
IN_THE_CHAT: dict[str, tuple[Any, str, Any]] = {
    "input": ("Hi!", "messages", [{"role": "user", "content": "Hi!"}]),
    "tools": ([OTHER_TOOL], "tools", [{"type": "function", "function": {"name": "time"}}]),
    "tool_choice": ("none", "tool_choice", {"mode": "none"}),
    "parallel_tool_calls": (False, "parallel_tool_calls", False),
    "reasoning": ({"effort": "none"}, "chat_template_kwargs", {"reasoning_effort": "none", "enable_thinking": False}),
}
OTHERWISE = {
    *("model", "instructions", "previous_response_id", "stream", "stream_options", "store", "metadata", "keep_alive"),
}
"""Fields with tests of their own."""


def test_every_field_has_its_place() -> None:
    """No field of the bodies is without a row here; no field of the SDK's is unknown."""
    from openai.types.responses.response_create_params import ResponseCreateParamsBase

    fields = {*ResponseBody.model_fields, *InputBody.model_fields}
    assert fields == {*HONOURED, *IN_THE_CHAT, *OTHERWISE}
    assert not fields & {*UNUSED.harmless, *UNUSED.refused} and not set(UNUSED.harmless) & set(UNUSED.refused)
    known = {*fields, *UNUSED.harmless, *UNUSED.refused}
    assert set(ResponseCreateParamsBase.__annotations__) <= known


@pytest.mark.parametrize("name", HONOURED)
def test_field_reaches_the_worker(server: LiveServer, name: str) -> None:
    """As the parameter that it means."""
    value, parameter, expected = HONOURED[name]
    server.fleet.completion = said("x")
    assert server.post(PATH, {"input": "x", name: value}).status_code == 200
    assert server.fleet.jobs[-1].parameters[parameter] == expected


@pytest.mark.parametrize("name", IN_THE_CHAT)
def test_field_is_a_part_of_the_chat(server: LiveServer, name: str) -> None:
    """What the template or the reader of the answer is told."""
    value, part, expected = IN_THE_CHAT[name]
    server.fleet.completion = said("x")
    assert server.post(PATH, {"input": "x", "tools": [OTHER_TOOL], name: value}).status_code == 200
    assert asked(server)[part] == expected


@pytest.mark.parametrize("name", UNUSED.harmless)
def test_harmless_field_changes_nothing(server: LiveServer, name: str) -> None:
    """Whatever its value: the worker never hears of it."""
    server.fleet.completion = said("x")
    for body in ({"input": "x"}, {"input": "x", name: "anything"}):
        assert server.post(PATH, body).status_code == 200
    plain, other = server.fleet.jobs[-2:]
    assert (plain.inputs, plain.parameters) == (other.inputs, other.parameters)


@pytest.mark.parametrize("name", UNUSED.refused)
def test_refused_field_is_named(server: LiveServer, name: str) -> None:
    """400 with the reason, unless it is null or says what is so anyway."""
    server.fleet.completion = said("x")
    neutral, reason = UNUSED.refused[name]
    answer = server.post(PATH, {"input": "x", name: "anything"})
    assert answer.status_code == 400 and answer.json()["error"]["param"] == name
    assert reason in answer.json()["error"]["message"] and not server.fleet.jobs
    for value in (None, *neutral):
        assert server.post(PATH, {"input": "x", name: value}).status_code == 200


INSIDE: dict[str, tuple[Unused, str, Callable[[dict[str, Any]], dict[str, Any]]]] = {
    "reasoning": (UNUSED_IN_REASONING, "reasoning", lambda extra: {"input": "x", "reasoning": extra}),
    "text": (UNUSED_IN_TEXT, "text", lambda extra: {"input": "x", "text": extra}),
    "format": (
        UNUSED_IN_FORMAT,
        "text.format",
        lambda extra: {"input": "x", "text": {"format": {"type": "text", **extra}}},
    ),
    "tools": (UNUSED_IN_TOOLS, "tools[0]", lambda extra: {"input": "x", "tools": [{**OTHER_TOOL, **extra}]}),
    "items": (UNUSED_IN_ITEMS, "input[0]", lambda extra: {"input": [{"role": "user", "content": "x", **extra}]}),
    "parts": (
        UNUSED_IN_PARTS,
        "input[0].content[0]",
        lambda extra: {"input": [{"role": "user", "content": [{"type": "input_text", "text": "x", **extra}]}]},
    ),
}


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, (unused, _, _) in INSIDE.items() for name in unused.harmless]
)
def test_harmless_field_inside_is_taken(server: LiveServer, kind: str, name: str) -> None:
    """With any value."""
    server.fleet.completion = said("x")
    assert server.post(PATH, INSIDE[kind][2]({name: ["anything"]})).status_code == 200


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, (unused, _, _) in INSIDE.items() for name in unused.refused]
)
def test_refused_field_inside_is_named(server: LiveServer, kind: str, name: str) -> None:
    """With its place, unless it says what is so anyway."""
    server.fleet.completion = said("x")
    unused, where, body = INSIDE[kind]
    answer = server.post(PATH, body({name: "anything"}))
    assert answer.status_code == 400 and answer.json()["error"]["param"] == f"{where}.{name}"
    for value in (None, *unused.refused[name][0]):
        assert server.post(PATH, body({name: value})).status_code == 200


@pytest.mark.parametrize("name", INCLUDABLE)
def test_all_that_openai_includes_can_be_named(server: LiveServer, name: str) -> None:
    """Whether there is anything of the kind or not."""
    server.fleet.completion = said("x")
    assert server.post(PATH, {"input": "x", "include": [name]}).status_code == 200


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("auto", {"mode": "auto"}),
        ("required", {"mode": "required"}),
        ({"type": "function", "name": "time"}, {"mode": "required", "names": ["time"]}),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "time"}]},
            {"mode": "auto", "names": ["time"]},
        ),
    ],
)
def test_tool_choice_is_understood(server: LiveServer, given: Any, expected: dict[str, Any]) -> None:
    """All forms that functions have."""
    server.fleet.completion = said("x")
    answer = server.post(PATH, {"input": "x", "tools": TOOLS, "tool_choice": given})
    assert answer.status_code == 200 and asked(server)["tool_choice"] == expected
    assert answer.json()["tool_choice"] == given


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        ({"input": [5]}, "input[0]"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"input": [{"type": "computer_call_output"}]}, "input[0].type"),
        ({"input": [{"role": "alien", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0].type"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "no file!"}]}]},
            "input[0]",
        ),
        ({"input": "x", "tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"input": "x", "tools": [{"type": "mcp", "server_url": "x"}]}, "tools[0].type"),
        ({"input": "x", "tools": [{**TOOL, "name": "a b"}]}, "tools[0].name"),
        ({"input": "x", "tools": [{**TOOL, "parameters": {"type": "string"}}]}, "tools[0].parameters"),
        ({"input": "x", "tools": [TOOL, TOOL]}, "tools"),
        ({"input": "x", "tool_choice": "required"}, "tool_choice"),
        ({"input": "x", "tools": [TOOL], "tool_choice": "perhaps"}, "tool_choice"),
        ({"input": "x", "tools": [TOOL], "tool_choice": {"type": "function", "name": "no"}}, "tool_choice"),
        ({"input": "x", "tools": [TOOL], "tool_choice": {"type": "web_search"}}, "tool_choice.type"),
        ({"input": "x", "text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"input": "x", "text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"input": "x", "reasoning": {"summary": "concise"}}, "reasoning.summary"),
        ({"input": "x", "reasoning": {"effort": "huge"}}, "reasoning.effort"),
        ({"input": "x", "include": ["everything"]}, "include[0]"),
        ({"input": "x", "metadata": {"k": "v" * 513}}, "metadata.k"),
        ({"input": "x", "stream_options": {"include_obfuscation": False}}, "stream_options"),
        ({"input": "x", "temperature": 2.5}, "temperature"),
        ({"input": "x", "max_output_tokens": 0}, "max_output_tokens"),
        ({"input": "x", "top_logprobs": 21}, "top_logprobs"),
        ({"input": "x", "best_of": 2}, "best_of"),
        ({"input": "x", "model": "nobody"}, "model"),
        ({"input": "x", "model": "reviews"}, "model"),
    ],
)
def test_wrong_field_is_named(server: LiveServer, body: dict[str, Any], param: str) -> None:
    """400, or 404 for a model, in OpenAI's shape with the path of the field; the message begins with it."""
    answer = server.post(PATH, body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (404 if param == "model" else 400, param), error
    assert not server.fleet.jobs


def test_input_tokens_are_counted(server: LiveServer, client: openai.OpenAI) -> None:
    """By asking for an answer of no tokens."""
    counted = client.responses.input_tokens.count(model=MODEL, input="Hi!", instructions="Be brief.")
    assert counted.input_tokens == 11
    assert server.fleet.jobs[-1].parameters["max_tokens"] == 0 and len(asked(server)["messages"]) == 2


def test_sdk_speaks_below_a_models_url(server: LiveServer) -> None:
    """The whole life of a response, whose model the URL names; errors there have OpenAI's shape."""
    server.fleet.completion = said("Hello there.")
    with openai.OpenAI(base_url=f"{server.url}/models/{MODEL}/v1", api_key="none", max_retries=0) as client:
        first = client.responses.create(input="Hi!", model="tgi")
        assert server.fleet.jobs[-1].model_id == MODEL
        assert client.responses.create(input="And?", previous_response_id=first.id).output_text == "Hello there."
        assert client.responses.input_tokens.count(input="Hi!").input_tokens == 11
        assert client.responses.retrieve(first.id).id == first.id
        assert len(client.responses.input_items.list(first.id).data) == 1
        with pytest.raises(openai.BadRequestError, match="both asked for"):
            client.responses.create(input="Hi!", model="reviews")
        with pytest.raises(openai.BadRequestError, match="background"):
            client.responses.cancel(first.id)
        client.responses.delete(first.id)
        with pytest.raises(openai.NotFoundError, match="no response"):
            client.responses.retrieve(first.id)


def test_routes_are_documented(server: LiveServer) -> None:
    """Each with its methods, below a model's URL too."""
    paths = server.get("/openapi.json").json()["paths"]
    for path in (PATH, f"/models/{{model_id}}{PATH}"):
        assert set(paths[path]) == {"post"} and set(paths[f"{path}/{{response_id}}"]) == {"get", "delete"}
        assert f"{path}/{{response_id}}/cancel" in paths and f"{path}/{{response_id}}/input_items" in paths
