"""vLLM's `/v1/load_lora_adapter` and `/v1/unload_lora_adapter`, at the root and below each model's URL."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path

from pydantic import Field
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from app.api.disconnect import until_disconnect
from app.api.fields import Body, Unused, read_as
from app.api.names import agreed, named
from app.api.openapi import Document, body_schemas, json_body, plain_operation
from app.api.record import RequestRecord, record_of
from app.api.tasks import TaskAnswerer
from app.catalog import AdapterSpec, ModelSpec
from app.declaration.form import Name, Text
from app.errors import InvalidInput, ModelFailed, NotServed
from app.fleet.requests import ModelsAPI

LOAD, UNLOAD = "v1/load_lora_adapter", "v1/unload_lora_adapter"
_MODEL = "The model that takes it. Unset: the only one that may."
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_HOW = "`adapters_folder` (for folders) or `adapters_allow` (for repositories of the Hub)"


class UnloadBody(Body):
    lora_name: Name
    model: str | None = Field(default=None, description="Its model. Unset: the name tells.")


class LoadBody(Body):
    lora_name: Name
    lora_path: Text = Field(description="Below the model's `adapters_folder`, or a repository that it allows.")
    load_inplace: bool = Field(default=False, description="It may take the place of one of the same name.")
    model: str | None = Field(default=None, description=_MODEL)


_UNUSED_IN_LOAD = Unused(refused={"is_3d_lora_weight": ((False,), "adapters are those that PEFT saves")})
_UNUSED_IN_UNLOAD = Unused(harmless={"lora_int_id": "vLLM's own number of it; the name tells"})


class LoraAdapters:
    """Owned by the event loop. Implements `Served`."""

    paths = frozenset({LOAD, UNLOAD})

    def __init__(self, answerer: TaskAnswerer) -> None:
        self._answerer = answerer

    async def answer(self, path: str, path_model: str | None, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises the errors of `app/errors.py`."""
        record = record_of(scope)
        record.demand_admin()
        given = await self._answerer.read_object(receive, record)
        if path == LOAD:
            done = await _load(given, path_model, record, receive)
        else:
            done = _unload(given, path_model, record)
        await PlainTextResponse(f"Success: {done}")(scope, receive, send)


async def _load(given: dict[str, object], path_model: str | None, record: RequestRecord, receive: Receive) -> str:
    body, fleet = read_as(LoadBody, _UNUSED_IN_LOAD.without(given)), record.fleet
    if named(body.lora_name) is None:
        raise InvalidInput("lora_name: clients that name no model send this.", param="lora_name")
    spec = _choose(fleet, agreed(fleet.get, (path_model, body.model)))
    record.model, record.adapter = spec.id, body.lora_name
    adapter = allowed_adapter(spec, body.lora_name, body.lora_path)
    try:
        await until_disconnect(receive, fleet.load_adapter(spec.id, adapter, in_place=body.load_inplace))
    except ModelFailed as error:
        if fleet.status(spec.id).state == "failed":
            raise
        raise InvalidInput(f"lora_path: {error.message}", param="lora_path") from None
    return f"LoRA adapter '{body.lora_name}' added successfully."


def _unload(given: dict[str, object], path_model: str | None, record: RequestRecord) -> str:
    body, fleet = read_as(UnloadBody, _UNUSED_IN_UNLOAD.without(given)), record.fleet
    model = agreed(fleet.get, (path_model, body.model))
    spec = fleet.get(body.lora_name) if model is None else fleet.get(model).with_adapter(body.lora_name)
    if spec.adapter is None:
        raise NotServed(f'"{body.lora_name}" is a model, not an adapter.', param="lora_name")
    record.model, record.adapter = spec.id, spec.adapter.id
    fleet.unload_adapter(spec)
    return f"LoRA adapter '{body.lora_name}' removed successfully."


def _choose(fleet: ModelsAPI, name: str | None) -> ModelSpec:
    """Raises NotServed, InvalidInput."""
    if name is not None:
        return fleet.get(name)
    able = [spec for spec in fleet.entries() if spec.adapters_folder is not None or spec.adapters_allow]
    if not able:
        raise InvalidInput(f"No model here takes adapters at run time: declare {_HOW} of one in models.yaml.")
    if len(able) > 1:
        named_here = ", ".join(spec.id for spec in able)
        raise InvalidInput(f"model: several take adapters ({named_here}); name one of them.", param="model")
    return able[0]


def allowed_adapter(spec: ModelSpec, name: str, path: str) -> AdapterSpec:
    """What a client may have loaded: a folder below the declared one, or a repository that matches a declared pattern.
    Raises InvalidInput, with the key of models.yaml that would allow it."""
    if spec.adapters_folder is None and not spec.adapters_allow:
        raise InvalidInput(
            f'lora_path: "{spec.id}" takes no adapters at run time: declare {_HOW} of it in models.yaml.',
            param="lora_path",
        )
    if spec.adapters_folder is not None:
        allowed = Path(spec.adapters_folder).resolve()
        try:
            folder = (allowed / path).resolve()
            is_there = folder.is_relative_to(allowed) and folder != allowed and folder.is_dir()
        except (OSError, ValueError, RuntimeError):  # no path at all, or links in a circle
            is_there = False
        if is_there:
            return AdapterSpec(id=name, path=str(folder))
    if _HUB_ID.fullmatch(path) and any(fnmatchcase(path, pattern) for pattern in spec.adapters_allow):
        return AdapterSpec(id=name, path=path)
    text = "there is no such folder below the `adapters_folder` of models.yaml"
    if spec.adapters_folder is None:
        text = "no `adapters_folder` is declared in models.yaml"
    raise InvalidInput(
        f'lora_path: {text}, and no pattern of `adapters_allow` allows "{path[:200]}" of the Hub.', param="lora_path"
    )


def adapters_document() -> Document:
    schemas, defined = body_schemas({LOAD: LoadBody, UNLOAD: UnloadBody})
    load = plain_operation(
        "models",
        "load_lora_adapter",
        "Have a model take one more adapter.",
        body=json_body(schemas[LOAD], {"lora_name": "sql", "lora_path": "sql"}),
    )
    unload = plain_operation(
        "models",
        "unload_lora_adapter",
        "Have a model forget an adapter; what has begun with it goes on.",
        body=json_body(schemas[UNLOAD], {"lora_name": "sql"}),
    )
    return Document({f"/{LOAD}": {"post": load}, f"/{UNLOAD}": {"post": unload}}, defined)
