"""The clients of other servers: which body goes where, what it asks of a task, and the answer in its words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2 as httpx
import msgspec
import orjson
import pytest

from app import errors
from app.api.dialects import scoring, vllm
from app.api.dialects.table import PLACES
from app.api.errors import speaks_openai
from app.api.unserved import REASONS
from app.tasks.completion import Alternative, Delta, Token
from app.tasks.registry import TASKS, UNLISTED_TASKS
from tests.api.conftest import LiveServer
from tests.api.fake_fleet import ANSWERS, LABELS

VECTOR, GENERATED = ANSWERS["feature-extraction"], ANSWERS["text-generation"][0]
RANKED, ANSWER = ANSWERS["text-ranking"], ANSWERS["question-answering"]
PAIR = {"query": "who?", "texts": ["a", "b"]}
JINA = {"query": "who?", "documents": ["a", "b"]}
PROMPT = {"inputs": "Once", "parameters": {"max_new_tokens": 2}}
GENERATOR = "tiny-text-generation"
HELLO = [{"role": "user", "content": "hello"}]
TOKENS = {"count": 2, "max_model_len": 128, "tokens": [2, 9], "token_strs": None}


def events_of(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in response.text.split("\n") if line]
    assert all(line.startswith("data:") for line in lines), response.text
    return [orjson.loads(line.removeprefix("data:")) for line in lines]


# One table, one test


@pytest.mark.parametrize(
    ("path", "body", "task", "answer"),
    [
        ("/embed", {"inputs": "a"}, "feature-extraction", [VECTOR]),
        ("/embed", {"inputs": ["a", "b"]}, "feature-extraction", [VECTOR, VECTOR]),
        ("/embed_all", {"inputs": "a"}, "feature-extraction", [[VECTOR]]),
        ("/embed_sparse", {"inputs": ["a"]}, "sparse-embedding", [ANSWERS["sparse-embedding"]]),
        ("/predict", {"inputs": "a"}, "text-classification", LABELS),
        ("/predict", {"inputs": ["a", "b"]}, "text-classification", LABELS),
        ("/predict", {"inputs": [["a"], ["b", "c"]]}, "text-classification", [LABELS, LABELS]),
        ("/predict", {"instances": ["a", "b"]}, "text-classification", {"predictions": [LABELS, LABELS]}),
        ("/rerank", PAIR, "text-ranking", RANKED),
        ("/similarity", {"inputs": {"source_sentence": "a", "sentences": ["b"]}}, "sentence-similarity", [0.75, 0.25]),
        ("/tokenize", {"inputs": "a cat"}, "tokenize", [ANSWERS["tokenize"]]),
        ("/tokenize", {"prompt": "a cat"}, "tokenize", TOKENS),
        ("/tokenize", {"messages": HELLO}, "tokenize", TOKENS),
        (f"/models/{GENERATOR}/tokenize", {"messages": HELLO}, "tokenize", TOKENS),
        ("/detokenize", {"tokens": [2, 9]}, "decode", {"prompt": "a cat"}),
        ("/decode", {"ids": [2, 9]}, "decode", ["a cat"]),
        ("/decode", {"ids": [[2, 9], [2]]}, "decode", ["a cat", "a cat"]),
        ("/generate", PROMPT, "text-generation", GENERATED),
        ("/", {"inputs": "a", "model": "vectors"}, "feature-extraction", [VECTOR]),
        ("/", {"inputs": "a", "model": "reviews"}, "text-classification", LABELS),
        ("/", {**PAIR, "model": "tiny-text-ranking"}, "text-ranking", RANKED),
        ("/", PAIR, "text-ranking", RANKED),
        ("/", {"inputs": {"source_sentence": "a", "sentences": ["b"]}}, "sentence-similarity", [0.75, 0.25]),
        ("/", {"inputs": {"question": "who?", "context": "Ada"}, "model": "answers"}, "question-answering", ANSWER),
        ("/", {**PROMPT, "model": GENERATOR}, "text-generation", [GENERATED]),
        ("/?model=mask", {"inputs": "a [MASK]"}, "fill-mask", ANSWERS["fill-mask"]),
        ("/", {"inputs": "a"}, "text-classification", LABELS),
        ("/invocations", {"inputs": ["a", "b"], "model": "vectors"}, "feature-extraction", [VECTOR, VECTOR]),
        ("/invocations?model=ner", {"inputs": "Ada"}, "token-classification", ANSWERS["token-classification"]),
        ("/models/vectors/embed", {"inputs": "a"}, "feature-extraction", [VECTOR]),
        (f"/models/{GENERATOR}/generate", PROMPT, "text-generation", GENERATED),
        ("/models/acme/labels/large/predict", {"inputs": "a"}, "text-classification", LABELS),
        ("/models/rev/invocations", {"inputs": "a"}, "text-classification", LABELS),
    ],
)
def test_body_and_model_decide(server: LiveServer, path: str, body: Any, task: str, answer: Any) -> None:
    """Each route's bodies reach their task, and are answered in the shape of the server whose route it is."""
    response = server.post(path, body)
    assert response.status_code == 200, response.text
    assert response.json() == answer
    assert {job.task for job in server.fleet.jobs} == {task}


