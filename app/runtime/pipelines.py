"""The stages of the classic text tasks: transformers' pipelines taken apart, so that strangers can share a forward.

transformers' own `__call__` batches only within one call, and its `preprocess` tokenizes one text at a time (0.1 ms
each, 0.02 ms in one call for all). So `prepare` encodes all of a job's texts at once into the features that
`preprocess` makes, `forward` pads and trims by itself, and `finish` is the pipeline's `postprocess`, or our own where
that cannot be had without the padding (fill-mask) or is not stable (zero-shot's softmax).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import TextClassificationPipeline, TokenClassificationPipeline

from app.errors import InputTooLarge, InvalidInput, ModelFailed
from app.runtime.base import UNWATCHED, Item, Watch
from app.runtime.collating import Collator
from app.runtime.finite import require_finite
from app.runtime.parts import OwnStages, Parts
from app.runtime.tokenizing import BAD_INPUT, Encoder, Row
from app.runtime.unpadding import is_unpadded

MAX_LOGITS_BYTES = 256 * 2**20
"""A fill-mask forward computes [rows, tokens, vocabulary]: 64 texts of 256 tokens would be 2 GiB."""


@dataclass(frozen=True, slots=True)
class TextFeatures:
    """inputs: the row that the model gets; extras: what `finish` needs."""

    inputs: Row
    extras: dict[str, Any] = field(default_factory=dict)


class PipelineStages(OwnStages):
    """What the text tasks share. Subclasses say how inputs become rows and outputs an answer."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        tokenizers = parts.require_tokenizers()
        self._tokenizer = tokenizers.shared  # for decoding and vocabulary only
        self._encoder = Encoder(tokenizers, parts.limit)
        self._collator = Collator(parts.model, tokenizers.shared)
        self._is_unpadded = is_unpadded(parts.model)

    def release(self) -> None:
        """Hand the tokenizer on: these stages are not used any more."""
        self._encoder.release()

    def forward(self, items: Sequence[Item], watch: Watch = UNWATCHED) -> list[Any]:
        """Logits of each item, float32 on CPU: [labels]."""
        return list(self._logits(items).float().cpu())

    @torch.inference_mode()
    def _logits(self, items: Sequence[Item]) -> torch.Tensor:
        logits: torch.Tensor = self._model(**self._collator.collate([item.features.inputs for item in items])).logits
        return logits

    def _item(self, row: Row, extras: dict[str, Any] | None = None) -> Item:
        inputs = {name: value for name, value in row.items() if self._collator.is_model_input(name)}
        features = TextFeatures(inputs, extras or {})
        return Item(features, len(row["input_ids"]), self._group(row), is_unpadded=self._is_unpadded)

    def _group(self, row: Row) -> Hashable:
        """BART and T5 classify at the last end-of-text token, and want equally many of these in all rows."""
        if not getattr(self._model.config, "is_encoder_decoder", False):
            return None
        num_ends: int = row["input_ids"].count(self._model.config.eos_token_id)
        return num_ends


class TextClassificationStages(PipelineStages):
    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._pipeline = TextClassificationPipeline(
            model=self._model, tokenizer=self._tokenizer, device=self._model.device
        )

    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        truncate, direction = parameters.get("truncate") is True, parameters.get("truncation_direction")
        side = None if direction is None else direction.lower()
        inputs = [one if isinstance(one, dict) else {"text": one} for one in inputs]
        rows: list[Row | None] = [None] * len(inputs)
        for is_pair in (False, True):
            chosen = [index for index, one in enumerate(inputs) if ("text_pair" in one) is is_pair]
            if chosen:
                texts = [inputs[index]["text"] for index in chosen]
                pairs = [inputs[index]["text_pair"] for index in chosen] if is_pair else None
                encoded = self._encoder.encode(texts, pairs, owners=chosen, truncate=truncate, side=side)
                for index, row in zip(chosen, encoded, strict=True):
                    rows[index] = row
        return [[self._item(row)] for row in rows if row is not None]

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> list[dict[str, Any]]:
        (logits,) = outputs
        require_finite(logits)
        _, _, options = self._pipeline._sanitize_parameters(
            function_to_apply=parameters.get("function_to_apply"), top_k=parameters.get("top_k")
        )
        if parameters.get("sort") is False:
            options |= {"top_k": None, "_legacy": True}  # as the pipeline answered before it sorted
        labels: list[dict[str, Any]] = self._pipeline.postprocess({"logits": logits[None]}, **options)
        return labels


