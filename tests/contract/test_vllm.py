"""`backend: vllm` on a real server: the tests of our own engine, and its answers beside that engine's.

In the environment that `pipeserve env create vllm` makes, which is built if it is not there, or in that of the Python
that PIPESERVE_TEST_VLLM names.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2 as httpx
import openai
import psutil
import pytest

from tests import tiny
from tests.contract.conftest import StartServer, write_catalog
from tests.contract.environments import environment
from tests.contract.test_openai import (  # noqa: F401  # they run on this module's server
    test_chat_is_answered,
    test_equal_request_ids_are_answered_each_by_itself,
    test_named_tool_is_streamed_as_openai_streams_it,
    test_other_ways_to_the_same_chat,
    test_part_of_a_schema_that_cannot_be_held_is_named,
    test_required_tool_is_called,
    test_schema_holds_whatever_the_model,
    test_seed_makes_it_again_and_choices_differ,
    test_stream_says_what_the_answer_says,
    test_strict_tool_that_the_model_chose_follows_its_schema,
    test_structured_outputs_of_vllm,
    test_thoughts_are_told_apart,
    test_too_long_says_both_numbers,
)
from tests.contract.test_streams import (  # noqa: F401
    test_killed_worker_ends_begun_streams_and_loses_nothing_else,
)
from tests.server import RunningServer, metric, wait_until

MODEL = "chatml"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
PROMPTS = ["hello", "the", "a longer prompt than the others, with commas", "0123456789" * 20]


def entry(folder: Path, **more: Any) -> dict[str, Any]:
    """Its first request waits for imports and, where it is compiled, for a C++ compiler: minutes on a busy machine."""
    declared = {"id": MODEL, "task": "text-generation", "model": str(folder), "dtype": "float32", "threads": 1}
    return {**declared, "backend": "vllm", "kv_cache": "64MiB", "queue": {"deadline": "20m"}, **more}


@pytest.fixture(scope="module")
def environments() -> dict[str, Any]:
    """Of models.yaml."""
    return {"vllm": {"python": os.environ.get("PIPESERVE_TEST_VLLM") or str(environment("vllm"))}}


@pytest.fixture(scope="module")
def server(
    environments: dict[str, Any], tiny_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """The same weights behind both engines, and behind what vLLM compiles."""
    folder, cache = tiny.build("chatml-wide", tiny_dir), tmp_path_factory.mktemp("vllm")
    entries = [entry(folder), entry(folder, id="torch", backend="torch")]
    entries.append(entry(folder, id="compiled", compile=True))
    catalog = write_catalog(cache / "models.yaml", tiny_dir, entries, environments=environments)
    with RunningServer(catalog, cache_dir=cache) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=600) as made:
        yield made


@pytest.fixture
def chat_server(start_server: StartServer, environments: dict[str, Any], tiny_dir: Path) -> RunningServer:
    folder = tiny.build("chatml-wide", tiny_dir)
    return start_server([entry(folder)], environments=environments)


def complete(server: RunningServer, model: str = MODEL, **given: Any) -> dict[str, Any]:
    body = {"model": model, "max_tokens": 24, "temperature": 0, "return_token_ids": True, **given}
    with server.client() as client:
        client.timeout = httpx.Timeout(1500)
        response = client.post("/v1/completions", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def tokens_of(answer: dict[str, Any]) -> list[list[int]]:
    return [choice["token_ids"] for choice in answer["choices"]]


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"min_tokens": 12},
        {"repetition_penalty": 1.3},
        {"presence_penalty": 1.0, "frequency_penalty": 0.5},
        {"logit_bias": {"65": 20, "66": -100}},
        {"allowed_token_ids": [65, 66, 67, 68]},
        {"bad_words": ["a", "the"]},
        {"ignore_eos": True},
        {"stop_token_ids": list(range(60, 80))},
    ],
    ids=lambda given: ",".join(given) or "greedy",
)
def test_greedy_tokens_are_those_of_our_own_engine(server: RunningServer, given: dict[str, Any]) -> None:
    """In float32, token by token, alone and together, whatever stands between logits and choice."""
    ours, theirs = (complete(server, model, prompt=PROMPTS, **given) for model in ("torch", MODEL))
    assert tokens_of(theirs) == tokens_of(ours)
    assert [one["finish_reason"] for one in theirs["choices"]] == [one["finish_reason"] for one in ours["choices"]]
    assert theirs["usage"]["completion_tokens"] == ours["usage"]["completion_tokens"]


def test_greedy_tokens_stay_when_vllm_compiles(server: RunningServer) -> None:
    """`compile: true`, which takes a C++ compiler minutes, and drawing with what its sampler would compile itself."""
    assert tokens_of(complete(server, "compiled", prompt=PROMPTS)) == tokens_of(
        complete(server, "torch", prompt=PROMPTS)
    )
    drawn = {"prompt": "the", "temperature": 0.8, "top_p": 0.5, "top_k": 3, "seed": 1, "logprobs": 2}
    one, again = (tokens_of(complete(server, "compiled", **drawn)) for _ in range(2))
    assert one == again


def test_log_probabilities_are_the_models_own(server: RunningServer) -> None:
    """Of the answer and of the prompt, within what two orders of adding up differ by in float32."""
    given = {"prompt": PROMPTS[2], "max_tokens": 5, "logprobs": 3, "echo": True}
    ours, theirs = (complete(server, model, **given)["choices"][0]["logprobs"] for model in ("torch", MODEL))
    assert theirs["tokens"] == ours["tokens"] and theirs["token_logprobs"][0] is None
    assert theirs["token_logprobs"][1:] == pytest.approx(ours["token_logprobs"][1:], abs=1e-3)
    for mine, other in zip(ours["top_logprobs"][1:], theirs["top_logprobs"][1:], strict=True):
        assert other == pytest.approx(mine, abs=1e-3)


def test_stop_text_ends_the_answer(server: RunningServer) -> None:
    """And is no part of it."""
    text = complete(server, prompt="the")["choices"][0]["text"]
    stop = text[5:8]
    choice = complete(server, prompt="the", stop=[stop])["choices"][0]
    assert choice["text"] == text[: text.index(stop)] and choice["finish_reason"] == "stop"


def test_prompts_that_begin_alike_are_computed_once(server: RunningServer) -> None:
    """In blocks of vLLM's."""
    usages = [complete(server, prompt="b" * 300, max_tokens=2)["usage"] for _ in range(2)]
    assert [one["prompt_tokens_details"]["cached_tokens"] for one in usages] == [0, 256]


