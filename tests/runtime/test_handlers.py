"""A model's own handler.py: how it is made and called, and what becomes of its answers and errors."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from app.errors import BackendFailed, InvalidInput, ModelFailed, NotAvailable, OutOfMemory
from app.media.answers import Picture
from app.runtime.base import LoadedModel
from app.tasks.custom import NAME as CUSTOM
from app.worker.encoding import to_json
from tests.handlers import ECHO, handler_folder
from tests.runtime.compute import answer, load


@pytest.fixture(autouse=True)
def own_modules() -> Iterator[None]:
    """A worker serves one handler in all its life; here each test has its own."""
    path = list(sys.path)
    yield
    sys.path[:] = path
    for name in ("handler", "beside"):
        sys.modules.pop(name, None)


def loaded(folder: Path, code: str = ECHO, task: str = CUSTOM) -> LoadedModel:
    return load(handler_folder(folder, code), task, has_handler=True, trust_remote_code=True)


def answering(folder: Path, expression: str) -> Any:
    """What a handler that returns this answers."""
    methods = f" def __init__(self, path=''): pass\n def __call__(self, data): return {expression}\n"
    code = f"class EndpointHandler:\n{methods}"
    return answer(loaded(folder, code).stages(CUSTOM), {"inputs": "a"})


def test_whole_body_goes_in_and_the_answer_comes_out(tmp_path: Path) -> None:
    """Made with its folder's path; fields of any name; the files beside it can be imported."""
    model = loaded(tmp_path / "echo")
    model.warm_up()
    body = {"inputs": b"bytes", "parameters": {"a": 1}, "anything": [None]}
    found = answer(model.stages(CUSTOM), body)
    rest = {"parameters": {"a": 1}, "anything": [None]}
    assert found == {"type": "bytes", "size": 5, "rest": rest, "words": ["some", "words"], "limit": 7}


def test_declared_task_is_the_handlers(tmp_path: Path) -> None:
    """And no other: what else it can do, nobody knows."""
    model = loaded(tmp_path / "echo", task="text-classification")
    assert model.tasks() == ["text-classification"]
    assert answer(model.stages("text-classification"), {"inputs": "a"})["size"] == 1
    with pytest.raises(NotAvailable, match="tokenize"):
        model.stages("tokenize")


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("'text'", "text"),
        ("None", None),
        ("[{'label': 'a', 'score': 0.5}]", [{"label": "a", "score": 0.5}]),
        ("{1: ('a', {2})}", {"1": ["a", [2]]}),
        ("__import__('torch').ones(2)", [1.0, 1.0]),
        ("{'x': __import__('torch').ones(1, dtype=__import__('torch').bfloat16)}", {"x": [1.0]}),
    ],
)
def test_answers_are_what_json_can_say(tmp_path: Path, expression: str, expected: Any) -> None:
    """Tuples, sets and tensors are lists, keys are text."""
    assert answering(tmp_path / "model", expression) == expected


def test_arrays_and_images_are_encoded(tmp_path: Path) -> None:
    """numpy as lists, PIL's images as base64 of a PNG."""
    assert to_json(answering(tmp_path / "array", "__import__('numpy').ones(2, 'float32')")) == b"[1.0,1.0]"
    assert np.isscalar(answering(tmp_path / "number", "__import__('numpy').float32(1)"))
    picture = answering(tmp_path / "image", "__import__('PIL.Image').Image.new('RGB', (2, 1))")
    assert isinstance(picture, Picture) and isinstance(picture.image, PIL.Image.Image)


@pytest.mark.parametrize("expression", ["object()", "{'x': b'bytes'}", "(one for one in 'ab')"])
def test_answer_without_a_json_form_is_named(tmp_path: Path, expression: str) -> None:
    """The sentence says which type it is."""
    with pytest.raises(BackendFailed, match="object|bytes|generator"):
        answering(tmp_path / "model", expression)


def test_value_error_of_the_handler_is_its_word_to_the_client(tmp_path: Path) -> None:
    """One that a library below it raises is a failure, like every other error."""
    stages = loaded(tmp_path / "echo").stages(CUSTOM)
    with pytest.raises(InvalidInput, match="must not be refused"):
        answer(stages, {"inputs": "refuse"})
    with pytest.raises(ValueError, match="Expecting property name"):
        answer(stages, {"inputs": "parse"})
    with pytest.raises(RuntimeError, match="secret"):
        answer(stages, {"inputs": "fail"})
    assert answer(stages, {"inputs": "well"})["size"] == 4


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("import a_library_that_nobody_has", NotAvailable, "a_library_that_nobody_has.*requirements.txt"),
        ("class Handler: pass", ModelFailed, "no class EndpointHandler"),
        ("def broken(:", ModelFailed, "SyntaxError"),
        ("class EndpointHandler:\n def __init__(self, path): raise KeyError('weights')", ModelFailed, "weights"),
        ("class EndpointHandler:\n def __init__(self): pass", ModelFailed, "positional"),
        ("class EndpointHandler:\n def __init__(self, path=''): pass", ModelFailed, "__call__"),
        ("class EndpointHandler:\n def __init__(self, path=''): raise MemoryError()", OutOfMemory, "memory"),
    ],
)
def test_handler_that_cannot_start_says_why(tmp_path: Path, code: str, kind: type[Exception], words: str) -> None:
    """One sentence for the model's page."""
    with pytest.raises(kind, match=words):
        loaded(tmp_path / "model", code)


def test_handler_that_has_gone_is_a_sentence(tmp_path: Path) -> None:
    """Between the start of the server and the load."""
    folder = handler_folder(tmp_path / "model")
    (folder / "handler.py").unlink()
    with pytest.raises(ModelFailed, match="handler.py"):
        load(folder, CUSTOM, has_handler=True, trust_remote_code=True)
