"""What `tests/fake_hub.py` takes: repositories, branches, large files by LFS, commits, as huggingface_hub sends them
when HF_HUB_DISABLE_XET is set."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import yaml

Answer = tuple[int, dict[str, str], bytes]
_LARGE = (".bin", ".onnx", ".safetensors")
_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, kw_only=True)
class Commit:
    """paths: of the files that it adds or changes."""

    repository: str
    revision: str
    message: str
    paths: tuple[str, ...]
    is_proposed: bool


@dataclass
class Uploads:
    """What came. refused: digests of large files that are answered 400, once each. closed: repositories that the token
    may not write to, only propose. private: those that are. puts: digests of large files, as they came."""

    closed: set[str] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)
    private: set[str] = field(default_factory=set)
    branches: set[tuple[str, str]] = field(default_factory=set)
    objects: dict[str, bytes] = field(default_factory=dict)
    puts: list[str] = field(default_factory=list)
    commits: list[Commit] = field(default_factory=list)
    heads: dict[tuple[str, str], str] = field(default_factory=dict)


class Taker:
    """folders: of repositories, by id; new ones are made below `root`."""

    def __init__(self, url: str, root: Path, folders: dict[str, Path], uploads: Uploads, token: str) -> None:
        self._url, self._root, self._folders, self._uploads, self._token = url, root, folders, uploads, token

    def take(self, path: str, query: str, headers: Any, body: bytes) -> Answer:
        if path.startswith("/lfs/"):  # such URLs are signed, and need no token
            return self._object(path.removeprefix("/lfs/"), body)
        if headers.get("Authorization") != f"Bearer {self._token}":
            return 401, {"X-Error-Message": "Invalid credentials in Authorization header"}, b"{}"
        if path == "/api/validate-yaml":
            return _validated(json.loads(body)["content"])
        if path == "/api/repos/create":
            return self._created(json.loads(body))
        if found := re.fullmatch(r"/(.+)\.git/info/lfs/objects/batch", path):
            return self._batch(json.loads(body)["objects"]) if found[1] in self._folders else _refused(404, "no such")
        return self._changed(path.removeprefix("/api/models/").split("/"), query, body)

    def _created(self, wanted: dict[str, Any]) -> Answer:
        repository = f"{wanted['organization']}/{wanted['name']}"
        if repository in self._folders:
            return _refused(409, "You already created this model repo")
        self._folders[repository] = self._root / repository
        self._folders[repository].mkdir(parents=True)
        if wanted.get("visibility") == "private":
            self._uploads.private.add(repository)
        return _json({"url": f"{self._url}/{repository}"})

    def _changed(self, parts: list[str], query: str, body: bytes) -> Answer:
        repository, action, revision = "/".join(parts[:2]), parts[2], unquote(parts[3])
        is_proposed = query == "create_pr=1"
        if repository not in self._folders:
            return 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
        if repository in self._uploads.closed and not is_proposed:
            return _refused(403, "you are not of this organization")
        if action == "branch":
            self._uploads.branches.add((repository, revision))
            return _json({})
        if action == "preupload":
            return _json({"files": [self._mode(repository, file) for file in json.loads(body)["files"]]})
        return self._committed(repository, revision, body, is_proposed=is_proposed)

    def _mode(self, repository: str, file: dict[str, Any]) -> dict[str, Any]:
        is_large = file["path"].endswith(_LARGE)
        there = self._folders[repository] / file["path"]
        oid = None
        if there.is_file():
            content = there.read_bytes()
            blob = b"blob %d\0%s" % (len(content), content)
            oid = hashlib.sha256(content).hexdigest() if is_large else hashlib.sha1(blob).hexdigest()
        mode = "lfs" if is_large else "regular"
        return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid}

    def _batch(self, objects: list[dict[str, Any]]) -> Answer:
        wanted = [
            one
            if one["oid"] in self._uploads.objects
            else {**one, "actions": {"upload": {"href": f"{self._url}/lfs/{one['oid']}"}}}
            for one in objects
        ]
        return _json({"transfer": "basic", "objects": wanted})

    def _object(self, oid: str, body: bytes) -> Answer:
        self._uploads.puts.append(oid)
        if oid in self._uploads.refused:
            self._uploads.refused.remove(oid)
            return _refused(400, "the storage is out of order")
        assert hashlib.sha256(body).hexdigest() == oid
        self._uploads.objects[oid] = body
        return _json({})

    def _committed(self, repository: str, revision: str, body: bytes, *, is_proposed: bool) -> Answer:
        lines = [json.loads(line) for line in body.splitlines()]
        files = {one["value"]["path"]: self._content(one) for one in lines if one["key"] in ("file", "lfsFile")}
        commit = Commit(
            repository=repository,
            revision=revision,
            message=lines[0]["value"]["summary"],
            paths=tuple(sorted(files)),
            is_proposed=is_proposed,
        )
        self._uploads.commits.append(commit)
        oid = f"{len(self._uploads.commits):040x}"
        if revision == "main" and not is_proposed:
            for path, content in files.items():
                place = self._folders[repository] / path
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content)
        if not is_proposed:
            self._uploads.heads[repository, revision] = oid
        url = f"{self._url}/{repository}"
        return _json({"commitUrl": f"{url}/commit/{oid}", "commitOid": oid, "pullRequestUrl": f"{url}/discussions/1"})

    def _content(self, line: dict[str, Any]) -> bytes:
        value = line["value"]
        return base64.b64decode(value["content"]) if line["key"] == "file" else self._uploads.objects[value["oid"]]


def metadata_of(card: str) -> dict[str, Any]:
    found = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
    return yaml.safe_load(found[1]) or {} if found else {}


def _validated(card: str) -> Answer:
    """As the Hub does: a base is an id."""
    base = metadata_of(card).get("base_model")
    if base is not None and not _ID.fullmatch(base):
        told = {"message": f'"base_model" with value "{base}" is not valid.'}
        return 400, {}, json.dumps({"errors": [told], "warnings": []}).encode()
    warnings = [] if metadata_of(card) else [{"message": "empty or missing yaml metadata in repo card"}]
    return _json({"errors": [], "warnings": warnings})


def _json(value: Any) -> Answer:
    return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()


def _refused(status: int, message: str) -> Answer:
    return status, {"Content-Type": "application/json"}, json.dumps({"error": message}).encode()