def test_every_place_is_in_the_document_and_takes_post(server: LiveServer) -> None:
    """/openapi.json lists each of them at the root and below a model's URL; tabular tasks are not there."""
    paths = server.get("/openapi.json").json()["paths"]
    for path in PLACES:
        assert "post" in paths[f"/{path}"], path
        assert path == "" or "post" in paths[f"/models/{{model_id}}/{path}"], path
        assert server.get(f"/{path}").status_code == (200 if path == "" else 405)
    assert "get" in paths["/"] and "get" in paths["/info"] and "get" in paths["/ping"]
    assert not any("tabular" in path for path in paths)


def test_schemas_of_the_document_are_all_there(server: LiveServer) -> None:
    """No reference leads nowhere."""
    document = server.get("/openapi.json")
    schemas = set(document.json()["components"]["schemas"])
    names = {part.partition('"')[0] for part in document.text.split("#/components/schemas/")[1:]}
    assert names <= schemas, names - schemas


# Text Embeddings Inference


def test_embed_asks_as_tei_would(server: LiveServer) -> None:
    """Vectors of length 1, long texts cut, unless the request says otherwise."""
    server.post("/embed", {"inputs": "a"})
    assert server.fleet.jobs[-1].parameters == {"normalize": True, "truncate": True}
    options = {
        "normalize": False,
        "truncate": False,
        "truncation_direction": "Left",
        "dimensions": 2,
        "prompt_name": "q",
    }
    server.post("/embed", {"inputs": "a", **options})
    assert server.fleet.jobs[-1].parameters == options
    server.post("/embed_all", {"inputs": "a"})
    assert server.fleet.jobs[-1].parameters == {"normalize": False, "truncate": True, "pooling": "none"}


