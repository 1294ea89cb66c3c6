"""table-question-answering: the stages of transformers' pipeline, one table at a time.

TAPAS has no batch across tables: its pipeline fails on one, and its tokenizer needs the table itself to read the
answer. So tables share the queue with everybody and are computed one by one; the queries about one table are a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from app.errors import InputTooLarge, InvalidInput, ModelFailed, NotAvailable
from app.runtime.base import UNWATCHED, Item, Watch
from app.runtime.finite import require_finite
from app.runtime.parts import OwnStages, Parts
from app.runtime.tokenizing import BAD_INPUT


class TableQuestionAnsweringStages(OwnStages):
    """One item per table with its queries. Raises NotAvailable without pandas."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        model, tokenizers = parts.model, parts.require_tokenizers()
        if not hasattr(model.config, "aggregation_labels"):
            raise ModelFailed(
                "This model reads no tables: transformers tokenizes tables for TAPAS only (TAPEX's part has left it)."
            )
        try:
            import pandas
            from transformers import TableQuestionAnsweringPipeline

            self._frame = pandas.DataFrame
            self._pipeline: Any = TableQuestionAnsweringPipeline(
                model=model, tokenizer=tokenizers.take(), device=model.device
            )
        except ImportError as error:
            raise NotAvailable(
                'table-question-answering needs pandas: install it with `pip install "pipeserve[tables]"`.'
            ) from error
        self._tokenizers = tokenizers
        self._limit = parts.limit

    def release(self) -> None:
        """Hand the tokenizer on: these stages are not used any more."""
        self._tokenizers.give_back(self._pipeline.tokenizer)

    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        sequential = parameters.get("sequential") is True
        truncation = "drop_rows_to_fit" if parameters.get("truncate") is True else "do_not_truncate"
        items = []
        for index, one in enumerate(inputs):
            features = self._features(one, f"inputs[{index}]", truncation)
            items.append([Item((features, sequential), int(features["input_ids"].numel()), index)])
        return items

    def _features(self, one_input: dict[str, Any], param: str, truncation: str) -> dict[str, Any]:
        query = one_input["query"]
        queries = query if isinstance(query, list) else [query]
        table = self._frame.from_dict(one_input["table"])
        try:
            features = self._pipeline.preprocess({"table": table, "query": queries}, truncation=truncation)
        except BAD_INPUT as error:
            raise InvalidInput(f"{param} cannot be read as a table: {error}", param=param) from error
        num_tokens = features["input_ids"].shape[1]
        if self._limit is not None and num_tokens > self._limit:
            raise InputTooLarge(
                f"{param} has {num_tokens} tokens; the limit is {self._limit}. Send truncate: true to leave out rows.",
                param=param,
            )
        return {**features, "is_list": isinstance(query, list)}

    def forward(self, items: Sequence[Item], watch: Watch = UNWATCHED) -> list[dict[str, Any]]:
        return [self._forward_one(item) for item in items]

    def _forward_one(self, item: Item) -> dict[str, Any]:
        features, sequential = item.features
        inputs = {name: value for name, value in features.items() if name != "is_list"}
        # `forward` moves tensors to the device and back; `sequential` writes into the inputs.
        if sequential:
            inputs["token_type_ids"] = inputs["token_type_ids"].clone()
        with torch.inference_mode():
            output: dict[str, Any] = self._pipeline.forward(inputs, sequential=sequential)
        return output

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> Any:
        (item,), (output,) = items, outputs
        require_finite(output["outputs"][0])
        answers = self._pipeline.postprocess(output)
        answers = answers if isinstance(answers, list) else [answers]
        full = [{"aggregator": "NONE", **answer} for answer in answers]
        return full if item.features[0]["is_list"] else full[0]
