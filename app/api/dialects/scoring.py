"""vLLM's routes of models that score: `/score`, `/v1/score`, `/classify`, `/v1/classify`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, Field

from app.api.dialects.base import Answers, Asked, DialectBody, Rule
from app.api.fields import Unused
from app.errors import InvalidInput
from app.tasks.text import Text

SERVER = "vLLM"
ALL_TEXTS = 2**31 - 1
"""So many have a score, whatever the model's own `top_n`."""
UNUSED = Unused(
    harmless={
        "priority": "X-Priority says it",
        "request_id": "X-Request-Id names a request",
        "user": "nothing is kept of a request",
    },
    refused={
        "cache_salt": ((), "nothing is kept between requests that could be told apart"),
        "max_tokens_per_doc": ((0,), "a text is cut where the model's limit is"),
        "max_tokens_per_query": ((0,), "a text is cut where the model's limit is"),
        "mm_processor_kwargs": (({},), "only texts are read"),
        "padding": (("do_not_pad",), "padding changes no answer"),
    },
)

Texts = Text | Annotated[list[Text], Field(min_length=1)]


class PoolingBody(DialectBody):
    truncate_prompt_tokens: Literal[-1] | None = Field(
        default=None, description="-1: cut texts that are longer than the model takes. Unset: they are errors."
    )
    truncate: bool | None = Field(default=None, description="true is the same as `truncate_prompt_tokens: -1`.")
    truncation_side: Literal["left", "right"] | None = Field(default=None, description="The end that is cut.")
    use_activation: bool | None = Field(
        default=None,
        description="false: the model's own outputs. Unset or true: shares of 1. Cosines stay as they are.",
    )

    def cutting(self) -> dict[str, Any]:
        """The parameters of a task of texts."""
        truncate = True if self.truncate_prompt_tokens == -1 else self.truncate
        return {"truncate": truncate, "truncation_direction": self.truncation_side}


class TextScoreBody(PoolingBody):
    text_1: Texts
    text_2: Texts


class QueryScoreBody(PoolingBody):
    queries: Texts
    documents: Texts


class ClassifyBody(PoolingBody):
    input: Texts


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Score(BaseModel):
    index: int
    object: Literal["score"]
    score: float


class PoolingAnswer(BaseModel):
    id: str
    object: Literal["list"]
    created: int
    model: str
    usage: Usage


class Scores(PoolingAnswer):
    data: list[Score]


class Classified(BaseModel):
    index: int
    label: str
    probs: list[float] = Field(description="In the order of the model's labels.")
    num_classes: int


class Classes(PoolingAnswer):
    data: list[Classified]


class Pairs:
    """One text beside each of several, or as many beside as many. names: what the client calls both."""

    def __init__(self, first: str | list[str], second: str | list[str], names: tuple[str, str]) -> None:
        """Raises InvalidInput."""
        self._first, self._second = _listed(first), _listed(second)
        self._second_name = names[1]
        if len(self._first) not in (1, len(self._second)):
            raise InvalidInput(
                f"{names[0]} has {len(self._first)} texts, {names[1]} has {len(self._second)}: send one of the first,"
                " or as many of both.",
                param=names[0],
            )

    def inputs(self, first: str, second: str) -> list[dict[str, Any]]:
        """One input of a task for each of the first. first, second: what the task calls them."""
        if len(self._first) == 1:
            return [{first: self._first[0], second: self._second}]
        return [{first: one, second: [other]} for one, other in zip(self._first, self._second, strict=True)]

    def names(self) -> dict[str, str]:
        """An input of the task is a pair, of which the second text is mostly the long one."""
        return {"inputs[0]" if len(self._first) == 1 else "inputs": self._second_name}


def _listed(texts: str | list[str]) -> list[str]:
    return [texts] if isinstance(texts, str) else texts


def _pairs(body: TextScoreBody | QueryScoreBody) -> Pairs:
    if isinstance(body, TextScoreBody):
        return Pairs(body.text_1, body.text_2, ("text_1", "text_2"))
    return Pairs(body.queries, body.documents, ("queries", "documents"))