def test_embed_wants_one_vector_per_text(server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model without pooling is told so, instead of vectors of another shape."""
    monkeypatch.setitem(ANSWERS, "feature-extraction", [[0.5, 0.25], [0.5, 0.25]])
    status, code, text = server.error_of(server.post("/embed", {"inputs": "a"}))
    assert (status, code) == (422, "validation")
    assert "pooling" in text and "vectors" in text
    assert server.post("/embed_all", {"inputs": "a"}).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "name"), [("/rerank", PAIR, "texts[1]"), ("/v2/rerank", JINA, "documents[1]")]
)
def test_error_of_a_text_to_rank_names_it_as_its_client_does(
    server: LiveServer, path: str, body: dict[str, Any], name: str
) -> None:
    """The task calls it otherwise."""
    ours = "inputs[0].texts[1]"
    server.fleet.error = errors.InputTooLarge(f"{ours} has 600 tokens; the limit is 512.", param=ours)
    status, _, text = server.error_of(server.post(path, body))
    assert status == 413 and text.startswith(f"{name} has 600 tokens")


def test_pairs_and_texts_share_a_request(server: LiveServer) -> None:
    """TEI's batch holds lists of one or two texts."""
    server.post("/predict", {"inputs": [["a"], ["b", "c"]], "raw_scores": True})
    job = server.fleet.jobs[-1]
    assert job.inputs == [{"text": "a"}, {"text": "b", "text_pair": "c"}]
    assert job.parameters == {"function_to_apply": "none", "truncate": True}


def test_rerank_passes_its_fields_on(server: LiveServer) -> None:
    """All of TEI's fields of /rerank; a permit for each text."""
    server.post("/rerank", {**PAIR, "raw_scores": True, "return_text": True, "truncation_direction": "Right"})
    job = server.fleet.jobs[-1]
    assert job.inputs == [PAIR]
    assert job.parameters == {
        "raw_scores": True, "return_text": True, "truncation_direction": "Right", "truncate": True,
    }  # fmt: skip
    assert job.num_items == 2


def test_what_models_yaml_says_goes_before_the_dialect(server: LiveServer) -> None:
    """`parameters:` of the entry beat what the other server would assume, and not what the request says."""
    spec = server.fleet.specs["vectors"]
    server.fleet.specs["vectors"] = msgspec.structs.replace(spec, parameters={"truncate": False})
    server.post("/embed", {"inputs": "a"})
    assert server.fleet.jobs[-1].parameters["truncate"] is False
    server.post("/embed", {"inputs": "a", "truncate": True})
    assert server.fleet.jobs[-1].parameters["truncate"] is True


def test_tokens_of_a_generation_model_are_tgi(server: LiveServer) -> None:
    """A flat list with a place for each token; for all other models a list per text."""
    given = server.post("/tokenize", {"inputs": "a cat", "model": GENERATOR}).json()
    assert given == [{"id": 2, "text": "[CLS]", "start": 0, "stop": 0}, {"id": 9, "text": "cat", "start": 2, "stop": 5}]
    server.post("/tokenize", {"inputs": ["a", "b"], "add_special_tokens": False, "model": "ner"})
    job = server.fleet.jobs[-1]
    assert (job.model_id, job.inputs, job.parameters) == ("ner", ["a", "b"], {"add_special_tokens": False})


# Cohere and Jina


@pytest.mark.parametrize(
    ("path", "body", "has_documents"),
    [
        ("/v1/rerank", JINA, True),
        ("/v1/rerank", {**JINA, "return_documents": False}, False),
        ("/rerank", JINA, True),
        ("/v2/rerank", JINA, False),
        ("/v2/rerank", {**JINA, "return_documents": True}, True),
    ],
)
def test_documents_are_ranked(server: LiveServer, path: str, body: Any, has_documents: bool) -> None:
    """Fields of both services; documents come back as each service returns them."""
    response = server.post(path, {**body, "top_n": 2}, headers={"X-Request-Id": "r-1"})
    answer = response.json()
    assert [(one["index"], one["relevance_score"]) for one in answer["results"]] == [(1, 0.75), (0, 0.25)]
    assert [one.get("document") for one in answer["results"]] == (
        [{"text": "b"}, {"text": "a"}] if has_documents else [None, None]
    )
    assert answer["id"] == "r-1" and answer["model"] == "tiny-text-ranking" and answer["object"] == "list"
    assert answer["usage"] == {"prompt_tokens": 5, "total_tokens": 5}
    assert answer["meta"]["api_version"]["version"] == ("2" if path.startswith("/v2") else "1")
    assert server.fleet.jobs[-1].parameters == {"top_n": 2, "truncate": True}


def test_documents_may_be_objects(server: LiveServer) -> None:
    """Their `text`, or the fields that `rank_fields` names; they come back as they were."""
    documents = [{"text": "a", "id": 7}, {"text": "b", "id": 8}]
    answer = server.post("/v1/rerank", {"query": "q", "documents": documents}).json()
    assert [one["document"]["id"] for one in answer["results"]] == [8, 7]
    assert server.fleet.jobs[-1].inputs[0]["texts"] == ["a", "b"]
    titled = [{"title": "x", "body": "y"}]
    server.fleet.jobs.clear()
    server.post("/v1/rerank", {"query": "q", "documents": titled * 2, "rank_fields": ["title", "body"]})
    assert server.fleet.jobs[-1].inputs[0]["texts"] == ["title: x\nbody: y"] * 2
    status, code, text = server.error_of(server.post("/v1/rerank", {"query": "q", "documents": [{"image": "x"}]}))
    assert (status, code) == (422, "validation") and "documents[0].text" in text


# vLLM

QUERIES = {"queries": "who?", "documents": ["a", "b"]}
RANKER = "tiny-text-ranking"


@pytest.mark.parametrize("path", ["/score", "/v1/score", f"/models/{RANKER}/score", f"/models/{RANKER}/v1/score"])
@pytest.mark.parametrize("body", [{"text_1": "who?", "text_2": ["a", "b"]}, QUERIES])
def test_cross_encoder_scores_pairs(server: LiveServer, path: str, body: Any) -> None:
    """In the order of the texts, whatever their rank and the model's own `top_n`."""
    server.fleet.specs[RANKER] = msgspec.structs.replace(server.fleet.specs[RANKER], parameters={"top_n": 1})
    answer = server.post(path, {**body, "model": RANKER}, headers={"X-Request-Id": "r-1"}).json()
    assert answer.pop("created") > 10**9
    assert answer == {
        "id": "score-r-1",
        "object": "list",
        "model": RANKER,
        "data": [
            {"index": 0, "object": "score", "score": 0.25},
            {"index": 1, "object": "score", "score": 0.75},
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 0, "total_tokens": 5},
    }
    job = server.fleet.jobs[-1]
    assert job.inputs == [{"query": "who?", "texts": ["a", "b"]}] and job.parameters["top_n"] > 10**9


def test_embedding_model_scores_by_cosine(server: LiveServer) -> None:
    """Whatever measure its files name."""
    answer = server.post("/score", {**QUERIES, "model": "vectors"}).json()
    assert [one["score"] for one in answer["data"]] == [0.75, 0.25]
    job = server.fleet.jobs[-1]
    assert (job.task, job.parameters) == ("sentence-similarity", {"similarity_fn_name": "cosine"})
    assert job.inputs == [{"source_sentence": "who?", "sentences": ["a", "b"]}]


def test_as_many_texts_are_scored_side_by_side(server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first with the first, the second with the second."""
    monkeypatch.setitem(ANSWERS, "text-ranking", [{"index": 0, "score": 0.5}])
    answer = server.post("/score", {"text_1": ["p", "q"], "text_2": ["a", "b"], "model": RANKER}).json()
    assert [(one["index"], one["score"]) for one in answer["data"]] == [(0, 0.5), (1, 0.5)]
    assert server.fleet.jobs[-1].inputs == [{"query": "p", "texts": ["a"]}, {"query": "q", "texts": ["b"]}]
    status, param = openai_error(server.post("/score", {"text_1": ["p", "q"], "text_2": ["a", "b", "c"]}))
    assert (status, param) == (400, "text_1")
    assert openai_error(server.post("/score", {"queries": ["p", "q"], "documents": "a"})) == (400, "queries")


@pytest.mark.parametrize("path", ["/classify", "/v1/classify", "/models/rev/classify", "/models/rev/v1/classify"])
def test_labels_come_with_all_chances(server: LiveServer, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the model's order, the label of the greatest."""
    monkeypatch.setitem(ANSWERS, "text-classification", LABELS[::-1])
    answer = server.post(path, {"input": ["a", "b"]}).json()
    assert answer["data"] == [
        {"index": index, "label": "POSITIVE", "probs": [0.1, 0.9], "num_classes": 2} for index in (0, 1)
    ]
    assert answer["object"] == "list" and answer["id"].startswith("classify-") and answer["usage"]["total_tokens"] == 5
    assert server.fleet.jobs[-1].parameters == {"sort": False}
    assert len(server.post(path, {"input": "a"}).json()["data"]) == 1


@pytest.mark.parametrize(
    ("given", "of_ranking", "of_labels"),
    [
        ({"truncate_prompt_tokens": -1}, {"truncate": True}, {"truncate": True}),
        ({"truncate": False}, {"truncate": False}, {"truncate": False}),
        ({"truncation_side": "left"}, {"truncation_direction": "left"}, {"truncation_direction": "left"}),
        ({"use_activation": False}, {"raw_scores": True}, {"function_to_apply": "none"}),
        ({"use_activation": True}, {"raw_scores": False}, {}),
    ],
)
def test_vllms_options_become_parameters(
    server: LiveServer, given: Any, of_ranking: dict[str, Any], of_labels: dict[str, Any]
) -> None:
    """Of the task that answers."""
    assert server.post("/score", {**QUERIES, **given, "model": RANKER}).status_code == 200
    assert server.fleet.jobs[-1].parameters.items() >= of_ranking.items()
    assert server.post("/classify", {"input": "a", **given}).status_code == 200
    assert server.fleet.jobs[-1].parameters == {"sort": False, **of_labels}


@pytest.mark.parametrize("path", ["/v1/score", "/classify"])
def test_fields_that_change_nothing(server: LiveServer, path: str) -> None:
    """Taken with any value, or refused by name with the reason, and vLLM's defaults are taken."""
    body = {**QUERIES, "model": RANKER} if path == "/v1/score" else {"input": "a"}
    for name in scoring.UNUSED.harmless:
        assert server.post(path, {**body, name: "anything"}).status_code == 200, name
    for name, (neutral, reason) in scoring.UNUSED.refused.items():
        response = server.post(path, {**body, name: "anything"})
        assert openai_error(response) == (400, name) and reason in response.json()["error"]["message"]
        for value in (None, *neutral):
            assert server.post(path, {**body, name: value}).status_code == 200, name


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("/score", {}, 400, "text_1"),
        ("/score", {"text_1": "a"}, 400, "text_2"),
        ("/score", {"text_1": "a", "text_2": []}, 400, "text_2"),
        ("/score", {"text_1": "a", "text_2": ["b", ""]}, 400, "text_2[1]"),
        ("/score", {"text_1": "a", "text_2": "b", "queries": "c"}, 400, "queries"),
        ("/score", {**QUERIES, "truncate_prompt_tokens": 9}, 400, "truncate_prompt_tokens"),
        ("/score", {**QUERIES, "model": "mask"}, 404, "model"),
        ("/classify", {"input": [1, 2]}, 400, "input[0]"),
        ("/classify", {"input": []}, 400, "input"),
        ("/v1/classify", {"input": "a", "model": "vectors"}, 404, "model"),
    ],
)
def test_scoring_names_what_is_wrong(server: LiveServer, path: str, body: Any, status: int, param: str) -> None:
    """In OpenAI's shape, as vLLM's own errors."""
    assert openai_error(server.post(path, body)) == (status, param)
    assert not server.fleet.jobs


