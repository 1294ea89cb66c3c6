"""Reading the bodies of other APIs: fields that change nothing, fields that are refused, and the rest in a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from app.errors import InputTooLarge, InvalidInput
from app.tasks.requests import as_invalid_input


class Body(BaseModel):
    """Base of what clients send: strict about names and types, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


BodyT = TypeVar("BodyT", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unused:
    """The fields of an object that have no place in its model.

    harmless: accepted with any value, and why they change nothing. refused: the values beside null that change
    nothing, and why all others are refused.
    """

    harmless: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, tuple[tuple[Any, ...], str]] = field(default_factory=dict)

    def without(self, given: Mapping[str, Any], *, where: str = "") -> dict[str, Any]:
        """The object without nulls and without what changes nothing. Raises InvalidInput for what is refused."""
        kept = {}
        for name, value in given.items():
            if value is None or name in self.harmless:
                continue
            if name in self.refused:
                neutral, reason = self.refused[name]
                if not any(value == one and type(value) is type(one) for one in neutral):
                    path = inside(where, name)
                    raise InvalidInput(f"{path}: {reason}.", param=path)
                continue
            kept[name] = value
        return kept


def inside(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def read_as(model: type[BodyT], given: Any, *, where: str = "") -> BodyT:
    """Raises InvalidInput naming the field. where: the path of the object in the body."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        found = as_invalid_input(error, where, model)
        if isinstance(found, InputTooLarge):  # "too many" is no matter of a model's context here
            raise InvalidInput(found.message, param=found.param) from None
        raise found from None


def read_typed(kinds: Mapping[str, type[BodyT]], given: Any, unused: Unused, *, where: str) -> BodyT:
    """One of several kinds, by its `type`. Raises InvalidInput naming the field."""
    if not isinstance(given, Mapping):
        raise InvalidInput(f"{where} must be an object.", param=where)
    kind = given.get("type")
    if not isinstance(kind, str) or kind not in kinds:
        path, known = inside(where, "type"), ", ".join(kinds)
        raise InvalidInput(f"{path}: {_shown(kind)} is not taken here; there are {known}.", param=path)
    return read_as(kinds[kind], unused.without(given, where=where), where=where)


def _shown(kind: Any) -> str:
    return f'"{kind[:64]}"' if isinstance(kind, str) else "what it says"
