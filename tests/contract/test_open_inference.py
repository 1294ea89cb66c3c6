"""Triton's own HTTP client against the running server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from app.media.sniff import sniff
from app.tasks.samples import PNG
from tests.contract.conftest import StartServer
from tests.server import RunningServer

REVIEWS = "acme/reviews"


def client_of(server: RunningServer) -> Any:
    return triton.InferenceServerClient(server.url.removeprefix("http://"))


@pytest.fixture
def client(server: RunningServer) -> Iterator[Any]:
    with client_of(server) as client:
        yield client


def texts(name: str, *elements: str | bytes, binary: bool = True) -> Any:
    """A BYTES tensor, one element per input."""
    array = np.array(elements, dtype=np.object_)
    tensor = triton.InferInput(name, list(array.shape), "BYTES")
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def first_model_of(server: RunningServer, task: str) -> str:
    models = server.get("/v1/models").json()["data"]
    return next(str(model["id"]) for model in models if model["tasks"][:1] == [task])


def test_server_and_models_are_live_and_ready(client: Any) -> None:
    """By id with slashes, by version; what is not there is not ready."""
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready(REVIEWS) and client.is_model_ready(REVIEWS, "1")
    assert not client.is_model_ready("nothing") and not client.is_model_ready(REVIEWS, "2")


def test_metadata_is_read(client: Any) -> None:
    """Of the server and of a model."""
    assert "model_repository" in client.get_server_metadata()["extensions"]
    metadata = client.get_model_metadata(REVIEWS)
    assert (metadata["name"], metadata["versions"]) == (REVIEWS, ["1"])
    assert metadata["inputs"] == [{"name": "inputs", "datatype": "BYTES", "shape": [-1]}]


@pytest.mark.parametrize("binary", [True, False])
def test_texts_are_classified_as_by_the_task(server: RunningServer, client: Any, binary: bool) -> None:
    """Binary and JSON tensors, both ways, with the answers of `/v1/text-classification`."""
    inputs = ["a good film", "größer als gedacht"]
    outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("outputs", "label", "score")]
    result = client.infer(
        REVIEWS, [texts("inputs", *inputs, binary=binary)], outputs=outputs, request_id="7", parameters={"top_k": 2}
    )
    expected = server.post(f"/v1/text-classification/{REVIEWS}", {"inputs": inputs, "parameters": {"top_k": 2}}).json()
    assert [json.loads(one) for one in result.as_numpy("outputs")] == expected
    labels = [one.decode() if isinstance(one, bytes) else one for one in result.as_numpy("label")]
    assert labels == [one[0]["label"] for one in expected]
    # float32 of a float64: seven digits
    assert np.allclose(result.as_numpy("score"), [one[0]["score"] for one in expected], rtol=1e-6)
    assert result.get_response()["id"] == "7"


def test_all_outputs_come_where_none_is_named(client: Any) -> None:
    """The client then asks for binary data."""
    result = client.infer(REVIEWS, [texts("inputs", "a good film")])
    assert json.loads(result.as_numpy("outputs")[0])[0]["label"] == result.as_numpy("label")[0].decode()
    assert result.as_numpy("score").dtype == np.float32


def test_embeddings_are_an_array(server: RunningServer, client: Any) -> None:
    """FP32 [n, dim], the same numbers as in JSON."""
    inputs = ["a cat", "a dog in the garden"]
    vectors = client.infer("vectors", [texts("TEXT", *inputs)]).as_numpy("outputs")
    expected = server.post("/v1/feature-extraction/vectors", {"inputs": inputs}).json()
    # The texts may have met other companions in a batch.
    assert vectors.dtype == np.float32 and np.allclose(vectors, expected, atol=1e-6)


def test_object_inputs_are_a_tensor_per_field(server: RunningServer, client: Any) -> None:
    """Question and context, by one of the model's names."""
    result = client.infer("qa", [texts("question", "who"), texts("context", "ada lives in london")])
    expected = server.post("/v1/question-answering", {"inputs": {"question": "who", "context": "ada lives in london"}})
    assert result.as_numpy("answer")[0].decode() == expected.json()["answer"]


def test_parameters_are_the_tasks(client: Any) -> None:
    """Labels as a tensor, and as JSON in a parameter, of a task that is not the model's first."""
    parameters = {"task": "zero-shot-classification", "multi_label": True}
    labels = client.infer(
        "topics", [texts("inputs", "a film"), texts("candidate_labels", "good", "bad")], parameters=parameters
    )
    same = client.infer(
        "topics", [texts("inputs", "a film")], parameters={**parameters, "candidate_labels": '["good", "bad"]'}
    )
    assert sorted(one["label"] for one in json.loads(labels.as_numpy("outputs")[0])) == ["bad", "good"]
    assert labels.as_numpy("score") == pytest.approx(same.as_numpy("score"), rel=1e-6)


def test_images_are_files_or_pixels(server: RunningServer, client: Any) -> None:
    """The bytes of a file, and a UINT8 tensor; a file that is none is the client's error."""
    model = first_model_of(server, "image-classification")
    whole = client.infer(model, [texts("inputs", PNG)])
    assert whole.as_numpy("score")[0] > 0
    pixels = np.full((2, 40, 30, 3), 200, np.uint8)
    tensor = triton.InferInput("inputs", list(pixels.shape), "UINT8")
    tensor.set_data_from_numpy(pixels)
    assert client.infer(model, [tensor]).as_numpy("label").shape == (2,)
    with pytest.raises(InferenceServerException) as refused:
        client.infer(model, [texts("inputs", PNG[:40])])
    assert refused.value.status() == "422"


def test_images_of_answers_are_files(server: RunningServer, client: Any) -> None:
    """The bytes of a PNG as an element, for who asks for them alone."""
    wanted = [triton.InferRequestedOutput("image")]
    result = client.infer(first_model_of(server, "image-to-image"), [texts("inputs", PNG)], outputs=wanted)
    (image,) = result.as_numpy("image")
    assert sniff(image) == "image/png" and result.as_numpy("outputs") is None


def test_errors_are_the_clients_exceptions(client: Any) -> None:
    """With our statuses and sentences."""
    with pytest.raises(InferenceServerException) as missing:
        client.infer("nothing", [texts("inputs", "a")])
    assert missing.value.status() == "404" and "no model" in missing.value.message()
    with pytest.raises(InferenceServerException) as wrong:
        client.infer(REVIEWS, [texts("inputs", "a")], parameters={"nonsense": 1})
    assert wrong.value.status() == "422" and "nonsense" in wrong.value.message()
    with pytest.raises(InferenceServerException) as unknown:
        client.infer(REVIEWS, [texts("inputs", "a")], outputs=[triton.InferRequestedOutput("nothing")])
    assert unknown.value.status() == "422"


def test_models_are_loaded_and_unloaded(start_server: StartServer) -> None:
    """The index shows what happened; the file's declaration cannot be changed."""
    server = start_server([{"id": REVIEWS, "task": "text-classification", "model": "sequence-classification"}])
    with client_of(server) as client:
        client.load_model(REVIEWS)
        assert client.get_model_repository_index() == [
            {"name": REVIEWS, "version": "1", "state": "READY", "reason": ""}
        ]
        client.unload_model(REVIEWS, unload_dependents=True)
        (entry,) = client.get_model_repository_index()
        assert (entry["state"], entry["reason"]) == ("UNAVAILABLE", "unloaded")
        with pytest.raises(InferenceServerException, match="models.yaml"):
            client.load_model(REVIEWS, config="{}")
        assert client.infer(REVIEWS, [texts("inputs", "a good film")]).as_numpy("label").shape == (1,)
