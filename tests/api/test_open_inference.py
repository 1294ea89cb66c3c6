"""The Open Inference Protocol: tensors and tasks, metadata, the repository, and bodies that lie."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from typing import Any

import httpx2 as httpx
import msgspec
import numpy as np
import orjson
import pytest

from app.api.open_inference.mapping import EXTRAS, TaskTensors
from app.api.open_inference.pixels import png_of
from app.api.open_inference.tensors import NUMBERS, Tensor, from_binary, from_json, to_binary, to_json
from app.errors import InputTooLarge, InvalidInput, MalformedBody
from app.media.images import decode_image
from app.media.limits import MediaLimits
from app.tasks.media import Image
from app.tasks.registry import TASKS
from app.tasks.samples import PNG, PNG_BASE64
from tests.api.conftest import LiveServer
from tests.api.fake_fleet import ANSWERS, LABELS

INFER = "/v2/models/reviews/infer"
IMAGES = replace(TASKS["text-classification"], name="image-classification", input_type=Image)
"""A task of images, whichever there are."""
LENGTH = "Inference-Header-Content-Length"


def tensor(name: str, *elements: str, shape: list[int] | None = None) -> dict[str, Any]:
    """BYTES in JSON."""
    return {"name": name, "datatype": "BYTES", "shape": shape or [len(elements)], "data": list(elements)}


def elements_of(*elements: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(one)) + one for one in elements)


def binary_body(raw: bytes, *, size: int | None = None, header: int | None = None, **fields: Any) -> dict[str, Any]:
    """Keywords for `client.post`: one input of binary data, with lengths that may lie."""
    size = len(raw) if size is None else size
    form = {"name": "inputs", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": size}, **fields}
    text = orjson.dumps({"inputs": [form]})
    length = len(text) if header is None else header
    return {"content": text + raw, "headers": {LENGTH: str(length)}}


def error_of(response: httpx.Response) -> tuple[int, str]:
    body = response.json()
    assert list(body) == ["error"], body
    return response.status_code, body["error"]


# Inference


def test_texts_are_inputs_and_answers_are_outputs(server: LiveServer) -> None:
    """One input per element; all outputs of the task, as JSON."""
    response = server.post(INFER, {"id": "7", "inputs": [tensor("inputs", "a", "b")]})
    assert response.status_code == 200, response.text
    answer = response.json()
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("7", "reviews", "1")
    assert server.fleet.jobs[-1].inputs == ["a", "b"]
    whole, label, score = answer["outputs"]
    assert (whole["name"], whole["datatype"], whole["shape"]) == ("outputs", "BYTES", [2])
    assert [orjson.loads(one) for one in whole["data"]] == [LABELS, LABELS]
    assert label == {"name": "label", "datatype": "BYTES", "shape": [2], "data": ["POSITIVE", "POSITIVE"]}
    assert score["datatype"] == "FP32" and score["data"] == pytest.approx([0.9, 0.9], abs=1e-6)
    assert response.headers["x-model"] == "reviews" and LENGTH not in response.headers


@pytest.mark.parametrize("path", ["/v2/models/reviews/versions/1/infer", "/v2/models/rev/infer", INFER + "/"])
def test_model_is_named_by_version_and_alias_as_well(server: LiveServer, path: str) -> None:
    """There is one version, and an alias is answered with the id."""
    assert server.post(path, {"inputs": [tensor("TEXT", "a")]}).json()["model_name"] == "reviews"


def test_id_with_slashes_is_the_longest_declared(server: LiveServer) -> None:
    """`acme/labels/large` and `acme/labels` are two models."""
    labels = {"candidate_labels": '["a", "b"]'}
    for model_id in ("acme/labels", "acme/labels/large"):
        body = {"inputs": [tensor("inputs", "a")], "parameters": {"task": "zero-shot-classification", **labels}}
        assert server.post(f"/v2/models/{model_id}/infer", body).json()["model_name"] == model_id
        assert server.fleet.jobs[-1].parameters == {"candidate_labels": ["a", "b"]}


def test_binary_data_goes_both_ways(server: LiveServer) -> None:
    """BYTES after the JSON, each element after its length; outputs each as it was asked for."""
    raw = elements_of("größe".encode(), b"b")
    form = {"name": "inputs", "datatype": "BYTES", "shape": [2, 1], "parameters": {"binary_data_size": len(raw)}}
    outputs = [{"name": "score", "parameters": {"binary_data": True}}, {"name": "label"}]
    text = orjson.dumps({"inputs": [form], "outputs": outputs})
    response = server.post(INFER, content=text + raw, headers={LENGTH: str(len(text))})
    assert response.status_code == 200, response.text
    assert server.fleet.jobs[-1].inputs == ["größe", "b"]
    assert response.headers["content-type"] == "application/octet-stream"
    length = int(response.headers[LENGTH])
    score, label = orjson.loads(response.content[:length])["outputs"]
    assert score == {"name": "score", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}}
    assert np.frombuffer(response.content[length:], "<f4") == pytest.approx([0.9, 0.9], abs=1e-6)
    assert label["data"] == ["POSITIVE", "POSITIVE"]


def test_all_outputs_are_binary_where_the_request_says_so(server: LiveServer) -> None:
    """`binary_data_output`, but for an output that says otherwise."""
    outputs = [{"name": "outputs"}, {"name": "score", "parameters": {"binary_data": False}}]
    body = {"inputs": [tensor("inputs", "a")], "outputs": outputs, "parameters": {"binary_data_output": True}}
    response = server.post(INFER, body)
    length = int(response.headers[LENGTH])
    whole, score = orjson.loads(response.content[:length])["outputs"]
    assert response.content[length:] == elements_of(orjson.dumps(LABELS))
    assert whole["parameters"] == {"binary_data_size": len(response.content) - length}
    assert "data" in score


def test_embeddings_are_one_array(server: LiveServer) -> None:
    """FP32, with a first axis over the inputs; base64 inside it would be no tensor."""
    response = server.post("/v2/models/vectors/infer", {"inputs": [tensor("inputs", "a", "b")]})
    (output,) = response.json()["outputs"]
    assert (output["datatype"], output["shape"]) == ("FP32", [2, 3])
    assert output["data"] == ANSWERS["feature-extraction"] * 2
    body = {"inputs": [tensor("inputs", "a")], "parameters": {"encoding_format": "base64"}}
    assert error_of(server.post("/v2/models/vectors/infer", body))[0] == 422


def test_vectors_of_tokens_that_differ_in_number_are_json() -> None:
    """What is no array is not made one."""
    fragments = []
    for length in (1, 2):
        file = io.BytesIO()
        np.save(file, np.zeros((length, 2), np.float32))
        fragments.append(file.getvalue())
    (output,) = TaskTensors(TASKS["feature-extraction"]).answer(fragments, [])
    assert output.datatype == "BYTES" and output.data == ["[[0.0,0.0]]", "[[0.0,0.0],[0.0,0.0]]"]


def test_object_inputs_are_a_tensor_per_field_or_json(server: LiveServer) -> None:
    """Both make the same inputs."""
    fields = [tensor("question", "who", "where"), tensor("context", "Ada", "London")]
    objects = [tensor("inputs", '{"question": "who", "context": "Ada"}', '{"question": "where", "context": "London"}')]
    for inputs in (fields, objects):
        response = server.post("/v2/models/answers/infer", {"inputs": inputs})
        assert response.status_code == 200, response.text
        expected = [{"question": "who", "context": "Ada"}, {"question": "where", "context": "London"}]
        assert server.fleet.jobs[-1].inputs == expected
    outputs = {output["name"]: output["data"] for output in response.json()["outputs"]}
    assert outputs["answer"] == ["Ada", "Ada"]


def test_list_fields_are_rows_of_a_matrix_or_json(server: LiveServer) -> None:
    """`sentences` of sentence-similarity: [n, k], or [n] lists."""
    source = tensor("source_sentence", "a")
    for sentences in (tensor("sentences", "b", "c", shape=[1, 2]), tensor("sentences", '["b", "c"]')):
        body = {"inputs": [source, sentences], "parameters": {"task": "sentence-similarity"}}
        assert server.post("/v2/models/vectors/infer", body).status_code == 200
        assert server.fleet.jobs[-1].inputs == [{"source_sentence": "a", "sentences": ["b", "c"]}]


def test_pairs_of_texts_are_two_tensors(server: LiveServer) -> None:
    """`text` alone is the inputs; beside `text_pair` it is a field."""
    server.post(INFER, {"inputs": [tensor("text", "a")]})
    assert server.fleet.jobs[-1].inputs == ["a"]
    server.post(INFER, {"inputs": [tensor("text", "a"), tensor("text_pair", "b")]})
    assert server.fleet.jobs[-1].inputs == [{"text": "a", "text_pair": "b"}]


def test_parameters_come_as_parameters_and_as_tensors(server: LiveServer) -> None:
    """Numbers as they are, JSON in text where the parameter is no text, tensors of their name."""
    path, text = "/v2/models/acme/labels/infer", tensor("inputs", "a")
    given: list[dict[str, Any]] = [
        {"inputs": [text], "parameters": {"candidate_labels": '["x", "y"]', "multi_label": True}},
        {"inputs": [text], "parameters": {"candidate_labels": "x, y", "multi_label": "true"}},
        {
            "inputs": [
                text,
                tensor("candidate_labels", "x", "y"),
                {"name": "multi_label", "datatype": "BOOL", "shape": [1], "data": [True]},
            ]
        },
    ]
    for body in given:
        response = server.post(path, body)
        assert response.status_code == 200, response.text
        assert server.fleet.jobs[-1].parameters == {"candidate_labels": ["x", "y"], "multi_label": True}


def test_timeout_and_keep_alive_are_honoured_and_priority_is_harmless(server: LiveServer) -> None:
    """timeout is in microseconds, as Triton's clients send it."""
    parameters = {"timeout": 2_500_000, "keep_alive": "5m", "priority": 3}
    assert server.post(INFER, {"inputs": [tensor("inputs", "a")], "parameters": parameters}).status_code == 200
    assert (server.fleet.jobs[-1].deadline_s, server.fleet.jobs[-1].keep_alive_s) == (2.5, 300.0)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"inputs": [tensor("inputs", "a")], "parameters": {"nonsense": 1}}, 422, "nonsense"),
        ({"inputs": [tensor("inputs", "a")], "parameters": {"sequence_id": 5}}, 422, "sequence"),
        ({"inputs": [tensor("inputs", "a")], "parameters": {"timeout": "soon"}}, 422, "microseconds"),
        ({"inputs": [tensor("inputs", "a")], "parameters": {"binary_data_output": 1}}, 422, "true or false"),
        ({"inputs": [tensor("inputs", "a")], "parameters": {"task": "nothing"}}, 404, "nothing"),
        ({"inputs": [tensor("inputs", "a")], "parameters": {"task": "fill-mask"}}, 404, "text-classification"),
        ({"inputs": [tensor("inputs", "a")], "parameters": {"task": 1}}, 422, "text"),
        ({"inputs": [tensor("inputs", "a")], "outputs": [{"name": "nothing"}]}, 422, "outputs, label, score"),
        ({"inputs": [tensor("inputs", "a")], "outputs": [{"name": "label"}, {"name": "label"}]}, 422, "twice"),
        ({"inputs": [tensor("nothing", "a")]}, 422, "no such tensor"),
        ({"inputs": [tensor("inputs", "a"), tensor("inputs", "b")]}, 422, "twice"),
        ({"inputs": [tensor("inputs", "a"), tensor("TEXT", "b")]}, 422, "same tensor"),
        ({"inputs": []}, 422, "inputs"),
        ({"inputs": [tensor("top_k", "3")]}, 422, "no tensor inputs"),
        ({"outputs": []}, 422, "inputs is missing"),
        ([], 400, "object"),
        ({"inputs": [{**tensor("inputs", "a"), "shape": [2]}]}, 422, "1 elements"),
        ({"inputs": [{**tensor("inputs", "a"), "shape": [-1]}]}, 422, "negative"),
        ({"inputs": [{**tensor("inputs", "a"), "shape": [2**62, 2**62]}]}, 422, "limit"),
        ({"inputs": [{**tensor("inputs", "a"), "shape": [0.5]}]}, 422, "shape"),
        ({"inputs": [{**tensor("inputs", "a"), "shape": [1] * 17}]}, 422, "lengths"),
        ({"inputs": [{**tensor("inputs", "a"), "shape": ["1"]}]}, 422, "shape"),
        ({"inputs": [{**tensor("inputs", "a"), "shape": [1, 1, 1], "data": [[["a"]]]}]}, 200, ""),
        ({"inputs": [{**tensor("inputs", "a"), "data": [["a"]]}]}, 422, "nested"),
        ({"inputs": [{**tensor("inputs", "a"), "data": ["a", ["b"]], "shape": [2, 1]}]}, 422, "nested"),
        ({"inputs": [{**tensor("inputs", "a"), "datatype": "STRING"}]}, 422, "BYTES"),
        ({"inputs": [{**tensor("inputs", "a"), "datatype": "FP32"}]}, 422, "FP32"),
        ({"inputs": [{"name": "inputs", "datatype": "FP32", "shape": [1], "data": [1.5]}]}, 422, "not FP32"),
        ({"inputs": [{"name": "inputs", "datatype": "BF16", "shape": [1], "data": [1.5]}]}, 422, "binary"),
        ({"inputs": [{**tensor("inputs", "a"), "data": [1]}]}, 422, "strings"),
        ({"inputs": [{**tensor("inputs", "a"), "data": "a"}]}, 422, "array"),
        ({"inputs": [{"name": "inputs", "datatype": "BYTES", "shape": [1]}]}, 422, "array"),
        ({"inputs": [tensor("inputs", shape=[0])]}, 422, "empty"),
        ({"inputs": [tensor("inputs", "a", "b", shape=[1, 2])]}, 422, r"\[n\]"),
        ({"inputs": [{**tensor("inputs", "a"), "parameters": {"shared_memory_region": "x"}}]}, 422, "shared_memory"),
        ({"inputs": [tensor("inputs", "a")], "outputs": [{"name": "label", "parameters": {"classification": 2}}]},
         422, "classification"),
    ],
)  # fmt: skip
def test_wrong_field_is_named(server: LiveServer, body: Any, status: int, words: str) -> None:
    """Wrong shapes, datatypes, names and parameters are the client's errors, in the protocol's shape."""
    response = server.post(INFER, body)
    if status == 200:
        assert response.status_code == 200
        return
    found, text = error_of(response)
    assert found == status, text
    assert words.replace("\\", "") in text, text


