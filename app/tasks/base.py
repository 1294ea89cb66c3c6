"""The shape of a task's registry entry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Parameters(BaseModel):
    """Base of every task's `parameters`: strict about names and types, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class TextParameters(Parameters):
    """What every text task takes."""

    truncate: bool | None = Field(
        default=None,
        description="Cut inputs that are longer than the model takes. Unset: models with sentence-transformers files"
        " cut at their `max_seq_length`, all others answer 413.",
    )

    @model_validator(mode="before")
    @classmethod
    def _accept_truncation(cls, values: Any) -> Any:
        """The pipelines' spelling, `truncation` (true, false or a strategy's name), means `truncate`."""
        if not isinstance(values, dict) or "truncation" not in values:
            return values
        values = dict(values)
        given = values.pop("truncation")
        if given is not None and not isinstance(given, bool) and given not in TRUNCATION_STRATEGIES:
            raise ValueError(f"truncation: must be true, false or one of {', '.join(TRUNCATION_STRATEGIES)}")
        if given is not None:
            values.setdefault("truncate", given not in (False, "do_not_truncate"))
        return values


TRUNCATION_STRATEGIES = ("drop_rows_to_fit", "longest_first", "only_first", "only_second", "do_not_truncate")


class Inputs(BaseModel):
    """Base of inputs that are objects, such as question-answering's."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


JSON = "application/json"


@dataclass(frozen=True, kw_only=True)
class Example:
    """A request body that `/docs` shows and the tests run, and the answer's form in one sentence."""

    body: dict[str, Any]
    answer: Any


def assemble_list(fragments: list[bytes], *, is_list: bool) -> bytes:
    """The usual answer: a list's fragments as a JSON array, a single input's fragment as it is."""
    return b"[" + b",".join(fragments) + b"]" if is_list else fragments[0]


def assemble_always_list(fragments: list[bytes], *, is_list: bool) -> bytes:
    """An array over the inputs, for a single input too (embeddings, text-classification)."""
    return b"[" + b",".join(fragments) + b"]"


def is_not_a_list(inputs: Any, parameters: dict[str, Any]) -> bool:
    """The usual rule for telling one input from several."""
    return not isinstance(inputs, list)


def count_one(one_input: Any, parameters: dict[str, Any]) -> int:
    return 1


Modality = Literal["text", "image", "audio", "video", "multimodal"]
Normalize = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task, all that the server knows of it. Adding a task is one module with one of these named TASK.

    name, aliases: in URLs and in models.yaml. is_listed: false for what only other dialects' routes ask.
    input_type: the (pydantic-annotated) type of ONE input. root_parameters: parameters that may also stand at the
    root of the body, beside `inputs` (the TEI form of feature-extraction). normalize: turns the body's variants into
    the canonical `{"inputs": ..., "parameters": {...}}` before validation. is_single: whether `inputs` is one input,
    given the raw parameters. count: permits that one input takes, given the validated parameters. media_field: what a
    raw body, or the only file of a form, is: "inputs" or "inputs.<name>"; None: the task takes JSON only. answers:
    media types of the answer, the first without a preference in `Accept`.

    auto_classes: the first that knows a model's config loads it. needs: preprocessors that are loaded with it, a name
    with "?" where the model may have none. stages: "module:class" of the worker's part. warm_up: one canonical input
    and its parameters, computed after each load. implies: tasks that the same weights answer as well. is_repeatable:
    equal inputs and parameters have equal answers, so that they may be kept (nothing is drawn at random).
    """

    name: str
    aliases: tuple[str, ...] = ()
    is_listed: bool = True
    summary: str
    modality: Modality = "text"
    input_type: Any
    parameters: type[Parameters]
    output_type: Any  # of the whole answer, for OpenAPI
    auto_classes: tuple[str, ...]
    needs: tuple[str, ...] = ("tokenizer",)
    stages: str
    warm_up: tuple[Any, dict[str, Any]] = ("a", {})
    implies: tuple[str, ...] = ()
    is_repeatable: bool = False
    default_model: str
    default_revision: str | None = None
    example: Example
    batching: str  # one sentence: what shares a forward
    root_parameters: tuple[str, ...] = ()
    media_field: str | None = None
    answers: tuple[str, ...] = (JSON,)
    normalize: Normalize | None = None
    is_single: Callable[[Any, dict[str, Any]], bool] = is_not_a_list
    count: Callable[[Any, dict[str, Any]], int] = count_one
    assemble: Callable[..., bytes] = assemble_list
    assemble_for_javascript: Callable[..., bytes] | None = None  # where `@huggingface/inference` parses another shape
