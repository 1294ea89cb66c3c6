"""Tasks of the Hub that no transformers pipeline does: refused, with the reason."""

from __future__ import annotations

from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from app.errors import NotAvailable

_TABULAR = (
    "transformers has no pipeline and no model class for it, so that there is nothing to load: its models on the Hub"
    ' are scikit-learn files, which are programs. A custom handler can take `{"table": ...}`'
)
_DIFFUSION = "its models are made for the library diffusers, not for transformers; a custom handler can load them"
REASONS = {
    "tabular-classification": _TABULAR,
    "tabular-regression": _TABULAR,
    "text-to-image": _DIFFUSION,
    "text-to-video": _DIFFUSION,
    "image-to-video": _DIFFUSION,
    "audio-to-audio": "transformers has no pipeline for it; a custom handler can do it",
}


class UnservedEndpoint:
    """An ASGI app for one of them."""

    def __init__(self, task: str) -> None:
        self._task = task

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise NotAvailable(f"{self._task} is not served: {REASONS[self._task]}.")


OPENAI_IMAGES = ("generations", "edits", "variations")


class ImagesEndpoint:
    """An ASGI app for OpenAI's /v1/images."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise NotAvailable(f"No model here makes pictures of texts: {_DIFFUSION}.")


def unserved_routes() -> list[BaseRoute]:
    """Not in the OpenAPI document."""
    images: list[BaseRoute] = [
        Route(f"/v1/images/{name}", ImagesEndpoint(), methods=["POST"]) for name in OPENAI_IMAGES
    ]
    return images + [
        Route(f"/v1/{task}{rest}", UnservedEndpoint(task), methods=["POST"])
        for task in REASONS
        for rest in ("", "/{model_id:path}")
    ]
