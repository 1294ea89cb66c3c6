"""A Hub on loopback, as far as downloads need one: listings, files, and the errors that a real one gives."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """repositories: id -> folder. A repository called `.../gated` answers as a gated one does."""

    def __init__(self, repositories: dict[str, Path]) -> None:
        handler = type("Handler", (_Handler,), {"repositories": repositories})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> FakeHub:
        self._thread.start()
        return self

    def __exit__(self, *arguments: Any) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    repositories: dict[str, Path]

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self._listing("/".join(parts[2:4]), with_body)
        elif "resolve" in parts:
            where = parts.index("resolve")
            self._file("/".join(parts[:where]), "/".join(parts[where + 2 :]), with_body)
        else:
            self._error(404, "EntryNotFound")

    def _listing(self, repository: str, with_body: bool) -> None:
        if (folder := self._folder(repository)) is None:
            return
        names = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file()]
        siblings = [{"rfilename": name} for name in names]
        tree = [
            {"type": "file", "path": name, "size": (folder / name).stat().st_size, "oid": _etag(folder / name)}
            for name in names
        ]
        listing = {"id": repository, "modelId": repository, "sha": COMMIT, "siblings": siblings, "tags": []}
        content = json.dumps(tree if "/tree/" in self.path else listing).encode()
        self._send(200, content, with_body, {"Content-Type": "application/json"})

    def _file(self, repository: str, name: str, with_body: bool) -> None:
        if (folder := self._folder(repository)) is None:
            return
        path = folder / name
        if not path.is_file():
            self._error(404, "EntryNotFound")
            return
        self._send(200, path.read_bytes(), with_body, {"ETag": f'"{_etag(path)}"', "X-Repo-Commit": COMMIT})

    def _folder(self, repository: str) -> Path | None:
        if repository.endswith("/gated"):
            self._error(403, "GatedRepo")
        elif repository not in self.repositories:
            self._error(404, "RepoNotFound")
        else:
            return self.repositories[repository]
        return None

    def _error(self, status: int, code: str) -> None:
        self._send(status, b"{}", with_body=self.command == "GET", headers={"X-Error-Code": code})

    def _send(self, status: int, content: bytes, with_body: bool, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content)


def _etag(path: Path) -> str:
    return hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest()
