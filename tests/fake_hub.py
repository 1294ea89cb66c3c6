"""A Hub of one's own: repositories are folders, served as huggingface_hub asks for them, and written to as it does."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.fake_hub_uploads import Taker, Uploads, metadata_of

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
    """repositories: by id; a data set's begins with `datasets/`. gated: ids that only `TOKEN` may read. others: other
    revisions of a repository, by id and name. Paths of requests are kept, and how many answers were cut, and how many
    gone on with."""

    def __init__(self, repositories: dict[str, Path], gated: frozenset[str] = frozenset()) -> None:
        self.repositories = repositories
        self.gated = gated
        self.others: dict[tuple[str, str], Path] = {}
        self.requests: list[str] = []
        self.trouble = Trouble()
        self.num_cut = self.num_resumed = 0
        self.uploads = Uploads()
        self.url = ""

    def head(self, repository: str, revision: str = "main") -> str | None:
        """The commit that a revision is; None: there is no such revision."""
        main = self.uploads.heads.get((repository, "main"), COMMIT)
        if revision in ("main", main, COMMIT):
            return main
        is_branch = (repository, revision) in self.uploads.branches
        return self.uploads.heads.get((repository, revision), main) if is_branch else None

    def revision(self, repository: str, name: str) -> tuple[str, Path] | None:
        """The commit that a revision is, and its files."""
        for (owner, other), folder in self.others.items():
            commit = hashlib.sha1(other.encode()).hexdigest()
            if owner == repository and name in (other, commit):
                return commit, folder
        head = self.head(repository, name)
        return None if head is None else (head, self.repositories[repository])

    def files(self, repository: str) -> list[str]:
        return _files(self.repositories[repository])

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
    """What clients make is kept until the end."""
    with tempfile.TemporaryDirectory() as made:
        server = _Server(("127.0.0.1", 0), _handler(hub, Path(made)))
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def _handler(hub: FakeHub, made: Path) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_POST(self) -> None:
            address = urlsplit(self.path)
            hub.requests.append(address.path)
            taker = Taker(hub.url, made, hub.repositories, hub.uploads, TOKEN)
            status, headers, body = taker.take(address.path, address.query, self.headers, self._body())
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_PUT = do_POST

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

        def _answer(self, *, with_body: bool) -> None:
            path = urlsplit(self.path).path
            hub.requests.append(path)
            trouble = hub.trouble
            time.sleep(trouble.silence_s)
            status, headers, body = self._find(path) if trouble.status is None else (trouble.status, {}, b"{}")
            whole = len(body)
            begin, end = self._range(whole) if status == 200 else (0, whole)
            if begin or end < whole:
                hub.num_resumed += end == whole
                status, headers = 206, {**headers, "Content-Range": f"bytes {begin}-{end - 1}/{whole}"}
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(end - begin)}.items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                self._send(body[begin:end], trouble.broken_after if "ETag" in headers else None)

        def _range(self, whole: int) -> tuple[int, int]:
            """Where a client goes on that has the beginning, or the piece that it reads."""
            found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            return (int(found[1]), min(int(found[2] or whole) + 1, whole)) if found else (0, whole)

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
            parts = path.removeprefix("/api").removeprefix("/models").strip("/").split("/")
            num_names = 3 if parts[0] == "datasets" else 2
            repository, rest = "/".join(parts[:num_names]), parts[num_names:]
            if repository not in hub.repositories:
                return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
            if repository in hub.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                return 401, {"X-Error-Code": "GatedRepo"}, b"{}"
            found = hub.revision(repository, unquote(rest[1]) if len(rest) > 1 else "main")
            if found is None:
                return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
            head, folder = found
            if path.startswith("/api/"):
                told = json.dumps(self._api(repository, rest, head, folder)).encode()
                return 200, {"Content-Type": "application/json"}, told
            file = folder / "/".join(rest[2:])
            if not file.is_file():
                return 404, {"X-Error-Code": "EntryNotFound"}, b"{}"
            content = file.read_bytes()
            return 200, {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": head}, content

        def _api(self, repository: str, rest: list[str], head: str, folder: Path) -> Any:
            if rest[:1] == ["tree"]:
                is_deep = parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0].lower() == "true"
                below = folder / "/".join(map(unquote, rest[2:]))
                return [_entry(path, folder) for path in sorted(below.glob("**/*" if is_deep else "*"))]
            card = folder / "README.md"
            return {
                "id": repository.removeprefix("datasets/"),
                "sha": head,
                "private": repository in hub.uploads.private,
                "cardData": metadata_of(card.read_text()) if card.is_file() else None,
                "siblings": [{"rfilename": name} for name in _files(folder)],
            }

    return Handler


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _entry(path: Path, folder: Path) -> dict[str, Any]:
    """Of a tree."""
    kind, content = ("directory", b"") if path.is_dir() else ("file", path.read_bytes())
    name = path.relative_to(folder).as_posix()
    return {"type": kind, "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
