"""`make bench-generation`: generated texts against `transformers serve --continuous-batching` and vLLM's CPU build.

The same random weights, the same client, the same number of compute threads for everybody, in one run. Each rival has
an environment of its own (bench/environments.py); one that cannot run says so. Prints Markdown tables;
`--quick` measures fewer requests, `--against` names rivals (vllm, transformers, and ours with vLLM's engine:
pipeserve-vllm, pipeserve-vllm-compiled), `--model` what is built from config.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2 as httpx
import psutil

from bench.environments import TRANSFORMERS, VLLM, VLLM_VARIABLES
from bench.processes import REPOSITORY, THREADS, Unavailable, free_port, say

SIZES: dict[str, dict[str, int]] = {
    "4m": {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4, "num_attention_heads": 4},
    "116m": {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 12},
    "500m": {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14},
}
VOCABULARY = {"4m": 2048, "116m": 32000, "500m": 151936}
CONTEXT = 2048
NEW_TOKENS = 64
TEMPLATE = "{{ messages[0].content }}"
"""A letter is a token, so that a prompt has as many tokens for everybody as it has letters."""


def build_model(size: str, folder: Path) -> None:
    """Qwen2 in bfloat16 with two key heads, and a tokenizer of bytes."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    end = len(letters)
    words = [*letters, "<|end|>", *(f"w{index}" for index in range(end + 1, VOCABULARY[size]))]  # all can be written
    backend = Tokenizer(models.BPE(vocab={word: index for index, word in enumerate(words)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|end|>"])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|end|>", pad_token="<|end|>", model_max_length=CONTEXT
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    config = Qwen2Config(
        **SIZES[size],
        vocab_size=VOCABULARY[size],
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=size == "500m",
        eos_token_id=end,
        bos_token_id=None,
    )
    torch.manual_seed(0)
    Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)


def own_dtype() -> str:
    """What a rival is fastest in: bfloat16, where this CPU has instructions for it. Ours chooses by itself."""
    import torch

    return "bfloat16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "float32"


# The client


@dataclass
class Tally:
    """Seconds. first: to the first token; between: of tokens of one text."""

    first: list[float] = field(default_factory=list)
    between: list[float] = field(default_factory=list)
    num_tokens: int = 0
    num_failed: int = 0
    failure: str = ""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """prompts: one request each, sent by so many clients at a time, each its next when its last is answered."""

    name: str
    concurrency: int
    prompts: Sequence[str]
    max_tokens: Sequence[int]


async def ask(client: httpx.AsyncClient, url: str, model: str, prompt: str, max_tokens: int, tally: Tally) -> None:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    last = time.perf_counter()
    num_chunks = num_told = 0
    async with client.stream("POST", f"{url}/v1/chat/completions", json=body) as answer:
        if answer.status_code != 200:
            tally.num_failed += 1
            tally.failure = tally.failure or f"{answer.status_code} {(await answer.aread())[:200]!r}"
            return
        async for line in answer.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line.removeprefix("data: "))
            if (usage := chunk.get("usage")) and not chunk.get("choices"):
                num_told = usage["completion_tokens"]
            if not any(choice["delta"].get("content") for choice in chunk.get("choices") or ()):
                continue  # the role, or the usage: no token
            now = time.perf_counter()
            (tally.between if num_chunks else tally.first).append(now - last)
            num_chunks, last = num_chunks + 1, now
    tally.num_tokens += num_told or num_chunks
    if not num_chunks:
        tally.num_failed += 1
        tally.failure = tally.failure or "an answer without a token"


async def run_scenario(url: str, model: str, scenario: Scenario) -> dict[str, float | str]:
    tally, waiting = Tally(), list(zip(scenario.prompts, scenario.max_tokens, strict=True))[::-1]
    cpu = resource.getrusage(resource.RUSAGE_SELF)
    began = time.perf_counter()
    async with httpx.AsyncClient(timeout=600) as client:

        async def one_client() -> None:
            while waiting:
                prompt, max_tokens = waiting.pop()
                await ask(client, url, model, prompt, max_tokens, tally)

        await asyncio.gather(*(one_client() for _ in range(scenario.concurrency)))
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    spent = after.ru_utime + after.ru_stime - cpu.ru_utime - cpu.ru_stime
    return {
        "tokens": tally.num_tokens,
        "tokens_per_s": tally.num_tokens / seconds,
        "ttft_p50_ms": _percentile(tally.first, 0.5) * 1000,
        "itl_p50_ms": _percentile(tally.between, 0.5) * 1000,
        "itl_p99_ms": _percentile(tally.between, 0.99) * 1000,
        "client_cpu": spent / seconds,
        "failed": tally.num_failed,
        "failure": tally.failure,
    }


def _percentile(values: list[float], share: float) -> float:
    ordered = sorted(values) or [float("nan")]
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _text(length: int, seed: int) -> str:
    """Letters that no other prompt begins with."""
    state, letters = seed * 7919 + 17, []
    for _ in range(length):
        state = (state * 1103515245 + 12345) % 2**31
        letters.append(chr(97 + state // 65536 % 26))
    return "".join(letters)


def scenarios(rounds: int) -> list[Scenario]:
    made = []
    for concurrency in (1, 8, 32):
        count = max(2, concurrency) * rounds if concurrency > 1 else 4 * rounds
        prompts = [_text(127, concurrency * 1000 + index) for index in range(count)]
        made.append(
            Scenario(name=f"{concurrency}", concurrency=concurrency, prompts=prompts, max_tokens=[NEW_TOKENS] * count)
        )
    common = _text(512, 5)
    prompts = [common + _text(64, 7000 + index) for index in range(8 * rounds)]
    made.append(
        Scenario(name="8, shared prefix", concurrency=8, prompts=prompts, max_tokens=[NEW_TOKENS] * len(prompts))
    )
    lengths = [16 + index * 97 % 496 for index in range(16 * rounds)]
    made.append(
        Scenario(
            name="16, mixed lengths",
            concurrency=16,
            prompts=[_text(length, 9000 + index) for index, length in enumerate(lengths)],
            max_tokens=[16 + index * 37 % 112 for index in range(len(lengths))],
        )
    )
    return made


# The servers


@dataclass(frozen=True, kw_only=True)
class Server:
    """command: for the model's folder and a port. model: what a request calls it."""

    name: str
    command: Callable[[Path, int], list[str]]
    model: Callable[[Path], str]
    environment: dict[str, str] = field(default_factory=dict)
    health: str = "/health"


OURS = "pipeserve"


def our_server(work: Path, name: str = OURS, *, environments: dict[str, Any] | None = None, **more: Any) -> Server:
    """environments: of models.yaml. more: keys of the entry."""

    def command(folder: Path, port: int) -> list[str]:
        catalog = work / "models.yaml"
        entry = {"id": "bench", "task": "text-generation", "model": str(folder), "threads": THREADS, "preload": True}
        catalog.write_text(json.dumps({"environments": environments or {}, "models": [entry | more]}))
        arguments = ["serve", "--models", str(catalog), "--port", str(port), "--log-level", "warning"]
        return [sys.executable, "-m", "app", *arguments]

    return Server(name=name, command=command, model=lambda folder: "bench", health="/readyz")


def our_server_with_vllm(work: Path, name: str, **more: Any) -> Server:
    """In the rival's environment, which has what our worker imports. more: keys of the entry."""
    VLLM.ensure()
    environments = {"vllm": {"python": str(VLLM.python)}}
    return our_server(work, name, backend="vllm", kv_cache="2GiB", environments=environments, **more)


def transformers_server(dtype: str) -> Server:
    TRANSFORMERS.ensure()

    def command(folder: Path, port: int) -> list[str]:
        arguments = ["serve", str(folder), "--continuous-batching", "--host", "127.0.0.1", "--port", str(port)]
        return [TRANSFORMERS.program("transformers"), *arguments, "--dtype", dtype, "--device", "cpu"]

    return Server(name="transformers serve --continuous-batching", command=command, model=str)


def vllm_server(dtype: str) -> Server:
    VLLM.ensure()

    def command(folder: Path, port: int) -> list[str]:
        arguments = ["--model", str(folder), "--dtype", dtype, "--max-model-len", str(CONTEXT)]
        arguments += ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", "bench"]
        return [str(VLLM.python), "-m", "vllm.entrypoints.openai.api_server", *arguments]

    return Server(name="vllm (CPU)", command=command, model=lambda folder: "bench", environment=VLLM_VARIABLES)


@contextmanager
def serving(server: Server, folder: Path, log: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Its URL, once it answered a request, and its process."""
    port = free_port()
    threads = str(THREADS)
    variables = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "HF_HUB_OFFLINE": "1", **server.environment}
    command = server.command(folder, port)
    say(f"`{' '.join([Path(command[0]).name, *command[1:]])}`".replace(str(folder), "MODEL"))
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={**os.environ, **variables},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for_answer(server, folder, url, process, log)
        yield url, psutil.Process(process.pid)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _wait_for_answer(server: Server, folder: Path, url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.perf_counter() + 900  # some compile
    body = {"model": server.model(folder), "messages": [{"role": "user", "content": "warm"}], "max_tokens": 2}
    while time.perf_counter() < until and process.poll() is None:
        try:
            if httpx.post(f"{url}/v1/chat/completions", json=body, timeout=900).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise RuntimeError(f"it does not answer: {log.read_text()[-600:]}")


def measure(server: Server, folder: Path, contests: Sequence[Scenario], log: Path) -> dict[str, dict[str, Any]]:
    with serving(server, folder, log) as (url, process):
        model = server.model(folder)
        warm = Scenario(
            name="warm", concurrency=4, prompts=[_text(64, index) for index in range(4)], max_tokens=[16] * 4
        )
        asyncio.run(run_scenario(url, model, warm))
        results = {}
        for one in contests:
            spent_s = cpu_s(process)
            results[one.name] = asyncio.run(run_scenario(url, model, one))
            results[one.name]["server_cpu_s"] = cpu_s(process) - spent_s
        return results


def cpu_s(process: psutil.Process) -> float:
    """Of it and all that it started, since they began."""
    return sum(sum(one.cpu_times()[:2]) for one in (process, *process.children(recursive=True)))


def report(results: dict[str, dict[str, dict[str, Any]]], contests: Sequence[Scenario]) -> None:
    ours = results[OURS]
    columns = ("concurrent", "server", "tokens/s", "pipeserve's are", "TTFT p50 ms", "ITL p50 ms", "ITL p99 ms")
    columns += ("server CPU ms a token", "client CPU", "failed")
    say(f"\n| {' | '.join(columns)} |")
    say("|---" * len(columns) + "|")
    for contest in contests:
        for name, measured in results.items():
            one = measured[contest.name]
            ratio = ours[contest.name]["tokens_per_s"] / one["tokens_per_s"] if one["tokens_per_s"] else float("nan")
            cpu_ms = one["server_cpu_s"] * 1000 / one["tokens"] if one["tokens"] else float("nan")
            say(
                f"| {contest.name} | {name} | {one['tokens_per_s']:.0f} | {ratio:.2f}× | {one['ttft_p50_ms']:.0f} |"
                f" {one['itl_p50_ms']:.1f} | {one['itl_p99_ms']:.1f} | {cpu_ms:.2f} | {one['client_cpu']:.2f} |"
                f" {one['failed']} {one['failure']} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of requests")
    parser.add_argument("--concurrent", help="only the rows with so many clients, by commas, such as 1,32")
    parser.add_argument("--model", choices=list(SIZES), default="116m")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], help="of the rivals; default: what this CPU has")
    everyone = "pipeserve-vllm,pipeserve-vllm-compiled,vllm,transformers"
    parser.add_argument("--against", default=everyone, help=f"rivals, by commas; empty: none; default: {everyone}")
    options = parser.parse_args()
    rivals = list(filter(None, options.against.split(",")))
    if unknown := set(rivals) - set(everyone.split(",")):
        parser.error(f"--against: there is no {', '.join(sorted(unknown))}, only {everyone}")
    contests = scenarios(1 if options.quick else 3)
    if options.concurrent:
        contests = [one for one in contests if str(one.concurrency) in options.concurrent.split(",")]
    dtype = options.dtype or own_dtype()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        folder = work / "model"
        makers: dict[str, Callable[[], Server]] = {
            "pipeserve-vllm": lambda: our_server_with_vllm(work, "pipeserve, backend: vllm"),
            "pipeserve-vllm-compiled": lambda: our_server_with_vllm(
                work, "pipeserve, backend: vllm, compile: true", compile=True
            ),
            "vllm": lambda: vllm_server(dtype),
            "transformers": lambda: transformers_server(dtype),
        }
        build_model(options.model, folder)
        say(f"Qwen2 of {options.model} in bfloat16, {THREADS} compute thread(s), {platform.processor() or 'CPU'}")
        say(f"Rivals compute in {dtype}.\n")
        results = {OURS: measure(our_server(work), folder, contests, work / "pipeserve.log")}
        for name in rivals:
            try:
                server = makers[name]()
                results[server.name] = measure(server, folder, contests, work / f"{name}.log")
            except (RuntimeError, Unavailable, OSError) as error:
                say(f"{name} could not run: {error}")
        report(results, contests)


if __name__ == "__main__":
    main()
