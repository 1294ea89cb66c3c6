"""The ways in which a file reaches a task, and the forms in which a file comes back."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
import soundfile
from PIL import Image

from app.media.sniff import sniff
from app.tasks.samples import PNG, PNG_BASE64, WAV, WAV_BASE64
from tests import tiny
from tests.server import RunningServer

PICTURE = "/v1/image-classification"


def post_raw(server: RunningServer, path: str, content: bytes, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with server.client() as client:
        return client.post(path, content=content, headers=named)


@pytest.fixture(scope="module")
def labels(server: RunningServer) -> Any:
    return post_raw(server, PICTURE, PNG, content_type="image/png").json()


@pytest.mark.parametrize(
    "content_type",
    ["image/png", "", "application/octet-stream", "application/x-www-form-urlencoded", "application/json", "audio/wav"],
)
def test_raw_file_is_known_by_its_content(server: RunningServer, labels: Any, content_type: str) -> None:
    """Any Content-Type and none: curl and urllib send a form's by default."""
    answer = post_raw(server, PICTURE, PNG, content_type=content_type)
    assert answer.status_code == 200, answer.text
    assert answer.json() == labels


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": PNG_BASE64},
        {"inputs": f"data:image/png;base64,{PNG_BASE64}"},
        {"inputs": "\n".join(PNG_BASE64[at : at + 76] for at in range(0, len(PNG_BASE64), 76))},
        {"inputs": base64.urlsafe_b64encode(PNG).decode().rstrip("=")},
        {"inputs": {"image": PNG_BASE64}},
        {"image": PNG_BASE64},
    ],
    ids=["base64", "data-uri", "lines", "url-safe", "inputs.image", "image"],
)
def test_json_holds_the_file_where_clients_put_it(server: RunningServer, labels: Any, body: dict[str, Any]) -> None:
    """base64 of either alphabet, with or without padding and line breaks, and data URIs."""
    answer = server.post(PICTURE, body)
    assert answer.status_code == 200, answer.text
    assert answer.json() == labels


def test_list_of_files_is_answered_by_a_list(server: RunningServer, labels: Any) -> None:
    """One answer per file, in order."""
    for given in server.post(PICTURE, {"inputs": [PNG_BASE64, PNG_BASE64]}).json():
        assert [one["label"] for one in given] == [one["label"] for one in labels]
        assert [one["score"] for one in given] == pytest.approx([one["score"] for one in labels], abs=1e-5)


def test_form_holds_a_file_and_parameters(server: RunningServer, labels: Any) -> None:
    """multipart/form-data, the parameters as fields or as one JSON field."""
    with server.client() as client:
        file = {"file": ("a.png", PNG, "image/png")}
        assert client.post(PICTURE, files=file).json() == labels
        assert client.post(PICTURE, files=file, data={"top_k": "1"}).json() == labels[:1]
        assert client.post(PICTURE, files=file, data={"parameters": '{"top_k": 1}'}).json() == labels[:1]
        refused = client.post(PICTURE, files=file, data={"topk": "1"})
        assert refused.status_code == 422
        assert "topk" in refused.json()["error"]


@pytest.mark.parametrize(
    ("content_type", "raw", "status"),
    [
        ("multipart/form-data", b"--x\r\n", 400),
        ("multipart/form-data; boundary=x", b"nonsense", 400),
        ("multipart/form-data; boundary=x", b"--x--\r\n", 422),
        ("multipart/mixed; boundary=x", b"--x\r\n\r\nhello\r\n--x--\r\n", 400),
        ("", b"", 400),
        ("image/png", b"", 400),
        ("application/json", b'{"inputs": ', 400),
    ],
)
def test_body_that_holds_no_file_is_refused(server: RunningServer, content_type: str, raw: bytes, status: int) -> None:
    """Broken forms, forms without a file, nothing at all."""
    answer = post_raw(server, PICTURE, raw, content_type=content_type)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error", "error_type"}


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", "audio/wav"),
        ("audio/wav", "audio/wav"),
        ("audio/flac", "audio/flac"),
        ("audio/ogg", "audio/ogg"),
        ("audio/mpeg", "audio/mpeg"),
        ("audio/mp3", "audio/mpeg"),
    ],
)
def test_sound_comes_in_the_type_asked_for(server: RunningServer, accept: str, media_type: str) -> None:
    """A file of that type, which decodes."""
    answer = server.post("/v1/text-to-audio", {"inputs": "hello"}, headers={"accept": accept})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == media_type
    assert sniff(answer.content) == media_type
    samples, rate = soundfile.read(io.BytesIO(answer.content))
    assert len(samples) > 100 and rate > 0


