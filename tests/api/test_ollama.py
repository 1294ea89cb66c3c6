"""Ollama's routes, driven by its own package."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import ollama
import pytest
from pydantic import BaseModel

from app import errors
from app.api.fields import Unused
from app.api.ollama.body import (
    REFUSED_PATHS,
    UNUSED_IN_CHAT,
    UNUSED_IN_GENERATE,
    UNUSED_IN_OPTIONS,
    UNUSED_IN_SHOW,
    ChatBody,
    EmbedBody,
    EmbeddingsBody,
    GenerateBody,
    Message,
    Options,
    read_keep_alive,
)
from app.api.ollama.models import running_of, shown
from app.catalog import ModelSpec
from app.errors import BackendFailed, PipeserveError
from app.fleet.requests import ModelStatus
from app.tasks.completion import Alternative, Choice, Completion, Delta, Token, ToolCall
from tests.api.conftest import LiveServer

CHAT, GENERATE = "/api/chat", "/api/generate"
MODEL = "tiny-text-generation"
HELLO: list[Any] = [{"role": "user", "content": "Hi!"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "weather", "description": "Of a city.", "parameters": SCHEMA}},
    {"type": "function", "function": {"name": "time", "description": "Now."}},
]
CALLS = (
    ToolCall(index=0, id="call_a", name="weather", arguments='{"city":"Oslo"}'),
    ToolCall(index=1, id="call_b", name="time", arguments="{}"),
)
PNG = b"\x89PNG\r\n\x1a\n"
IMAGE = base64.b64encode(PNG).decode()


def said(text: str, **fields: Any) -> Completion:
    """A completion of one choice."""
    choice = Choice(**{"text": text, "finish_reason": "stop", "num_tokens": 3, **fields})
    return Completion(choices=(choice,), num_prompt_tokens=11, num_tokens=3)


@pytest.fixture
def client(server: LiveServer) -> Iterator[ollama.Client]:
    server.fleet.completion = said("Hello there.")
    with ollama.Client(host=server.url) as made:
        yield made


def asked(server: LiveServer) -> dict[str, Any]:
    """What the worker was sent last."""
    (one_input,) = server.fleet.jobs[-1].inputs
    return dict(one_input)


# Whole answers


def test_chat_is_answered(client: ollama.Client) -> None:
    """With counts and durations in nanoseconds."""
    answer = client.chat(model=MODEL, messages=HELLO)
    assert (answer.message.role, answer.message.content) == ("assistant", "Hello there.")
    assert (answer.model, answer.done, answer.done_reason) == (MODEL, True, "stop")
    assert (answer.prompt_eval_count, answer.eval_count) == (11, 3)
    assert (answer.prompt_eval_duration, answer.eval_duration, answer.load_duration) == (2_000_000, 3_000_000, 0)
    assert answer.total_duration is not None and answer.total_duration > 0
    assert answer.created_at is not None and answer.created_at.endswith("Z")


def test_prompt_is_answered_as_a_chat(server: LiveServer, client: ollama.Client) -> None:
    """Of one turn, with the system's word before it."""
    answer = client.generate(model=MODEL, prompt="Hi!", system="Be brief.")
    assert (answer.response, answer.done_reason) == ("Hello there.", "stop")
    assert asked(server)["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi!"},
    ]


def test_raw_prompt_is_read_as_it_is(server: LiveServer, client: ollama.Client) -> None:
    """Without a template; so is one with a suffix."""
    client.generate(model=MODEL, prompt="Once", raw=True)
    assert asked(server) == {"prompt": "Once"}
    client.generate(model=MODEL, prompt="Once", suffix="the end")
    assert asked(server) == {"prompt": "Once", "suffix": "the end"}


def test_answer_that_was_cut_says_so(server: LiveServer, client: ollama.Client) -> None:
    """`length`, streamed or not."""
    server.fleet.completion = said("x", finish_reason="length")
    assert client.chat(model=MODEL, messages=HELLO).done_reason == "length"
    assert [chunk.done_reason for chunk in client.chat(model=MODEL, messages=HELLO, stream=True)] == ["length"]


