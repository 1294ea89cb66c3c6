"""Files and batches over HTTP, before a fleet that is a script: what is taken, refused and shown, and to whom."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.access.keys import keys_of_variable
from app.api.openai.batches import ENDPOINTS
from app.settings import Settings
from tests.api.conftest import LiveServer

ADA, BOB = "a-secret-of-ada-0123456789", "a-secret-of-bob-0123456789"
CLASSIFY = "/v1/text-classification"
MAX_FILES_BYTES = 200_000
Wait = Callable[[Callable[[], bool]], None]


@pytest.fixture(scope="module")
def _running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    settings = Settings(
        files_dir=tmp_path_factory.mktemp("batches") / "files",
        max_files_bytes=MAX_FILES_BYTES,
        keys=keys_of_variable(f"{ADA},{BOB}"),
    )
    with LiveServer(settings) as running:
        running.client.headers["authorization"] = f"Bearer {ADA}"
        yield running


@pytest.fixture
def server(_running: LiveServer) -> LiveServer:
    _running.fleet.reset()
    return _running


def line(custom_id: str, body: Any, url: str = CLASSIFY) -> str:
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": body})


def upload(server: LiveServer, *lines: str, **fields: str) -> dict[str, Any]:
    form = {"purpose": "batch"} | fields
    response = server.client.post("/v1/files", files={"file": ("in.jsonl", "\n".join(lines))}, data=form)
    assert response.status_code == 200, response.text
    return dict(response.json())


def create(server: LiveServer, file_id: str, endpoint: str = CLASSIFY, **fields: Any) -> dict[str, Any]:
    body = {"input_file_id": file_id, "endpoint": endpoint, "completion_window": "24h"} | fields
    response = server.post("/v1/batches", body)
    assert response.status_code == 200, response.text
    return dict(response.json())


def ended(server: LiveServer, batch: dict[str, Any], wait_until: Wait) -> dict[str, Any]:
    path = f"/v1/batches/{batch['id']}"
    wait_until(lambda: server.get(path).json()["status"] in ("completed", "failed", "cancelled"))
    return dict(server.get(path).json())


def lines_of(server: LiveServer, file_id: str) -> list[dict[str, Any]]:
    response = server.get(f"/v1/files/{file_id}/content")
    assert response.headers["content-type"].startswith("application/jsonl")
    return [json.loads(one) for one in response.text.splitlines()]


def refusal(server: LiveServer, path: str, body: Any = None, **keywords: Any) -> tuple[int, str | None, str]:
    response = server.post(path, body, **keywords)
    error = response.json()["error"]
    return response.status_code, error["param"], error["message"]


def test_lines_are_answered_as_their_owner_at_low_priority(server: LiveServer, wait_until: Wait) -> None:
    """Each as its own route would: right ones in one file, wrong ones in the other."""
    file = upload(server, line("good", {"inputs": "a"}), line("bad", {"inputs": 5}), line("who", {"model": "nobody"}))
    batch = ended(server, create(server, file["id"], metadata={"run": "7"}), wait_until)
    assert (batch["status"], batch["metadata"]) == ("completed", {"run": "7"})
    assert batch["request_counts"] == {"total": 3, "completed": 1, "failed": 2}
    (good,) = lines_of(server, batch["output_file_id"])
    assert good["response"]["body"][0][0]["label"] == "POSITIVE"
    assert [(one["custom_id"], one["response"]["status_code"]) for one in lines_of(server, batch["error_file_id"])] == [
        ("bad", 422),
        ("who", 404),
    ]
    (job,) = server.fleet.jobs
    assert (job.client, job.priority) == ("env-1", -1)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_every_endpoint_is_one_of_ours(server: LiveServer, endpoint: str, wait_until: Wait) -> None:
    """Also where the body is wrong: its answer says so in its own dialect."""
    batch = create(server, upload(server, line("a", {"none": 1}, endpoint))["id"], endpoint)
    batch = ended(server, batch, wait_until)
    (answer,) = lines_of(server, batch["error_file_id"])
    assert answer["response"]["status_code"] in (400, 422), answer
    for file_id in (batch["input_file_id"], batch["error_file_id"]):
        server.client.delete(f"/v1/files/{file_id}")


def test_wrong_file_is_told_by_line(server: LiveServer, wait_until: Wait) -> None:
    """The batch fails before any of it is asked."""
    batch = ended(server, create(server, upload(server, line("a", {}), "{")["id"]), wait_until)
    assert batch["status"] == "failed"
    (problem,) = batch["errors"]["data"]
    assert (problem["line"], problem["code"]) == (2, "invalid_json_line")
    assert server.fleet.jobs == []


def test_batch_is_cancelled(server: LiveServer, wait_until: Wait) -> None:
    """What is computed is left, and its input may not go before that."""
    server.fleet.holds = True
    file = upload(server, line("a", {"inputs": "a"}))
    batch = create(server, file["id"])
    wait_until(lambda: len(server.fleet.jobs) == 1)
    assert server.client.delete(f"/v1/files/{file['id']}").status_code == 400
    assert server.post(f"/v1/batches/{batch['id']}/cancel").json()["status"] == "cancelling"
    assert ended(server, batch, wait_until)["status"] == "cancelled"
    wait_until(lambda: len(server.fleet.cancelled) == 1)
    assert server.client.delete(f"/v1/files/{file['id']}").json() == {
        "id": file["id"],
        "object": "file",
        "deleted": True,
    }


def test_files_and_batches_are_their_owners(server: LiveServer, wait_until: Wait) -> None:
    """Whoever else knows their ids is told that there are none."""
    file = upload(server, line("a", {"inputs": "a"}))
    batch = ended(server, create(server, file["id"]), wait_until)
    bob = {"authorization": f"Bearer {BOB}"}
    for path in (
        f"/v1/files/{file['id']}",
        f"/v1/files/{batch['output_file_id']}/content",
        f"/v1/batches/{batch['id']}",
    ):
        assert server.get(path).status_code == 200
        assert server.get(path, headers=bob).status_code == 404
    body = {"input_file_id": file["id"], "endpoint": CLASSIFY, "completion_window": "24h"}
    assert refusal(server, "/v1/batches", body, headers=bob)[:2] == (400, "input_file_id")
    assert server.get("/v1/files", headers=bob).json()["data"] == []
    assert server.get("/v1/batches", headers=bob).json()["data"] == []


def test_lists_come_in_pages(server: LiveServer, wait_until: Wait) -> None:
    """The newest first, behind the one that is named."""
    files = [upload(server, line("a", {"inputs": "a"})) for _ in range(3)]
    ids = [one["id"] for one in reversed(files)]
    page = server.get("/v1/files?limit=2&purpose=batch").json()
    assert ([one["id"] for one in page["data"]], page["has_more"]) == (ids[:2], True)
    page = server.get(f"/v1/files?limit=1&after={ids[1]}").json()
    assert [one["id"] for one in page["data"]] == ids[2:]
    first, second = (ended(server, create(server, ids[0]), wait_until)["id"] for _ in range(2))
    page = server.get("/v1/batches?limit=2").json()
    assert [one["id"] for one in page["data"]] == [second, first]
    assert server.get("/v1/files?nothing=1").json()["error"]["param"] == "nothing"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"endpoint": "/v1/files"}, "endpoint"),
        ({"completion_window": "soon"}, "completion_window"),
        ({"completion_window": "31d"}, "completion_window"),
        ({"completion_window": "-1"}, "completion_window"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"metadata": {"a" * 65: ""}}, "metadata"),
        ({"metadata": {str(number): "" for number in range(17)}}, "metadata"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 5}}, "output_expires_after.seconds"),
        ({"input_file_id": "file-none"}, "input_file_id"),
        ({"more": 1}, "more"),
    ],
)
def test_wrong_batch_is_refused_by_name(server: LiveServer, fields: dict[str, Any], param: str) -> None:
    """Before anything of it is kept."""
    body = {"input_file_id": "file-none", "endpoint": CLASSIFY, "completion_window": "24h"} | fields
    assert refusal(server, "/v1/batches", body)[:2] == (400, param)


@pytest.mark.parametrize(
    ("data", "files", "param"),
    [
        ({"purpose": "fine-tune"}, {"file": ("a", b"x")}, "purpose"),
        ({}, {"file": ("a", b"x")}, "purpose"),
        ({"purpose": "batch"}, {"other": ("a", b"x")}, "file"),
        ({"purpose": "batch", "more": "1"}, {"file": ("a", b"x")}, "more"),
        ({"purpose": "batch", "expires_after[seconds]": "5000"}, {"file": ("a", b"x")}, "expires_after.anchor"),
        ({"purpose": "batch", "file": "text"}, {"other": ("a", b"x")}, "file"),
        ({"purpose": "batch" * 1000}, {"file": ("a", b"x")}, "purpose"),
    ],
)
def test_wrong_upload_is_refused_by_name(
    server: LiveServer, data: dict[str, str], files: dict[str, Any], param: str
) -> None:
    """And leaves nothing."""
    before = server.get("/v1/files").json()
    response = server.client.post("/v1/files", data=data, files=files)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert server.get("/v1/files").json() == before


@pytest.mark.parametrize(
    ("headers", "content", "status"),
    [
        ({"content-type": "application/json"}, b"{}", 415),
        ({"content-type": "multipart/form-data"}, b"--a", 415),
        ({"content-type": "multipart/form-data; boundary=a"}, b"--a\r\nContent-Disp", 400),
        ({"content-type": "multipart/form-data; boundary=a"}, b"nonsense", 400),
        ({"content-type": "multipart/form-data; boundary=a"}, b"", 400),
        (
            {"content-type": "multipart/form-data; boundary=a"},
            b'--a\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\nabc',
            400,
        ),
    ],
)
def test_what_is_no_form_is_refused(server: LiveServer, headers: dict[str, str], content: bytes, status: int) -> None:
    """In OpenAI's shape, and leaves nothing on the disk."""
    response = server.client.post("/v1/files", headers=headers, content=content)
    assert response.status_code == status, response.text
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


