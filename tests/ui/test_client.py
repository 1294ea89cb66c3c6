"""How the pages ask the server."""

from __future__ import annotations

import httpx2
import pytest

from app.ui.client import Api
from app.ui.told import Told

TOLD = Told(socket="", folder="", api_url="http://server")


def api(asked: list[str], answer: object) -> Api:
    def handle(request: httpx2.Request) -> httpx2.Response:
        asked.append(f"{request.method} {request.url.path} {request.headers.get('authorization')}")
        return httpx2.Response(200, json=answer)

    return Api(TOLD, transport=httpx2.MockTransport(handle))


@pytest.mark.parametrize(
    ("scopes", "may"), [([["infer"]], False), ([["infer"], ["admin", "infer"]], True), ([["admin"]], True), ([], False)]
)
async def test_key_that_may_administer_sees_all_of_them(scopes: list[list[str]], may: bool) -> None:
    """Any other sees itself alone."""
    asked: list[str] = []
    answer = {"data": [{"scopes": one} for one in scopes]}
    assert await api(asked, answer).may_administer("k") is may
    assert asked == ["GET /v1/usage Bearer k"]


async def test_models_are_told_what_to_do_by_their_path() -> None:
    """Names with slashes and worse are one path."""
    asked: list[str] = []
    await api(asked, {}).tell(None, "acme/a b?", "pin")
    assert asked == ["POST /v1/models/acme/a b?/pin None"]
