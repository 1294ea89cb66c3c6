"""tabular-classification and tabular-regression: refused, with the reason."""

from __future__ import annotations

from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from app.errors import NotAvailable

TASKS = ("tabular-classification", "tabular-regression")


class TabularEndpoint:
    """An ASGI app for one of them. What a client would send is `{"table": {column: [values]}}`."""

    def __init__(self, task: str) -> None:
        self._task = task

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise NotAvailable(
            f"{self._task} has no pipeline and no model class in transformers, so that there is nothing to load: its "
            'models on the Hub are scikit-learn files, which are programs. A custom handler can take `{"table": ...}`.'
        )


def tabular_routes() -> list[BaseRoute]:
    """Not in the OpenAPI document: these tasks are not served."""
    return [
        Route(f"/v1/{task}{rest}", TabularEndpoint(task), methods=["POST"])
        for task in TASKS
        for rest in ("", "/{model_id:path}")
    ]
