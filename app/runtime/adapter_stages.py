"""The stages of load-adapter: the worker has loaded the job's adapter before they are asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.runtime.base import UNWATCHED, Item, Watch
from app.runtime.parts import OwnStages


class LoadAdapterStages(OwnStages):
    def prepare(self, inputs: Sequence[Any], parameters: dict[str, Any]) -> list[list[Item]]:
        return [[Item(one, 1)] for one in inputs]

    def forward(self, items: Sequence[Item], watch: Watch = UNWATCHED) -> list[Any]:
        return [None for _ in items]

    def finish(self, items: Sequence[Item], outputs: Sequence[Any], parameters: dict[str, Any]) -> Any:
        return items[0].features