class ZeroShotClassificationStages(PipelineStages):
    """One item per label of each text: the pair (text, hypothesis about the label)."""

    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        labels = parameters["candidate_labels"]
        hypotheses = self._hypotheses(labels, parameters.get("hypothesis_template", "This example is {}."))
        num_labels = len(labels)
        truncate = parameters.get("truncate") is True
        if truncate:
            self._check_room(hypotheses)
        rows = self._encoder.encode(
            [text for text in inputs for _ in labels],
            hypotheses * len(inputs),
            owners=[index for index in range(len(inputs)) for _ in labels],
            truncate=truncate,
            strategy="only_first",
        )
        items = [self._item(row) for row in rows]
        return [items[start : start + num_labels] for start in range(0, len(items), num_labels)]

    def _check_room(self, hypotheses: Sequence[str]) -> None:
        """Only the text is cut: each hypothesis must leave room for a token of it, or the tokenizer raises."""
        if self._encoder.limit is None:
            return
        most = self._encoder.limit - self._tokenizer.num_special_tokens_to_add(pair=True) - 1
        ids = self._encoder.tokenizer(list(hypotheses), add_special_tokens=False, verbose=False)["input_ids"]
        longest = max(len(one) for one in ids)
        if longest > most:
            raise InputTooLarge(
                f"parameters.candidate_labels: a label makes {longest} tokens with its template; the limit is {most}.",
                param="parameters.candidate_labels",
            )

    def _hypotheses(self, labels: Sequence[str], template: str) -> list[str]:
        try:
            hypotheses = [template.format(label) for label in labels]
        except BAD_INPUT as error:
            raise InvalidInput(
                f"parameters.hypothesis_template: {error}", param="parameters.hypothesis_template"
            ) from error
        if template.format("") == template:
            raise InvalidInput(
                "parameters.hypothesis_template must hold {} where the label goes.",
                param="parameters.hypothesis_template",
            )
        return hypotheses

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> list[dict[str, Any]]:
        labels, logits = parameters["candidate_labels"], torch.stack(list(outputs))
        require_finite(logits)
        entailment = self._entailment_id()
        if parameters.get("multi_label") or len(labels) == 1:
            contradiction = -1 if entailment == 0 else 0
            scores = logits[:, [contradiction, entailment]].softmax(-1)[:, 1]
        else:
            scores = logits[:, entailment].softmax(0)
        order = reversed(scores.numpy().argsort().tolist())
        return [{"label": labels[index], "score": float(scores[index])} for index in order]

    def _entailment_id(self) -> int:
        """As the pipeline finds it; the last label where none is called so."""
        for label, index in self._model.config.label2id.items():
            if label.lower().startswith("entail"):
                return int(index)
        return -1