@pytest.mark.parametrize(
    ("path", "body", "ours", "theirs"),
    [
        ("/score", {**QUERIES, "model": RANKER}, "inputs[0]", "documents"),
        ("/score", {"text_1": ["a", "b"], "text_2": ["c", "d"], "model": "vectors"}, "inputs[1]", "text_2[1]"),
        ("/classify", {"input": "a"}, "inputs[0]", "input"),
        ("/classify", {"input": ["a", "b"]}, "inputs[1]", "input[1]"),
    ],
)
def test_worker_speaks_of_the_clients_fields(server: LiveServer, path: str, body: Any, ours: str, theirs: str) -> None:
    """In the sentence too."""
    server.fleet.error = errors.InputTooLarge(f"{ours} has 9 tokens; the limit is 8.", param=ours)
    error = server.post(path, body).json()["error"]
    assert (error["param"], error["message"]) == (theirs, f"{theirs} has 9 tokens; the limit is 8.")


def test_chat_is_tokenized_as_it_is_sent(server: LiveServer) -> None:
    """All that the template is told of it."""
    tool = {"type": "function", "function": {"name": "ping"}}
    given = {
        "add_generation_prompt": False,
        "add_special_tokens": True,
        "chat_template_kwargs": {"enable_thinking": True},
        "tools": [tool],
    }
    sent = [{"role": "user", "content": "hello", "name": None}]
    response = server.post("/tokenize", {"messages": sent, "return_token_strs": True, **given})
    assert response.json()["token_strs"] == ["[CLS]", "cat"]
    job = server.fleet.jobs[-1]
    assert job.inputs == [{"messages": HELLO, **given}] and job.parameters == {"names": True}
    server.post("/tokenize", {"messages": HELLO, "continue_final_message": True})
    assert server.fleet.jobs[-1].inputs == [{"messages": HELLO, "continue_final_message": True}]


