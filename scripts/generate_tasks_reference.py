# ruff: noqa: E501  # rows of Markdown tables are one line each
"""Writes docs/tasks.md from the task registry: `python -m scripts.generate_tasks_reference`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from app.tasks.base import Task
from app.tasks.curl import curl_of
from app.tasks.registry import TASKS

TARGET = Path(__file__).resolve().parent.parent / "docs" / "tasks.md"
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

INTRODUCTION = """# Tasks

Every task that this version serves, at `POST /v1/<task>`, made from `app/tasks/` by `scripts/generate_tasks_reference.py`. `tests/contract/test_every_task.py` runs each row against a real server: the curl command as it stands here, and the method of `huggingface_hub.InferenceClient` where there is one (sync and async).

`picture.png`, `sound.wav` and `film.gif` stand for files of yours. A file may also be sent as base64 or a data URI in JSON (`{"inputs": "<base64>", "parameters": {...}}`), or in a form with the parameters beside it. Answers are JSON unless `Accept` asks for another of the task's types.
"""


def row(task: Task) -> str:
    names = ", ".join(f"`{name}`" for name in (task.name, *task.aliases))
    method = f"`{METHOD_NAMES[task.name]}`" if task.name in METHOD_NAMES else "none there"
    model = f"`{task.default_model}`"
    return f"| [{names}](#{task.name}) | {task.modality} | {method} | {', '.join(f'`{name}`' for name in task.auto_classes)} | {model} |"


def parameters_of(task: Task) -> str:
    lines = []
    for name, field in task.parameters.model_fields.items():
        lines.append(
            f"- `{name}`{' (required)' if field.is_required() else ''}: {field.description or ''}".rstrip(": ")
        )
    return "\n".join(lines)


def section(task: Task) -> str:
    answers = (
        ""
        if task.answers == ("application/json",)
        else f"\n\nAnswers as {', '.join(f'`{name}`' for name in task.answers)} (the first without `Accept`)."
    )
    implied = f"\n\nIts models also answer {', '.join(task.implies)}." if task.implies else ""
    return f"""## {task.name}

{task.summary} Shares a forward: {task.batching}{answers}{implied}

```
$ {curl_of(task)}
{shown(task.example.answer)}
```

{parameters_of(task)}
"""


def shown(answer: Any) -> str:
    text = json.dumps(answer, ensure_ascii=False)
    return text if len(text) <= 400 else text[:400] + "..."


def page() -> str:
    head = "| task | kind | `InferenceClient` | Auto classes | default model |\n|---|---|---|---|---|\n"
    rows = "\n".join(row(task) for task in TASKS.values())
    return "\n".join([INTRODUCTION, head + rows, "", *(section(task) for task in TASKS.values())])


if __name__ == "__main__":
    TARGET.write_text(page())