class TokenClassificationStages(PipelineStages):
    """One item per text, or per window of it with `stride`."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._pipeline = TokenClassificationPipeline(
            model=self._model, tokenizer=self._tokenizer, device=self._model.device
        )

    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        is_split = parameters.get("is_split_into_words") is True
        self._check(inputs, is_split, parameters)
        split_options: dict[str, Any] = {"is_split_into_words": True} if is_split else {}
        rows = self._encoder.encode(
            inputs,
            truncate=parameters.get("truncate") is True,
            stride=parameters.get("stride"),
            return_special_tokens_mask=True,
            return_offsets_mapping=self._tokenizer.is_fast,
            **split_options,
        )
        delimiter = parameters.get("delimiter", " ") if is_split else None
        items: list[list[Item]] = [[] for _ in inputs]
        for index, row in enumerate(rows):
            owner = row.get("overflow_to_sample_mapping", index)
            items[owner].append(self._item(row, _entity_extras(row, inputs[owner], delimiter)))
        return items

    def _check(self, inputs: Sequence[Any], is_split: bool, parameters: dict[str, Any]) -> None:
        self._options(parameters)
        for index, one in enumerate(inputs):
            if isinstance(one, list) is not is_split:
                wanted = "a list of words" if is_split else "a text (is_split_into_words takes lists of words)"
                raise InvalidInput(f"inputs[{index}] must be {wanted}.", param=f"inputs[{index}]")
        if is_split and not self._tokenizer.is_fast:
            name = "parameters.is_split_into_words"
            raise InvalidInput(f"{name}: this model's tokenizer cannot take words.", param=name)
        if "delimiter" in parameters and not is_split:
            name = "parameters.delimiter"
            raise InvalidInput(f"{name} has a meaning only with is_split_into_words.", param=name)
        stride, limit = parameters.get("stride"), self._encoder.limit
        if stride is not None and limit is not None:
            most = limit - self._tokenizer.num_special_tokens_to_add() - 1
            if stride > most:
                name = "parameters.stride"
                raise InvalidInput(f"{name} is {stride}; this model takes at most {most}.", param=name)

    def _options(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """What `postprocess` takes. Raises InvalidInput for what this tokenizer cannot do."""
        given = {name: parameters[name] for name in ("ignore_labels", "stride") if name in parameters}
        strategy = parameters.get("aggregation_strategy", "simple")
        try:
            _, _, options = self._pipeline._sanitize_parameters(aggregation_strategy=strategy, **given)
        except BAD_INPUT as error:
            name = "parameters.stride" if "stride" in str(error) else "parameters.aggregation_strategy"
            raise InvalidInput(f"{name}: {error}", param=name) from error
        return dict(options)

    def forward(self, items: Sequence[Item], watch: Watch = UNWATCHED) -> list[torch.Tensor]:
        """Logits of each item's tokens, float32 on CPU: [tokens, labels]."""
        logits = self._logits(items).float().cpu()
        return [self._collator.trim(row, item.cost) for row, item in zip(logits, items, strict=True)]

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> list[dict[str, Any]]:
        windows = []
        for item, logits in zip(items, outputs, strict=True):
            require_finite(logits)
            windows.append({**item.features.extras, "logits": logits[None]})
        entities = self._pipeline.postprocess(windows, **self._options(parameters))
        return [{**entity, "score": float(entity["score"])} for entity in entities]


def _entity_extras(row: Row, one_input: Any, delimiter: str | None) -> dict[str, Any]:
    """What the pipeline's `postprocess` reads of one window. delimiter: joins the words of a split text."""
    offsets = row.get("offset_mapping")
    extras = {
        "input_ids": [row["input_ids"]],
        "special_tokens_mask": torch.tensor([row["special_tokens_mask"]]),
        "offset_mapping": None if offsets is None else [offsets],
        "sentence": one_input if delimiter is None else delimiter.join(one_input),
    }
    if delimiter is not None:
        extras |= {"word_ids": row["word_ids"], "word_to_chars_map": _word_places(one_input, delimiter)}
    return extras


def _word_places(words: Sequence[str], delimiter: str) -> list[tuple[int, int]]:
    """Where each word stands in the joined text."""
    places, start = [], 0
    for word in words:
        places.append((start, start + len(word)))
        start += len(word) + len(delimiter)
    return places


