"""The server's API as the pages use it: of a real server, before a fleet that is a script."""

from __future__ import annotations

import httpx2
import pytest

from app.access.keys import ADMIN, INFER, Key, KeyScope, digest_of
from app.settings import Settings
from app.ui.client import Api, ApiError
from app.ui.told import Told
from tests.api.conftest import LiveServer


def key(name: str, *scopes: KeyScope) -> Key:
    return Key(name=name, digest=digest_of(name.encode()), scopes=frozenset(scopes))


async def test_visitor_is_known_by_the_scopes_of_the_key() -> None:
    """Whoever else has which; one that is not valid is refused in the server's words."""
    keys = (key("operator", INFER, ADMIN), key("guest", INFER))
    with LiveServer(Settings(keys=keys)) as server:
        api = Api(Told(socket="", folder="", api_url=server.url, needs_key=True))
        assert (await api.visitor("operator")).may_administer
        assert not (await api.visitor("guest")).may_administer
        with pytest.raises(ApiError) as refused:
            await api.visitor("stranger")
        assert refused.value.status == 401 and "stranger" not in str(refused.value)
        await api.close()


async def test_models_are_told_what_to_do_by_their_path() -> None:
    """Names with slashes and worse are one path."""
    asked: list[str] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        asked.append(f"{request.method} {request.url.path} {request.headers.get('authorization')}")
        return httpx2.Response(200, json={})

    api = Api(Told(socket="", folder="", api_url="http://server"), transport=httpx2.MockTransport(handle))
    await api.tell(None, "acme/a b?", "pin")
    assert asked == ["POST /v1/models/acme/a b?/pin None"]
