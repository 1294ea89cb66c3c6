"""The model card of what has none: what it is, what it is made of, and how it is served."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from app.cli.exports import name_of_export
from app.cli.push.parcel import CARD, Parcel, file_name_of
from app.cli.push.subject import Subject

if TYPE_CHECKING:
    from app.made_files import Kept

_TAGS = {".onnx": "onnx", ".xml": "openvino"}
_LICENCE_KEYS = ("license", "license_name", "license_link")
_BASE_KEY = "base_model_name_or_path"
"""Of an adapter's configuration."""


def adapter_base(parcel: Parcel) -> str | None:
    """What its configuration says that the adapter is of: a repository, or a folder of whoever trained it."""
    named = _adapter_config(parcel).get(_BASE_KEY)
    return named if isinstance(named, str) else None


def with_adapter_base(parcel: Parcel, base: str) -> Parcel:
    """The adapter, with a base that others find, in its card as well: PEFT writes both."""
    from app.catalog import ADAPTER_CONFIG

    before = adapter_base(parcel)
    config = {**_adapter_config(parcel), _BASE_KEY: base}
    parcel = parcel.with_item(ADAPTER_CONFIG, f"{json.dumps(config, indent=2)}\n".encode())
    card = parcel.find(CARD)
    if card is None or not before:
        return parcel
    return parcel.with_item(CARD, card.read().replace(before.encode(), base.encode()))


def with_card(parcel: Parcel, subject: Subject, to: str, base: str | None, licence: Mapping[str, str]) -> Parcel:
    """base: a repository's id. licence: of the base, as `licence_in` reads it."""
    return parcel.with_item(CARD, write_card(parcel, subject, to, base, licence).encode())


def write_card(parcel: Parcel, subject: Subject, to: str, base: str | None, licence: Mapping[str, str]) -> str:
    from huggingface_hub import ModelCard, ModelCardData

    data = ModelCardData(
        base_model=base,
        pipeline_tag=subject.task,
        library_name=_library(parcel, subject),
        tags=_tags(parcel),
    )
    for key, value in {"base_model_relation": base and _relation(subject), **licence}.items():
        data[key] = value
    name = to.rpartition("/")[2]
    paragraphs = [f"# {name}", _what(subject, base), *_served(subject, to, base), _facts(subject)]
    text = "\n\n".join(paragraph for paragraph in paragraphs if paragraph)
    metadata = data.to_yaml()
    return str(ModelCard(f"{text}\n" if metadata == "{}" else f"---\n{metadata}\n---\n\n{text}\n"))


def licence_in(card: Any) -> dict[str, str]:
    """Of a card's metadata, as huggingface_hub has it."""
    found = {key: card.get(key) for key in _LICENCE_KEYS} if card is not None else {}
    return {key: value for key, value in found.items() if isinstance(value, str)}


def _relation(subject: Subject) -> str | None:
    if subject.is_adapter:
        return "adapter"
    is_quantised = subject.export is not None and "int8" in name_of_export(subject.export.recipe)
    return "quantized" if is_quantised else None


def _library(parcel: Parcel, subject: Subject) -> str | None:
    if subject.is_adapter:
        return "peft"
    if parcel.find("modules.json") is not None:
        return "sentence-transformers"
    return "transformers" if parcel.find("config.json") is not None else None


def _tags(parcel: Parcel) -> list[str] | None:
    suffixes = {PurePosixPath(item.path).suffix for item in parcel.items}
    return [tag for suffix, tag in _TAGS.items() if suffix in suffixes] or None


def _what(subject: Subject, base: str | None) -> str:
    of = f" of [{base}](https://huggingface.co/{base})" if base else ""
    what = f" for {subject.task}" if subject.task else ""
    if subject.is_adapter:
        return f"A PEFT adapter{of}{what}."
    if subject.export is not None:
        return f"An export{of}{what}, as {name_of_export(subject.export.recipe)}."
    return f"A model{what}{of.replace(' of ', ', made of ')}."


def _served(subject: Subject, to: str, base: str | None) -> list[str]:
    """As an entry of models.yaml."""
    if subject.is_adapter:
        if base is None:
            return []
        entry = {"model": base, "adapters": {to.rpartition("/")[2]: to}}
    else:
        entry = {"model": to, **({"task": subject.task} if subject.task else {}), **_keys(subject.export)}
    flow = json.dumps(entry, ensure_ascii=False)
    return ["Served by Pipeserve as an entry of models.yaml:", f"```yaml\nmodels:\n  - {flow}\n```"]


def _keys(export: Kept | None) -> dict[str, str]:
    """Of an entry that is computed by the export."""
    if export is None:
        return {}
    backend, file = export.recipe.backend, file_name_of(export)
    is_found_by_itself = backend.startswith("optimum") or (backend == "onnx" and file == "onnx/model.onnx")
    return {"backend": backend, **({} if is_found_by_itself else {"file_name": file})}


def _facts(subject: Subject) -> str:
    difference = None if subject.export is None else subject.export.facts.get("difference")
    if difference is None or subject.export is None:
        return ""
    versions = ", ".join(f"{name} {version}" for name, version in subject.export.recipe.versions.items())
    return (
        f"Its outputs differ from those of the model in transformers by at most {difference:.1e} of the largest of"
        f" them, on the inputs that it was compared on as it was made. Made with {versions}."
    )


def _adapter_config(parcel: Parcel) -> dict[str, Any]:
    from app.catalog import ADAPTER_CONFIG

    item = parcel.find(ADAPTER_CONFIG)
    if item is None:
        return {}
    found = json.loads(item.read())
    return found if isinstance(found, dict) else {}
