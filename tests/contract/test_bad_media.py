"""Files that are not what they should be, for every task that takes a file: a status, a sentence, a living worker."""

from __future__ import annotations

import base64
import io
import json
import struct
import threading
import wave
import zlib
from typing import Any

import httpx2 as httpx
import pytest
from PIL import Image

from app.tasks.registry import TASKS
from app.tasks.samples import GIF_BASE64, PNG, PNG_BASE64, WAV, WAV_BASE64
from tests.server import RunningServer, metric

EXAMPLES = {name: json.dumps(task.example.body) for name, task in TASKS.items()}
IMAGE_TASKS = [name for name, text in EXAMPLES.items() if PNG_BASE64 in text]
SOUND_TASKS = [name for name, text in EXAMPLES.items() if WAV_BASE64 in text]
VIDEO_TASKS = [name for name, text in EXAMPLES.items() if GIF_BASE64 in text]
LABEL_TASKS = [name for name, text in EXAMPLES.items() if "candidate_labels" in text]


def huge_png() -> bytes:
    """40,000 × 40,000 pixels in a few hundred bytes; nothing but its header is ever looked at."""
    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


def image(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (200, 10, 10)).save(file, "PNG")
    return file.getvalue()


def sound(num_samples: int) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(16_000)
        writer.writeframes(b"\x10\x20" * num_samples)
    return file.getvalue()


TEXT = b"This is a text, whatever it is called."
BAD_IMAGES = {
    "truncated": (PNG[: len(PNG) // 2], {422}),
    "huge": (huge_png(), {413}),
    "text": (TEXT, {415, 422}),
    "sound": (WAV, {415, 422}),
}
BAD_SOUNDS = {
    "no-samples": (sound(0), {422}),
    "header-only": (WAV[:20], {415, 422}),
    "text": (TEXT, {415, 422}),
    "image": (PNG, {415, 422}),
}


def with_file(task: str, file: bytes | str) -> dict[str, Any]:
    """The task's example with another file; text is put there as it is."""
    text = file if isinstance(file, str) else base64.b64encode(file).decode()
    body = EXAMPLES[task]
    for sample in (PNG_BASE64, WAV_BASE64, GIF_BASE64):
        body = body.replace(sample, text)
    changed: dict[str, Any] = json.loads(body)
    return changed


def ask(server: RunningServer, task: str, body: dict[str, Any]) -> httpx.Response:
    return server.post(f"/v1/{task}", body, headers={"accept": "application/json"})


def assert_refused(answer: httpx.Response, statuses: set[int]) -> str:
    assert answer.status_code in statuses, (answer.status_code, answer.text[:300])
    error = answer.json()
    assert set(error) == {"error", "error_type"}
    assert error["error"].endswith((".", "?")), error
    assert "inputs" in error["error"] or "parameters" in error["error"], error
    return str(error["error"])


@pytest.mark.parametrize("kind", BAD_IMAGES)
@pytest.mark.parametrize("task", IMAGE_TASKS)
def test_bad_image_is_refused_with_a_sentence(server: RunningServer, task: str, kind: str) -> None:
    """Cut off, 40,000 x 40,000 pixels, a text, a sound."""
    file, statuses = BAD_IMAGES[kind]
    assert_refused(ask(server, task, with_file(task, file)), statuses)


@pytest.mark.parametrize("kind", BAD_SOUNDS)
@pytest.mark.parametrize("task", SOUND_TASKS)
def test_bad_sound_is_refused_with_a_sentence(server: RunningServer, task: str, kind: str) -> None:
    """Without a sample, cut off in its header, a text, an image."""
    file, statuses = BAD_SOUNDS[kind]
    assert_refused(ask(server, task, with_file(task, file)), statuses)


@pytest.mark.parametrize("file", [TEXT, PNG, WAV])
@pytest.mark.parametrize("task", VIDEO_TASKS)
def test_bad_video_is_refused_with_a_sentence(server: RunningServer, task: str, file: bytes) -> None:
    """A text and a sound; an image is a video of one frame, or refused."""
    answer = ask(server, task, with_file(task, file))
    if file != PNG or answer.status_code != 200:
        assert_refused(answer, {415, 422})


@pytest.mark.parametrize("task", [*IMAGE_TASKS, *SOUND_TASKS, *VIDEO_TASKS])
@pytest.mark.parametrize("text", ["", "/etc/passwd", "no base64!", "data:image/png,raw", "file:///etc/passwd"])
def test_text_is_never_a_path(server: RunningServer, task: str, text: str) -> None:
    """What is neither base64 nor a data URI is refused; no file of the server is read."""
    answer = ask(server, task, with_file(task, text))
    assert "root:" not in answer.text
    assert_refused(answer, {415, 422})


@pytest.mark.parametrize("task", [*IMAGE_TASKS, *SOUND_TASKS, *VIDEO_TASKS])
def test_url_is_refused_unless_allowed(server: RunningServer, task: str) -> None:
    """URLs are off by default, and the sentence says so."""
    error = assert_refused(ask(server, task, with_file(task, "http://127.0.0.1:1/x.png")), {422})
    assert "URL" in error


@pytest.mark.parametrize("task", IMAGE_TASKS)
def test_image_of_one_pixel_is_answered_or_refused(server: RunningServer, task: str) -> None:
    """A valid image: where a model's processor cannot take it, 422."""
    answer = ask(server, task, with_file(task, image(1, 1)))
    if answer.status_code != 200:
        assert_refused(answer, {422})


@pytest.mark.parametrize("task", SOUND_TASKS)
def test_sound_of_one_sample_is_answered_or_refused(server: RunningServer, task: str) -> None:
    """A valid sound: where it is too short for a model, 422."""
    answer = ask(server, task, with_file(task, sound(1)))
    if answer.status_code != 200:
        assert_refused(answer, {422})


@pytest.mark.parametrize("task", LABEL_TASKS)
def test_labels_are_counted(server: RunningServer, task: str) -> None:
    """None at all is refused; ten thousand are refused or answered, never an end of the worker."""
    body = json.loads(EXAMPLES[task])
    parameters = body.setdefault("parameters", {})
    for labels in ([], [""]):
        parameters["candidate_labels"] = labels
        assert_refused(ask(server, task, body), {422})
    parameters["candidate_labels"] = [f"label {number}" for number in range(10_000)]
    answer = ask(server, task, body)
    if answer.status_code != 200:
        assert_refused(answer, {413, 422, 429})


def test_neighbours_of_bad_images_get_their_answers(server: RunningServer) -> None:
    """Good and bad requests at once: each gets its own answer."""
    expected = ask(server, "image-classification", with_file("image-classification", PNG)).json()
    answers: list[tuple[bool, httpx.Response]] = []

    def run(number: int) -> None:
        is_bad = number % 3 == 0
        file = list(BAD_IMAGES.values())[number % len(BAD_IMAGES)][0] if is_bad else PNG
        answers.append((is_bad, ask(server, "image-classification", with_file("image-classification", file))))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 24
    for is_bad, answer in answers:
        if is_bad:
            assert 400 <= answer.status_code < 500
        else:
            assert [one["label"] for one in answer.json()] == [one["label"] for one in expected]


def test_bad_media_cost_no_worker(server: RunningServer) -> None:
    """After all of the above no worker was restarted."""
    assert metric(server.get("/metrics").text, "pipeserve_restarts_total") == 0