def test_thoughts_and_calls_are_parts_of_the_message(server: LiveServer, client: ollama.Client) -> None:
    """Arguments as an object."""
    server.fleet.completion = said("I look.", reasoning="Oslo?", tool_calls=CALLS, finish_reason="tool_calls")
    answer = client.chat(model=MODEL, messages=HELLO, tools=TOOLS, think=True)
    assert (answer.message.thinking, answer.message.content, answer.done_reason) == ("Oslo?", "I look.", "stop")
    assert answer.message.tool_calls is not None
    calls = [(one.function.name, one.function.arguments) for one in answer.message.tool_calls]
    assert calls == [("weather", {"city": "Oslo"}), ("time", {})]
    functions = [tool["function"] for tool in asked(server)["tools"]]
    assert functions[0]["name"] == "weather" and functions[0]["parameters"]["required"] == ["city"]


def test_python_functions_are_tools(server: LiveServer, client: ollama.Client) -> None:
    """As the package describes them."""

    def add(a: int, b: int) -> int:
        """Add two numbers.

        Args:
          a: One.
          b: Another.
        """
        return a + b

    client.chat(model=MODEL, messages=HELLO, tools=[add])
    (tool,) = asked(server)["tools"]
    assert tool["function"]["name"] == "add" and set(tool["function"]["parameters"]["properties"]) == {"a", "b"}


def test_answer_follows_a_schema(server: LiveServer, client: ollama.Client) -> None:
    """Or is any JSON."""

    class City(BaseModel):
        name: str

    client.chat(model=MODEL, messages=HELLO, format=City.model_json_schema())
    structure = server.fleet.jobs[-1].parameters["structure"]
    assert structure["kind"] == "json_schema" and structure["value"]["required"] == ["name"]
    client.generate(model=MODEL, prompt="x", format="json")
    assert server.fleet.jobs[-1].parameters["structure"] == {"kind": "json_object"}
    client.generate(model=MODEL, prompt="x", format="")
    assert "structure" not in server.fleet.jobs[-1].parameters


def test_logprobs_come_where_they_are_asked_for(server: LiveServer, client: ollama.Client) -> None:
    """With the likeliest others."""
    top = (Alternative(1, "Hi", -0.5), Alternative(2, "Ho", -1.0))
    tokens = (Token(id=1, text="Hi", logprob=-0.5, top=top),)
    server.fleet.completion = said("Hi", tokens=tokens)
    server.fleet.deltas = [Delta(text="Hi", tokens=tokens), Delta(finish_reason="stop")]
    plain = client.chat(model=MODEL, messages=HELLO, logprobs=True, top_logprobs=2)
    first, *_ = client.generate(model=MODEL, prompt="x", logprobs=True, top_logprobs=2, stream=True)
    for answer in (plain, first):
        assert answer.logprobs is not None and answer.logprobs[0].top_logprobs is not None
        assert (answer.logprobs[0].token, answer.logprobs[0].logprob) == ("Hi", -0.5)
        assert [one.token for one in answer.logprobs[0].top_logprobs] == ["Hi", "Ho"]


# Streams

STREAM = [
    Delta(reasoning="Oslo?", num_tokens=1),
    Delta(text="I ", num_tokens=2),
    Delta(text="look.", num_tokens=3),
    Delta(tool_calls=(ToolCall(index=0, id="call_a", name="weather"),), num_tokens=4),
    Delta(tool_calls=(ToolCall(index=0, arguments='{"city":'),), num_tokens=5),
    Delta(tool_calls=(ToolCall(index=0, arguments='"Oslo"}'), CALLS[1]), num_tokens=6),
    Delta(num_tokens=7, finish_reason="tool_calls"),
]


def script(server: LiveServer) -> None:
    """A stream of thoughts, text and two calls."""
    server.fleet.deltas = STREAM
    server.fleet.completion = said("I look.", reasoning="Oslo?", tool_calls=CALLS, finish_reason="tool_calls")