@pytest.mark.parametrize(
    ("keywords", "status"),
    [
        (binary_body(elements_of(b"a"), header=10_000), 400),
        (binary_body(elements_of(b"a"), header=5), 400),
        ({"content": b"{}", "headers": {LENGTH: "-1"}}, 400),
        ({"content": b"{}", "headers": {LENGTH: "9" * 40}}, 400),
        ({"content": b"{}", "headers": {LENGTH: "\u00b2".encode()}}, 400),
        ({"content": b"", "headers": {LENGTH: "0"}}, 400),
        (binary_body(elements_of(b"a"), size=4), 400),
        (binary_body(elements_of(b"a"), size=6), 400),
        (binary_body(elements_of(b"a"), size=2**62), 400),
        (binary_body(elements_of(b"a"), size=-1), 422),
        (binary_body(struct.pack("<I", 2**32 - 1) + b"a"), 400),
        (binary_body(b"\x01\x00"), 400),
        (binary_body(elements_of(b"a", b"b")), 400),
        (binary_body(elements_of(b"a"), shape=[3]), 400),
        (binary_body(b"", shape=[2**40]), 422),
        (binary_body(b"\0" * 5, datatype="FP32"), 400),
        (binary_body(elements_of(b"\xff\xfe")), 422),
        (binary_body(elements_of(b"a"), data=["a"]), 422),
        ({"content": b"not json", "headers": {}}, 400),
    ],
)  # fmt: skip
def test_lying_lengths_are_refused(server: LiveServer, keywords: dict[str, Any], status: int) -> None:
    """Truncated, too long, or of another size than announced: no answer, and the server goes on."""
    found, text = error_of(server.post(INFER, **keywords))
    assert found == status, text
    assert server.fleet.jobs == []
    assert server.get("/v2/health/live").json() == {"live": True}