def test_thirty_two_together_are_as_one_by_one(server: RunningServer) -> None:
    """Each its own answer."""
    prompts = [f"prompt {index} " * (1 + index % 7) for index in range(32)]
    alone = [tokens_of(complete(server, prompt=prompt)) for prompt in prompts[:4]]
    with ThreadPoolExecutor(32) as pool:
        together = [tokens_of(one) for one in pool.map(lambda prompt: complete(server, prompt=prompt), prompts)]
    assert together[:4] == alone and len(together) == 32


@pytest.mark.parametrize(
    ("parameters", "param"),
    [({"typical_p": 0.5}, "typical_p"), ({"num_beams": 2}, "num_beams"), ({"no_repeat_ngram_size": 2}, "no_repeat")],
)
def test_what_vllm_cannot_do_is_refused_by_name(server: RunningServer, parameters: dict[str, Any], param: str) -> None:
    """With a client's error, never ignored; our own engine does it."""
    body = {"inputs": "hello", "parameters": {"max_new_tokens": 3, **parameters}}
    with server.client() as client:
        answer = client.post(f"/v1/text-generation/{MODEL}", json=body)
        assert answer.status_code in (400, 422) and param in answer.json()["error"], answer.text
        assert client.post("/v1/text-generation/torch", json=body).status_code == 200


async def test_who_leaves_frees_the_sequence(server: RunningServer) -> None:
    """Between two steps, its keys and values too."""
    complete(server, prompt="a", max_tokens=1)
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = f'{{"model": "{MODEL}", "prompt": "the", "max_tokens": 2000, "ignore_eos": true, "stream": true}}'
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write((head + body).encode())
    await writer.drain()
    await asyncio.wait_for(reader.readuntil(b"data:"), 120)
    writer.transport.abort()

    def is_free() -> bool:
        text = server.get("/metrics").text
        return not any(
            metric(text, f"pipeserve_{name}", model=MODEL)
            for name in ("in_flight_items", "generating_sequences", "kv_cache_usage_ratio")
        )

    await asyncio.to_thread(wait_until, is_free, 60, "the sequence's end")


def test_unloading_ends_the_process_and_all_that_it_started(server: RunningServer) -> None:
    """Which gives all memory back; the next request loads again."""
    before = tokens_of(complete(server, prompt="the"))
    (pid,) = server.worker_pids(MODEL)
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    assert server.post(f"/v1/models/{MODEL}/unload", {}).status_code == 200
    wait_until(lambda: not any(one.is_running() for one in processes), 30, "the end of the process")
    assert tokens_of(complete(server, prompt="the")) == before
