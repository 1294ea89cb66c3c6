"""Finding out what an entry is: its small files on this disk, else from the Hub. Used by the API process."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from pathlib import Path

import msgspec

from app.catalog import ModelSpec, cached_files, with_files, with_right_keys
from app.declaration.inference import CONFIG, FILES, HANDLER
from app.errors import ModelFailed
from app.hub import no_answer, refusal


async def resolve(spec: ModelSpec) -> ModelSpec:
    """The entry with its tasks, or with `problem`. Raises ModelFailed when the Hub does not give the files.

    In a daemon thread of its own: a Hub that does not answer must not use up the event loop's few threads, in which
    other models' loads and large bodies wait for their turn, and not hold up the end of the process.
    """
    found: Future[ModelSpec] = Future()

    def run() -> None:
        if not found.set_running_or_notify_cancel():
            return
        try:
            found.set_result(_resolve(spec))
        except BaseException as error:  # whatever it is, it is for the one who waits
            found.set_exception(error)

    threading.Thread(target=run, name=f"resolve {spec.id}", daemon=True).start()
    return await asyncio.wrap_future(found)


async def look_up(spec: ModelSpec) -> ModelSpec:
    """As `resolve`, but the Hub is asked about every entry, also one that declares its tasks. Never raises for it."""
    try:
        return await asyncio.to_thread(_resolve, spec, asks_anyway=True)
    except ModelFailed as error:
        return msgspec.structs.replace(spec, problem=error.message)


def _resolve(spec: ModelSpec, *, asks_anyway: bool = False) -> ModelSpec:
    if not Path(spec.model).is_absolute() and (asks_anyway or not spec.is_resolved):
        _download(spec)
    found = with_files(spec, cached_files(spec))
    if found.has_handler is None:
        found = msgspec.structs.replace(found, has_handler=False)
    return with_right_keys(found)


def _download(spec: ModelSpec) -> None:
    """config.json, and the files beside it that the repository has, into the Hub's cache."""
    # Imported here: it takes a third of a second, and a catalogue of folders does without.
    from huggingface_hub import hf_hub_download

    for name in FILES:
        try:
            hf_hub_download(spec.model, name, revision=spec.revision, local_files_only=spec.offline)
        except Exception as error:  # a thread's boundary: whatever a network may do, the entry's page says it
            # Not every repository has a card, sentence-transformers' modules, or a handler, which needs no config.
            if name == CONFIG and not _has_file(spec, HANDLER):
                raise ModelFailed(_sentence(spec, error)) from error


def _has_file(spec: ModelSpec, name: str) -> bool:
    from huggingface_hub import hf_hub_download

    try:
        hf_hub_download(spec.model, name, revision=spec.revision, local_files_only=spec.offline)
    except Exception:  # a thread's boundary: what is wrong with the Hub is said of the config
        return False
    return True


def _sentence(spec: ModelSpec, error: Exception) -> str:
    from huggingface_hub import constants
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    refused = refusal(error, spec.model, spec.revision)
    if refused is not None:
        return refused
    if constants.HF_HUB_OFFLINE or spec.offline:
        return f"{spec.model} is not in the cache, and the Hub is not to be asked (HF_HUB_OFFLINE or `offline`)."
    if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
        return f"{spec.model} has no config.json, so it is not a transformers model."
    return f"The config of {spec.model} is not in the cache, and {no_answer(error)}."