# Media


def test_files_are_bytes_or_base64_or_pixels() -> None:
    """Binary elements are files, JSON's are base64, and UINT8 tensors are made a PNG."""
    pixels = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
    tensors = TaskTensors(IMAGES)
    given = Tensor(name="IMAGE", datatype="UINT8", shape=pixels.shape, data=pixels.tobytes())
    rows = tensors.body([given], {"top_k": "2"})
    assert rows["parameters"] == {"top_k": 2}
    for row, expected in zip(rows["inputs"], pixels, strict=True):
        assert np.array_equal(np.asarray(decode_image(row, MediaLimits(), param="inputs")), expected)
    raw = from_binary("inputs", "BYTES", [1], elements_of(PNG), "inputs[0]")
    assert tensors.body([raw], {})["inputs"] == [PNG]
    text = from_json("inputs", "BYTES", [1], [PNG_BASE64], "inputs[0]")
    assert tensors.body([text], {})["inputs"] == [PNG_BASE64]


def test_lists_of_files_are_rows_of_a_matrix() -> None:
    """Such as pairs of images."""
    tensors = TaskTensors(replace(IMAGES, input_type=list[Image]))
    given = from_binary("inputs", "BYTES", [2, 2], elements_of(b"\xff", b"b", b"c", b"d"), "inputs[0]")
    assert tensors.body([given], {})["inputs"] == [[b"\xff", b"b"], [b"c", b"d"]]
    assert tensors.inputs() == [{"name": "inputs", "datatype": "BYTES", "shape": [-1, -1]}]