@pytest.mark.parametrize("name", vllm.UNUSED_IN_CHAT.refused)
def test_request_brings_no_template(server: LiveServer, name: str) -> None:
    """Nor what else would change how the chat is read: by name, with the reason."""
    neutral, reason = vllm.UNUSED_IN_CHAT.refused[name]
    _, code, text = server.error_of(server.post("/tokenize", {"messages": HELLO, name: "x"}))
    assert code == "validation" and text == f"{name}: {reason}."
    for value in (None, *neutral):
        assert server.post("/tokenize", {"messages": HELLO, name: value}).status_code == 200


@pytest.mark.parametrize(
    ("body", "ours", "theirs"),
    [
        ({"messages": HELLO}, "inputs[0].messages", "messages"),
        ({"messages": HELLO}, "inputs.chat_template_kwargs", "chat_template_kwargs"),
        ({"prompt": "a"}, "inputs[0]", "prompt"),
    ],
)
def test_tokenizer_speaks_of_the_clients_fields(server: LiveServer, body: Any, ours: str, theirs: str) -> None:
    """In the sentence too."""
    server.fleet.error = errors.InvalidInput(f"{ours}: no.", param=ours)
    assert server.error_of(server.post("/tokenize", body)) == (422, "validation", f"{theirs}: no.")


def openai_error(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["param"]


# Text Generation Inference


STREAM = [
    {
        "index": 1,
        "token": {"id": 7, "text": "there", "logprob": -0.5, "special": False},
        "generated_text": None,
        "details": None,
    },
    {
        "index": 2,
        "token": {"id": 8, "text": " was", "logprob": -0.25, "special": False},
        "generated_text": "there was",
        "details": None,
    },
]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/generate_stream", PROMPT),
        (f"/?model={GENERATOR}", {**PROMPT, "stream": True}),
        (f"/invocations?model={GENERATOR}", {**PROMPT, "stream": True}),
        ("/v1/text-generation", {**PROMPT, "stream": True}),
        (f"/models/{GENERATOR}", {**PROMPT, "stream": True}),
        (f"/models/{GENERATOR}/generate_stream", PROMPT),
        (f"/models/{GENERATOR}/pipeline/text-generation", {**PROMPT, "stream": True}),
    ],
)
def test_tokens_are_streamed(server: LiveServer, path: str, body: Any) -> None:
    """One event per token, the text with the last one, no [DONE]."""
    response = server.post(path, body)
    assert events_of(response) == STREAM
    assert response.headers["x-accel-buffering"] == "no" and response.headers["x-model"] == GENERATOR
    assert server.fleet.jobs[-1].parameters["details"] is True


