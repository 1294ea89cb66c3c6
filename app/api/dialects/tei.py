"""Text Embeddings Inference: `/embed`, `/embed_all`, `/embed_sparse`, `/predict`, `/rerank`, `/similarity`,
`/tokenize`, `/decode`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from app.api.dialects.base import Answers, Asked, DialectBody, Rule, as_list, as_only
from app.errors import InvalidInput
from app.tasks.sentence_similarity import SentenceSimilarityInputs
from app.tasks.sparse_embedding import Weight
from app.tasks.text import Direction, Text, TokenIds
from app.tasks.text_classification import Label
from app.tasks.text_ranking import RankedText
from app.tasks.tokenize import Token

SERVER = "Text Embeddings Inference"

Texts = Text | Annotated[list[Text], Field(min_length=1)]
AUTO_TRUNCATE = {"truncate": True}
"""TEI cuts long texts unless it is told not to (`--auto-truncate` is on by default)."""


class TruncatingBody(DialectBody):
    truncate: bool | None = Field(default=None, description="false: a text that is too long is an error. Unset: cut.")
    truncation_direction: Direction | None = None


class EmbedAllBody(TruncatingBody):
    inputs: Texts
    prompt_name: str | None = None


class EmbedBody(EmbedAllBody):
    normalize: bool | None = Field(default=None, description="false: as the model makes them. Unset: of length 1.")
    dimensions: Annotated[int, Field(ge=1)] | None = None


class EmbedSparseBody(TruncatingBody):
    inputs: Texts


Single = Annotated[list[Text], Field(min_length=1, max_length=1)]
Pair = Annotated[list[Text], Field(min_length=2, max_length=2)]


class PredictBody(TruncatingBody):
    inputs: Text | Pair | Single | Annotated[list[Single | Pair], Field(min_length=1)] = Field(
        description="A text, a pair of texts, or a list of such lists."
    )
    raw_scores: bool | None = None


class RerankBody(TruncatingBody):
    query: Text
    texts: Annotated[list[Text], Field(min_length=1)]
    raw_scores: bool | None = None
    return_text: bool | None = None


class SimilarityParameters(TruncatingBody):
    prompt_name: str | None = None


class SimilarityBody(DialectBody):
    inputs: SentenceSimilarityInputs
    parameters: SimilarityParameters | None = None


class TokenizeBody(DialectBody):
    inputs: Texts
    add_special_tokens: bool | None = None


class DecodeBody(DialectBody):
    ids: TokenIds | Annotated[list[TokenIds], Field(min_length=1)]
    skip_special_tokens: bool | None = None


def _listed(inputs: str | list[str]) -> list[str]:
    return [inputs] if isinstance(inputs, str) else inputs


def _given(body: DialectBody, *names: str) -> dict[str, Any]:
    return {name: getattr(body, name) for name in names}


def _vectors(answers: Answers) -> bytes:
    """One vector a text: a model that knows no pooling has one a token."""
    if answers.fragments[0].startswith(b"[["):
        raise InvalidInput(
            f'The files of "{answers.spec.id}" name no pooling, so that it has a vector per token (/embed_all): '
            "declare `pooling:` for it.",
            param="model",
        )
    return as_list(answers)


def read_embed(body: EmbedBody) -> Asked:
    return Asked(
        task="feature-extraction",
        inputs=_listed(body.inputs),
        parameters=_given(body, "truncate", "truncation_direction", "prompt_name", "normalize", "dimensions"),
        assumed={**AUTO_TRUNCATE, "normalize": True},
        call_fields=body.call_fields(),
        present=_vectors,
    )


def read_embed_all(body: EmbedAllBody) -> Asked:
    given = _given(body, "truncate", "truncation_direction", "prompt_name")
    return Asked(
        task="feature-extraction",
        inputs=_listed(body.inputs),
        parameters={**given, "pooling": "none", "normalize": False},
        assumed=AUTO_TRUNCATE,
        call_fields=body.call_fields(),
    )


def read_embed_sparse(body: EmbedSparseBody) -> Asked:
    return Asked(
        task="sparse-embedding",
        inputs=_listed(body.inputs),
        parameters=_given(body, "truncate", "truncation_direction"),
        assumed=AUTO_TRUNCATE,
        call_fields=body.call_fields(),
    )


def read_predict(body: PredictBody) -> Asked:
    """A list of one or two texts is one input: the list over inputs holds lists."""
    inputs = body.inputs
    is_batch = isinstance(inputs, list) and isinstance(inputs[0], list)
    given = _given(body, "truncate", "truncation_direction")
    if body.raw_scores:
        given["function_to_apply"] = "none"
    return Asked(
        task="text-classification",
        inputs=[_text_or_pair(one) for one in (inputs if is_batch else [inputs])],
        parameters=given,
        assumed=AUTO_TRUNCATE,
        call_fields=body.call_fields(),
        present=as_list if is_batch else as_only,
    )


def _text_or_pair(one: Any) -> dict[str, str]:
    texts = _listed(one)
    return {"text": texts[0]} if len(texts) == 1 else {"text": texts[0], "text_pair": texts[1]}


def read_rerank(body: RerankBody) -> Asked:
    return Asked(
        task="text-ranking",
        inputs=[{"query": body.query, "texts": body.texts}],
        parameters=_given(body, "truncate", "truncation_direction", "raw_scores", "return_text"),
        names={"inputs[0]": "", "parameters": ""},
        assumed=AUTO_TRUNCATE,
        call_fields=body.call_fields(),
        present=as_only,
    )


def read_similarity(body: SimilarityBody) -> Asked:
    parameters = body.parameters or SimilarityParameters()
    return Asked(
        task="sentence-similarity",
        inputs=[body.inputs.model_dump()],
        parameters=_given(parameters, "truncate", "truncation_direction", "prompt_name"),
        assumed=AUTO_TRUNCATE,
        call_fields=body.call_fields(),
        present=as_only,
    )


def read_tokenize(body: TokenizeBody) -> Asked:
    return Asked(
        task="tokenize",
        inputs=_listed(body.inputs),
        parameters=_given(body, "add_special_tokens"),
        call_fields=body.call_fields(),
    )


def read_decode(body: DecodeBody) -> Asked:
    is_list = isinstance(body.ids[0], list)
    return Asked(
        task="decode",
        inputs=list(body.ids) if is_list else [body.ids],
        parameters=_given(body, "skip_special_tokens"),
        call_fields=body.call_fields(),
    )


EMBED = Rule(
    server=SERVER,
    summary="The embedding of each text.",
    field="inputs",
    tasks=("feature-extraction",),
    body=EmbedBody,
    read=read_embed,
    answer=list[list[float]],
    example={"inputs": "A cat sleeps on the sofa."},
)
EMBED_ALL = Rule(
    server=SERVER,
    summary="The vectors of each text's tokens.",
    field="inputs",
    tasks=("feature-extraction",),
    body=EmbedAllBody,
    read=read_embed_all,
    answer=list[list[list[float]]],
    example={"inputs": "A cat sleeps on the sofa."},
)
EMBED_SPARSE = Rule(
    server=SERVER,
    summary="SPLADE's weights of the vocabulary's tokens for each text, by a masked language model.",
    field="inputs",
    tasks=("fill-mask",),
    body=EmbedSparseBody,
    read=read_embed_sparse,
    answer=list[list[Weight]],
    example={"inputs": "A cat sleeps on the sofa."},
)
PREDICT = Rule(
    server=SERVER,
    summary="The labels of a text, of a pair of texts, or of a list of these.",
    field="inputs",
    tasks=("text-classification",),
    body=PredictBody,
    read=read_predict,
    answer=list[Label] | list[list[Label]],
    example={"inputs": "I loved every minute of this film."},
)
RERANK = Rule(
    server=SERVER,
    summary="Texts sorted by how well they answer a query.",
    field="texts",
    tasks=("text-ranking",),
    body=RerankBody,
    read=read_rerank,
    answer=list[RankedText],
    example={"query": "Who wrote the first program?", "texts": ["The stock market fell.", "Ada Lovelace wrote it."]},
)
SIMILARITY = Rule(
    server=SERVER,
    summary="How similar sentences are to one sentence.",
    field="inputs.source_sentence",
    tasks=("sentence-similarity",),
    body=SimilarityBody,
    read=read_similarity,
    answer=list[float],
    example={"inputs": {"source_sentence": "A man plays the guitar.", "sentences": ["The stock market fell."]}},
)
TEXT_MODELS = (
    "feature-extraction",
    "sentence-similarity",
    "text-ranking",
    "text-classification",
    "token-classification",
    "fill-mask",
    "zero-shot-classification",
    "question-answering",
    "table-question-answering",
    "text2text-generation",
    "summarization",
    "translation",
)
TOKENIZE = Rule(
    server=SERVER,
    summary="The tokens of each text.",
    field="inputs",
    tasks=TEXT_MODELS,
    body=TokenizeBody,
    read=read_tokenize,
    answer=list[list[Token]],
    example={"inputs": "A cat sleeps."},
)
DECODE = Rule(
    server=SERVER,
    summary="The text of tokens.",
    field="ids",
    tasks=(*TEXT_MODELS, "text-generation"),
    body=DecodeBody,
    read=read_decode,
    answer=list[str],
    example={"ids": [101, 1037, 4937, 102]},
)