def test_stream_gathers_to_the_whole_answer(server: LiveServer, client: ollama.Client) -> None:
    """Calls come whole; the last chunk alone is done."""
    script(server)
    chunks = list(client.chat(model=MODEL, messages=HELLO, tools=TOOLS, stream=True))
    assert "".join(one.message.content or "" for one in chunks) == "I look."
    assert "".join(one.message.thinking or "" for one in chunks) == "Oslo?"
    calls = [call.function for one in chunks for call in one.message.tool_calls or ()]
    assert [(one.name, one.arguments) for one in calls] == [("weather", {"city": "Oslo"}), ("time", {})]
    assert [one.done for one in chunks] == [False] * (len(chunks) - 1) + [True]
    assert (chunks[-1].eval_count, chunks[-1].done_reason) == (3, "stop")


def test_streaming_is_the_default(server: LiveServer) -> None:
    """Lines of JSON."""
    script(server)
    for path, body in ((CHAT, {"messages": HELLO}), (GENERATE, {"prompt": "x"})):
        answer = server.post(path, {"model": MODEL, **body})
        assert answer.headers["content-type"] == "application/x-ndjson"
        lines = [msgspec.json.decode(line) for line in answer.text.splitlines()]
        assert len(lines) > 3 and lines[-1]["done"] is True


async def test_async_client_reads_a_stream(server: LiveServer) -> None:
    """The other half of the package."""
    script(server)
    async with ollama.AsyncClient(host=server.url) as client:
        chunks = [one async for one in await client.generate(model=MODEL, prompt="x", stream=True)]
        plain = await client.chat(model=MODEL, messages=HELLO)
    assert "".join(one.response or "" for one in chunks) == plain.message.content == "I look."


def test_late_error_is_a_line(server: LiveServer, client: ollama.Client) -> None:
    """Which the package raises."""
    server.fleet.deltas = [Delta(text="Hel", num_tokens=1)]
    server.fleet.stream_error = BackendFailed("the model failed")
    stream = client.chat(model=MODEL, messages=HELLO, stream=True)
    assert next(stream).message.content == "Hel"
    with pytest.raises(ollama.ResponseError, match="the model failed"):
        next(stream)


# Messages


def test_messages_reach_the_worker(server: LiveServer, client: ollama.Client) -> None:
    """Calls get ids, and a tool's answer that of the first call of its name."""
    call: dict[str, Any] = {"function": {"name": "weather", "arguments": {"city": "Oslo"}}}
    messages: list[Any] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "", "thinking": "Oslo?", "tool_calls": [call, {**call}]},
        {"role": "tool", "content": "rain", "tool_name": "weather"},
        {"role": "tool", "content": "sun"},
    ]
    client.chat(model=MODEL, messages=messages)
    turn, first, second = asked(server)["messages"][2:]
    ids = [one["id"] for one in turn["tool_calls"]]
    assert turn["reasoning_content"] == "Oslo?" and len(set(ids)) == 2
    assert turn["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city":"Oslo"}'}
    assert first == {"role": "tool", "content": "rain", "name": "weather", "tool_call_id": ids[0]}
    assert second == {"role": "tool", "content": "sun", "tool_call_id": ids[1]}


def test_answer_can_be_sent_back(server: LiveServer, client: ollama.Client) -> None:
    """As the package gives it, which forgets the ids of calls."""
    script(server)
    answer = client.chat(model=MODEL, messages=HELLO, tools=TOOLS)
    result = {"role": "tool", "tool_name": "time", "content": "noon"}
    client.chat(model=MODEL, messages=[*HELLO, answer.message, result])
    turn, tool = asked(server)["messages"][1:]
    assert turn["content"] == "I look." and tool["tool_call_id"] == turn["tool_calls"][1]["id"]