class FillMaskStages(PipelineStages):
    """Only the masks' logits leave the device: a vocabulary of numbers per mask, not per token."""

    def __init__(self, parts: Parts, max_logits_bytes: int = MAX_LOGITS_BYTES) -> None:
        super().__init__(parts)
        self._max_logits_bytes = max_logits_bytes
        self._is_unpadded = False  # the head, which computes the padding too, is most of the work
        if self._tokenizer.mask_token_id is None:
            raise ModelFailed("The model's tokenizer has no mask token, so it cannot do fill-mask.")
        self._mask_id: int = self._tokenizer.mask_token_id
        self._vocabulary: dict[str, int] = {}

    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        target_ids = self._target_ids(parameters["targets"]) if "targets" in parameters else None
        if target_ids is None and parameters.get("top_k", 1) > self._model.config.vocab_size:
            name, size = "parameters.top_k", self._model.config.vocab_size
            raise InvalidInput(f"{name} is {parameters['top_k']}; the model knows {size} tokens.", param=name)
        rows = self._encoder.encode(inputs, truncate=parameters.get("truncate") is True)
        items = []
        for index, row in enumerate(rows):
            places = [place for place, token in enumerate(row["input_ids"]) if token == self._mask_id]
            if not places:
                raise InvalidInput(
                    f"inputs[{index}] has no mask: write {self._tokenizer.mask_token} where a token is missing.",
                    param=f"inputs[{index}]",
                )
            items.append([self._item(row, {"places": places, "target_ids": target_ids})])
        return items

    def _target_ids(self, targets: str | Sequence[str]) -> list[int]:
        """A target that is no token of the model stands for the first token that it begins with."""
        self._vocabulary = self._vocabulary or self._tokenizer.get_vocab()
        found: dict[int, None] = {}
        for target in [targets] if isinstance(targets, str) else targets:
            token = self._vocabulary.get(target)
            if token is None:
                ids = self._encoder.tokenizer(target, add_special_tokens=False, verbose=False)["input_ids"]
                token = ids[0] if ids else None
            if token is not None:
                found[token] = None
        if not found:
            raise InvalidInput("parameters.targets holds no token of the model.", param="parameters.targets")
        return list(found)

    def forward(self, items: Sequence[Item], watch: Watch = UNWATCHED) -> list[torch.Tensor]:
        """Logits at each item's masks, float32 on CPU: [masks, vocabulary]."""
        outputs: list[torch.Tensor] = []
        row_bytes = max(item.cost for item in items) * self._model.config.vocab_size * 4
        num_rows = max(1, self._max_logits_bytes // row_bytes)
        for start in range(0, len(items), num_rows):
            part = items[start : start + num_rows]
            for row, item in zip(self._logits(part), part, strict=True):
                at_masks = self._collator.trim(row, item.cost)[item.features.extras["places"]]
                outputs.append(at_masks.float().cpu())
        return outputs

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> Any:
        (item,), (logits,) = items, outputs
        target_ids = item.features.extras["target_ids"]
        probabilities = logits.softmax(-1)
        candidates = probabilities if target_ids is None else probabilities[:, target_ids]
        require_finite(candidates)
        values, chosen = candidates.topk(min(parameters.get("top_k", 5), candidates.shape[1]))
        answers = [
            [
                self._filling(item, place, token if target_ids is None else target_ids[token], score)
                for token, score in zip(tokens, scores, strict=True)
            ]
            for place, tokens, scores in zip(
                item.features.extras["places"], chosen.tolist(), values.tolist(), strict=True
            )
        ]
        return answers[0] if len(answers) == 1 else answers

    def _filling(self, item: Item, place: int, token: int, score: float) -> dict[str, Any]:
        tokens = list(item.features.inputs["input_ids"])
        tokens[place] = token
        # The other masks are special tokens: with several masks these are kept, or they would vanish.
        is_single = len(item.features.extras["places"]) == 1
        tokens = [one for one in tokens if one != self._tokenizer.pad_token_id]
        return {
            "score": score,
            "token": token,
            "token_str": self._tokenizer.decode([token]),
            "sequence": self._tokenizer.decode(tokens, skip_special_tokens=is_single),
        }
