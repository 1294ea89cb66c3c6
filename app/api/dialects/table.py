"""One table: on which route which body is read as whose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from app.api.dialects import reranking, tei, tgi
from app.api.dialects.base import Rule
from app.catalog import ModelSpec
from app.errors import InvalidInput, NotAvailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A route. rules: the first whose field is in the body, and that the model can answer. takes_instances: Vertex's
    body too. takes_any: what no rule reads goes to the model's own first task, files included."""

    summary: str
    rules: tuple[Rule, ...]
    takes_instances: bool = False
    takes_any: bool = False

    def rules_for(self, body: Mapping[str, Any]) -> list[Rule]:
        """Those whose field the body has. Raises InvalidInput or NotAvailable when that is none."""
        found = [rule for rule in self.rules if rule.field in body]
        if found:
            return found
        for field, what in NOT_SERVED.items():
            if field in body:
                raise NotAvailable(f"{field}: this route does not take {what} in this version.", param=field)
        if self.takes_any:
            return []
        fields = " or ".join(f"`{field}`" for field in dict.fromkeys(rule.field for rule in self.rules))
        raise InvalidInput(f"{fields} is missing.", param=self.rules[0].field)


NOT_SERVED = {"messages": "a chat, as OpenAI and vLLM have it", "prompt": "a prompt, as OpenAI and vLLM have it"}
"""What other servers take on routes that are ours as well."""

_BY_MODEL = (
    reranking.RERANK_V1,
    tei.RERANK,
    tgi.COMPAT,
    tei.PREDICT,
    tei.EMBED,
    tei.SIMILARITY,
)

PLACES: Mapping[str, Place] = MappingProxyType(
    {
        "": Place(
            summary="What Text Generation Inference or Text Embeddings Inference would answer for this model.",
            rules=_BY_MODEL,
            takes_instances=True,
            takes_any=True,
        ),
        "invocations": Place(
            summary="SageMaker's route: any body that the model answers.",
            rules=_BY_MODEL,
            takes_instances=True,
            takes_any=True,
        ),
        "predict": Place(summary="Labels, or Vertex AI's `instances`.", rules=(tei.PREDICT,), takes_instances=True),
        "rerank": Place(summary="Texts or documents, best first.", rules=(reranking.RERANK_V1, tei.RERANK)),
        "v1/rerank": Place(summary="Documents, best first.", rules=(reranking.RERANK_V1,)),
        "v2/rerank": Place(summary="Documents, best first.", rules=(reranking.RERANK_V2,)),
        "embed": Place(summary="Embeddings of texts.", rules=(tei.EMBED,)),
        "embed_all": Place(summary="Vectors of tokens.", rules=(tei.EMBED_ALL,)),
        "embed_sparse": Place(summary="Weights of the vocabulary's tokens.", rules=(tei.EMBED_SPARSE,)),
        "similarity": Place(summary="Similarities of sentences.", rules=(tei.SIMILARITY,)),
        "tokenize": Place(summary="Tokens of texts.", rules=(tgi.TOKENIZE, tei.TOKENIZE)),
        "decode": Place(summary="Texts of tokens.", rules=(tei.DECODE,)),
        "generate": Place(summary="A generated text.", rules=(tgi.GENERATE,)),
        "generate_stream": Place(summary="A generated text, token by token.", rules=(tgi.GENERATE_STREAM,)),
    }
)
"""By the path without its first slash. Each is there below every model's URL too, but for "", which is the model's."""


def rule_for(rules: list[Rule], spec: ModelSpec) -> Rule | None:
    """The rule that the model's tasks decide for, its own first task before those that it does as well."""
    for task in spec.all_tasks:
        for rule in rules:
            if task in rule.tasks:
                return rule
    return None