def test_images_reach_the_worker(server: LiveServer, client: ollama.Client) -> None:
    """As files before the text, in chats and prompts."""
    client.chat(model=MODEL, messages=[{"role": "user", "content": "What?", "images": [PNG]}])
    expected = [{"type": "image", "image": PNG}, {"type": "text", "text": "What?"}]
    assert asked(server)["messages"][0]["content"] == expected
    client.generate(model=MODEL, prompt="What?", images=[IMAGE])
    assert asked(server)["messages"][0]["content"] == expected


@pytest.mark.parametrize(
    ("think", "expected"),
    [
        (None, {}),
        (True, {"chat_template_kwargs": {"enable_thinking": True}}),
        (False, {"chat_template_kwargs": {"enable_thinking": False}, "include_reasoning": False}),
        ("low", {"chat_template_kwargs": {"enable_thinking": True, "reasoning_effort": "low"}}),
    ],
)
def test_model_thinks_as_it_is_told_to(server: LiveServer, think: Any, expected: dict[str, Any]) -> None:
    """In chats and prompts alike."""
    server.fleet.completion = said("x")
    for path, body in ((CHAT, {"messages": HELLO}), (GENERATE, {"prompt": "Hi!"})):
        assert server.post(path, {**body, "stream": False, "think": think}).status_code == 200
        plain = {"plain_prompt": "Hi!"} if path == GENERATE else {}
        assert asked(server) == {"messages": HELLO, **plain, **expected}


# Names, loading


def test_latest_is_no_part_of_a_name(server: LiveServer, client: ollama.Client) -> None:
    """Unless it was declared so."""
    answer = client.chat(model=f"{MODEL}:latest", messages=HELLO)
    assert answer.model == f"{MODEL}:latest" and server.fleet.jobs[-1].model_id == MODEL
    named = msgspec.structs.replace(server.fleet.specs[MODEL], id="own:latest")
    server.fleet.specs["own:latest"], server.fleet.states["own:latest"] = named, "ready"
    client.chat(model="own:latest", messages=HELLO)
    assert server.fleet.jobs[-1].model_id == "own:latest"


def test_unknown_model_is_not_found(client: ollama.Client) -> None:
    """404, as Ollama says it."""
    with pytest.raises(ollama.ResponseError, match="nobody") as caught:
        client.chat(model="nobody:latest", messages=HELLO)
    assert caught.value.status_code == 404


@pytest.mark.parametrize(("keep_alive", "reason"), [(None, "load"), ("10m", "load"), (0, "unload")])
def test_no_prompt_loads_or_unloads(server: LiveServer, client: ollama.Client, keep_alive: Any, reason: str) -> None:
    """A desktop client's way of warming a model up."""
    told = client.generate(model=MODEL, keep_alive=keep_alive)
    assert (told.done, told.done_reason, told.response) == (True, reason, "")
    assert client.chat(model=MODEL, messages=[], keep_alive=keep_alive).done_reason == reason
    job = server.fleet.jobs[-1]
    assert job.parameters == {"max_tokens": 1} and job.keep_alive_s == {"10m": 600.0}.get(keep_alive, keep_alive)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        (5, 5),
        (-5, -1),
        ("-1m", -1),
        ("-1", -1),
        ("1h30m", 5400),
        ("24h0m0s", 86400),
        ("5m", 300),
        ("300", "300"),
        ("soon", "soon"),
        ("-soon", "-soon"),
    ],
)
def test_keep_alive_is_read_as_go_reads_it(given: Any, expected: Any) -> None:
    """What is none of it is left for the server's own reader to refuse."""
    assert read_keep_alive(given) == expected


# Vectors


def test_texts_are_embedded(server: LiveServer, client: ollama.Client) -> None:
    """Scaled to length 1 and cut where too long, unless told otherwise."""
    answer = client.embed(model="vectors", input=["a", "b"], dimensions=3, truncate=False)
    assert [list(one) for one in answer.embeddings] == [[0.5, -0.25, 0.125]] * 2
    assert (answer.model, answer.prompt_eval_count) == ("vectors", 5)
    assert server.fleet.jobs[-1].parameters == {"truncate": False, "normalize": True, "dimensions": 3}
    client.embed(model="vectors:latest", input="a")
    assert server.fleet.jobs[-1].parameters == {"truncate": True, "normalize": True}
    assert server.fleet.jobs[-1].inputs == ["a"]