def read_by_cross_encoder(body: TextScoreBody | QueryScoreBody) -> Asked:
    pairs = _pairs(body)
    return Asked(
        task="text-ranking",
        inputs=pairs.inputs("query", "texts"),
        parameters={**body.cutting(), "raw_scores": body.use_activation is False, "top_n": ALL_TEXTS},
        names=pairs.names(),
        call_fields=body.call_fields(),
        present=_present_ranked,
    )


def read_by_embeddings(body: TextScoreBody | QueryScoreBody) -> Asked:
    pairs = _pairs(body)
    return Asked(
        task="sentence-similarity",
        inputs=pairs.inputs("source_sentence", "sentences"),
        parameters={**body.cutting(), "similarity_fn_name": "cosine"},
        names=pairs.names(),
        call_fields=body.call_fields(),
        present=lambda answers: _scores(answers, [one for part in answers.fragments for one in orjson.loads(part)]),
    )


def read_classify(body: ClassifyBody) -> Asked:
    return Asked(
        task="text-classification",
        inputs=_listed(body.input),
        parameters={
            **body.cutting(),
            "sort": False,
            "function_to_apply": "none" if body.use_activation is False else None,
        },
        names={"inputs[0]" if isinstance(body.input, str) else "inputs": "input"},
        call_fields=body.call_fields(),
        present=_present_classes,
    )


def _present_ranked(answers: Answers) -> bytes:
    """Each input's texts in the order in which they were sent."""
    scores: list[float] = []
    for fragment in answers.fragments:
        ranked = sorted(orjson.loads(fragment), key=lambda one: int(one["index"]))
        scores += [one["score"] for one in ranked]
    return _scores(answers, scores)


def _scores(answers: Answers, scores: Sequence[float]) -> bytes:
    data = [{"index": index, "object": "score", "score": score} for index, score in enumerate(scores)]
    return _told(answers, "score", data)


def _present_classes(answers: Answers) -> bytes:
    data = []
    for index, fragment in enumerate(answers.fragments):
        classes = orjson.loads(fragment)
        probs = [one["score"] for one in classes]
        label = classes[probs.index(max(probs))]["label"]
        data.append({"index": index, "label": label, "probs": probs, "num_classes": len(probs)})
    return _told(answers, "classify", data)


def _told(answers: Answers, kind: str, data: list[dict[str, Any]]) -> bytes:
    num_tokens = answers.num_tokens
    return orjson.dumps(
        {
            "id": f"{kind}-{answers.request_id}",
            "object": "list",
            "created": answers.created,
            "model": answers.spec.id,
            "data": data,
            "usage": {"prompt_tokens": num_tokens, "completion_tokens": 0, "total_tokens": num_tokens},
        }
    )


_TEXT_EXAMPLE = {"text_1": "Who wrote the first program?", "text_2": ["The stock market fell.", "Ada Lovelace did."]}
_QUERY_EXAMPLE = {"queries": _TEXT_EXAMPLE["text_1"], "documents": _TEXT_EXAMPLE["text_2"]}


def _score_rules() -> tuple[Rule, ...]:
    """Both pairs of names, for both kinds of model."""
    bodies: tuple[tuple[str, type[DialectBody], dict[str, Any]], ...] = (
        ("text_1", TextScoreBody, _TEXT_EXAMPLE),
        ("queries", QueryScoreBody, _QUERY_EXAMPLE),
    )
    kinds = (
        ("text-ranking", read_by_cross_encoder, "How well texts fit a text, by a cross-encoder that reads both."),
        ("sentence-similarity", read_by_embeddings, "The cosine between the embeddings of texts."),
    )
    return tuple(
        Rule(
            server=SERVER,
            summary=summary,
            field=field,
            tasks=(task,),
            body=body,
            read=read,
            answer=Scores,
            example=example,
            unused=UNUSED,
        )
        for task, read, summary in kinds
        for field, body, example in bodies
    )


SCORE = _score_rules()
CLASSIFY = Rule(
    server=SERVER,
    summary="The likeliest label of each text, and the chances of all.",
    field="input",
    tasks=("text-classification",),
    body=ClassifyBody,
    read=read_classify,
    answer=Classes,
    example={"input": "I loved every minute of this film."},
    unused=UNUSED,
)
