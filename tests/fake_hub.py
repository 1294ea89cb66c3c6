"""A Hub of one's own: repositories are folders, served as huggingface_hub asks for them."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_good"


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """What a Hub may do instead of answering. status: of every answer. silence_s: before it. broken_after: bytes of a
    file, after which the connection ends; the rest can be asked for."""

    status: int | None = None
    silence_s: float = 0.0
    broken_after: int | None = None


class FakeHub:
    """repositories: by id. gated: ids that only `TOKEN` may read. Paths of requests are kept, and how many
    answers were cut, and how many gone on with."""

    def __init__(self, repositories: dict[str, Path], gated: frozenset[str] = frozenset()) -> None:
        self.repositories = repositories
        self.gated = gated
        self.requests: list[str] = []
        self.trouble = Trouble()
        self.num_cut = self.num_resumed = 0
        self.url = ""

    def files(self, repository: str) -> list[str]:
        folder = self.repositories[repository]
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())

    def downloaded(self) -> list[str]:
        """The names of the files whose content was asked for."""
        return sorted({path.partition(f"/resolve/{COMMIT}/")[2] for path in self.requests if "/resolve/" in path})


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Of a client that has ended, there is nothing to say."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serve(hub: FakeHub) -> Iterator[FakeHub]:
    server = _Server(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

        def _answer(self, *, with_body: bool) -> None:
            path = urlsplit(self.path).path
            hub.requests.append(path)
            trouble = hub.trouble
            time.sleep(trouble.silence_s)
            status, headers, body = self._find(path) if trouble.status is None else (trouble.status, {}, b"{}")
            begin = self._first_byte() if status == 200 else 0
            if begin:
                hub.num_resumed += 1
                status, headers = 206, {**headers, "Content-Range": f"bytes {begin}-{len(body) - 1}/{len(body)}"}
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body) - begin)}.items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                self._send(body[begin:], trouble.broken_after if "ETag" in headers else None)

        def _first_byte(self) -> int:
            """Where a client goes on that has the beginning."""
            found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            return int(found[1]) if found else 0

        def _send(self, body: bytes, broken_after: int | None) -> None:
            if broken_after is None or len(body) <= broken_after:
                self.wfile.write(body)
                return
            hub.num_cut += 1
            self.wfile.write(body[:broken_after])
            self.close_connection = True

        def _find(self, path: str) -> tuple[int, dict[str, str], bytes]:
            if path == "/api/whoami-v2":
                is_known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
                return (200, {}, b'{"name": "ada"}') if is_known else (401, {}, b"{}")
            if path == "/api/models":
                return 200, {}, b"[]"
            parts = path.removeprefix("/api/models").strip("/").split("/")
            repository = "/".join(parts[:2])
            if repository not in hub.repositories:
                return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
            if repository in hub.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                return 401, {"X-Error-Code": "GatedRepo"}, b"{}"
            if len(parts) > 3 and parts[3] not in ("main", COMMIT):
                return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
            if path.startswith("/api/"):
                return 200, {"Content-Type": "application/json"}, json.dumps(self._api(repository, parts)).encode()
            file = hub.repositories[repository] / "/".join(parts[4:])
            if not file.is_file():
                return 404, {"X-Error-Code": "EntryNotFound"}, b"{}"
            content = file.read_bytes()
            return 200, {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT}, content

        def _api(self, repository: str, parts: list[str]) -> Any:
            names = hub.files(repository)
            if len(parts) > 2 and parts[2] == "tree":
                sizes = {name: (hub.repositories[repository] / name).stat().st_size for name in names}
                return [{"type": "file", "path": name, "size": size, "oid": "0" * 40} for name, size in sizes.items()]
            return {"id": repository, "sha": COMMIT, "siblings": [{"rfilename": name} for name in names]}

    return Handler