def test_older_route_embeds_one_text(server: LiveServer, client: ollama.Client) -> None:
    """As the model makes its vectors."""
    assert client.embeddings(model="vectors", prompt="a").embedding == [0.5, -0.25, 0.125]
    assert server.fleet.jobs[-1].parameters == {"truncate": True}


# Models


def test_declared_models_are_tags(client: ollama.Client) -> None:
    """Those that generate texts or make vectors."""
    names = {one.model for one in client.list().models}
    assert MODEL in names and "vectors" in names and "reviews" not in names


def test_loaded_models_are_told(server: LiveServer, client: ollama.Client) -> None:
    """No others."""
    assert not client.ps().models
    server.fleet.states[MODEL] = server.fleet.states["reviews"] = "ready"
    (running,) = client.ps().models
    assert running.model == MODEL and running.expires_at is not None


def test_expiry_and_size_are_the_models() -> None:
    """One that is never unloaded expires in a hundred years."""
    spec = ModelSpec(id="a", model="a", tasks=("text-generation",), keep_alive_s=60)
    status = ModelStatus(spec=spec, state="ready", memory={"cuda:0": 9}, unloads_at=160)
    told = running_of(status, now=110)
    assert (told["expires_at"], told["size_vram"]) == ("1970-01-01T00:02:40Z", 9)
    told = running_of(msgspec.structs.replace(status, unloads_at=None), now=110)  # in use
    assert told["expires_at"] == "1970-01-01T00:02:50Z"
    status = msgspec.structs.replace(
        status, unloads_at=None, memory={"cpu": 9}, spec=msgspec.structs.replace(spec, keep_alive_s=-1)
    )
    told = running_of(status, now=110)
    assert told["expires_at"].startswith("2069") and told["size_vram"] == 0


def test_model_is_shown(server: LiveServer, client: ollama.Client) -> None:
    """With what it can do."""
    assert client.show(f"{MODEL}:latest").capabilities == ["completion", "tools"]
    assert client.show("tiny-image-text-to-text").capabilities == ["completion", "tools", "vision"]
    assert client.show("vectors").capabilities == ["embedding"]
    assert server.post("/api/show", {"name": MODEL}).status_code == 200
    with pytest.raises(ollama.ResponseError):
        client.show("nobody")


def test_shown_model_tells_its_size() -> None:
    """In Ollama's words."""
    spec = ModelSpec(id="a", model="a", tasks=("text-generation",), parameters={"top_k": 3})
    status = ModelStatus(spec=spec, state="ready", dtype="bfloat16", num_parameters=1_540_000_000, max_length=512)
    told = shown(status, modified_at=0)
    assert told["details"]["parameter_size"] == "1.5B" and told["details"]["quantization_level"] == "BFLOAT16"
    assert told["model_info"]["transformers.context_length"] == 512 and told["parameters"] == "top_k 3"


def test_version_is_told(server: LiveServer) -> None:
    """Of the API that is spoken."""
    assert server.get("/api/version").json()["version"].count(".") == 2


@pytest.mark.parametrize("path", REFUSED_PATHS)
def test_what_ollama_does_beside_is_refused(server: LiveServer, path: str) -> None:
    """501 with a sentence."""
    method = "DELETE" if path == "/api/delete" else "POST"
    answer = server.client.request(method, path.replace("{digest}", "sha256:0"), content=b"{}")
    assert answer.status_code == 501 and REFUSED_PATHS[path] in answer.json()["error"]


