"""Streams whose worker is killed or whose clients vanish, on servers of their own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests import tiny
from tests.contract.conftest import StartServer
from tests.server import RunningServer, metric, wait_until

MODEL = "chatml"
MESSAGES = [{"role": "user", "content": "hello"}]
GOES_ON = "the"
"""A prompt after which the model finds no end."""
LONG = 1900
"""Tokens: far more than are made before the worker is stopped."""

DIALECTS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": LONG, "temperature": 0}),
    "completions": ("/v1/completions", {"prompt": GOES_ON, "max_tokens": LONG, "temperature": 0}),
    "responses": ("/v1/responses", {"input": "hello", "max_output_tokens": LONG, "temperature": 0}),
    "anthropic": ("/v1/messages", {"messages": MESSAGES, "max_tokens": LONG, "temperature": 0}),
    "ollama chat": ("/api/chat", {"messages": MESSAGES, "options": {"num_predict": LONG, "temperature": 0}}),
    "ollama": ("/api/generate", {"prompt": "hello", "options": {"num_predict": LONG, "temperature": 0}}),
    "tgi": ("/generate_stream", {"inputs": GOES_ON, "parameters": {"max_new_tokens": LONG}}),
    "task": ("/v1/text-generation", {"inputs": GOES_ON, "parameters": {"max_new_tokens": LONG}}),
}
"""How each asks for a stream."""


def _events(text: str) -> list[Any]:
    """The data of server-sent events, or the lines of newline-delimited JSON; what is no JSON as it is."""
    lines = [line.removeprefix("data:").strip() for line in text.splitlines() if line.startswith(("data:", "{"))]
    return [json.loads(line) if line.startswith("{") else line for line in lines]


ERRORS: dict[str, Callable[[list[Any]], Any]] = {
    "chat": lambda events: events[-1]["error"]["message"],
    "completions": lambda events: events[-1]["error"]["message"],
    "responses": lambda events: events[-1]["type"] == "response.failed" and events[-1]["response"]["error"]["message"],
    "anthropic": lambda events: events[-1]["type"] == "error" and events[-1]["error"]["message"],
    "ollama chat": lambda events: events[-1]["error"],
    "ollama": lambda events: events[-1]["error"],
    "tgi": lambda events: events[-1]["error_type"] == "worker_lost" and events[-1]["error"],
    "task": lambda events: events[-1]["error_type"] == "worker_lost" and events[-1]["error"],
}
"""Where each says what went wrong: in its last event."""


@pytest.fixture
def chat_server(start_server: StartServer, tiny_dir: Path) -> RunningServer:
    return start_server([{"id": MODEL, "task": "text-generation", "model": str(tiny.build(MODEL, tiny_dir))}])


def body_of(name: str, *, stream: bool = True, tokens: int = LONG) -> dict[str, Any]:
    text = json.dumps(DIALECTS[name][1]).replace(str(LONG), str(tokens))
    body: dict[str, Any] = json.loads(text)
    if DIALECTS[name][0] != "/generate_stream":
        body["stream"] = stream
    if DIALECTS[name][0] not in ("/generate_stream", "/v1/text-generation"):
        body["model"] = MODEL
    return body


def test_killed_worker_ends_begun_streams_and_loses_nothing_else(chat_server: RunningServer) -> None:
    """A stream of which somebody has read ends with an error in its own dialect; requests that have not begun,
    streaming or not, are computed again and answered as ever."""
    quick = {name: body_of(name, stream=name.endswith("s"), tokens=6) for name in DIALECTS}
    expected = {name: _told(chat_server.post(DIALECTS[name][0], body)) for name, body in quick.items()}
    assert all(expected.values())
    with ExitStack() as stack, ThreadPoolExecutor(len(quick)) as pool:
        client = stack.enter_context(chat_server.client())
        begun: dict[str, tuple[httpx.Response, Any]] = {}
        for name, (path, _) in DIALECTS.items():
            response = stack.enter_context(client.stream("POST", path, json=body_of(name)))
            chunks = response.iter_text()
            begun[name] = response, chunks
            assert next(chunks)
        (pid,) = chat_server.worker_pids(MODEL)
        os.kill(pid, signal.SIGSTOP)
        waiting = {name: pool.submit(chat_server.post, DIALECTS[name][0], body) for name, body in quick.items()}
        wait_until(lambda: _in_flight(chat_server) >= len(begun) + len(waiting), what="all requests in flight")
        os.kill(pid, signal.SIGKILL)
        for name, (response, chunks) in begun.items():
            assert response.status_code == 200
            rest = _events("".join(chunks))
            assert "ended in the midst of this stream" in ERRORS[name](rest), (name, rest[-1])
        assert {name: _told(one.result()) for name, one in waiting.items()} == expected
    assert metric(chat_server.get("/metrics").text, "pipeserve_restarts_total", model=MODEL) == 1


def _told(response: httpx.Response) -> Any:
    """The text of an answer or a stream, without ids and times."""
    assert response.status_code == 200, response.text
    if "json" in response.headers["content-type"] and "ndjson" not in response.headers["content-type"]:
        answer = response.json()
        return _text_in(answer[0] if isinstance(answer, list) else answer)
    return "".join(_text_in(one) for one in _events(response.text) if isinstance(one, dict))


def _text_in(event: dict[str, Any]) -> str:
    choice = (event.get("choices") or [{}])[0]
    content = event.get("content")
    found = (
        (choice.get("message") or choice.get("delta") or {}).get("content"),
        choice.get("text"),
        event.get("delta") if event.get("type") == "response.output_text.delta" else None,
        content[0]["text"] if isinstance(content, list) else None,
        (event.get("message") or {}).get("content"),
        event.get("response") if isinstance(event.get("response"), str) else None,
        event.get("generated_text"),
    )
    return "".join(one for one in found if isinstance(one, str))


def _in_flight(server: RunningServer) -> float:
    return metric(server.get("/metrics").text, "pipeserve_in_flight_items", model=MODEL)


async def test_a_thousand_clients_that_vanish_leave_the_engine_as_it_was(server: RunningServer, tiny_dir: Path) -> None:
    """Half of them ask for a stream, and some have read of it: all slots and all memory come free, and right after
    the tokens of strangers that are computed together are those of `generate`."""
    assert _told(server.post("/v1/completions", body_of("completions", stream=False, tokens=2)))
    host, port = server.url.removeprefix("http://").split(":")

    async def vanish(index: int) -> None:
        name = list(DIALECTS)[index % len(DIALECTS)]
        body = json.dumps(body_of(name, stream=index // len(DIALECTS) % 2 == 0)).encode()
        reader, writer = await asyncio.open_connection(host, int(port))
        head = f"POST {DIALECTS[name][0]} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        if index % 3 == 0:
            try:
                await asyncio.wait_for(reader.read(1), 0.02)
            except TimeoutError:
                pass
        writer.transport.abort()

    for wave in range(4):
        await asyncio.gather(*(vanish(wave * 250 + index) for index in range(250)))
    for gauge in ("in_flight_items", "generating_sequences", "waiting_sequences", "kv_cache_usage_ratio"):
        wait_until(partial(_is_zero, server, f"pipeserve_{gauge}"), what=f"{gauge} back at 0")
    prompts = [list(range(3 + index, 3 + 7 * (index + 1))) for index in range(5)]
    body = {"model": MODEL, "prompt": prompts, "max_tokens": 24, "temperature": 0, "return_token_ids": True}
    answer = server.post("/v1/completions", body).json()
    model = AutoModelForCausalLM.from_pretrained(tiny.build(MODEL, tiny_dir)).eval()
    with torch.inference_mode():
        for prompt, choice in zip(prompts, answer["choices"], strict=True):
            tokens = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=24)
            assert choice["token_ids"] == tokens[0, len(prompt) :].tolist()
    assert metric(server.get("/metrics").text, "pipeserve_restarts_total", model=MODEL) == 0


def _is_zero(server: RunningServer, name: str) -> bool:
    return metric(server.get("/metrics").text, name, model=MODEL) == 0
