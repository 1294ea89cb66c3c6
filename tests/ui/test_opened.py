"""A form opened by its address, with what the server says of the model."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.api.schemas import ModelDetails, ModelFile
from app.tasks.samples import PNG
from app.ui.client import Api, ApiError
from app.ui.told import Told
from app.ui.try_it.opened import MAX_EXAMPLE_BYTES, Opened, opened
from tests.ui.test_catalogue import card

WIDGET = [{"src": "samples/disc.png"}, {"src": "gone.png"}, {"src": "huge.png"}]
SIZES = {"samples/disc.png": len(PNG), "gone.png": 10, "huge.png": MAX_EXAMPLE_BYTES + 1}


def open_(query: dict[str, str], folder: Path, **changes: Any) -> Opened:
    """Of a server that has this one model, and of whose files one went away."""
    details = ModelDetails(
        model=card("acme/shapes", **{"tasks": ["image-classification"], **changes}),
        adapters=[],
        card=None,
        card_data={"widget": WIDGET},
        files=[ModelFile(path=path, size=size) for path, size in SIZES.items()],
        config={},
        labels=[],
        problems=[],
        commit=None,
        variants=[],
        tuning=[],
    )

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/v1/models/acme/shapes/details":
            return httpx2.Response(200, content=details.model_dump_json())
        if request.url.params.get("path") == "samples/disc.png":
            return httpx2.Response(200, content=PNG, headers={"content-type": "image/png"})
        return httpx2.Response(404, json={"error": {"message": "It is not here."}})

    async def run() -> Opened:
        api = Api(Told(socket="", folder="", api_url="http://here"), transport=httpx2.MockTransport(answer))
        try:
            return await opened(api, None, query, folder)
        finally:
            await api.close()

    return asyncio.run(run())


def test_examples_file_is_fetched(tmp_path: Path) -> None:
    """Once, to where browsers may be sent it from; the parameters are the task's own."""
    query = {"id": "acme/shapes", "task": "image-classification", "example": "1"}
    for _ in range(2):
        found = open_(query, tmp_path)
    assert found.values is not None and found.task == "image-classification" and found.parameters is None
    assert Path(found.values[0]).name == "disc.png" and Path(found.values[0]).read_bytes() == PNG
    assert Path(found.values[0]).is_relative_to(tmp_path) and len(list(tmp_path.rglob("*.png"))) == 1


def test_file_that_went_away_is_left_out(tmp_path: Path) -> None:
    """The form is there all the same; what is too large is no example."""
    assert open_({"id": "acme/shapes", "example": "2"}, tmp_path).values == [None]
    assert open_({"id": "acme/shapes", "example": "3"}, tmp_path).values is None


def test_address_fills_the_form_it_names(tmp_path: Path) -> None:
    """Its parameters are all that there are: they were there when the link was made."""
    query = {"id": "acme/shapes", "task": "text-classification", "inputs": "Good.", "parameters": '{"top_k": 1}'}
    found = open_(query, tmp_path, tasks=["image-classification", "text-classification"])
    assert (found.task, found.values, found.parameters) == ("text-classification", ["Good."], {"top_k": 1})
    found = open_({"id": "acme/shapes", "task": "chat", "inputs": "Hello!"}, tmp_path, tasks=["text-generation"])
    assert (found.task, found.values, found.asked.body) == ("chat", None, {"inputs": "Hello!"})


def test_model_without_a_task_is_shown(tmp_path: Path) -> None:
    """One that nobody has yet loaded; and one that is not there is an error."""
    assert open_({"id": "acme/shapes", "inputs": "x"}, tmp_path, tasks=[]).values is None
    with pytest.raises(ApiError, match="It is not here"):
        open_({"id": "nobody"}, tmp_path)
