"""A transformers model with its tokenizer on its device: one copy of the weights for one or more tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from app.errors import NotAvailable
from app.runtime.base import Stages
from app.runtime.embeddings import Embedder, EmbeddingStages, SentenceSimilarityStages
from app.runtime.pipelines import (
    FillMaskStages,
    TextClassificationStages,
    TokenClassificationStages,
    ZeroShotClassificationStages,
)
from app.runtime.question_answering import QuestionAnsweringStages
from app.runtime.sentence_files import SentenceFiles
from app.runtime.table_question_answering import TableQuestionAnsweringStages
from app.runtime.tokenizing import Tokenizers, token_limit


class OwnStages(Stages, Protocol):
    """Stages whose tokenizer can be handed on when they are done."""

    def release(self) -> None: ...


EMBEDDING_TASKS: dict[str, type[EmbeddingStages]] = {
    "feature-extraction": EmbeddingStages,
    "sentence-similarity": SentenceSimilarityStages,
}
HEAD_TASKS: dict[str, Callable[[PreTrainedModel, Tokenizers, int | None], OwnStages]] = {
    "text-classification": TextClassificationStages,
    "token-classification": TokenClassificationStages,
    "fill-mask": FillMaskStages,
    "zero-shot-classification": ZeroShotClassificationStages,
    "question-answering": QuestionAnsweringStages,
    "table-question-answering": TableQuestionAnsweringStages,
}
KNOWN_TASKS = frozenset((*EMBEDDING_TASKS, *HEAD_TASKS))


class TransformersModel:
    """Implements `LoadedModel`. Its weights and shared tokenizer are never changed after loading."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        tasks: Sequence[str],
        sentence_files: SentenceFiles,
    ) -> None:
        """model: in evaluation mode, on its device; for embedding tasks its base model makes the vectors."""
        self._model = model
        self._tokenizer = tokenizer
        self._tasks = list(tasks)
        limit = token_limit(model, tokenizer)
        has_head = any(task not in EMBEDDING_TASKS for task in tasks)
        self._limit = limit
        self._embedder = Embedder(model.base_model if has_head else model, sentence_files, limit)
        self._tokenizers = Tokenizers(tokenizer, lambda tokenizer: None)
        self._embedding_tokenizers = (
            Tokenizers(tokenizer, self._embedder.lower_case) if sentence_files.do_lower_case else self._tokenizers
        )
        is_embedding = any(task in EMBEDDING_TASKS for task in tasks)
        self.device = str(model.device)
        self.dtype = str(model.dtype).removeprefix("torch.")
        self.num_parameters = int(model.num_parameters())
        self.max_length = self._embedder.limit if is_embedding and not has_head else limit
        self.embedding_size = self._embedder.size if is_embedding else None

    def tasks(self) -> list[str]:
        return list(self._tasks)

    def stages(self, task: str) -> OwnStages:
        """Stages for one more thread; their own tokenizer comes with the first encoding. Raises NotAvailable."""
        if task in EMBEDDING_TASKS:
            return EMBEDDING_TASKS[task](self._embedder, self._embedding_tokenizers)
        if task in HEAD_TASKS:
            return HEAD_TASKS[task](self._model, self._tokenizers, self._limit)
        raise NotAvailable(f"This installation cannot do {task}.")

    def warm_up(self) -> None:
        for task in self._tasks:
            stages = self.stages(task)
            one_input, parameters = self._warm_up_request(task)
            (items,) = stages.prepare([one_input], parameters)
            stages.finish(items, list(stages.forward(items)), parameters)
            stages.release()

    def set_num_threads(self, num_threads: int) -> None:
        torch.set_num_threads(num_threads)

    def _warm_up_request(self, task: str) -> tuple[Any, dict[str, Any]]:
        requests: dict[str, tuple[Any, dict[str, Any]]] = {
            "fill-mask": (f"a {self._tokenizer.mask_token} b", {}),
            "zero-shot-classification": ("a", {"candidate_labels": ["b", "c"]}),
            "sentence-similarity": ({"source_sentence": "a", "sentences": ["b"]}, {}),
            "question-answering": ({"question": "a", "context": "b c"}, {}),
            "table-question-answering": ({"query": "a", "table": {"b": ["1"]}}, {}),
        }
        return requests.get(task, ("a", {}))
