"""`make demo`: start the server on the demo's models, send it real requests, stay until Ctrl-C (or end: `--once`)."""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
LOG = REPOSITORY / ".cache" / "demo-server.log"


@dataclass(frozen=True)
class Request:
    """A command as a user types it ($URL stands for the server), and what is true of a right answer."""

    title: str
    command: str
    is_right: Callable[[Any], bool]


def post(path: str, body: object) -> str:
    return f"curl -s $URL{path} -H 'Content-Type: application/json' \\\n  -d '{json.dumps(body)}'"


REQUESTS = [
    Request(
        "Is this review good or bad? Two at once; every answer lists all labels, the best first.",
        post(
            "/v1/text-classification",
            {"inputs": ["The soup was cold and nobody cared.", "Lovely garden, kind owners, we will be back!"]},
        ),
        lambda answer: [labels[0]["label"] for labels in answer] == ["NEGATIVE", "POSITIVE"],
    ),
    Request(
        "Which names are in this sentence?",
        post("/v1/token-classification", {"inputs": "Angela Merkel flew from Hamburg to Paris."}),
        lambda answer: (
            [(one["word"], one["entity_group"]) for one in answer]
            == [("angela merkel", "PER"), ("hamburg", "LOC"), ("paris", "LOC")]
        ),
    ),
    Request(
        "Where is the answer in this text?",
        post(
            "/v1/question-answering",
            {
                "inputs": {
                    "question": "Who invented the telephone?",
                    "context": "In 1876 Alexander Graham Bell invented the telephone.",
                }
            },
        ),
        lambda answer: answer["answer"] == "Alexander Graham Bell",
    ),
    Request(
        "Which of these labels fits? The model never saw them in training.",
        post(
            "/v1/zero-shot-classification",
            {
                "inputs": "She trimmed the roses and watered the lawn.",
                "parameters": {"candidate_labels": ["mortgage", "gardening", "chess"]},
            },
        ),
        lambda answer: answer[0]["label"] == "gardening",
    ),
    Request(
        "What does this picture show? The file itself is the body.",
        "curl -s $URL/v1/image-classification --data-binary @.cache/demo/star.png",
        lambda answer: answer[0]["label"] == "star",
    ),
    Request(
        "Which word is missing?",
        post("/v1/fill-mask", {"inputs": "The capital of France is [MASK].", "parameters": {"top_k": 2}}),
        lambda answer: len(answer) == 2 and answer[0]["token_str"] == "paris",
    ),
    Request(
        "A sentence as a vector, by the real all-MiniLM-L6-v2: pooled, of length 1.",
        post("/v1/feature-extraction", {"inputs": "A cat sits on the mat."}),
        lambda answer: len(answer[0]) == 384 and abs(sum(number**2 for number in answer[0]) - 1) < 1e-3,
    ),
    Request(
        "How near are these sentences to the first?",
        post(
            "/v1/sentence-similarity",
            {
                "inputs": {
                    "source_sentence": "A cat sits on the mat.",
                    "sentences": ["A kitten is resting on a rug.", "The central bank raised interest rates."],
                }
            },
        ),
        lambda answer: answer[0] > 0.5 > answer[1],
    ),
    Request(
        "A small model that the project trained chats, in OpenAI's words.",
        post(
            "/v1/chat/completions",
            {"model": "chat", "messages": [{"role": "user", "content": "Who are you?"}], "temperature": 0},
        ),
        lambda answer: "Pipeserve" in answer["choices"][0]["message"]["content"],
    ),
    Request(
        "The same, token by token.",
        post(
            "/v1/chat/completions",
            {"model": "chat", "messages": [{"role": "user", "content": "Hello!"}], "stream": True},
        ),
        lambda answer: answer.count('"chat.completion.chunk"') > 3 and answer.rstrip().endswith("data: [DONE]"),
    ),
    Request(
        "A JSON schema holds whatever the model knows: of these names it has learned none.",
        post(
            "/v1/chat/completions",
            {
                "model": "chat",
                "messages": [{"role": "user", "content": "Name a colour."}],
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {
                        "name": "colour",
                        "schema": {
                            "type": "object",
                            "properties": {"colour": {"enum": ["red", "green", "blue"]}},
                            "required": ["colour"],
                            "additionalProperties": False,
                        },
                    },
                },
            },
        ),
        lambda answer: json.loads(answer["choices"][0]["message"]["content"])["colour"] in ("red", "green", "blue"),
    ),
    Request(
        "OpenAI's own SDK calls a tool.",
        """\
python - <<'END'
from openai import OpenAI

client = OpenAI(base_url="$URL/v1", api_key="none")
answer = client.chat.completions.create(
    model="chat",
    messages=[{"role": "user", "content": "What time is it?"}],
    tools=[{"type": "function", "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}}}],
    temperature=0,  # unset, OpenAI's is 1
)
print(answer.choices[0].message.tool_calls[0].function.to_json())
END""",
        lambda answer: answer["name"] == "get_time",
    ),
    Request(
        "What is served, and in which state is it?",
        "curl -s $URL/v1/models",
        lambda answer: len(answer["data"]) == 8,
    ),
    Request(
        "What was measured?",
        "curl -s $URL/metrics | grep -E '^pipeserve_(batch_items_sum|model_memory_bytes)'",
        lambda answer: "pipeserve_batch_items_sum" in answer,
    ),
]


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="end the server after the requests")
    parser.add_argument("--port", type=int, default=0, help="default: 8000, or a free one where that is taken")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is born deaf to Ctrl-C

    subprocess.run([sys.executable, "-m", "demo.build_models"], cwd=REPOSITORY, check=True)
    port = options.port or free_port(8000)
    arguments = ["serve", "--models", "demo/models.yaml", "--host", "127.0.0.1", "--port", str(port)]
    print("$ HF_HUB_OFFLINE=1 pipeserve " + " ".join(arguments), flush=True)
    with LOG.open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "app", *arguments],
            cwd=REPOSITORY,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us, who end the server in order
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(url, server)
        num_wrong = sum(not send(request, url) for request in REQUESTS)
        print(f"\n{len(REQUESTS) - num_wrong} of {len(REQUESTS)} answers are right.", flush=True)
        if not options.once:
            print(f"The server stays at {url} (its pages: {url}/ui, its API: {url}/docs) until Ctrl-C.", flush=True)
            server.wait()
        return 1 if num_wrong else 0
    except KeyboardInterrupt:
        return 0
    finally:
        stop(server)


