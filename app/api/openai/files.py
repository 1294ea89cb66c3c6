"""/v1/files: what batches read, and what they write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from app.api.openai.uploads import Upload, read_upload
from app.api.pages import page_of, read_list_query
from app.api.record import record_of
from app.api.routing import answer_routes
from app.batches.records import BATCH_PURPOSE, OUTPUT_PURPOSE, StoredFile
from app.batches.runner import BatchRunner
from app.batches.store import Store, StoreThread, make_id
from app.errors import InputTooLarge, InvalidInput, NotServed
from app.tasks.base import JSON

FILES = "v1/files"
ONE_FILE = f"{FILES}/{{file_id}}"
MAX_FILE_BYTES = 512 * 2**20
TTL_S = 30 * 86_400
MIN_TTL_S = 3_600
_PURPOSES = (BATCH_PURPOSE, OUTPUT_PURPOSE)
_MAX_PAGE = 10_000
_TEXTS = ("purpose", "expires_after[anchor]", "expires_after[seconds]")


class Files:
    """Owned by the event loop."""

    def __init__(
        self, store: StoreThread, runner: BatchRunner, *, max_total_bytes: int, clock: Callable[[], float]
    ) -> None:
        """max_total_bytes: of everybody's files. clock: unix time."""
        self._store = store
        self._runner = runner
        self._max_total_bytes = max_total_bytes
        self._clock = clock

    async def upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises the errors of `app/errors.py`."""
        record = record_of(scope)
        await self._runner.resume()
        room = await self._store.do(self._room)
        file_id = make_id("file-")
        path = self._store.path_of(file_id)
        upload = await read_upload(receive, record.headers, path, max_bytes=min(room, MAX_FILE_BYTES))
        try:
            file = self._described(file_id, record.caller.name, upload)
            await self._store.do(lambda store: store.add_file(file))
        except BaseException:  # also who leaves meanwhile: nobody was told of the file
            path.unlink(missing_ok=True)
            raise
        await json_response(file_object(file))(scope, receive, send)

    def _room(self, store: Store) -> int:
        """What may still be stored. Raises InputTooLarge where there is none."""
        store.expire(int(self._clock()), kept=self._runner.inputs())
        room = self._max_total_bytes - store.num_bytes()
        if room <= 0:
            raise InputTooLarge(
                f"Files may have {self._max_total_bytes} bytes together, and have them: delete some.", param="file"
            )
        return room

    def _described(self, file_id: str, owner: str, upload: Upload) -> StoredFile:
        """Raises InvalidInput."""
        now, texts = int(self._clock()), upload.texts
        if unknown := sorted(set(texts) - set(_TEXTS)):
            name = unknown[0][:64]
            raise InvalidInput(f"{name}: no such field; there are file, {', '.join(_TEXTS)}.", param=name)
        if texts.get("purpose") != BATCH_PURPOSE:
            raise InvalidInput('purpose must be "batch": files are for batches here.', param="purpose")
        ttl_s = read_expiry(
            {name: texts.get(f"expires_after[{name}]") for name in ("anchor", "seconds")}, param="expires_after"
        )
        return StoredFile(
            id=file_id,
            owner=owner,
            filename=upload.filename,
            purpose=BATCH_PURPOSE,
            num_bytes=upload.num_bytes,
            created_at=now,
            expires_at=now + ttl_s,
        )

    async def list_all(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = read_list_query(scope, ("after", "limit", "order", "purpose"))
        await self._runner.resume()
        owner, purpose = record_of(scope).caller.name, query.get("purpose")
        found = await self._store.do(lambda store: store.files(owner))
        shown = [file_object(one) for one in found if purpose in (None, one.purpose)]
        await json_response(page_of(shown, query, max_items=_MAX_PAGE, usual=_MAX_PAGE))(scope, receive, send)

    async def retrieve(self, scope: Scope, receive: Receive, send: Send) -> None:
        await json_response(file_object(await self._file(scope)))(scope, receive, send)

    async def content(self, scope: Scope, receive: Receive, send: Send) -> None:
        file = await self._file(scope)
        path = self._store.path_of(file.id)
        response = FileResponse(path, media_type="application/jsonl", filename=file.filename)
        await response(scope, receive, send)

    async def delete(self, scope: Scope, receive: Receive, send: Send) -> None:
        file = await self._file(scope)
        if users := self._runner.users_of(file.id):
            raise InvalidInput(f"file_id: {', '.join(users)} reads it, and has not ended.", param="file_id")
        await self._store.do(lambda store: store.remove_file(file.id))
        await json_response({"id": file.id, "object": "file", "deleted": True})(scope, receive, send)

    async def _file(self, scope: Scope) -> StoredFile:
        """Raises NotServed."""
        await self._runner.resume()
        file_id, owner = str(scope["path_params"]["file_id"]), record_of(scope).caller.name
        file = await self._store.do(lambda store: store.file(file_id, owner))
        if file is None or (file.expires_at is not None and file.expires_at <= self._clock()):
            raise NotServed(f'There is no file "{file_id[:64]}", or no longer.', param="file_id")
        return file

    def routes(self) -> list[BaseRoute]:
        return answer_routes(
            (
                ("POST", f"/{FILES}", self.upload),
                ("GET", f"/{FILES}", self.list_all),
                ("GET", f"/{ONE_FILE}", self.retrieve),
                ("DELETE", f"/{ONE_FILE}", self.delete),
                ("GET", f"/{ONE_FILE}/content", self.content),
            )
        )


def json_response(body: Mapping[str, Any]) -> Response:
    return Response(orjson.dumps(body), media_type=JSON)


def file_object(file: StoredFile) -> dict[str, Any]:
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.num_bytes,
        "created_at": file.created_at,
        "expires_at": file.expires_at,
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }


def read_expiry(given: Mapping[str, Any], *, param: str) -> int:
    """Seconds from the making of a file: OpenAI's `anchor` and `seconds`. Raises InvalidInput."""
    anchor, seconds = given.get("anchor"), given.get("seconds")
    if anchor is None and seconds is None:
        return TTL_S
    if anchor != "created_at":
        raise InvalidInput(f"{param}.anchor must be created_at.", param=f"{param}.anchor")
    text = str(seconds)
    if not text.isascii() or not text.isdecimal() or not MIN_TTL_S <= int(text[:12]) <= TTL_S:
        raise InvalidInput(f"{param}.seconds must be from {MIN_TTL_S} to {TTL_S}.", param=f"{param}.seconds")
    return int(text)