def test_stream_ends_with_the_details_that_were_asked_for(server: LiveServer) -> None:
    """Without the tokens, which have been sent, and with the prompt's length."""
    body = {**PROMPT, "parameters": {"details": True}}
    last = events_of(server.post("/generate_stream", body))[-1]
    assert last["details"] == {"finish_reason": "length", "generated_tokens": 2, "seed": None, "input_length": 5}


def test_stream_false_is_an_answer(server: LiveServer) -> None:
    """As the clients send it."""
    for path in ("/v1/text-generation", f"/models/{GENERATOR}", f"/?model={GENERATOR}"):
        assert server.post(path, {**PROMPT, "stream": False}).json() == [GENERATED]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({**PROMPT, "stream": "yes"}, "stream"),
        ({"inputs": ["a", "b"], "stream": True}, "inputs"),
        ({"inputs": "a", "parameters": {"best_of": 2}, "stream": True}, "best_of"),
        ({"inputs": "a", "parameters": {"num_return_sequences": 2}, "stream": True}, "num_return_sequences"),
        ({"inputs": "a", "parameters": {"decoder_input_details": True}, "stream": True}, "decoder_input_details"),
        ({"inputs": "a", "parameters": [1], "stream": True}, "parameters"),
    ],
)
def test_what_cannot_be_streamed_is_refused(server: LiveServer, body: Any, says: str) -> None:
    """422 with the field's name, before the stream begins."""
    status, code, text = server.error_of(server.post("/v1/text-generation", body))
    assert (status, code) == (422, "validation") and says in text
    assert not server.fleet.jobs


def test_alternatives_come_with_their_token(server: LiveServer) -> None:
    """`top_n_tokens` has a list per token."""
    top = (Alternative(7, "there", -0.5), Alternative(8, "here", -1.5))
    server.fleet.deltas = [Delta(tokens=(Token(id=7, text="there", logprob=-0.5, top=top),), finish_reason="length")]
    (event,) = events_of(server.post("/generate_stream", {"inputs": "a", "parameters": {"top_n_tokens": 2}}))
    assert [(one["id"], one["text"], one["logprob"]) for one in event["top_tokens"]] == [
        (7, "there", -0.5),
        (8, "here", -1.5),
    ]


def test_events_come_before_the_end_is_there(server: LiveServer) -> None:
    """An error that comes later is the stream's last event."""
    server.fleet.deltas = [Delta(tokens=(Token(id=7, text="there", logprob=-0.5),))]
    server.fleet.stream_error = errors.WorkerLost("The worker ended.")
    first, last = events_of(server.post("/generate_stream", PROMPT))
    assert first["token"]["text"] == "there" and first["generated_text"] is None
    assert last["error_type"] == "worker_lost"


@pytest.mark.parametrize("path", ["/generate", "/generate_stream", f"/models/{GENERATOR}", "/v1/text-generation"])
def test_failed_generation_is_called_so(server: LiveServer, path: str) -> None:
    """Hugging Face's client raises GenerationError for this type alone."""
    server.fleet.error = errors.BackendFailed("The model failed.")
    status, code, _ = server.error_of(server.post(path, PROMPT))
    assert (status, code) == (500, "generation")
    server.fleet.error = errors.BackendFailed("The model failed.")
    assert server.error_of(server.post("/embed", {"inputs": "a"}))[:2] == (500, "backend")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/embed", {"inputs": "a"}),
        ("/generate_stream", PROMPT),
        ("/predict", {"instances": ["a", {"inputs": "b", "parameters": {"max_new_tokens": 1}}], "model": GENERATOR}),
    ],
)
def test_client_that_leaves_cancels_its_jobs(
    server: LiveServer, wait_until: Callable[..., None], path: str, body: Any
) -> None:
    """Whether it waits for an answer, a stream or several jobs' predictions."""
    server.fleet.holds = True
    num_jobs = len(body.get("instances", ["one"]))
    raw = orjson.dumps(body)
    with server.connect() as connection:
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(raw)}\r\n\r\n"
        connection.sendall(head.encode() + raw)
        wait_until(lambda: len(server.fleet.jobs) == num_jobs)
        assert not server.fleet.cancelled
    wait_until(lambda: len(server.fleet.cancelled) == num_jobs)