def free_port(wanted: int) -> int:
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise SystemExit("no free port on 127.0.0.1")


def wait_until_ready(url: str, server: subprocess.Popen[bytes], limit_s: float = 60) -> None:
    until = time.monotonic() + limit_s
    while time.monotonic() < until and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise SystemExit(f"the server did not become ready:\n{LOG.read_text()}")


def send(request: Request, url: str) -> bool:
    """Print the command, run it, print its answer; whether that is right."""
    command = request.command.replace("$URL", url)
    print(f"\n# {request.title}\n$ {command}", flush=True)
    # As printed, but for one option: a status of 400 and above makes curl fail.
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command.replace("curl -s", "curl -s --fail-with-body")],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    answer = parsed(done.stdout)
    print(shown(answer), flush=True)
    try:
        is_right = done.returncode == 0 and request.is_right(answer)
    except (KeyError, IndexError, TypeError):  # an answer of another shape
        is_right = False
    if not is_right:
        print(f"WRONG (curl ended with {done.returncode}) {done.stderr}", flush=True)
    return is_right


def parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text.rstrip()


def shown(answer: Any) -> str:
    """JSON with short things on one line and long lists cut, other text as it is."""
    return answer if isinstance(answer, str) else _pretty(_cut(answer), "")


def _cut(value: Any) -> Any:
    if isinstance(value, list):
        if len(value) > 16 and isinstance(value[0], float):
            return [*value[:4], f"... {len(value)} numbers"]
        if len(value) > 4 and isinstance(value[0], dict):
            return [_cut(value[0]), f"... {len(value)} in all"]
        return [_cut(one) for one in value]
    if isinstance(value, dict):
        return {key: _cut(one) for key, one in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def _pretty(value: Any, indent: str) -> str:
    line = json.dumps(value, ensure_ascii=False)
    if len(indent + line) <= 100 or not isinstance(value, list | dict):
        return line
    inner = indent + "  "
    if isinstance(value, list):
        return "[\n" + ",\n".join(inner + _pretty(one, inner) for one in value) + f"\n{indent}]"
    pairs = (f"{inner}{json.dumps(key)}: {_pretty(one, inner)}" for key, one in value.items())
    return "{\n" + ",\n".join(pairs) + f"\n{indent}}}"


def stop(server: subprocess.Popen[bytes]) -> None:
    """In order, and at once where that takes too long."""
    if server.poll() is None:
        server.terminate()
    try:
        server.wait(timeout=45)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


if __name__ == "__main__":
    sys.exit(main())
