"""`/v1/models` as Anthropic's clients read it: they say so by a header, and ask for the next page by `after_id`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, Field
from starlette.requests import Request

from app.api.schemas import ModelCard

VERSION_HEADER = "anthropic-version"


class AnthropicModel(BaseModel):
    """A declared model, whether loaded or not."""

    type: Literal["model"] = "model"
    id: str
    display_name: str
    created_at: datetime = Field(description="Since when this server serves it.")
    lifecycle: Literal["active"] = "active"
    max_input_tokens: int | None = Field(description="Of the context, which the answer is a part of. null: unknown.")
    max_tokens: int | None = Field(description="The same.")


class AnthropicModelList(BaseModel):
    data: list[AnthropicModel]
    has_more: bool = Field(description="Whether `limit` cut it.")
    first_id: str | None
    last_id: str | None = Field(description="As `after_id` it asks for the next page.")


def is_for_anthropic(request: Request) -> bool:
    """Whether Anthropic's SDK asks, or who else means to be answered like it."""
    return VERSION_HEADER in request.headers


def anthropic_model(card: ModelCard) -> AnthropicModel:
    return AnthropicModel(
        id=card.id,
        display_name=card.id,
        created_at=datetime.fromtimestamp(card.created, UTC),
        max_input_tokens=card.max_length,
        max_tokens=card.max_length,
    )


def anthropic_list(cards: Sequence[ModelCard], *, has_more: bool) -> AnthropicModelList:
    return AnthropicModelList(
        data=[anthropic_model(card) for card in cards],
        has_more=has_more,
        first_id=cards[0].id if cards else None,
        last_id=cards[-1].id if cards else None,
    )