@pytest.mark.parametrize("shape", [(4,), (2, 2), (0, 2, 3), (2, 2, 4), (1, 1, 1, 1, 3)])
def test_pixels_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    """Three channels, and at least one pixel."""
    given = Tensor(name="inputs", datatype="UINT8", shape=shape, data=bytes(int(np.prod(shape))))
    with pytest.raises(InvalidInput, match="height, width, 3"):
        TaskTensors(IMAGES).body([given], {})


def test_rows_are_counted_before_files_are_made_of_them() -> None:
    """Each picture of a tensor becomes a file; a single one may be as high as it likes."""
    tensors = TaskTensors(IMAGES, max_inputs=2)
    rows = Tensor(name="inputs", datatype="UINT8", shape=(3, 1, 1, 3), data=bytes(9))
    with pytest.raises(InputTooLarge, match="3 rows; this server takes at most 2"):
        tensors.body([rows], {})
    picture = Tensor(name="inputs", datatype="UINT8", shape=(3, 1, 3), data=bytes(9))
    assert len(tensors.body([picture], {})["inputs"]) == 1


def test_files_of_answers_are_tensors_of_their_bytes() -> None:
    """The PNG itself as binary data, its base64 in JSON."""
    fragment = orjson.dumps({"image": PNG_BASE64})
    whole, image = TaskTensors(replace(IMAGES, name="image-to-image")).answer([fragment], [])
    assert whole.data == [fragment.decode()]
    assert to_binary(image) == elements_of(PNG)
    assert to_json(image) == [PNG_BASE64]


