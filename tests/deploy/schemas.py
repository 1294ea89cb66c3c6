"""Run by the Python of `scripts/deploy-tools`: YAML on stdin, on stdout what of it its owners do not know.

Models that others generate from their own schemas take unknown fields and drop them: what is not there after a document
went through its model is unknown. A wrong type is an exception.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import yaml


def _dashboard(document: dict[str, Any]) -> Any:
    from grafana_foundation_sdk.cog import encoder, plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    plugins.register_default_plugins()
    return json.loads(encoder.JSONEncoder().encode(Dashboard.from_json(document)))


def _keda(document: dict[str, Any]) -> Any:
    from cloudcoil.models.keda import v1alpha1

    return _dumped(v1alpha1.ScaledObject, document)


def _operator(document: dict[str, Any]) -> Any:
    from cloudcoil.models.prometheus_operator import v1

    return _dumped(getattr(v1, document["kind"]), document)


def _kserve(document: dict[str, Any]) -> Any:
    version = document["apiVersion"].rpartition("/")[2].capitalize()
    return _known(document, version + document["kind"], _models_of_kserve())


@cache
def _models_of_kserve() -> ModuleType:
    """Its package imports a whole server; its models need nothing of that."""
    found = find_spec("kserve")
    assert found is not None
    package = ModuleType("kserve")
    package.__path__ = list(found.submodule_search_locations or [])
    sys.modules["kserve"] = package
    return import_module("kserve.models")


def _known(value: Any, kind: str, models: ModuleType) -> Any:
    """What the models know of a value. Types that are not theirs are Kubernetes' own, and are left as they are."""
    if kind.startswith("list[") and isinstance(value, list):
        return [_known(one, kind[len("list[") : -1], models) for one in value]
    model = getattr(models, kind, None)
    if model is None or not isinstance(value, dict):
        return value
    kinds = {name: model.openapi_types[attribute] for attribute, name in model.attribute_map.items()}
    return {key: _known(one, kinds[key], models) for key, one in value.items() if key in kinds}


def _dumped(kind: Any, document: dict[str, Any]) -> Any:
    return kind.model_validate(document).model_dump(mode="json", by_alias=True, exclude_unset=True)


OWNERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "": _dashboard,
    "keda.sh": _keda,
    "monitoring.coreos.com": _operator,
    "serving.kserve.io": _kserve,
}


def lost(given: Any, kept: Any, path: str = "") -> Iterator[str]:
    if isinstance(given, dict) and isinstance(kept, dict):
        for key, value in given.items():
            if key not in kept:
                yield f"{path}.{key}"
            else:
                yield from lost(value, kept[key], f"{path}.{key}")
    elif isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        for index, (one, other) in enumerate(zip(given, kept, strict=True)):
            yield from lost(one, other, f"{path}[{index}]")
    elif given != kept:
        yield f"{path}: {given!r} became {kept!r}"


for document in yaml.safe_load_all(sys.stdin.read()):
    group = document.get("apiVersion", "").partition("/")[0]
    for line in lost(document, OWNERS[group](document)):
        sys.stdout.write(f"{document.get('kind', 'dashboard')}{line}\n")