def test_sound_comes_as_base64_in_json(server: RunningServer) -> None:
    """A WAV file, and its rate."""
    answer = server.post("/v1/text-to-speech", {"inputs": "hello"}, headers={"accept": "application/json"}).json()
    assert sniff(base64.b64decode(answer["audio"])) == "audio/wav"
    assert answer["sampling_rate"] > 0


@pytest.mark.parametrize("accept", ["*/*", "image/png", "image/jpeg", "image/webp"])
def test_image_comes_in_the_type_asked_for(server: RunningServer, accept: str) -> None:
    """PNG unless said otherwise."""
    answer = post_raw(server, "/v1/image-to-image", PNG, accept=accept)
    assert answer.status_code == 200, answer.text
    media_type = "image/png" if accept == "*/*" else accept
    assert answer.headers["content-type"] == media_type
    assert sniff(answer.content) == media_type
    assert Image.open(io.BytesIO(answer.content)).size[0] > 64


def test_image_comes_as_base64_in_json(server: RunningServer) -> None:
    """For several at once as well."""
    body = {"inputs": [PNG_BASE64, PNG_BASE64]}
    answers = server.post("/v1/image-to-image", body, headers={"accept": "*/*"}).json()
    assert [sniff(base64.b64decode(answer["image"])) for answer in answers] == ["image/png", "image/png"]
    refused = server.post("/v1/image-to-image", body, headers={"accept": "image/png"})
    assert refused.status_code == 422
    assert "one by one" in refused.json()["error"]


def test_vectors_come_as_an_array(server: RunningServer) -> None:
    """application/x-npy: one array over all inputs, equal to the JSON answer."""
    body = {"inputs": ["a good film", "a bad film and more"]}
    url = "/v1/feature-extraction/vectors"
    answer = server.post(url, body, headers={"accept": "application/x-npy"})
    assert answer.headers["content-type"] == "application/x-npy"
    array = np.load(io.BytesIO(answer.content), allow_pickle=False)
    assert array.dtype == np.float32
    assert np.allclose(array, server.post(url, body).json(), atol=1e-6)


def test_file_reaches_a_task_with_a_question_by_every_way(server: RunningServer) -> None:
    """visual-question-answering: a form, and JSON as the Python and the JavaScript client send it."""
    path = "/v1/visual-question-answering"
    with server.client() as client:
        form = client.post(path, files={"image": ("a.png", PNG)}, data={"question": "what is it?"})
    bodies = [
        {"inputs": {"image": PNG_BASE64, "question": "what is it?"}},
        {"inputs": PNG_BASE64, "parameters": {}, "question": "what is it?", "image": PNG_BASE64},
    ]
    answers = [server.post(path, body).json() for body in bodies]
    assert form.status_code == 200, form.text
    for answer in answers:
        assert [one["answer"] for one in answer] == [one["answer"] for one in form.json()]
        assert [one["score"] for one in answer] == pytest.approx([one["score"] for one in form.json()], abs=1e-5)


def test_sound_reaches_speech_recognition_by_every_way(server: RunningServer) -> None:
    """Raw, base64, and in a form with parameters."""
    path = "/v1/automatic-speech-recognition"
    raw = post_raw(server, path, WAV, content_type="audio/x-wav")
    assert raw.status_code == 200, raw.text
    assert server.post(path, {"inputs": WAV_BASE64}).json() == raw.json()
    with server.client() as client:
        form = client.post(path, files={"file": ("a.wav", WAV)}, data={"parameters": json.dumps({})})
    assert form.json() == raw.json()


def test_url_of_a_private_address_is_refused_though_urls_are_allowed(start_server: Any, tiny_dir: Any) -> None:
    """The server never asks itself, or its neighbours; the sentence names the place."""
    model = str(tiny.build("vit-classifier", tiny_dir))
    running = start_server([{"id": "vit", "task": "image-classification", "model": model}], media={"allow_urls": True})
    for url in (f"{running.url}/livez", "http://localhost/x.png", "http://169.254.169.254/latest", "http://[::1]/"):
        answer = running.post(PICTURE, {"inputs": url})
        assert answer.status_code == 422, answer.text
        assert "inputs" in answer.json()["error"]
    refused = running.post(
        PICTURE, {"inputs": ["http://127.0.0.1:1/"] * 2 + [f"http://10.0.0.{n}/" for n in range(40)]}
    )
    assert refused.status_code == 422
    assert "limit is 32" in refused.json()["error"]
