"""A task's example as a call of `huggingface_hub.InferenceClient`, as its users write it."""

from __future__ import annotations

from typing import Any

from app.tasks.base import Task
from app.tasks.samples import GIF_BASE64, PNG_BASE64, WAV_BASE64

METHOD_NAMES = {
    "audio-classification": "audio_classification",
    "automatic-speech-recognition": "automatic_speech_recognition",
    "document-question-answering": "document_question_answering",
    "feature-extraction": "feature_extraction",
    "fill-mask": "fill_mask",
    "image-classification": "image_classification",
    "image-segmentation": "image_segmentation",
    "image-to-image": "image_to_image",
    "image-to-text": "image_to_text",
    "object-detection": "object_detection",
    "question-answering": "question_answering",
    "sentence-similarity": "sentence_similarity",
    "summarization": "summarization",
    "table-question-answering": "table_question_answering",
    "text-classification": "text_classification",
    "text-generation": "text_generation",
    "text-to-audio": "text_to_speech",
    "token-classification": "token_classification",
    "translation": "translation",
    "visual-question-answering": "visual_question_answering",
    "zero-shot-classification": "zero_shot_classification",
    "zero-shot-image-classification": "zero_shot_image_classification",
}
"""Methods of `InferenceClient`; other tasks have none there."""

_FILES = {PNG_BASE64: "picture.png", WAV_BASE64: "sound.wav", GIF_BASE64: "film.gif"}
LINE_LENGTH = 120
_ONLY_A_FILE = ("image-to-text", "image-to-image", "automatic-speech-recognition")
"""Whose methods take no parameters of the example."""


def python_of(task: Task, url: str = "$URL") -> str:
    """The script; what it prints is the answer. A file that comes back is stored."""
    call = _call(f"answer = client.{METHOD_NAMES[task.name]}", _arguments(task))
    lines = [
        "from huggingface_hub import InferenceClient",
        "",
        f'client = InferenceClient(model="{url}/v1/{task.name}")',
        call,
    ]
    if task.answers[0] == "image/png":
        lines.append('answer.save("answer.png")')
    elif task.answers[0] == "audio/wav":
        lines.append('open("answer.wav", "wb").write(answer)')
    else:
        lines.append("print(answer)")
    return "\n".join(lines)


def _call(start: str, arguments: list[str]) -> str:
    """As ruff formats it: on one line, else its arguments on one, else each on its own."""
    if len(line := f"{start}({', '.join(arguments)})") <= LINE_LENGTH:
        return line
    if len(line := "    " + ", ".join(arguments)) <= LINE_LENGTH:
        return f"{start}(\n{line}\n)"
    return f"{start}(\n" + "".join(f"    {argument},\n" for argument in arguments) + ")"


def _arguments(task: Task) -> list[str]:
    inputs, parameters = task.example.body["inputs"], task.example.body.get("parameters", {})
    if task.name == "sentence-similarity":
        return [_shown(inputs["source_sentence"]), _shown(inputs["sentences"])]
    given = (
        [f"{name}={_shown(value)}" for name, value in inputs.items()] if isinstance(inputs, dict) else [_shown(inputs)]
    )
    if task.name not in _ONLY_A_FILE:
        given += [f"{name}={_shown(value)}" for name, value in parameters.items()]
    return given


def _shown(value: Any) -> str:
    """A literal as formatters write it; a file by its name."""
    if isinstance(value, str):
        text = _FILES.get(value, value)
        return repr(text) if '"' in text else f'"{text}"'
    if isinstance(value, list):
        return "[" + ", ".join(_shown(one) for one in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_shown(key)}: {_shown(one)}" for key, one in value.items()) + "}"
    return repr(value)
