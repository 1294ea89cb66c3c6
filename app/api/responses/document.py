"""The routes of responses in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from app.api.openapi import (
    Document,
    body_schemas,
    call_parameters,
    json_body,
    parameter,
    plain_operation,
    query_parameter,
)
from app.api.responses.body import InputBody, ResponseBody
from app.api.responses.endpoint import INPUT_TOKENS, RESPONSES

TAG = "OpenAI's API"


def responses_document() -> Document:
    schemas, defined = body_schemas({RESPONSES: ResponseBody, INPUT_TOKENS: InputBody})
    made = plain_operation(
        TAG,
        "create_response",
        "Answer a text or items; with `stream: true` as server-sent events.",
        parameters=call_parameters(with_model=True),
        body=json_body(schemas[RESPONSES], {"input": "Hello!", "max_output_tokens": 32}),
        streams="text/event-stream",
    )
    counted = plain_operation(
        TAG,
        "count_response_input_tokens",
        "Count the tokens that a response would read.",
        parameters=call_parameters(with_model=True),
        body=json_body(schemas[INPUT_TOKENS], {"input": "Hello!"}),
    )
    one = f"{RESPONSES}/{{response_id}}"
    paths: dict[str, Any] = {
        RESPONSES: {"post": made},
        INPUT_TOKENS: {"post": counted},
        one: {
            "get": _of_kept("get_response", "A response that is kept."),
            "delete": _of_kept("delete_response", "Forget a response."),
        },
        f"{one}/cancel": {"post": _of_kept("cancel_response", "Refused: nothing is made in the background.")},
        f"{one}/input_items": {
            "get": _of_kept(
                "list_response_input_items",
                "The items of its own input.",
                query_parameter("after", "The id of an item: those behind it."),
                query_parameter("limit", "1 to 100. Unset: 20."),
                query_parameter("order", "asc or desc. Unset: desc."),
            )
        },
    }
    return Document(paths, defined)


def _of_kept(operation_id: str, summary: str, *query: dict[str, Any]) -> dict[str, Any]:
    response_id = parameter("response_id", "path", "The id of a response that is kept.")
    return plain_operation(TAG, operation_id, summary, parameters=[response_id, *query])
