"""The routes of sounds at the root."""

from __future__ import annotations

from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from app.api.openai.audio.speech import Speech
from app.api.openai.audio.transcriptions import Transcriptions
from app.api.record import record_of


class AudioEndpoint:
    """One of them: an ASGI app."""

    def __init__(self, audio: Transcriptions | Speech, path: str) -> None:
        self._audio = audio
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        record_of(scope).route = f"/{self._path}"
        await self._audio.answer(self._path, None, scope, receive, send)


def audio_routes(transcriptions: Transcriptions, speech: Speech) -> list[BaseRoute]:
    return [
        Route(f"/{path}", AudioEndpoint(audio, path), methods=["POST"])
        for audio in (transcriptions, speech)
        for path in sorted(audio.paths)
    ]
