"""/v1/audio/transcriptions and /v1/audio/translations, at the root and below each model's URL."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send

from app.api.call import Call, read_call, task_body
from app.api.fields import read_as
from app.api.openai.audio.answers import PLAIN, Answerer, Reading, usage_so_far
from app.api.openai.audio.bodies import (
    TIMED_FORMATS,
    UNUSED_OF_TRANSCRIPTIONS,
    UNUSED_OF_TRANSLATIONS,
    SoundBody,
    TranscriptionBody,
    TranslationBody,
)
from app.api.openai.audio.forms import FILE, read_sound_form
from app.api.openai.events import DONE, data_event, openai_events
from app.api.record import RequestRecord, record_of
from app.api.renaming import by_names, renamed
from app.api.tasks import TaskAnswerer, send_stream
from app.catalog import ModelSpec
from app.errors import BackendFailed, InvalidInput
from app.fleet.requests import JobResult
from app.tasks.base import JSON
from app.tasks.completion import Delta
from app.tasks.registry import ALL_TASKS
from app.tasks.transcription import RECOGNIZING_TASK, TASK, Transcription, read_transcription

TRANSCRIPTIONS, TRANSLATIONS = "v1/audio/transcriptions", "v1/audio/translations"
PLAIN_TEXT = "text/plain; charset=utf-8"
_LISTS = ("timestamp_granularities", "include")
_ONLY_WITH = {"timestamp_granularities": "verbose_json", "include": "json", "stream": "json"}
"""The `response_format` that a field needs."""
_SAME_NAMES = ("language", "prompt", "temperature", "seed", "top_k", "top_p", "repetition_penalty")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """names: the client's, of what the task has other names for."""

    body: dict[str, Any]
    names: Mapping[str, str]
    answerer: Answerer


class Transcriptions:
    """Answers both routes. Owned by the event loop. Implements `Served`."""

    paths = frozenset({TRANSCRIPTIONS, TRANSLATIONS})

    def __init__(self, answerer: TaskAnswerer) -> None:
        self._answerer = answerer

    async def answer(self, path: str, path_model: str | None, scope: Scope, receive: Receive, send: Send) -> None:
        """path: TRANSCRIPTIONS or TRANSLATIONS. Raises the errors of `app/errors.py`."""
        record = record_of(scope)
        call = read_call(scope["query_string"], record.headers)
        file, fields = await read_sound_form(await self._answerer.read(receive, record), record, lists=_LISTS)
        body = _read(path, fields)
        spec = self._answerer.choose(ALL_TASKS[RECOGNIZING_TASK], record, path_model, call.model, body.model)
        asked = _asked(body, file)
        if isinstance(body, TranscriptionBody) and body.stream:
            events = self._events(body, asked, spec, call, record, receive)
            await send_stream(openai_events(events, record), spec, scope, receive, send)
            return
        with renamed(by_names(asked.names)):
            answered = await self._answerer.run(TASK, spec, asked.body, call, record, receive)
        told = read_transcription(answered.fragments[0])
        shown, media_type = _shown(told, body.response_format, asked.answerer)
        await self._answerer.send(send, shown, answered.result, spec, record, media_type=media_type)

    async def _events(
        self,
        body: TranscriptionBody,
        asked: _Asked,
        spec: ModelSpec,
        call: Call,
        record: RequestRecord,
        receive: Receive,
    ) -> AsyncGenerator[bytes, None]:
        reading = Reading()
        with renamed(by_names(asked.names)):
            job, _ = await self._answerer.job_of(TASK, spec, asked.body, call, record, receive)
            async for part in record.fleet.stream(job):
                if isinstance(part, JobResult):
                    record.result = part
                    yield data_event(asked.answerer.done_event(_whole(part)))
                    continue
                for delta in reading.add(part):
                    if event := _delta_event(delta, reading, body, asked.answerer):
                        yield event
        yield DONE


def _whole(result: JobResult) -> Transcription:
    if not result.outputs:
        raise BackendFailed("A stream ended without its text. This is a bug.")
    return read_transcription(result.outputs[0])


def _delta_event(delta: Delta, reading: Reading, body: TranscriptionBody, answerer: Answerer) -> bytes | None:
    text = reading.text(delta)
    if not text and not delta.tokens:
        return None
    usage = None
    if body.stream_continuous_usage_stats:
        usage = usage_so_far(num_read=delta.num_prompt_tokens, num_written=reading.num_written)
    return data_event(answerer.delta_event(text, delta.tokens, usage))


def _read(path: str, fields: dict[str, Any]) -> SoundBody:
    """Raises InvalidInput naming the field."""
    if path == TRANSLATIONS:
        return read_as(TranslationBody, UNUSED_OF_TRANSLATIONS.without(fields))
    body = read_as(TranscriptionBody, UNUSED_OF_TRANSCRIPTIONS.without(fields))
    for name, wanted in _ONLY_WITH.items():
        if getattr(body, name) and body.response_format != wanted:
            raise InvalidInput(f"{name}: only with response_format {wanted}.", param=name)
    return body


def _asked(body: SoundBody, file: bytes) -> _Asked:
    is_translation = isinstance(body, TranslationBody)
    granularities = getattr(body, "timestamp_granularities", None) or ["segment"]
    is_timed = body.response_format in TIMED_FORMATS
    has_words = is_timed and "word" in granularities
    has_segments = is_timed and "segment" in granularities
    has_logprobs = bool(getattr(body, "include", None))
    parameters = {name: getattr(body, name, None) for name in _SAME_NAMES} | {
        "max_new_tokens": body.max_completion_tokens,
        "translates": is_translation or None,
        "has_segments": has_segments or None,
        "has_words": has_words or None,
        "has_logprobs": has_logprobs or None,
    }
    names = {f"parameters.{name}": name for name in _SAME_NAMES} | {
        "inputs[0]": FILE,
        "inputs": FILE,
        "parameters.max_new_tokens": "max_completion_tokens",
        "parameters.task": "model",
        "parameters.return_timestamps": "timestamp_granularities" if has_words else "response_format",
        "parameters.has_logprobs": "include",
    }
    answerer = Answerer(
        is_translation=is_translation,
        has_segments=has_segments,
        has_words=has_words,
        has_logprobs=has_logprobs,
        temperature=body.temperature or 0.0,
    )
    return _Asked(body=task_body(file, parameters, body.keep_alive), names=names, answerer=answerer)


def _shown(told: Transcription, response_format: str, answerer: Answerer) -> tuple[bytes, str]:
    """The body, and its media type."""
    if response_format in PLAIN:
        return PLAIN[response_format](told).encode(), PLAIN_TEXT
    return orjson.dumps(answerer.verbose(told) if response_format == "verbose_json" else answerer.json(told)), JSON