def test_png_of_pixels_is_what_was_sent() -> None:
    """Row by row, whatever the width."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    decoded = decode_image(png_of(pixels.tobytes(), height=5, width=7), MediaLimits(), param="inputs")
    assert np.array_equal(np.asarray(decoded), pixels)


# Tensors


@pytest.mark.parametrize("datatype", NUMBERS)
def test_numbers_survive_both_forms(datatype: str) -> None:
    """JSON to binary and back, for every datatype."""
    values: list[Any] = [True, False] if datatype == "BOOL" else [0, 1, 100]
    given = from_json("x", datatype, [len(values)], values, "inputs[0]")
    again = from_binary("x", datatype, [len(values)], to_binary(given), "inputs[0]")
    assert to_json(again) == values


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        ("UINT8", 256),
        ("INT8", -129),
        ("BOOL", 1),
        ("INT32", 1.5),
        ("INT64", True),
        ("FP16", 1e9),
        ("FP32", "1"),
        ("UINT64", -1),
    ],
)
def test_number_that_its_datatype_cannot_hold_is_refused(datatype: str, value: Any) -> None:
    """Nothing wraps around."""
    with pytest.raises(InvalidInput, match=datatype):
        from_json("x", datatype, [1], [value], "inputs[0]")


def test_bf16_is_read() -> None:
    """Two bytes, the upper half of a float32."""
    assert from_binary("x", "BF16", [2], b"\x80\x3f\x00\xc0", "inputs[0]").elements() == [1.0, -2.0]
    with pytest.raises(MalformedBody):
        from_binary("x", "BF16", [2], b"\x80\x3f\x00", "inputs[0]")


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_tensors(task: str) -> None:
    """Each input and output has a name of its own, and the example of the documents fits."""
    tensors = TaskTensors(TASKS[task])
    for listed in (tensors.inputs(), tensors.outputs()):
        names = [one["name"] for one in listed]
        assert names and len(set(names)) == len(names)
    body = TASKS[task].example.body
    rows = [body["inputs"]] if TASKS[task].is_single(body["inputs"], body.get("parameters", {})) else body["inputs"]
    texts = [one if isinstance(one, str) else orjson.dumps(one).decode() for one in rows]
    given = Tensor(name="inputs", datatype="BYTES", shape=(len(texts),), data=list(texts))
    assert tensors.body([given], {})["inputs"] == rows


@pytest.mark.parametrize("task", [task for task in EXTRAS if task in TASKS])
def test_named_outputs_are_in_the_answer(task: str) -> None:
    """The documented answer of each task has what is called an output of its own."""
    if TASKS[task].answers[0] != "application/json":
        pytest.skip("its documented answer is a file")
    fragment = orjson.dumps(TASKS[task].example.answer)
    names = [extra.name for extra in EXTRAS[task]]
    assert [one.name for one in TaskTensors(TASKS[task]).answer([fragment], names)] == names


# Metadata, health and the repository


def test_server_says_what_it_speaks(server: LiveServer) -> None:
    """Name, version and extensions."""
    body = server.get("/v2").json()
    assert body["name"] == "pipeserve" and "binary_tensor_data" in body["extensions"]
    assert server.get("/v2/health/ready").json() == {"ready": True}


def test_metadata_names_the_tensors_of_the_first_task(server: LiveServer) -> None:
    """By id, alias and version."""
    for path in ("/v2/models/answers", "/v2/models/answers/versions/1"):
        body = server.get(path).json()
        assert (body["name"], body["versions"]) == ("answers", ["1"])
        assert [one["name"] for one in body["inputs"]] == ["question", "context"]
        assert [one["name"] for one in body["outputs"]] == ["outputs", "answer", "score"]
    assert server.get("/v2/models/rev").json()["name"] == "reviews"
    (output,) = server.get("/v2/models/vectors").json()["outputs"]
    assert output == {"name": "outputs", "datatype": "FP32", "shape": [-1, -1]}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/nothing", 404),
        ("GET", "/v2/models/reviews/versions/2", 404),
        ("POST", "/v2/models/reviews/versions/2/infer", 404),
        ("GET", "/v2/models/reviews/nothing", 404),
        ("GET", INFER, 405),
        ("POST", "/v2/models/reviews", 405),
        ("POST", "/v2/health/live", 405),
        ("POST", "/v2/repository/models/reviews/nothing", 404),
        ("POST", "/v2/repository/models/nothing/load", 404),
    ],
)
def test_what_is_not_there_is_said_so(server: LiveServer, method: str, path: str, status: int) -> None:
    """In the protocol's shape, with the methods that there are."""
    response = server.client.request(method, path)
    assert error_of(response)[0] == status
    assert ("allow" in response.headers) is (status == 405)


