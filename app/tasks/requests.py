"""A request body of a task -> inputs and parameters that are known to be right, or the error that says what is not."""

from __future__ import annotations

from typing import Any

import msgspec
from pydantic import BaseModel, TypeAdapter, ValidationError

from app.errors import InputTooLarge, InvalidInput, MalformedBody
from app.tasks.base import Task

BODY_FIELDS = ("inputs", "parameters", "model", "keep_alive", "options")
OPTIONS = {"wait_for_model": "honoured", "use_cache": "harmless: nothing is cached"}


class ParsedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """inputs: one entry per input, builtins only. keep_alive: as sent, not yet a duration."""

    inputs: list[Any]
    is_list: bool
    parameters: dict[str, Any]
    num_items: int
    model: str | None = None
    keep_alive: Any = None
    wait_for_model: bool | None = None


def require_few(name: str, count: int, most: int | None, *, of: str = "entries") -> None:
    """most: inputs of one request; None: any number. Raises InputTooLarge."""
    if most is not None and count > most:
        raise InputTooLarge(f"{name} has {count} {of}; this server takes at most {most} at a time.", param=name)


class RequestParser:
    """Parses bodies of one task; holds its validators, built once.

    max_inputs: of one request. More are not looked at one by one: a body of the largest size holds millions.
    """

    def __init__(self, task: Task, *, max_inputs: int | None = None) -> None:
        self._task = task
        self._max_inputs = max_inputs
        self._one_input: TypeAdapter[Any] = TypeAdapter(task.input_type)

    def parse(self, body: Any, *, defaults: dict[str, Any] | None = None) -> ParsedRequest:
        """Raises InvalidInput, InputTooLarge or MalformedBody. defaults: the model's `parameters:` of models.yaml."""
        if not isinstance(body, dict):
            raise MalformedBody('The body must be a JSON object such as {"inputs": ...}.')
        body = self._canonical(body)
        raw_parameters = body.get("parameters")
        raw_parameters = {} if raw_parameters is None else raw_parameters
        if not isinstance(raw_parameters, dict):
            raise InvalidInput("parameters must be an object.", param="parameters")
        parameters = self._parameters({**self._known(defaults or {}), **raw_parameters})
        inputs, is_list = self._inputs(body, raw_parameters)
        options = _options(body.get("options"))
        return ParsedRequest(
            inputs=inputs,
            is_list=is_list,
            parameters=parameters,
            num_items=sum(self._task.count(one, parameters) for one in inputs),
            model=_model(body.get("model")),
            keep_alive=body.get("keep_alive"),
            wait_for_model=options.get("wait_for_model"),
        )

    def _canonical(self, body: dict[str, Any]) -> dict[str, Any]:
        """The task's own variants put right, and parameters from the root moved where they belong."""
        if self._task.normalize is not None:
            body = self._task.normalize(body)
        at_root = [name for name in self._task.root_parameters if name in body]
        if at_root:
            body = dict(body)
            moved = {name: body.pop(name) for name in at_root}
            given = body.get("parameters")
            body["parameters"] = {**moved, **given} if isinstance(given, dict) else moved if given is None else given
        for field in body:
            if field not in BODY_FIELDS:
                allowed = ", ".join((*BODY_FIELDS, *self._task.root_parameters))
                raise InvalidInput(f"{field}: no such field; {self._task.name} takes {allowed}.", param=field)
        return body

    def _known(self, defaults: dict[str, Any]) -> dict[str, Any]:
        """An entry that serves several tasks has defaults that only some of them know."""
        return {name: value for name, value in defaults.items() if name in self._task.parameters.model_fields}

    def _parameters(self, raw: dict[str, Any]) -> dict[str, Any]:
        try:
            parameters = self._task.parameters.model_validate(raw)
        except ValidationError as error:
            raise as_invalid_input(error, "parameters", self._task.parameters) from None
        return parameters.model_dump(exclude_none=True)

    def _inputs(self, body: dict[str, Any], raw_parameters: dict[str, Any]) -> tuple[list[Any], bool]:
        if body.get("inputs") is None:
            raise InvalidInput("inputs is missing.", param="inputs")
        inputs = body["inputs"]
        if self._task.is_single(inputs, raw_parameters):
            return [self._validated(inputs, "inputs")], False
        if not inputs:
            raise InvalidInput("inputs must not be an empty list.", param="inputs")
        require_few("inputs", len(inputs), self._max_inputs)
        if len({type(one) for one in inputs}) > 1:
            raise InvalidInput("inputs must all be of one kind; the list mixes several.", param="inputs")
        return [self._validated(one, f"inputs[{index}]") for index, one in enumerate(inputs)], True

    def _validated(self, one_input: Any, where: str) -> Any:
        try:
            value = self._one_input.validate_python(one_input, strict=True)
        except ValidationError as error:
            raise as_invalid_input(error, where, None) from None
        return value.model_dump(exclude_none=True) if isinstance(value, BaseModel) else value


