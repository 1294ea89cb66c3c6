"""Bodies that are bombs, tricks or nonsense: each has its answer, and the neighbour has all of its own."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

from tests.api.conftest import LiveServer
from tests.hostile.bombs import BOMBS, CLASSIFY, IMAGES, Bomb
from tests.hostile.conftest import answer_to


@pytest.mark.parametrize(
    "bomb",
    [pytest.param(bomb, id=bomb.name, marks=[pytest.mark.slow] if bomb.is_huge else []) for bomb in BOMBS],
)
def test_bomb_has_its_answer(live: LiveServer, bomb: Bomb) -> None:
    """With a sentence that says what is wrong, or what the limit is, and repeats little of it."""
    answer = live.client.post(bomb.path, content=bomb.content(), headers=dict(bomb.headers))
    assert answer.status_code == bomb.status, answer.text[:300]
    assert bomb.says in answer.json()["error"]
    assert len(answer.content) < 5_000


def test_last_of_duplicate_keys_holds(live: LiveServer) -> None:
    """As of every JSON reader in wide use: there is one value, and what is checked is what is used."""
    content = b'{"inputs":"a","model":"no-such","model":"rev","parameters":{"top_k":-1},"parameters":{"top_k":1}}'
    assert live.client.post(CLASSIFY, content=content).status_code == 200
    (job,) = [one for one in live.fleet.jobs if one.parameters.get("top_k")]
    assert (job.model_id, job.parameters["top_k"]) == ("reviews", 1)


def test_null_character_of_a_text_is_text(live: LiveServer) -> None:
    """JSON may write one; it goes to the model as it is, and nowhere else."""
    assert live.client.post(CLASSIFY, content=b'{"inputs":"a\\u0000b","model":"rev"}').status_code == 200
    assert "a\0b" in [job.inputs[0] for job in live.fleet.jobs]


def test_body_beyond_the_limit_is_not_read(live: LiveServer) -> None:
    """By what is declared, and by what comes; a `data:` of a gigabyte is one. One without an end is cut."""
    head = b"POST %s HTTP/1.1\r\nhost: a\r\n" % IMAGES.encode()
    with live.connect() as connection:
        connection.sendall(head + b"content-length: 1000000000\r\n\r\n")
        assert connection.recv(2**16).startswith(b"HTTP/1.1 413 ")
    chunk = b"100000\r\n" + b"A" * 2**20 + b"\r\n"
    told = answer_to(live, head + b"transfer-encoding: chunked\r\n\r\n", *[chunk] * 1000)
    assert not told or told.startswith(b"HTTP/1.1 413 ")


NAMES = [
    "../../../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/etc/passwd",
    "/etc/passwd",
    "file:///etc/passwd",
    "rev\0",
    "rev\u200b",
    "ｒｅｖ",
    "re\u0301v",
    "REV",
    "rev ",
    "rev/../rev",
    "rev\r\nx-evil: 1",
    "acme\\labels",
    "${jndi:ldap://a}",
    "{{7*7}}",
    "\u202ever",
    "a" * 5000,
    "a/" * 2000,
]


@pytest.mark.parametrize("name", NAMES)
def test_name_is_a_declared_one_to_the_letter(live: LiveServer, name: str) -> None:
    """In the body, the query and the path: nothing is folded, normalised or looked up on a disk."""
    answers = [
        live.post(CLASSIFY, {"inputs": "a", "model": name}),
        live.post(f"{CLASSIFY}?model={quote(name, safe='')}", {"inputs": "a"}),
        live.post(f"{CLASSIFY}/{quote(name, safe='')}", {"inputs": "a"}),
        live.post(f"/models/{quote(name, safe='')}", {"inputs": "a"}),
        live.get(f"/v2/models/{quote(name, safe='')}"),
        live.get(f"/v1/models/{quote(name, safe='')}"),
        live.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], "model": name}),
    ]
    for answer in answers:
        assert answer.status_code == 404, (answer.request.url, answer.text[:300])
        assert "root:" not in answer.text
        assert "x-evil" not in answer.headers
        json.loads(answer.text)


TALL: dict[str, Any] = {"type": "object", "properties": {}}
for _ in range(55):  # 110 levels
    TALL = {"type": "object", "properties": {"a": TALL}}


ASK = {"messages": [{"role": "user", "content": "a"}]}
ECHOED: list[tuple[str, dict[str, Any]]] = [
    ("/v1/responses", {"input": "a", "tools": [{"type": "function", "name": "f", "parameters": TALL}]}),
    (
        "/v1/chat/completions",
        {**ASK, "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": TALL}}},
    ),
    ("/v1/chat/completions", {**ASK, "structured_outputs": {"json": "[" * 100_000}}),
    ("/v1/messages", {**ASK, "max_tokens": 1, "tools": [{"name": "f", "input_schema": TALL}]}),
]


@pytest.mark.parametrize(("path", "body"), ECHOED)
def test_what_is_let_in_can_be_told_again(live: LiveServer, path: str, body: dict[str, Any]) -> None:
    """Answers repeat parts of requests: what the reader takes, the writer can write."""
    answer = live.post(path, body)
    assert answer.status_code in (200, 400), answer.text[:300]
    if answer.status_code == 400:
        assert answer.json()["error"]["message"]