def test_other_servers_routes_below_v2_keep_their_errors(server: LiveServer) -> None:
    """`/v2/rerank` is Cohere's."""
    assert "error_type" in server.post("/v2/rerank", {}).json()


def test_model_that_is_not_loaded_is_ready_and_a_failed_one_is_not(server: LiveServer) -> None:
    """Ready means that requests are answered: the first one loads it."""
    assert server.get("/v2/models/reviews/ready").json() == {"name": "reviews", "ready": True}
    server.fleet.fail("reviews", "no weights.")
    assert error_of(server.get("/v2/models/reviews/ready")) == (503, "no weights.")


@pytest.mark.parametrize(
    ("preload", "state", "status"),
    [
        (False, "unresolved", 200),
        (False, "loading", 200),
        (True, "unresolved", 503),
        (True, "loading", 503),
        (True, "ready", 200),
        (True, "unloading", 200),
        (True, "unloaded", 200),
    ],
)
def test_preloaded_model_is_ready_once_it_is_loaded(server: LiveServer, preload: bool, state: str, status: int) -> None:
    """Any other is ready at once, since its first request loads it: so is one that was unloaded since."""
    server.fleet.specs["reviews"] = msgspec.structs.replace(server.fleet.specs["reviews"], preload=preload)
    server.fleet.states["reviews"] = state
    response = server.get("/v2/models/reviews/ready")
    assert response.status_code == status
    assert ("retry-after" in response.headers) == (status == 503)


