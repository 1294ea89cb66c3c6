"""What all dialects share: a body is read into what it asks of a task, the task's answer is written in its words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.api.fields import Unused
from app.catalog import ModelSpec
from app.tasks.requests import as_invalid_input


class DialectBody(BaseModel):
    """The fields that every body may have beside its dialect's own."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    model: str | None = Field(default=None, description="A declared model. Unset: the first that can answer.")
    keep_alive: float | str | None = Field(default=None, description="How long the model stays loaded afterwards.")
    options: dict[str, Any] | None = Field(default=None, description="wait_for_model, use_cache: as for tasks.")

    def call_fields(self) -> dict[str, Any]:
        """What is no dialect's matter, for the task's body."""
        given = {"model": self.model, "keep_alive": self.keep_alive, "options": self.options}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """fragments: the JSON of each input that was asked, in order. request_id, created (unix time), max_length (tokens
    that the model takes): for dialects whose answers have them."""

    fragments: list[bytes]
    num_tokens: int
    spec: ModelSpec
    request_id: str
    created: int
    max_length: int | None


Present = Callable[[Answers], bytes]


def as_list(answers: Answers) -> bytes:
    """One answer per input."""
    return b"[" + b",".join(answers.fragments) + b"]"


def as_only(answers: Answers) -> bytes:
    """The answer of the only input."""
    return answers.fragments[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A dialect's body as a task's. assumed: what its own server would do where neither the request nor the model's
    `parameters:` say. names: the task's paths -> what the client calls them, where that is something else. present: the
    answer in the dialect's words. is_stream: as server-sent events, a token each."""

    task: str
    inputs: list[Any]
    parameters: Mapping[str, Any]
    assumed: Mapping[str, Any] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    call_fields: Mapping[str, Any] = field(default_factory=dict)
    present: Present = as_list
    is_stream: bool = False

    def all_parameters(self, declared: Mapping[str, Any]) -> dict[str, Any]:
        """declared: `parameters:` of models.yaml, which the task's parser adds."""
        given = {name: value for name, value in self.parameters.items() if value is not None}
        return {**{name: value for name, value in self.assumed.items() if name not in declared}, **given}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One kind of body. field: what tells it from others on the same route ("inputs.source_sentence": a field of a
    field). tasks: a model that serves one of these answers it. unused: fields without a place in the body's model.
    answer: the answer's type, for OpenAPI."""

    server: str
    summary: str
    field: str
    tasks: tuple[str, ...]
    body: type[DialectBody]
    read: Callable[[Any], Asked]
    answer: Any
    example: dict[str, Any]
    unused: Unused = Unused()

    def is_in(self, body: Any) -> bool:
        for name in self.field.split("."):
            if not isinstance(body, dict) or name not in body:
                return False
            body = body[name]
        return True

    def asked(self, body: dict[str, Any]) -> Asked:
        """Raises InvalidInput, InputTooLarge."""
        try:
            parsed = self.body.model_validate(self.unused.without(body))
        except ValidationError as error:
            raise as_invalid_input(error, "", self.body) from None
        return self.read(parsed)
