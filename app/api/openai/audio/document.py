"""OpenAI's routes of sounds in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from app.api.openai.audio.bodies import SpeechBody, TranscriptionBody, TranslationBody
from app.api.openai.audio.forms import FILE
from app.api.openai.audio.speech import MEDIA_TYPES, SPEECH
from app.api.openai.audio.transcriptions import TRANSCRIPTIONS, TRANSLATIONS
from app.api.openapi import Document, body_schemas, call_parameters, json_body, parameter, plain_operation

TAG = "OpenAI's API"
_SUMMARIES = {
    TRANSCRIPTIONS: "What is said in a sound; with `stream=true` as server-sent events.",
    TRANSLATIONS: "What is said in a sound, in English.",
    SPEECH: "A text, read aloud; with `stream_format: sse` as server-sent events.",
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_PLAIN = {"schema": {"type": "string", "description": "With response_format text, srt and vtt."}}


def audio_document() -> Document:
    """Each route at the root and below a model's URL."""
    bodies = {TRANSCRIPTIONS: TranscriptionBody, TRANSLATIONS: TranslationBody, SPEECH: SpeechBody}
    schemas, defined = body_schemas(bodies)
    for path in (TRANSCRIPTIONS, TRANSLATIONS):
        _add_file(schemas[path], defined)
    model_id = parameter("model_id", "path", "The id or alias of a declared model; it may hold slashes.")
    paths: dict[str, Any] = {}
    for path, schema in schemas.items():
        paths[f"/{path}"] = {"post": _operation(path, schema, [], "")}
        paths[f"/models/{{model_id}}/{path}"] = {"post": _operation(path, schema, [model_id], "_of_model")}
    return Document(paths, defined)


def _add_file(schema: dict[str, Any], defined: dict[str, Any]) -> None:
    fields = defined[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    sound = {"type": "string", "format": "binary", "description": "A sound: WAV, FLAC, Ogg, MP3, M4A, WebM, ..."}
    fields["properties"] = {FILE: sound, **fields["properties"]}
    fields["required"] = [FILE, *fields.get("required", [])]


def _operation(path: str, schema: dict[str, Any], parameters: list[Any], suffix: str) -> dict[str, Any]:
    is_speech = path == SPEECH
    body = json_body(schema, {"input": "The match ended two goals to one."}) if is_speech else _form(schema)
    operation = plain_operation(
        TAG,
        path.replace("/", "_") + suffix,
        _SUMMARIES[path],
        parameters=parameters + call_parameters(with_model=not suffix),
        body=body,
        streams=None if path == TRANSLATIONS else "text/event-stream",
    )
    content = operation["responses"]["200"]["content"]
    if is_speech:
        del content["application/json"]
        content.update(dict.fromkeys((*MEDIA_TYPES.values(), "audio/ogg"), _BINARY))
        del content["audio/opus"]
    else:
        content["text/plain"] = _PLAIN
    return operation


def _form(schema: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
