"""A transformers model with its preprocessors on its device: one copy of the weights for one or more tasks."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import fields
from typing import Any

import torch

from app.errors import ModelFailed, NotAvailable
from app.runtime.backends.network import ExportedNetwork
from app.runtime.compiling import Compiled
from app.runtime.embeddings import Embedder, EmbeddingParts
from app.runtime.parts import OwnStages, Parts
from app.runtime.sentence_files import SentenceFiles
from app.runtime.tokenizing import Tokenizers
from app.tasks.feature_extraction import EMBEDDING_TASKS
from app.tasks.registry import ALL_TASKS

TEXTS_AMONG_IMAGES = "app.runtime.vision.features:TextFeatureStages"
"""feature-extraction by a model with one space for images and texts (CLIP)."""


class TransformersModel:
    """Implements `LoadedModel`. Its parts are never changed after loading."""

    def __init__(
        self,
        parts: Parts,
        tasks: Sequence[str],
        sentence_files: SentenceFiles,
        *,
        devices: tuple[str, ...],
        num_parameters: int,
        dtype: str | None = None,
        largest_difference: float | None = None,
        compiles: bool = False,
    ) -> None:
        """parts.model: in evaluation mode, on its devices; for embedding tasks its base model makes the vectors.

        dtype: what it computes in, where that is not the type of what goes in and out. compiles: as it warms up.
        """
        self._tasks = list(tasks)
        self._parts = parts
        self._embedding_parts: EmbeddingParts | None = None
        model = parts.model
        called = [model] if any(task not in EMBEDDING_TASKS for task in tasks) else []
        self.devices = devices
        self.dtype = dtype or str(model.dtype).removeprefix("torch.")
        self.largest_difference = largest_difference
        self.num_parameters = num_parameters
        self.max_length, self.embedding_size = parts.max_length, None
        self.engine, self.adapters = parts.engine, parts.adapters
        self._has_one_space = all(hasattr(model, f"get_{medium}_features") for medium in ("text", "image"))
        if any(task in EMBEDDING_TASKS for task in tasks) and not self._has_one_space:
            has_head = any(task not in EMBEDDING_TASKS for task in tasks)
            embedder = Embedder(model.base_model if has_head else model, sentence_files, parts.limit)
            self._embedding_parts = _embedding_parts(parts, embedder)
            self.max_length = parts.max_length if has_head else embedder.limit
            self.embedding_size = embedder.size
            called.append(embedder.model)
        if compiles and self._has_one_space:
            raise ModelFailed(f"compile: a {type(model).__name__} makes vectors by parts of it, which is not compiled.")
        self.compiled = Compiled(called) if compiles else None

    def tasks(self) -> list[str]:
        return list(self._tasks)

    def stages(self, task: str) -> OwnStages:
        """Stages for one more thread; their own tokenizer comes with the first encoding. Raises NotAvailable."""
        if task not in ALL_TASKS:
            raise NotAvailable(f"This installation cannot do {task}.")
        if self._has_one_space and task == "feature-extraction":
            return _made(TEXTS_AMONG_IMAGES, self._parts)
        if task in EMBEDDING_TASKS and self._embedding_parts is not None:
            return _made(ALL_TASKS[task].stages, self._embedding_parts)
        return _made(ALL_TASKS[task].stages, self._parts)

    def warm_up(self) -> None:
        with nullcontext() if self.compiled is None else self.compiled.warming_up():
            for task in self._tasks:
                self._warm_up(task)

    def _warm_up(self, task: str) -> None:
        stages = self.stages(task)
        one_input, parameters = self.warm_up_request(task)
        (items,) = stages.prepare([one_input], parameters)
        stages.finish(items, list(stages.forward(items)), parameters)
        if self.compiled is not None:
            # One row is code of its own; all other batches share theirs.
            for num_rows in (1, 2):
                list(stages.forward(items[:1] * num_rows))
        stages.release()

    def set_num_threads(self, num_threads: int) -> None:
        torch.set_num_threads(num_threads)
        if isinstance(self._parts.model, ExportedNetwork):
            self._parts.model.set_num_threads(num_threads)

    def warm_up_request(self, task: str) -> tuple[Any, dict[str, Any]]:
        """A small input of the task and its parameters."""
        one_input, parameters = ALL_TASKS[task].warm_up
        if task == "fill-mask":
            mask = self._parts.require_tokenizers().shared.mask_token
            one_input = one_input.replace("[MASK]", mask)
        return one_input, parameters


def _made(place: str, parts: Parts) -> OwnStages:
    """place: "module:class"."""
    module, _, name = place.partition(":")
    try:
        stages: OwnStages = getattr(importlib.import_module(module), name)(parts)
        return stages
    except ImportError as error:
        raise NotAvailable(f"This task needs a library that is not installed: {error}") from error


def _embedding_parts(parts: Parts, embedder: Embedder) -> EmbeddingParts:
    """With tokenizers of their own where sentence-transformers' files want texts lowered."""
    same = {field.name: getattr(parts, field.name) for field in fields(parts)}
    if embedder.files.do_lower_case:
        same["tokenizers"] = Tokenizers(parts.require_tokenizers().shared, embedder.lower_case)
    return EmbeddingParts(**same, embedder=embedder)