# Errors


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.Overloaded, 429),
        (errors.ModelLoading, 503),
        (errors.InputTooLarge, 400),
        (errors.InvalidInput, 400),
        (errors.BackendFailed, 500),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_errors_have_ollamas_shape(
    server: LiveServer, client: ollama.Client, error: type[PipeserveError], status: int, stream: bool
) -> None:
    """Before the first line of a stream too."""
    server.fleet.error = error("a sentence")
    with pytest.raises(ollama.ResponseError, match="a sentence") as caught:
        list(client.chat(model=MODEL, messages=HELLO, stream=stream))  # type: ignore[call-overload]  # its overloads take True or False alone
    assert caught.value.status_code == status
    assert set(server.post(CHAT, {"model": 5}).json()) == {"error"}


# Fields

OPTIONS: dict[str, tuple[Any, str, Any]] = {
    "seed": (3, "seed", 3),
    "num_predict": (7, "max_tokens", 7),
    "temperature": (0.5, "temperature", 0.5),
    "top_k": (5, "top_k", 5),
    "top_p": (0.5, "top_p", 0.5),
    "min_p": (0.1, "min_p", 0.1),
    "typical_p": (0.9, "typical_p", 0.9),
    "repeat_penalty": (1.5, "repetition_penalty", 1.5),
    "presence_penalty": (0.5, "presence_penalty", 0.5),
    "frequency_penalty": (0.5, "frequency_penalty", 0.5),
    "stop": (["x"], "stop", ["x"]),
}
"""What is sent, the parameter of `completion` that it becomes, and its value there."""


def test_every_field_has_its_place() -> None:
    """No field of the package's is unknown; none is refused and honoured at once."""
    from ollama import _types as types

    unused = {*UNUSED_IN_OPTIONS.harmless, *UNUSED_IN_OPTIONS.refused}
    assert set(Options.model_fields) == set(OPTIONS) and not unused & set(OPTIONS)
    assert set(types.Options.model_fields) <= {*OPTIONS, *unused}
    assert set(types.ChatRequest.model_fields) <= set(ChatBody.model_fields)
    assert set(types.Message.model_fields) <= set(Message.model_fields)
    assert set(types.GenerateRequest.model_fields) <= {*GenerateBody.model_fields, *UNUSED_IN_GENERATE.refused}
    assert set(types.EmbedRequest.model_fields) <= set(EmbedBody.model_fields)
    assert set(types.EmbeddingsRequest.model_fields) <= set(EmbeddingsBody.model_fields)


@pytest.mark.parametrize("name", OPTIONS)
def test_option_reaches_the_worker(server: LiveServer, client: ollama.Client, name: str) -> None:
    """As the parameter that it means."""
    value, parameter, expected = OPTIONS[name]
    client.chat(model=MODEL, messages=HELLO, options={name: value})
    assert server.fleet.jobs[-1].parameters == {parameter: expected, "clip_max_tokens": True}


@pytest.mark.parametrize("options", [{"num_predict": -1}, {"num_predict": 0}, {"seed": -1}, {"temperature": None}])
def test_option_that_says_nothing_is_unset(server: LiveServer, client: ollama.Client, options: dict[str, Any]) -> None:
    """As Ollama reads them."""
    client.chat(model=MODEL, messages=HELLO, options=options)
    assert server.fleet.jobs[-1].parameters == {"clip_max_tokens": True}