def check_defaults(tasks: list[Task], defaults: dict[str, Any]) -> None:
    """Whether a model's own `parameters` are right for its tasks; each must be known to one. Raises InvalidInput."""
    for name in defaults:
        if not any(name in task.parameters.model_fields for task in tasks) and tasks:
            raise InvalidInput(f"parameters.{name}: none of this model's tasks has it.", param=f"parameters.{name}")
    for task in tasks:
        known = {name: value for name, value in defaults.items() if name in task.parameters.model_fields}
        try:
            task.parameters.model_validate(known)
        except ValidationError as error:
            if any(found["type"] != "missing" for found in error.errors(include_url=False)):
                raise as_invalid_input(error, "parameters", task.parameters) from None


def _options(options: Any) -> dict[str, Any]:
    """The `options` that clients of Hugging Face's API have long sent."""
    if options is None:
        return {}
    if not isinstance(options, dict):
        raise InvalidInput("options must be an object.", param="options")
    for name, value in options.items():
        if name not in OPTIONS:
            raise InvalidInput(
                f"options.{name}: no such option; there are {', '.join(OPTIONS)}.", param=f"options.{name}"
            )
        if not isinstance(value, bool):
            raise InvalidInput(f"options.{name} must be true or false.", param=f"options.{name}")
    return options


def _model(model: Any) -> str | None:
    if model is None or isinstance(model, str):
        return model
    raise InvalidInput("model must be a string.", param="model")


def as_invalid_input(error: ValidationError, where: str, model: type[BaseModel] | None) -> InvalidInput | InputTooLarge:
    """The most telling of pydantic's findings, as one sentence with the parameter's path."""
    found = error.errors(include_url=False)
    # A union reports each of its members: the one that got furthest into the value says most.
    first = max(found, key=lambda one: len(one["loc"]))
    path = where + "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"] if _is_field(part)
    )
    path = path.removeprefix(".")  # where nothing stands above the body's own fields
    if first["type"] == "extra_forbidden":
        allowed = f"; there are {', '.join(model.model_fields)}" if model is not None else ""
        return InvalidInput(f"{path}: no such parameter{allowed}.", param=path)
    if first["type"] == "missing":
        return InvalidInput(f"{path} is missing.", param=path)
    if first["type"] == "string_too_short":
        return InvalidInput(f"{path} must not be empty.", param=path)
    if first["type"] == "too_long":
        limit = first["ctx"]["max_length"]
        return InputTooLarge(f"{path} has {len(first['input'])} entries; the limit is {limit}.", param=path)
    if first["type"] == "string_too_long":
        limit = first["ctx"]["max_length"]
        return InputTooLarge(f"{path} has {len(first['input'])} characters; the limit is {limit}.", param=path)
    return InvalidInput(f"{path}: {_sentence(first['msg'])}", param=path)


def _is_field(part: int | str) -> bool:
    """Leaves out the names that pydantic gives to the members of a union, such as `constrained-str` or `TextPair`."""
    return isinstance(part, int) or (part.isidentifier() and part.islower() and part not in ("str", "int", "list"))


def _sentence(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return message if message.endswith(".") else message + "."
