"""/v1/audio/speech, at the root and below each model's URL."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator
from typing import Any

from starlette.types import Receive, Scope, Send

from app.api.call import Call, read_call, task_body
from app.api.fields import read_as
from app.api.openai.audio.bodies import UNUSED_OF_SPEECH, SpeechBody
from app.api.openai.events import data_event, openai_events
from app.api.record import RequestRecord, record_of
from app.api.renaming import by_names, renamed
from app.api.tasks import TaskAnswerer, send_stream
from app.catalog import ModelSpec
from app.tasks.registry import ALL_TASKS
from app.tasks.speech import SPEAKING_TASK, TASK

SPEECH = "v1/audio/speech"
MEDIA_TYPES = {
    "mp3": "audio/mpeg",
    "opus": "audio/opus",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
"""By `response_format`, as the task names them."""
_SHOWN = {"audio/opus": "audio/ogg"}
"""What is said of a file in the place of its name among the task's answers."""
_RENAME = by_names(
    {
        "inputs[0]": "input",
        "inputs": "input",
        "parameters.voice": "voice",
        "parameters.speed": "speed",
        "parameters.seed": "seed",
    }
)


class Speech:
    """Owned by the event loop. Implements `Served`."""

    paths = frozenset({SPEECH})

    def __init__(self, answerer: TaskAnswerer) -> None:
        self._answerer = answerer

    async def answer(self, path: str, path_model: str | None, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises the errors of `app/errors.py`."""
        record = record_of(scope)
        call = read_call(scope["query_string"], record.headers)
        given = await self._answerer.read_object(receive, record)
        body = read_as(SpeechBody, UNUSED_OF_SPEECH.without(given))
        spec = self._answerer.choose(ALL_TASKS[SPEAKING_TASK], record, path_model, call.model, body.model)
        media_type = MEDIA_TYPES[body.response_format]
        if body.stream_format == "sse":
            events = self._events(body, media_type, spec, call, record, receive)
            await send_stream(openai_events(events, record), spec, scope, receive, send)
            return
        with renamed(_RENAME):
            answered = await self._answerer.run(TASK, spec, _asked(body), call, record, receive, accept=media_type)
        shown = _SHOWN.get(media_type, media_type)
        await self._answerer.send(send, answered.fragments[0], answered.result, spec, record, media_type=shown)

    async def _events(
        self,
        body: SpeechBody,
        media_type: str,
        spec: ModelSpec,
        call: Call,
        record: RequestRecord,
        receive: Receive,
    ) -> AsyncGenerator[bytes, None]:
        """The sound in one piece: the models speak a text at once."""
        with renamed(_RENAME):
            job, _ = await self._answerer.job_of(TASK, spec, _asked(body), call, record, receive, accept=media_type)
            record.result = result = await record.fleet.submit(job)
        sound = base64.b64encode(result.outputs[0]).decode("ascii")
        yield data_event({"type": "speech.audio.delta", "audio": sound})
        # What the models count as they speak is not told: the text's tokens are all of it.
        usage = {"input_tokens": result.num_tokens, "output_tokens": 0, "total_tokens": result.num_tokens}
        yield data_event({"type": "speech.audio.done", "usage": usage})


def _asked(body: SpeechBody) -> dict[str, Any]:
    """The task's body."""
    voice = body.voice if body.voice is None or isinstance(body.voice, str) else body.voice.id
    return task_body(body.input, {"voice": voice, "speed": body.speed, "seed": body.seed}, body.keep_alive)