INSIDE: dict[str, tuple[Unused, str, str, Callable[[dict[str, Any]], dict[str, Any]]]] = {
    "options": (UNUSED_IN_OPTIONS, CHAT, "options.", lambda extra: {"messages": HELLO, "options": extra}),
    "chat": (UNUSED_IN_CHAT, CHAT, "", lambda extra: {"messages": HELLO, **extra}),
    "generate": (UNUSED_IN_GENERATE, GENERATE, "", lambda extra: {"prompt": "Hi!", **extra}),
    "show": (UNUSED_IN_SHOW, "/api/show", "", lambda extra: {"model": MODEL, **extra}),
    "embed": (UNUSED_IN_OPTIONS, "/api/embed", "options.", lambda extra: {"input": "a", "options": extra}),
}


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, (unused, *_) in INSIDE.items() for name in unused.harmless]
)
def test_harmless_field_changes_nothing(server: LiveServer, kind: str, name: str) -> None:
    """Whatever its value: the worker never hears of it."""
    server.fleet.completion = said("x")
    _, path, _, body = INSIDE[kind]
    for extra in ({}, {name: ["anything"]}):
        assert server.post(path, body(extra)).status_code == 200
    if path != "/api/show":
        plain, other = server.fleet.jobs[-2:]
        assert (plain.inputs, plain.parameters) == (other.inputs, other.parameters)


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, (unused, *_) in INSIDE.items() for name in unused.refused]
)
def test_refused_field_is_named(server: LiveServer, kind: str, name: str) -> None:
    """400 with its place and the reason, unless it is null or says what is so anyway."""
    server.fleet.completion = said("x")
    unused, path, where, body = INSIDE[kind]
    neutral, reason = unused.refused[name]
    answer = server.post(path, body({name: "anything"}))
    assert (answer.status_code, answer.json()["error"]) == (400, f"{where}{name}: {reason}.")
    for value in (None, *neutral):
        assert server.post(path, body({name: value})).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "place"),
    [
        (CHAT, {"messages": [{"role": "alien", "content": "x"}]}, "messages[0].role"),
        (CHAT, {"messages": [{"role": "user", "content": "x", "images": ["no file!"]}]}, "messages[0]"),
        (CHAT, {"messages": HELLO, "tools": [{"type": "web"}]}, "tools[0]"),
        (CHAT, {"messages": HELLO, "tools": [TOOLS[0], TOOLS[0]]}, "tools"),
        (
            CHAT,
            {"messages": HELLO, "tools": [{"function": {"name": "a", "parameters": {"type": "string"}}}]},
            "tools[0].function.parameters",
        ),
        (CHAT, {"messages": HELLO, "tools": [{"function": {"name": "a b"}}]}, "tools[0].function.name"),
        (CHAT, {"messages": HELLO, "format": "xml"}, "format"),
        (CHAT, {"messages": HELLO, "think": "hard"}, "think"),
        (CHAT, {"messages": HELLO, "top_logprobs": 3}, "top_logprobs"),
        (CHAT, {"messages": HELLO, "keep_alive": "soon"}, "keep_alive"),
        (CHAT, {"messages": HELLO, "options": {"temperature": 3}}, "options.temperature"),
        (CHAT, {"messages": HELLO, "options": {"num_beams": 3}}, "options.num_beams"),
        (CHAT, {"messages": HELLO, "n": 2}, "n"),
        (GENERATE, {"prompt": "x", "raw": True, "system": "y"}, "system"),
        (GENERATE, {"prompt": "x", "suffix": "z", "images": [IMAGE]}, "images"),
        (GENERATE, {"prompt": "x", "images": ["no file!"]}, "prompt"),
        ("/api/embed", {"input": []}, "input"),
        ("/api/embed", {"input": ["a", ""]}, "input[1]"),
        ("/api/embed", {"input": "a", "dimensions": 0}, "dimensions"),
        ("/api/embed", {"input": "a", "options": {"num_beams": 3}}, "options.num_beams"),
        ("/api/embeddings", {"prompt": ""}, "prompt"),
        ("/api/show", {}, "model"),
    ],
)
def test_wrong_field_is_named(server: LiveServer, path: str, body: dict[str, Any], place: str) -> None:
    """400; the sentence begins with the path of the field."""
    answer = server.post(path, body)
    assert answer.status_code == 400 and answer.json()["error"].startswith(place), answer.text
    assert not server.fleet.jobs


def test_routes_are_documented(server: LiveServer) -> None:
    """Those that answer."""
    paths = server.get("/openapi.json").json()["paths"]
    for name in ("chat", "generate", "embed", "embeddings", "show", "tags", "ps", "version"):
        assert f"/api/{name}" in paths
