"""One table: on which route which body is read as whose."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from app.api.dialects import reranking, scoring, tei, tgi, vllm
from app.api.dialects.base import Rule
from app.catalog import ModelSpec
from app.errors import InvalidInput
from app.tasks.base import JSON
from app.tasks.registry import TASKS

EVENT_STREAM = "text/event-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A route. rules: those whose field is in the body, the first of them that the model can answer.

    takes_instances: Vertex's body too. takes_any: what no rule reads goes to the model's own first task, files
    included. media_types: of its answers.
    """

    summary: str
    rules: tuple[Rule, ...]
    takes_instances: bool = False
    takes_any: bool = False
    media_types: tuple[str, ...] = (JSON,)

    def rules_for(self, body: Mapping[str, Any]) -> list[Rule]:
        """Those whose field the body has, the most telling ones. Raises InvalidInput for none."""
        found = [rule for rule in self.rules if rule.is_in(body)]
        if found:
            depth = max(rule.field.count(".") for rule in found)
            return [rule for rule in found if rule.field.count(".") == depth]
        if self.takes_any:
            return []
        fields = " or ".join(f"`{field}`" for field in dict.fromkeys(rule.field for rule in self.rules))
        raise InvalidInput(f"{fields} is missing.", param=self.rules[0].field)

    def tasks_for(self, rules: Sequence[Rule]) -> Iterable[str]:
        """What a model must serve one of. Bare `inputs` are any model's."""
        if self.takes_any and all(rule.field == "inputs" for rule in rules):
            return TASKS
        return dict.fromkeys(task for rule in rules for task in rule.tasks)


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
            media_types=(JSON, EVENT_STREAM),
        ),
        "invocations": Place(
            summary="SageMaker's route: any body that the model answers.",
            rules=_BY_MODEL,
            takes_instances=True,
            takes_any=True,
            media_types=(JSON, EVENT_STREAM),
        ),
        "predict": Place(summary="Labels, or Vertex AI's `instances`.", rules=(tei.PREDICT,), takes_instances=True),
        "rerank": Place(summary="Texts or documents, best first.", rules=(reranking.RERANK_V1, tei.RERANK)),
        "v1/rerank": Place(summary="Documents, best first.", rules=(reranking.RERANK_V1,)),
        "v2/rerank": Place(summary="Documents, best first.", rules=(reranking.RERANK_V2,)),
        **{path: Place(summary="How well texts fit a text.", rules=scoring.SCORE) for path in ("score", "v1/score")},
        **{path: Place(summary="Labels of texts.", rules=(scoring.CLASSIFY,)) for path in ("classify", "v1/classify")},
        "embed": Place(summary="Embeddings of texts.", rules=(tei.EMBED,)),
        "embed_all": Place(summary="Vectors of tokens.", rules=(tei.EMBED_ALL,)),
        "embed_sparse": Place(summary="Weights of the vocabulary's tokens.", rules=(tei.EMBED_SPARSE,)),
        "similarity": Place(summary="Similarities of sentences.", rules=(tei.SIMILARITY,)),
        "tokenize": Place(
            summary="Tokens of texts.", rules=(tgi.TOKENIZE, tei.TOKENIZE, vllm.TOKENIZE, vllm.TOKENIZE_CHAT)
        ),
        "detokenize": Place(summary="The text of tokens.", rules=(vllm.DETOKENIZE,)),
        "decode": Place(summary="Texts of tokens.", rules=(tei.DECODE,)),
        "generate": Place(summary="A generated text.", rules=(tgi.GENERATE,)),
        "generate_stream": Place(
            summary="A generated text, token by token.", rules=(tgi.GENERATE_STREAM,), media_types=(EVENT_STREAM,)
        ),
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
