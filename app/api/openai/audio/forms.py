"""Forms as OpenAI's SDKs send them: one file, lists as `name[]`, objects as `name[key]`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from app.api.form import read_form
from app.api.large import in_thread_if_large
from app.api.record import RequestRecord
from app.errors import InvalidInput, UnsupportedMedia

FILE = "file"


async def read_sound_form(raw: bytes, record: RequestRecord, *, lists: Collection[str]) -> tuple[bytes, dict[str, Any]]:
    """The file, and the fields as texts; empty ones count as unset. lists: fields that may stand there several times.

    Raises UnsupportedMedia for what is no form, MalformedBody, InvalidInput.
    """
    content_type = record.headers.get(b"content-type", b"").decode("latin-1").strip()
    if not content_type.lower().startswith("multipart/form-data"):
        raise UnsupportedMedia(f"The body must be a form, multipart/form-data, with the sound as `{FILE}`.")
    form = await in_thread_if_large(len(raw), lambda: read_form(raw, content_type))
    fields: dict[str, Any] = {}
    for name, text in form.texts:
        if text:
            _put(fields, name, text, lists)
    for name, _ in form.files:
        if name != FILE:
            raise InvalidInput(f"{name[:64]}: no file belongs there; the sound is `{FILE}`.", param=name[:64])
    if len(form.files) != 1:
        problem = "is missing" if not form.files else f"stands there {len(form.files)} times"
        raise InvalidInput(f"{FILE} {problem}: send one sound, as a file.", param=FILE)
    return form.files[0][1], fields


def _put(fields: dict[str, Any], name: str, text: str, lists: Collection[str]) -> None:
    base, bracket, key = name.partition("[")
    key = key.removesuffix("]")
    if base in lists and not key:
        fields.setdefault(base, []).append(text)
    elif bracket and key:
        inner = fields.setdefault(base, {})
        if isinstance(inner, dict):
            inner[key] = text
    elif bracket:
        fields.setdefault(base, []).append(text)
    elif base in fields:
        raise InvalidInput(f"{base} stands twice in the form.", param=base)
    else:
        fields[base] = text