def test_files_have_a_limit_together(server: LiveServer) -> None:
    """What goes beyond it is refused while it comes, and room is made by deleting."""
    large = server.client.post("/v1/files", data={"purpose": "batch"}, files={"file": ("a", b"x" * MAX_FILES_BYTES)})
    assert (large.status_code, large.json()["error"]["param"]) == (400, "file")
    before = server.get("/v1/files").json()["data"]
    half = "x" * (MAX_FILES_BYTES // 2)
    first = upload(server, half)
    assert (
        server.client.post("/v1/files", data={"purpose": "batch"}, files={"file": ("a", half)})
        .json()["error"]["message"]
        .startswith("A file may have")
    )
    server.client.delete(f"/v1/files/{first['id']}")
    assert server.get("/v1/files").json()["data"] == before


def test_answer_that_does_not_exist_is_not_found(server: LiveServer) -> None:
    """By its parameter."""
    for path, param in (("/v1/files/file-x", "file_id"), ("/v1/batches/batch_x", "batch_id")):
        response = server.get(path)
        assert (response.status_code, response.json()["error"]["param"]) == (404, param)


def test_server_without_a_folder_has_no_batches(fresh_server: LiveServer) -> None:
    """Such a server is none of the command's."""
    assert fresh_server.get("/v1/files").status_code == 404


def test_batches_are_counted(server: LiveServer, wait_until: Wait) -> None:
    """Their requests are among the others' as well."""
    ended(server, create(server, upload(server, line("a", {"inputs": "a"}))["id"]), wait_until)
    text = server.get("/metrics").text
    assert 'pipeserve_batch_requests_total{outcome="completed"}' in text
    assert "pipeserve_running_batches 0.0" in text


def test_responses_of_a_batch_are_not_kept_in_memory(server: LiveServer, wait_until: Wait) -> None:
    """They are in its file, and would drive live ones out."""
    file = upload(server, line("a", {"input": "a"}, "/v1/responses"))
    batch = ended(server, create(server, file["id"], "/v1/responses"), wait_until)
    (answer,) = lines_of(server, batch["output_file_id"])
    assert server.get(f"/v1/responses/{answer['response']['body']['id']}").status_code == 404


def test_folder_is_made_at_the_first_use(tmp_path: Path) -> None:
    """A server that nobody hands files leaves none."""
    with LiveServer(Settings(files_dir=tmp_path / "files")) as running:
        assert running.get("/v1/models").status_code == 200
        assert not (tmp_path / "files").exists()
        assert running.get("/v1/files").json()["data"] == []
        assert (tmp_path / "files").is_dir()
