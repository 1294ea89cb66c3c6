"""The routes of responses in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from app.api.openapi import REF, Document, call_parameters, error_answers, json_body, parameter, query_parameter
from app.api.responses.body import InputBody, ResponseBody
from app.api.responses.endpoint import INPUT_TOKENS, RESPONSES
from app.tasks.base import JSON

TAG = "OpenAI's API"
_EVENTS = {"type": "string", "description": "Server-sent events, named by their `type`."}
_EXAMPLE = {"input": "Hello!", "max_output_tokens": 32}


def responses_document() -> Document:
    adapters: list[Any] = [(body, "validation", TypeAdapter(body)) for body in (ResponseBody, InputBody)]
    parts, defined = TypeAdapter.json_schemas(adapters, ref_template=REF)
    schemas = {body: schema for (body, _), schema in parts.items()}
    response_id = parameter("response_id", "path", "The id of a response that is kept.")
    page = [
        query_parameter("after", "The id of an item: those behind it."),
        query_parameter("limit", "1 to 100. Unset: 20."),
        query_parameter("order", "asc or desc. Unset: desc."),
    ]
    one = f"{RESPONSES}/{{response_id}}"
    made = _operation("create_response", "Answer a text or items; with `stream: true` as server-sent events.", [])
    made["responses"]["200"]["content"]["text/event-stream"] = {"schema": _EVENTS}
    counted = _operation("count_response_input_tokens", "Count the tokens that a response would read.", [])
    for operation, body in ((made, ResponseBody), (counted, InputBody)):
        operation["parameters"] = call_parameters(with_model=True)
        operation["requestBody"] = json_body(schemas[body], {"input": "Hello!"} if body is InputBody else _EXAMPLE)
    paths: dict[str, Any] = {
        RESPONSES: {"post": made},
        INPUT_TOKENS: {"post": counted},
        one: {
            "get": _operation("get_response", "A response that is kept.", [response_id]),
            "delete": _operation("delete_response", "Forget a response.", [response_id]),
        },
        f"{one}/cancel": {
            "post": _operation("cancel_response", "Refused: nothing is made in the background.", [response_id])
        },
        f"{one}/input_items": {
            "get": _operation("list_response_input_items", "The items of its own input.", [response_id, *page])
        },
    }
    return Document(paths, defined.get("$defs", {}))


def _operation(operation_id: str, summary: str, parameters: list[Any]) -> dict[str, Any]:
    answer = {"description": "The answer, in OpenAI's shape.", "content": {JSON: {"schema": {"type": "object"}}}}
    return {
        "tags": [TAG],
        "summary": summary,
        "operationId": operation_id,
        "parameters": parameters,
        "responses": {"200": answer, **error_answers()},
    }
