"""What is no request, is two, or never ends: a status, a sentence, and a closed connection."""

from __future__ import annotations

import json

import pytest

from app.api.protocol import MAX_HEADER_BYTES, MAX_HEADERS, MAX_URL_BYTES
from tests.api.conftest import LiveServer
from tests.hostile.conftest import POLITE, answer_to

BODY = json.dumps(POLITE).encode()
POST = b"POST /v1/text-classification HTTP/1.1\r\nhost: a\r\n"
CHUNKED = POST + b"transfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def told(raw: bytes) -> tuple[int, dict[str, str]]:
    """Status and error of the first answer."""
    head, _, rest = raw.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
    body: dict[str, str] = json.loads(rest[: int(lengths[0])])
    return int(head.split(b" ")[1]), body


MALFORMED = {
    "two lengths": POST + b"content-length: 1\r\ncontent-length: 2\r\n\r\nab",
    "a list of lengths": POST + b"content-length: 1, 1\r\n\r\na",
    "length and chunks": POST + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": POST + b"transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
    "a negative length": POST + b"content-length: -1\r\n\r\n",
    "a length with a sign": POST + b"content-length: +1\r\n\r\na",
    "a length of 5,000 digits": POST + b"content-length: " + b"9" * 5000 + b"\r\n\r\n",
    "a length in hexadecimal": POST + b"content-length: 0x1\r\n\r\na",
    "a space before the colon": POST + b"content-length : 1\r\n\r\na",
    "a folded header": POST + b"x-a: a\r\n b: c\r\n\r\n",
    "a null byte": POST + b"x-a: a\0b\r\n\r\n",
    "a carriage return": POST + b"x-a: a\rcontent-length: 1\r\n\r\n",
    "bare line ends": b"GET /livez HTTP/1.1\nhost: a\n\n",
    "another coding": POST + b"transfer-encoding: gzip\r\n\r\n",
    "a coding that ends like chunked": POST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a chunk of no length": CHUNKED + b"zz\r\n",
    "a chunk that is too long": CHUNKED + b"fffffffffffffffff\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50),
    "a tunnel": b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nhost: a\r\n\r\n",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_can_be_read_in_two_ways_is_refused(live: LiveServer, name: str) -> None:
    """So that no proxy before the server sees other requests than the server does."""
    status, error = told(answer_to(live, MALFORMED[name]))
    assert (status, error["error_type"]) == (400, "malformed")
    assert error["error"].startswith("This is not a request of HTTP/1.1")


LONG = b"a" * 1000
TOO_LARGE = {
    "a long URL": (414, [b"GET /" + b"a" * MAX_URL_BYTES + b" HTTP/1.1\r\nhost: a\r\n\r\n"]),
    "an endless URL": (414, [b"GET /", *[LONG] * 1000]),
    "a long header": (431, [POST + b"x-a: " + b"a" * MAX_HEADER_BYTES + b"\r\n\r\n"]),
    "an endless header": (431, [POST + b"x-a: ", *[LONG] * 1000]),
    "an endless name": (431, [POST, *[LONG] * 1000]),
    "endless headers": (431, [POST, *[b"x: " + LONG + b"\r\n"] * 1000]),
    "many headers": (431, [POST + b"x: y\r\n" * MAX_HEADERS + b"\r\n"]),
    "endless small headers": (431, [POST, *[b"x: y\r\n" * 100] * 1000]),
    "an endless trailer": (431, [CHUNKED + chunk(b"{") + b"0\r\nx-a: ", *[LONG] * 1000]),
    "endless trailers": (431, [CHUNKED + chunk(b"{") + b"0\r\n", *[b"x: y\r\n" * 100] * 1000]),
    "an endless extension": (431, [CHUNKED + b"1;a=", *[LONG] * 1000]),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_head_without_an_end_is_cut(live: LiveServer, name: str) -> None:
    """URL, headers and what follows the body are held to their limits while they arrive."""
    expected, parts = TOO_LARGE[name]
    raw = answer_to(live, *parts)
    if raw:  # what the server closes before it has read all of may reset the connection, its answer with it
        status, error = told(raw)
        assert (status, error["error_type"]) == (expected, "too_large")


def test_limits_of_the_head_are_exact(live: LiveServer) -> None:
    """What is within them is answered."""
    url = b"/" + b"a" * (MAX_URL_BYTES - 1)
    headers = b"".join(b"x-%d: y\r\n" % index for index in range(MAX_HEADERS - 2))
    status, error = told(answer_to(live, b"GET %s HTTP/1.1\r\nhost: a\r\nconnection: close\r\n%s\r\n" % (url, headers)))
    assert (status, error["error_type"]) == (404, "not_found")


def test_length_that_is_too_short_begins_another_request(live: LiveServer) -> None:
    """The rest is no request: it is refused, and the connection ends."""
    raw = answer_to(live, POST + b"content-length: %d\r\n\r\n%sGARBAGE\r\n\r\n" % (len(BODY), BODY))
    assert raw.startswith(b"HTTP/1.1 200 OK") or raw.startswith(b"HTTP/1.1 400")


def test_length_that_is_too_long_waits_for_its_client_alone(live: LiveServer) -> None:
    """A body that does not come is nobody's answer; the client that leaves ends it."""
    with live.connect() as connection:
        connection.sendall(POST + b"content-length: 1000\r\n\r\n" + BODY)
        assert live.get("/livez").status_code == 200
    assert live.post("/v1/text-classification", POLITE).status_code == 200


def test_ranges_and_expectations_change_nothing(live: LiveServer) -> None:
    """A range of an answer that is made is the answer."""
    answer = live.post("/v1/text-classification", POLITE, headers={"range": "bytes=0-1", "if-range": "x"})
    assert answer.status_code == 200
    assert answer.json() == live.post("/v1/text-classification", POLITE).json()


@pytest.mark.parametrize("given", ["a\tb", "x" * 5000, "%0d%0ax-evil: 1", "é\x85", "<script>", '"; rm -rf /'])
def test_request_id_comes_back_as_letters(live: LiveServer, given: str) -> None:
    """Nothing of it can be a header, a line of the log or a tag."""
    answer = live.post("/v1/text-classification", POLITE, headers={"x-request-id": given.encode("latin-1")})
    told_id = answer.headers["x-request-id"]
    assert answer.status_code == 200
    assert "x-evil" not in answer.headers
    assert len(told_id) <= 128
    assert not set(told_id) & set(" \t\r\n\"<>%'\x85")
