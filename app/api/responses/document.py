"""The routes of responses in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from app.api.openapi import (
    MODEL_ID,
    Document,
    body_schemas,
    json_body,
    parameter,
    plain_operation,
    plain_posts,
    query_parameter,
)
from app.api.responses.body import InputBody, ResponseBody
from app.api.responses.endpoint import INPUT_TOKENS, ONE_RESPONSE, RESPONSES

TAG = "OpenAI's API"


def responses_document() -> Document:
    schemas, defined = body_schemas({RESPONSES: ResponseBody, INPUT_TOKENS: InputBody})
    made = plain_posts(
        TAG,
        RESPONSES,
        "create_response",
        "Answer a text or items; with `stream: true` as server-sent events.",
        body=json_body(schemas[RESPONSES], {"input": "Hello!", "max_output_tokens": 32}),
        streams="text/event-stream",
    )
    counted = plain_posts(
        TAG,
        INPUT_TOKENS,
        "count_response_input_tokens",
        "Count the tokens that a response would read.",
        body=json_body(schemas[INPUT_TOKENS], {"input": "Hello!"}),
    )
    kept = {**_kept(f"/{ONE_RESPONSE}"), **_kept(f"/models/{{model_id}}/{ONE_RESPONSE}", MODEL_ID)}
    return Document({**made, **counted, **kept}, defined)


def _kept(one: str, *before: dict[str, Any]) -> dict[str, Any]:
    """The routes of a response that is kept. before: parameters of its path."""
    suffix = "_of_model" if before else ""

    def operation(name: str, summary: str, *query: dict[str, Any]) -> dict[str, Any]:
        response_id = parameter("response_id", "path", "The id of a response that is kept.")
        return plain_operation(TAG, f"{name}{suffix}", summary, parameters=[*before, response_id, *query])

    return {
        one: {
            "get": operation("get_response", "A response that is kept."),
            "delete": operation("delete_response", "Forget a response."),
        },
        f"{one}/cancel": {"post": operation("cancel_response", "Refused: nothing is made in the background.")},
        f"{one}/input_items": {
            "get": operation(
                "list_response_input_items",
                "The items of its own input.",
                query_parameter("after", "The id of an item: those behind it."),
                query_parameter("limit", "1 to 100. Unset: 20."),
                query_parameter("order", "asc or desc. Unset: desc."),
            )
        },
    }
