"""The pages' door, before a page that says who came in."""

from __future__ import annotations

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from app.ui.client import ApiError
from app.ui.guard import COOKIE, Guard
from app.ui.sessions import Sessions, Visitor

KEY = "sk-a-key-that-is-valid"
HTML = {"accept": "text/html"}


async def check(key: str) -> Visitor:
    if key != KEY:
        raise ApiError(401, "This API key is not valid here.")
    return Visitor(key=key, may_administer=False)


def guarded(*, needs_key: bool = True) -> TestClient:
    page = PlainTextResponse("the page")
    guard = Guard(page, sessions=Sessions(clock=lambda: 0.0), check=check, needs_key=needs_key)
    return TestClient(guard, base_url="http://server.example", follow_redirects=False)


@pytest.fixture
def browser() -> TestClient:
    return guarded()


def log_in(browser: TestClient, key: str = KEY, wanted: str = "/ui/") -> str:
    """Where it leads to."""
    answer = browser.post("/ui/login", data={"key": key, "next": wanted})
    assert answer.status_code == 303, answer.text
    return str(answer.headers["location"])


def test_nobody_comes_in_without_a_login(browser: TestClient) -> None:
    """A page leads to the login and back; anything else is refused."""
    asked = browser.get("/ui/model?id=acme/x", headers=HTML)
    assert asked.status_code == 303
    assert asked.headers["location"] == "/ui/login?next=/ui/model%3Fid%3Dacme/x"
    for method, path in (("GET", "/ui/config"), ("POST", "/ui/gradio_api/queue/join"), ("GET", "/ui/look/pages.js")):
        assert browser.request(method, path).status_code == 401, path
    browser.cookies.set(COOKIE, "some-other-name", path="/ui")
    assert browser.get("/ui/config").status_code == 401


def test_login_opens_the_pages_until_logout(browser: TestClient) -> None:
    """The cookie is for this site and these pages alone, and no script reads it."""
    assert log_in(browser, wanted="/ui/model?id=a") == "/ui/model?id=a"
    cookie = browser.post("/ui/login", data={"key": KEY}).headers["set-cookie"]
    assert all(part in cookie for part in ("HttpOnly", "Path=/ui", "SameSite=strict")) and "Secure" not in cookie
    assert KEY not in cookie
    assert browser.get("/ui/", headers=HTML).text == "the page"
    assert browser.get("/ui/logout").status_code == 303 and browser.get("/ui/").text == "the page"
    assert browser.post("/ui/logout").headers["location"] == "/ui/login"
    assert browser.get("/ui/").status_code == 401


def test_cookie_is_for_tls_where_there_is_tls(browser: TestClient) -> None:
    """The API process says which it is."""
    answer = browser.post("/ui/login", data={"key": KEY}, headers={"x-forwarded-proto": "https"})
    assert "Secure" in answer.headers["set-cookie"]


@pytest.mark.parametrize("key", ["", "  ", "wrong", "ключ", "a\x00b"])
def test_wrong_key_is_told_and_opens_nothing(browser: TestClient, key: str) -> None:
    """In the server's words, on the page, and without repeating it."""
    answer = browser.post("/ui/login", data={"key": key, "next": '/ui/"><script>'})
    assert answer.status_code == 401 and 'role="alert"' in answer.text and "set-cookie" not in answer.headers
    assert "<script" not in answer.text
    assert browser.get("/ui/").status_code == 401


def test_server_that_is_not_there_is_told() -> None:
    """503, with the reason on the page."""

    async def unreachable(key: str) -> Visitor:
        raise ApiError(0, "The server cannot be reached just now.")

    guard = Guard(PlainTextResponse("x"), sessions=Sessions(clock=lambda: 0.0), check=unreachable, needs_key=True)
    answer = TestClient(guard).post("/ui/login", data={"key": KEY})
    assert answer.status_code == 503 and "cannot be reached" in answer.text


@pytest.mark.parametrize(
    "wanted", ["//evil.example", "https://evil.example/ui/", "/ui//\\evil.example", "/docs", "", "/ui/\nX-A: b"]
)
def test_login_leads_to_our_own_pages_only(browser: TestClient, wanted: str) -> None:
    """Whatever the link says."""
    assert log_in(browser, wanted=wanted) == "/ui/"


def test_other_sites_get_nothing_done(browser: TestClient) -> None:
    """With the browser's cookie or without: not a login, not a logout, not a request of the pages."""
    log_in(browser)
    for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}):
        for path in ("/ui/login", "/ui/logout", "/ui/gradio_api/queue/join"):
            assert browser.post(path, data={"key": KEY}, headers=headers).status_code == 403, (headers, path)
    own = {"origin": "http://server.example", "sec-fetch-site": "same-origin"}
    assert browser.post("/ui/gradio_api/queue/join", headers=own).text == "the page"


def test_link_from_another_site_asks_again(browser: TestClient) -> None:
    """A browser keeps a strict cookie back there, so that the page asks once more before it asks for a key."""
    answer = browser.get("/ui/", headers={**HTML, "sec-fetch-site": "cross-site"})
    assert answer.status_code == 200 and 'http-equiv="refresh"' in answer.text and "the page" not in answer.text


def test_long_forms_are_not_read(browser: TestClient) -> None:
    """Whoever is not logged in yet makes nobody keep much."""
    assert browser.post("/ui/login", data={"key": "x" * 10_000}).status_code == 413


def test_server_without_keys_has_no_login() -> None:
    """Other sites' pages are refused all the same."""
    client = guarded(needs_key=False)
    assert client.get("/ui/").text == "the page"
    assert client.get("/ui/login").headers["location"] == "/ui/"
    assert client.post("/ui/x", headers={"origin": "https://evil.example"}).status_code == 403


def test_every_answer_keeps_other_hosts_out(browser: TestClient) -> None:
    """The policy names no host, and no other page may frame ours."""
    for answer in (browser.get("/ui/login"), browser.get("/ui/"), browser.get("/ui/", headers=HTML)):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy and "http" not in policy
