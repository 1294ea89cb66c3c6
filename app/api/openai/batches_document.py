"""The routes of files and batches in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from app.api.openai.batches import BATCHES, ONE_BATCH, BatchBody
from app.api.openai.document import TAG
from app.api.openai.files import FILES, ONE_FILE
from app.api.openapi import Document, body_schemas, json_body, parameter, plain_operation, query_parameter

_FILE_ID = parameter("file_id", "path", "The id of a file.")
_BATCH_ID = parameter("batch_id", "path", "The id of a batch.")
_AFTER = query_parameter("after", "The id of an item: those behind it.")
_ORDER = query_parameter("order", "asc or desc. Unset: desc.")
_UPLOAD: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file", "purpose"],
                "properties": {
                    "file": {"type": "string", "format": "binary", "description": "A request on each line, as JSON."},
                    "purpose": {"type": "string", "enum": ["batch"]},
                    "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
                    "expires_after[seconds]": {"type": "integer", "minimum": 3600, "maximum": 2592000},
                },
            }
        }
    },
}
_LINES = {"description": "The file.", "content": {"application/jsonl": {"schema": {"type": "string"}}}}


def batches_document() -> Document:
    schemas, defined = body_schemas({BATCHES: BatchBody})
    example = {
        "input_file_id": "file-0123456789abcdef",
        "endpoint": "/v1/text-classification",
        "completion_window": "24h",
    }
    content = plain_operation(TAG, "get_file_content", "What is in a file.", parameters=[_FILE_ID])
    content["responses"]["200"] = _LINES
    paths = {
        f"/{FILES}": {
            "post": plain_operation(TAG, "create_file", "Hand in a file of requests.", body=_UPLOAD),
            "get": plain_operation(
                TAG,
                "list_files",
                "The files of the key, a page at a time.",
                parameters=[
                    _AFTER,
                    query_parameter("limit", "1 to 10000. Unset: 10000."),
                    _ORDER,
                    query_parameter("purpose", "batch or batch_output."),
                ],
            ),
        },
        f"/{ONE_FILE}": {
            "get": plain_operation(TAG, "get_file", "What a file is.", parameters=[_FILE_ID]),
            "delete": plain_operation(TAG, "delete_file", "Delete a file.", parameters=[_FILE_ID]),
        },
        f"/{ONE_FILE}/content": {"get": content},
        f"/{BATCHES}": {
            "post": plain_operation(
                TAG,
                "create_batch",
                "Answer the requests of a file, at low priority beside live ones; a restart loses none.",
                body=json_body(schemas[BATCHES], example),
            ),
            "get": plain_operation(
                TAG,
                "list_batches",
                "The batches of the key, the newest first, a page at a time.",
                parameters=[_AFTER, query_parameter("limit", "1 to 100. Unset: 20.")],
            ),
        },
        f"/{ONE_BATCH}": {
            "get": plain_operation(TAG, "get_batch", "How far a batch is.", parameters=[_BATCH_ID]),
        },
        f"/{ONE_BATCH}/cancel": {
            "post": plain_operation(
                TAG, "cancel_batch", "End a batch; what was answered stays.", parameters=[_BATCH_ID]
            )
        },
    }
    return Document(paths, defined)
