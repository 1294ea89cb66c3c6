"""How `huggingface_hub.InferenceClient` calls each task: the method, as its users write it, with parameters that it
sends. A task without a row has no method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from app.tasks.samples import PNG, WAV

TABLE = {"actor": ["brad", "george"], "age": ["56", "59"]}
LABELS = ["a cat", "a dog"]

METHODS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "audio-classification": ("audio_classification", lambda client: client.audio_classification(WAV, top_k=2)),
    "automatic-speech-recognition": (
        "automatic_speech_recognition",
        lambda client: client.automatic_speech_recognition(WAV),
    ),
    "document-question-answering": (
        "document_question_answering",
        lambda client: client.document_question_answering(
            PNG, "how much?", word_boxes=[["total", [10, 10, 200, 60]], ["seven", [210, 10, 400, 60]]], top_k=1
        ),
    ),
    "feature-extraction": (
        "feature_extraction",
        lambda client: client.feature_extraction("a good film", normalize=True),
    ),
    "fill-mask": ("fill_mask", lambda client: client.fill_mask("a [MASK] film", top_k=2)),
    "image-classification": ("image_classification", lambda client: client.image_classification(PNG, top_k=2)),
    "image-segmentation": ("image_segmentation", lambda client: client.image_segmentation(PNG, threshold=0.0)),
    "image-to-image": ("image_to_image", lambda client: client.image_to_image(PNG)),
    "image-to-text": ("image_to_text", lambda client: client.image_to_text(PNG)),
    "object-detection": ("object_detection", lambda client: client.object_detection(PNG, threshold=0.0)),
    "question-answering": (
        "question_answering",
        lambda client: client.question_answering(question="who", context="ada lives in london"),
    ),
    "sentence-similarity": (
        "sentence_similarity",
        lambda client: client.sentence_similarity("a cat", ["a dog", "the market"]),
    ),
    "summarization": (
        "summarization",
        lambda client: client.summarization("a good film about a cat", generate_parameters={"max_new_tokens": 5}),
    ),
    "table-question-answering": (
        "table_question_answering",
        lambda client: client.table_question_answering(table=TABLE, query="how many"),
    ),
    "text-classification": ("text_classification", lambda client: client.text_classification("a good film", top_k=2)),
    "text-generation": (
        "text_generation",
        lambda client: client.text_generation("a good film", max_new_tokens=5, details=True),
    ),
    "text-to-audio": ("text_to_speech", lambda client: client.text_to_speech("a good film", extra_body={"seed": 1})),
    "token-classification": (
        "token_classification",
        lambda client: client.token_classification("ada lives in london", stride=4),
    ),
    "translation": ("translation", lambda client: client.translation("a good film")),
    "visual-question-answering": (
        "visual_question_answering",
        lambda client: client.visual_question_answering(PNG, "what is it?", top_k=2),
    ),
    "zero-shot-classification": (
        "zero_shot_classification",
        lambda client: client.zero_shot_classification("a film", ["good", "bad"]),
    ),
    "zero-shot-image-classification": (
        "zero_shot_image_classification",
        lambda client: client.zero_shot_image_classification(PNG, LABELS),
    ),
}
