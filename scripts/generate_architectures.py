"""Writes app/tasks/architectures.py from the installed transformers: `python scripts/generate_architectures.py`."""

from __future__ import annotations

from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / "app" / "tasks" / "architectures.py"

TASK_OF_MAPPING = {
    "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES": "text-classification",
    "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES": "token-classification",
    "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES": "question-answering",
    "MODEL_FOR_TABLE_QUESTION_ANSWERING_MAPPING_NAMES": "table-question-answering",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES": "text2text-generation",
    "MODEL_FOR_MASKED_LM_MAPPING_NAMES": "fill-mask",
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES": "text-generation",
    "MODEL_FOR_DOCUMENT_QUESTION_ANSWERING_MAPPING_NAMES": "document-question-answering",
    "MODEL_FOR_VISUAL_QUESTION_ANSWERING_MAPPING_NAMES": "visual-question-answering",
    "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES": "image-text-to-text",
    "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES": "any-to-any",
    "MODEL_FOR_DECISION_MAPPING_NAMES": "decision",
    "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES": "image-classification",
    "MODEL_FOR_IMAGE_SEGMENTATION_MAPPING_NAMES": "image-segmentation",
    "MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES": "image-segmentation",
    "MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING_NAMES": "image-segmentation",
    "MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES": "object-detection",
    "MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING_NAMES": "zero-shot-object-detection",
    "MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES": "zero-shot-image-classification",
    "MODEL_FOR_DEPTH_ESTIMATION_MAPPING_NAMES": "depth-estimation",
    "MODEL_FOR_MASK_GENERATION_MAPPING_NAMES": "mask-generation",
    "MODEL_FOR_KEYPOINT_MATCHING_MAPPING_NAMES": "keypoint-matching",
    "MODEL_FOR_IMAGE_TO_IMAGE_MAPPING_NAMES": "image-to-image",
    "MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING_NAMES": "video-classification",
    "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES": "audio-classification",
    "MODEL_FOR_CTC_MAPPING_NAMES": "automatic-speech-recognition",
    "MODEL_FOR_TDT_MAPPING_NAMES": "automatic-speech-recognition",
    "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES": "automatic-speech-recognition",
    "MODEL_FOR_TEXT_TO_WAVEFORM_MAPPING_NAMES": "text-to-audio",
    "MODEL_FOR_TEXT_TO_SPECTROGRAM_MAPPING_NAMES": "text-to-audio",
    "MODEL_FOR_IMAGE_MAPPING_NAMES": "image-feature-extraction",
    "MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES": "feature-extraction",
}
"""A class that stands in several mappings has several tasks; a config without a model card means the first one here."""
TASK_OF_CLASS = {
    "ClapModel": "zero-shot-audio-classification",  # transformers has no mapping for the task
    "VisionEncoderDecoderModel": "image-to-text",  # captions; it has no chat template
}
"""What the mappings do not say. It goes before them."""


def architectures() -> dict[str, tuple[str, ...]]:
    """Class name -> tasks, the usual one first."""
    from transformers.models.auto import modeling_auto

    found: dict[str, list[str]] = {name: [task] for name, task in TASK_OF_CLASS.items()}
    for mapping, task in TASK_OF_MAPPING.items():
        _add(found, getattr(modeling_auto, mapping), task)
    _add(found, _text_bases(), "feature-extraction")
    return {name: tuple(tasks) for name, tasks in sorted(found.items())}


def _add(found: dict[str, list[str]], classes: dict[str, str | tuple[str, ...]], task: str) -> None:
    for names in classes.values():
        for name in (names,) if isinstance(names, str) else names:
            tasks = found.setdefault(name, [])
            if task not in tasks:
                tasks.append(task)


def _text_bases() -> dict[str, str | tuple[str, ...]]:
    """Base models that take nothing but text; transformers keeps the bases of all media in one mapping."""
    from transformers.models.auto import modeling_auto
    from transformers.models.auto.feature_extraction_auto import FEATURE_EXTRACTOR_MAPPING_NAMES
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

    of_text = (
        TOKENIZER_MAPPING_NAMES,
        modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
        modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    )
    of_other_media = (
        PROCESSOR_MAPPING_NAMES,
        FEATURE_EXTRACTOR_MAPPING_NAMES,
        modeling_auto.MODEL_FOR_IMAGE_MAPPING_NAMES,
        modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
        modeling_auto.MODEL_FOR_TEXT_TO_WAVEFORM_MAPPING_NAMES,
        modeling_auto.MODEL_FOR_TEXT_TO_SPECTROGRAM_MAPPING_NAMES,
    )
    return {
        model_type: names
        for model_type, names in modeling_auto.MODEL_MAPPING_NAMES.items()
        if any(model_type in known for known in of_text) and not any(model_type in known for known in of_other_media)
    }


def auto_classes() -> tuple[str, ...]:
    import transformers

    return tuple(sorted(name for name in dir(transformers) if name.startswith("AutoModel")))


def source() -> str:
    lines = "".join(f'    "{name}": {_shown(tasks)},\n' for name, tasks in architectures().items())
    names = "".join(f'    "{name}",\n' for name in auto_classes())
    return (
        '"""Which tasks a model class is for. Generated by scripts/generate_architectures.py: do not edit."""\n\n'
        "from __future__ import annotations\n\n"
        f"ARCHITECTURES: dict[str, tuple[str, ...]] = {{\n{lines}}}\n"
        f"AUTO_CLASSES: tuple[str, ...] = (\n{names})\n"
    )


def _shown(tasks: tuple[str, ...]) -> str:
    return "(" + ", ".join(f'"{task}"' for task in tasks) + ("," if len(tasks) == 1 else "") + ")"


if __name__ == "__main__":
    TARGET.write_text(source())