def test_model_whose_task_is_unknown_is_resolved_first(server: LiveServer) -> None:
    """A route that depends on the model's task waits for it, unless the caller will not."""
    server.fleet.specs["reviews"] = msgspec.structs.replace(server.fleet.specs["reviews"], tasks=())
    assert server.error_of(server.post("/?model=reviews&wait=false", {"inputs": "a"}))[:2] == (503, "model_loading")
    assert server.post("/?model=reviews", {"inputs": "a"}).json() == LABELS


# SageMaker and Vertex


def test_instances_with_equal_parameters_are_one_job(server: LiveServer) -> None:
    """Predictions stand in the order of the instances, whatever was computed together."""
    instances = [
        {"inputs": "a"},
        {"inputs": "b", "parameters": {"max_new_tokens": 9}},
        {"inputs": "c"},
        "d",
    ]
    body = {"instances": instances, "parameters": {"max_new_tokens": 3}, "model": GENERATOR}
    assert server.post("/predict", body).json() == {"predictions": ["there was"] * 4}
    assert sorted(tuple(job.inputs) for job in server.fleet.jobs) == [("a", "c", "d"), ("b",)]


def test_instances_of_any_model(server: LiveServer) -> None:
    """Each as its model's own route would read it."""
    body = {"instances": [PAIR, PAIR], "model": "tiny-text-ranking"}
    assert server.post("/predict", body).json() == {"predictions": [RANKED, RANKED]}
    assert len(server.fleet.jobs) == 1 and server.fleet.jobs[0].num_items == 4
    question = {"question": "who?", "context": "Ada"}
    body = {"instances": [question, {"inputs": question, "parameters": {"top_k": 1}}], "model": "answers"}
    assert server.post("/invocations", body).json() == {"predictions": [ANSWERS["question-answering"]] * 2}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"instances": []}, "instances"),
        ({"instances": "a"}, "instances"),
        ({"instances": ["a"], "extra": 1}, "extra"),
        ({"instances": ["a", {"inputs": "a", "bogus": 1}]}, "instances[1]"),
        ({"instances": [{"inputs": ""}]}, "instances[0]"),
        ({"instances": [{"inputs": "a", "stream": True}], "model": GENERATOR}, "stream"),
    ],
)
def test_wrong_instances_are_named(server: LiveServer, body: Any, says: str) -> None:
    """With their place in the request."""
    status, code, text = server.error_of(server.post("/predict", body))
    assert (status, code) == (422, "validation") and says in text


def test_file_at_sagemakers_route_reaches_a_task_of_media(server: LiveServer) -> None:
    """What is no JSON object is read by the model's own task."""
    task = next((task for task in TASKS.values() if task.media_field == "inputs"), None)
    if task is None:
        pytest.skip("no task takes a file")
    response = server.client.post(f"/invocations?model=tiny-{task.name}", content=b"\x89PNG\r\n\x1a\n" + b"0" * 20)
    assert response.status_code == 200, response.text
    assert server.fleet.jobs[-1].task == task.name


@pytest.mark.parametrize("path", ["/ping", "/models/ner/ping"])
def test_ping_answers(server: LiveServer, path: str) -> None:
    """SageMaker asks it before it sends anything."""
    assert server.get(path).status_code == 200


# What is refused


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("/embed", {"inputs": [1, 2, 3]}, 422, "inputs"),
        ("/embed", {"inputs": []}, 422, "inputs"),
        ("/embed", {"inputs": "a", "bogus": 1}, 422, "bogus"),
        ("/embed", {}, 422, "inputs"),
        ("/embed", ["a"], 400, "object"),
        ("/predict", {"inputs": ["a", "b", "c"]}, 422, "inputs"),
        ("/rerank", {"query": "q"}, 422, "texts"),
        ("/rerank", {"texts": ["a"]}, 422, "query"),
        ("/v1/rerank", {**JINA, "max_chunks_per_doc": 3}, 422, "max_chunks_per_doc"),
        ("/v2/rerank", {**JINA, "max_tokens_per_doc": 3}, 422, "max_tokens_per_doc"),
        ("/v1/rerank", {**JINA, "top_n": 0}, 422, "top_n"),
        ("/decode", {"ids": [-1]}, 422, "ids"),
        ("/tokenize", {"inputs": "a", "prompt_name": "q"}, 422, "prompt_name"),
        ("/tokenize", {"messages": []}, 422, "messages"),
        ("/tokenize", {"messages": [{"role": "alien", "content": "a"}]}, 422, "messages[0].role"),
        ("/tokenize", {"messages": HELLO, "prompt": "a"}, 422, "messages"),
        ("/tokenize", {"messages": HELLO, "model": "vectors"}, 404, "text-generation"),
        ("/tokenize", {"messages": HELLO, "tools": [{"type": "x"}]}, 422, "tools[0]"),
        (
            "/tokenize",
            {"messages": HELLO, "add_generation_prompt": True, "continue_final_message": True},
            422,
            "add_generation_prompt",
        ),
        ("/invocations", {"messages": []}, 422, "messages"),
        ("/", {"prompt": ""}, 422, "prompt"),
        ("/embed?model=ner", {"inputs": "a"}, 404, "ner"),
        ("/embed", {"inputs": "a", "model": "nobody"}, 404, "nobody"),
        ("/embed?model=vectors", {"inputs": "a", "model": "ner"}, 422, "both"),
        ("/models/ner/generate", PROMPT, 404, "text-generation"),
        ("/generate", {"inputs": "a", "parameters": {"bogus": 1}}, 422, "bogus"),
        ("/generate", {"inputs": ["a"]}, 422, "inputs"),
    ],
)
def test_what_is_wrong_is_named(server: LiveServer, path: str, body: Any, status: int, says: str) -> None:
    """In Hugging Face's shape, in lower case, with the field or model."""
    given, code, text = server.error_of(server.post(path, body))
    assert given == status and code == code.lower()
    assert says in text
    assert not server.fleet.jobs