def test_draining_server_is_live_and_not_ready(server: LiveServer) -> None:
    """So that no more requests come."""
    server.fleet.is_accepting = False
    assert server.get("/v2/health/live").status_code == 200
    assert server.get("/v2/health/ready").status_code == 503
    assert server.get("/v2/models/reviews/ready").status_code == 503


def test_repository_lists_loads_and_unloads(server: LiveServer) -> None:
    """States in Triton's words; an empty body, `{}` or a filter."""
    assert {one["state"] for one in server.client.post("/v2/repository/index").json()} == {"UNAVAILABLE"}
    assert server.post("/v2/repository/models/acme/labels/load", {}).status_code == 200
    (entry,) = server.post("/v2/repository/index", {"ready": True}).json()
    assert entry == {"name": "acme/labels", "version": "1", "state": "READY", "reason": ""}
    body = {"parameters": {"unload_dependents": False}}
    assert server.post("/v2/repository/models/acme/labels/unload", body).json()["state"] == "UNAVAILABLE"
    assert server.post("/v2/repository/index", {"ready": True}).json() == []


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v2/repository/index", {"ready": "yes"}, 422),
        ("/v2/repository/index", [], 400),
        ("/v2/repository/models/reviews/load", {"parameters": {"config": "{}"}}, 422),
        ("/v2/repository/models/reviews/load", {"parameters": {"file:1/model.onnx": "AA=="}}, 422),
        ("/v2/repository/models/reviews/load", {"parameters": []}, 422),
        ("/v2/repository/models/reviews/load", {"config": {}}, 422),
        ("/v2/repository/models/reviews/unload", {"parameters": {"unload_dependents": "no"}}, 422),
    ],
)
def test_repository_refuses_what_it_cannot_honour(server: LiveServer, path: str, body: Any, status: int) -> None:
    """Nobody replaces a model's files from outside."""
    assert error_of(server.post(path, body))[0] == status


def test_every_route_is_documented(server: LiveServer) -> None:
    """`/openapi.json` has each path once, versions included."""
    paths = server.get("/openapi.json").json()["paths"]
    for path in ("/v2", "/v2/models/{model_id}/infer", "/v2/models/{model_id}/versions/{version}/infer",
                 "/v2/repository/index", "/v2/repository/models/{model_id}/load"):  # fmt: skip
        assert path in paths
