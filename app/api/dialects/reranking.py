"""Cohere's and Jina's rerank: `/v1/rerank`, `/v2/rerank`, and `/rerank` with `documents`."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, Field

from app.api.dialects.base import Answers, Asked, DialectBody, Present, Rule
from app.errors import InvalidInput
from app.tasks.text import Text

Documents = Annotated[list[Text | dict[str, Any]], Field(min_length=1)]
CUTS = {"truncate": True}
"""Both services cut long documents."""


class RerankV2Body(DialectBody):
    query: Text
    documents: Documents = Field(description="Texts, or objects with their text in `text`.")
    top_n: Annotated[int, Field(ge=1)] | None = None
    return_documents: bool | None = None
    priority: int | None = Field(default=None, description="Accepted; requests are answered in their order.")


class RerankV1Body(DialectBody):
    """`/v1/rerank` and `/rerank` are Jina's as well, which returns documents unless told not to."""

    query: Text
    documents: Documents = Field(description="Texts, or objects whose `rank_fields` are read.")
    top_n: Annotated[int, Field(ge=1)] | None = None
    rank_fields: Annotated[list[str], Field(min_length=1)] | None = Field(
        default=None, description="Of documents that are objects: what is read of them. Unset: `text`."
    )
    return_documents: bool | None = Field(default=None, description="Unset: documents come back.")


class RankedDocument(BaseModel):
    index: int
    relevance_score: float
    document: dict[str, Any] | None = None


class RerankUsage(BaseModel):
    prompt_tokens: int
    total_tokens: int


class RerankAnswer(BaseModel):
    """The fields of both services; clients take theirs."""

    id: str
    object: str
    model: str
    results: list[RankedDocument]
    usage: RerankUsage
    meta: dict[str, Any]


def _read_v1(body: RerankV1Body) -> Asked:
    returns = body.return_documents is not False
    return _asked(body, "1", body.rank_fields or ["text"], returns=returns)


def _read_v2(body: RerankV2Body) -> Asked:
    return _asked(body, "2", ["text"], returns=bool(body.return_documents))


def _asked(body: RerankV1Body | RerankV2Body, version: str, fields: list[str], *, returns: bool) -> Asked:
    documents = body.documents
    texts = [_text(document, fields, f"documents[{index}]") for index, document in enumerate(documents)]
    return Asked(
        task="text-ranking",
        inputs=[{"query": body.query, "texts": texts}],
        parameters={"top_n": body.top_n},
        assumed=CUTS,
        names={"inputs[0].query": "query", "inputs[0].texts": "documents", "parameters": ""},
        call_fields=body.call_fields(),
        present=_presenter(version, documents if returns else None),
    )


def _text(document: str | dict[str, Any], fields: list[str], place: str) -> str:
    """A single field's value; of several fields lines of `name: value`, as Cohere reads them."""
    if isinstance(document, str):
        return document
    for name in fields:
        if not isinstance(document.get(name), str) or not document[name]:
            raise InvalidInput(f"{place}.{name} must be a text.", param=f"{place}.{name}")
    if len(fields) == 1:
        return str(document[fields[0]])
    return "\n".join(f"{name}: {document[name]}" for name in fields)


def _presenter(version: str, documents: list[str | dict[str, Any]] | None) -> Present:
    return partial(_present, version, documents)


def _present(version: str, documents: list[str | dict[str, Any]] | None, answers: Answers) -> bytes:
    results = []
    for place in orjson.loads(answers.fragments[0]):
        result = {"index": place["index"], "relevance_score": place["score"]}
        if documents is not None:
            document = documents[place["index"]]
            result["document"] = {"text": document} if isinstance(document, str) else document
        results.append(result)
    return orjson.dumps(
        {
            "id": answers.request_id,
            "object": "list",
            "model": answers.spec.id,
            "results": results,
            "usage": {"prompt_tokens": answers.num_tokens, "total_tokens": answers.num_tokens},
            "meta": {"api_version": {"version": version}, "billed_units": {"search_units": 1}},
        }
    )


_EXAMPLE: dict[str, Any] = {
    "query": "Who wrote the first program?",
    "documents": ["The stock market fell.", "Ada Lovelace wrote it."],
    "top_n": 1,
}
RERANK_V1 = Rule(
    server="Cohere (v1), Jina",
    summary="Documents sorted by how well they answer a query.",
    field="documents",
    tasks=("text-ranking",),
    body=RerankV1Body,
    read=_read_v1,
    answer=RerankAnswer,
    example=_EXAMPLE,
)
RERANK_V2 = Rule(
    server="Cohere (v2)",
    summary="Documents sorted by how well they answer a query.",
    field="documents",
    tasks=("text-ranking",),
    body=RerankV2Body,
    read=_read_v2,
    answer=RerankAnswer,
    example=_EXAMPLE,
)