def test_no_other_field_is_taken(server: LiveServer) -> None:
    """Every body's unknown field is refused by its name, on every route."""
    for path, place in PLACES.items():
        for rule in place.rules:
            task = rule.tasks[0]
            model = next(spec.id for spec in server.fleet.specs.values() if task in spec.all_tasks)
            response = server.post(f"/{path}", {**rule.example, "model": model, "no_such_field": 1})
            expected = 400 if speaks_openai(f"/{path}") else 422
            assert response.status_code == expected and "no_such_field" in response.text, (path, rule.server)


def test_examples_of_the_document_answer(server: LiveServer) -> None:
    """Every body's example runs on the route that shows it."""
    for path, place in PLACES.items():
        for rule in place.rules:
            model = next(spec.id for spec in server.fleet.specs.values() if rule.tasks[0] in spec.all_tasks)
            response = server.post(f"/{path}?model={model}", rule.example)
            assert response.status_code == 200, (path, rule.server, response.text)


@pytest.mark.parametrize("path", ["/v1/tabular-classification", "/v1/tabular-regression/some/model"])
def test_tabular_tasks_say_why_not(server: LiveServer, path: str) -> None:
    """501, as for a library that is missing; the JavaScript client sends a table."""
    status, code, text = server.error_of(server.post(path, {"table": {"a": [1]}}))
    assert (status, code) == (501, "not_available") and "scikit-learn" in text


@pytest.mark.parametrize("task", REASONS)
def test_tasks_without_a_pipeline_are_named(server: LiveServer, task: str) -> None:
    """501 with the reason, where a typo would be 404."""
    status, code, text = server.error_of(server.post(f"/v1/{task}", {"inputs": "a"}))
    assert (status, code) == (501, "not_available") and task in text


def test_tasks_of_the_routes_alone_are_not_public(server: LiveServer) -> None:
    """/v1/tokenize and its like are no routes."""
    assert {"tokenize", "decode", "sparse-embedding"} <= UNLISTED_TASKS
    for task in UNLISTED_TASKS:
        assert server.post(f"/v1/{task}", {"inputs": "a"}).status_code == 404


# /info


def test_info_follows_the_model(server: LiveServer) -> None:
    """In TGI's words for a generation model, in TEI's for all others; the first declared one unless named."""
    assert server.get("/info").json()["model_id"] == "reviews"
    assert server.get("/info?model=vectors").json()["model_type"] == {"embedding": {"pooling": None}}
    assert server.get("/info?model=tiny-text-ranking").json()["model_type"] == {"reranker": {}}
    assert server.get("/info?model=rev").json()["model_type"] == {"classifier": {}}
    assert server.get("/info?model=ner").json()["model_type"] is None
    generation = server.get(f"/info?model={GENERATOR}").json()
    assert generation["router"] == "pipeserve" and "max_total_tokens" in generation
    assert server.get(f"/models/{GENERATOR}/info").json() == generation
    assert server.get("/info?model=nobody").status_code == 404


def test_answers_say_their_times_as_the_other_servers(server: LiveServer) -> None:
    """Whole milliseconds under their names, beside our own headers."""
    headers = server.post("/embed", {"inputs": "a"}).headers
    assert {name: headers[name] for name in ("x-compute-time", "x-compute-tokens", "x-inference-time")} == {
        "x-compute-time": "9", "x-compute-tokens": "5", "x-inference-time": "3",
    }  # fmt: skip
    assert headers["x-model"] == "vectors"
