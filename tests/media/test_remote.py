"""Files by URL: off by default, and otherwise from the public internet alone, whatever a URL, a name server or a server
tries. Resolvers are fakes; servers are real and listen on loopback, where the connector sends the public addresses."""

from __future__ import annotations

import asyncio
import gzip
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpcore2
import pytest

from app.errors import InputTooLarge, InvalidInput, PipeserveError
from app.media.addresses import is_public
from app.media.limits import MediaLimits
from app.media.remote import MediaFetcher, connect, resolve

PARAM = "inputs[2]"
PUBLIC = "93.184.215.14"
OPEN = MediaLimits(allow_urls=True, max_bytes=1000)
FILE = b"the file"

Handler = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


def answering(body: bytes = FILE, status: str = "200 OK", **headers: str) -> Handler:
    """A server of one answer, however large it is."""

    async def handle(request: bytes, writer: asyncio.StreamWriter) -> None:
        lines = {"content-length": str(len(body)), **{name.replace("_", "-"): value for name, value in headers.items()}}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        writer.write(f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body)

    return handle


def moving(*places: str) -> Handler:
    """Sends on to one place after the other, then gives the file."""
    left = list(places)

    async def handle(request: bytes, writer: asyncio.StreamWriter) -> None:
        answer = answering(b"", "302 Found", location=left.pop(0)) if left else answering()
        await answer(request, writer)

    return handle


@dataclass
class Internet:
    """names: a host's addresses, one list for each time it is asked (the last again and again). All addresses lead to
    one loopback server."""

    names: dict[str, list[list[str]]]
    server_port: int = 0
    requests: list[bytes] = field(default_factory=list)
    connected: list[tuple[str, int]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    dead: tuple[str, ...] = ()

    async def resolve(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        if host not in self.names:
            raise socket.gaierror(-2, "Name or service not known")
        answers = self.names[host]
        return answers.pop(0) if len(answers) > 1 else answers[0]

    async def connect(self, address: str, port: int, timeout_s: float | None) -> httpcore2.AsyncNetworkStream:
        self.connected.append((address, port))
        if address in self.dead:
            raise httpcore2.ConnectError("refused")
        return await connect("127.0.0.1", self.server_port, timeout_s)

    @asynccontextmanager
    async def serving(self, handle: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[None]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                request = await reader.readuntil(b"\r\n\r\n")
                self.requests.append(request)
                await handle(request, writer)
                await writer.drain()
            except (ConnectionError, asyncio.IncompleteReadError):
                pass  # the fetcher had seen enough
            finally:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
        self.server_port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()

    def fetcher(self, limits: MediaLimits = OPEN, timeout_s: float = 5.0) -> MediaFetcher:
        return MediaFetcher(limits, resolver=self.resolve, connector=self.connect, timeout_s=timeout_s)


def internet(**names: list[list[str]]) -> Internet:
    return Internet(
        {"files.example.org": [[PUBLIC]], **{name.replace("_", "."): found for name, found in names.items()}}
    )


async def refused(
    fetcher: MediaFetcher, url: str = "http://files.example.org/a.png", error_class: type[PipeserveError] = InvalidInput
) -> str:
    with pytest.raises(error_class) as caught:
        await fetcher.fetch(url, param=PARAM)
    assert caught.value.param == PARAM
    assert caught.value.message.startswith(f"{PARAM}: ")
    return caught.value.message


async def test_file_is_fetched() -> None:
    """From the address that was looked up, with the host's name, and nothing that tells of this server."""
    net = internet()
    async with net.serving(answering()):
        assert await net.fetcher().fetch("http://files.example.org:8080/a/b.png?c=d#e", param=PARAM) == FILE
    assert net.connected == [(PUBLIC, 8080)]
    lines = net.requests[0].decode().lower().split("\r\n")
    assert lines[0] == "get /a/b.png?c=d http/1.1"
    assert "host: files.example.org:8080" in lines
    assert "accept-encoding: identity" in lines
    assert not any(line.startswith(("cookie", "authorization", "referer")) for line in lines)


async def test_headers_of_the_caller_are_sent_along() -> None:
    """That tell the other server of a trace."""
    net = internet()
    async with net.serving(answering()):
        await net.fetcher().fetch("http://files.example.org/a", param=PARAM, headers=[(b"traceparent", b"00-1-2-01")])
    assert "traceparent: 00-1-2-01" in net.requests[0].decode().lower().split("\r\n")


async def test_urls_are_off_by_default() -> None:
    """The error says what to send instead; nothing is looked up."""
    net = internet()
    message = await refused(net.fetcher(MediaLimits()))
    assert "base64" in message
    assert net.asked == []


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://files.example.org/a",
        "data:image/png;base64,AA==",
        "http://",
        "http:///a",
        "http://[::1",
        "files.example.org/a",
        "http://me:secret@files.example.org/",
        "http://me@files.example.org/",
        "http://files.example.org:99999/",
        "http://a\x00b/",
        "http://files.example.org:0/",
        "http://files.example.org/\r\nx",
        "http://" + "a" * 5000 + "/",
        "http://" + "a" * 70 + ".org/",
        "http://.../",
    ],
)
async def test_other_urls_are_refused(url: str) -> None:
    """Other schemes, credentials, and what is no URL at all: no connection is made."""
    net = internet()
    await refused(net.fetcher(), url)
    assert net.connected == []


NOT_PUBLIC = """
127.0.0.1 127.8.9.10 0.0.0.0 10.1.2.3 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1 100.100.100.200 169.254.169.254
169.254.170.2 168.63.129.16 192.0.0.192 192.0.2.1 198.18.0.1 198.51.100.1 203.0.113.1 192.88.99.1 224.0.0.1
239.255.255.250 240.0.0.1 255.255.255.255
:: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:169.254.169.254 ::ffff:10.0.0.1 ::ffff:0:127.0.0.1 fe80::1 fe80::1%eth0
fec0::1 fc00::1 fd00:ec2::254 fd12:3456::1 ff02::1 2001::1 2001:0:7f00:1:: 2001:db8::1 2002:7f00:1:: 2002:a9fe:a9fe::
2002:c0a8:101::1 64:ff9b::127.0.0.1 64:ff9b::169.254.169.254 64:ff9b::a00:1 64:ff9b:1::1 100::1 3fff::1 5f00::1 4000::1
2606:2800:220:1::1%eth0 localhost 1.2.3 01.2.3.4
""".split()


@pytest.mark.parametrize("address", NOT_PUBLIC)
async def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    """Private, loopback, link-local, metadata, multicast, reserved, unspecified; and IPv6 forms that lead to these."""
    assert not is_public(address)
    net = internet(files_example_org=[[address]])
    assert "public internet" in await refused(net.fetcher())
    assert net.connected == []


@pytest.mark.parametrize(
    "address",
    [
        PUBLIC,
        "1.1.1.1",
        "172.32.0.1",
        "100.128.0.1",
        "2606:4700::1111",
        "::ffff:1.1.1.1",
        "64:ff9b::1.1.1.1",
        "2002:101:101::1",
    ],
)
async def test_public_addresses_are_reached(address: str) -> None:
    """IPv6 forms that lead to public IPv4 addresses, too."""
    net = internet(files_example_org=[[address]])
    async with net.serving(answering()):
        assert await net.fetcher().fetch("http://files.example.org/", param=PARAM) == FILE
    assert net.connected == [(address, 80)]


async def test_one_private_address_among_public_ones_is_refused() -> None:
    """No matter in which place."""
    for addresses in ([PUBLIC, "10.0.0.1"], ["10.0.0.1", PUBLIC]):
        net = internet(files_example_org=[addresses])
        await refused(net.fetcher())
        assert net.connected == []


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "[::1]",
        "[::ffff:7f00:1]",
        "localhost",
        "0",
        "169.254.169.254",
    ],
)
async def test_addresses_as_hosts_are_checked(host: str) -> None:
    """In every spelling that the system's own resolver takes."""
    net = internet()
    await refused(MediaFetcher(OPEN, resolver=resolve, connector=net.connect), f"http://{host}/")
    assert net.connected == []


async def test_rebinding_name_server_gains_nothing() -> None:
    """It answers a public address first and loopback afterwards: the address that was checked is the one connected to,
    and a second connection is a second check."""
    net = internet(files_example_org=[[PUBLIC], ["127.0.0.1"]])
    async with net.serving(answering()):
        fetcher = net.fetcher()
        assert await fetcher.fetch("http://files.example.org/", param=PARAM) == FILE
        assert net.asked == ["files.example.org"]
        await refused(fetcher)
    assert net.connected == [(PUBLIC, 80)]


async def test_redirect_of_rebinding_name_server_is_refused() -> None:
    """The same host again, now with another address."""
    net = internet(files_example_org=[[PUBLIC], ["169.254.169.254"]])
    async with net.serving(moving("/elsewhere")):
        assert "public internet" in await refused(net.fetcher())
    assert net.connected == [(PUBLIC, 80)]


@pytest.mark.parametrize(
    "place",
    [
        "http://127.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/",
        "//127.0.0.1/",
        "http://inner.example.org/",
    ],
)
async def test_redirect_into_the_network_is_refused(place: str) -> None:
    """To loopback, to metadata, or to a name that leads there."""
    names = {
        "127.0.0.1": [["127.0.0.1"]],
        "169.254.169.254": [["169.254.169.254"]],
        "fd00:ec2::254": [["fd00:ec2::254"]],
    }
    net = internet(inner_example_org=[["10.0.0.7"]], **names)
    async with net.serving(moving(place)):
        assert "public internet" in await refused(net.fetcher())
    assert net.connected == [(PUBLIC, 80)]


@pytest.mark.parametrize(
    "place",
    [
        "file:///etc/passwd",
        "gopher://files.example.org/",
        "http://me:secret@files.example.org/",
        "http://[",
        "http://unlisted.example.net/",
    ],
)
async def test_redirect_is_held_to_the_rules_of_urls(place: str) -> None:
    """Scheme, credentials and the list of hosts."""
    net = internet(unlisted_example_net=[[PUBLIC]])
    async with net.serving(moving(place)):
        await refused(net.fetcher(MediaLimits(allow_urls=True, allow_hosts=("files.example.org",))))
    assert net.connected == [(PUBLIC, 80)]


async def test_three_redirects_are_followed() -> None:
    """Relative ones and to other hosts, but not a fourth."""
    net = internet(cdn_example_org=[["1.1.1.1"]])
    async with net.serving(moving("/b", "//cdn.example.org/c", "http://files.example.org/d")):
        assert await net.fetcher().fetch("http://files.example.org/a", param=PARAM) == FILE
    assert [request.split()[1] for request in net.requests] == [b"/a", b"/b", b"/c", b"/d"]
    async with net.serving(moving("/b", "/c", "/d", "/e")):
        assert "more than 3 times" in await refused(net.fetcher())


@pytest.mark.parametrize(
    ("host", "patterns", "is_allowed"),
    [
        ("files.example.org", ("files.example.org",), True),
        ("files.example.org", ("FILES.example.org.",), True),
        ("files.example.org", ("*.example.org",), True),
        ("files.example.org", ("other.org", "*.org"), True),
        ("files.example.org.", ("files.example.org",), True),
        ("FILES.EXAMPLE.ORG", ("files.example.org",), True),
        ("example.org", ("*.example.org",), False),
        ("badexample.org", ("*.example.org", "example.org"), False),
        ("files.example.org.evil.net", ("files.example.org", "*.example.org"), False),
        ("files.example.org", ("example.org",), False),
    ],
)
async def test_listed_hosts_alone_are_asked(host: str, patterns: tuple[str, ...], is_allowed: bool) -> None:
    """By their whole name, or below a star."""
    net = Internet({host.lower(): [[PUBLIC]]})
    fetcher = net.fetcher(MediaLimits(allow_urls=True, allow_hosts=patterns))
    async with net.serving(answering()):
        if is_allowed:
            assert await fetcher.fetch(f"http://{host}/", param=PARAM) == FILE
        else:
            await refused(fetcher, f"http://{host}/")
            assert net.asked == []


async def test_listed_host_must_be_public_too() -> None:
    """A list of hosts opens no way into the network."""
    net = internet(files_example_org=[["10.0.0.1"]])
    await refused(net.fetcher(MediaLimits(allow_urls=True, allow_hosts=("files.example.org",))))
    assert net.connected == []


async def test_next_address_is_tried() -> None:
    """Where the first does not answer."""
    net = internet(files_example_org=[["1.1.1.1", PUBLIC]])
    net.dead = ("1.1.1.1",)
    async with net.serving(answering()):
        assert await net.fetcher().fetch("http://files.example.org/", param=PARAM) == FILE
    net.dead = ("1.1.1.1", PUBLIC)
    assert "cannot be reached" in await refused(net.fetcher())


async def test_unknown_host_is_an_error_of_input() -> None:
    """Not of the server."""
    assert "has no address" in await refused(internet().fetcher(), "http://nowhere.example.org/")


@pytest.mark.parametrize(
    "status",
    [
        "404 Not Found",
        "500 Internal Server Error",
        "204 No Content",
        "206 Partial Content",
        "304 Not Modified",
        "302 Found",
    ],
)
async def test_other_answers_are_no_files(status: str) -> None:
    """A redirect without a place included."""
    net = internet()
    async with net.serving(answering(b"", status)):
        assert status[:3] in await refused(net.fetcher())


async def test_empty_file_is_refused() -> None:
    """It is nothing that a model could read."""
    net = internet()
    async with net.serving(answering(b"")):
        assert "empty" in await refused(net.fetcher())


async def test_declared_size_is_checked_first() -> None:
    """No byte of a file that says it is too large is read."""
    net = internet()
    async with net.serving(answering(b"a", content_length="5000000000")):
        assert "5,000,000,000 bytes; the limit is 1,000" in await refused(net.fetcher(), error_class=InputTooLarge)


async def test_limit_of_bytes_is_exact() -> None:
    """A file of just the limit is fetched."""
    net = internet()
    async with net.serving(answering(bytes(1000))):
        assert len(await net.fetcher().fetch("http://files.example.org/", param=PARAM)) == 1000
    async with net.serving(answering(bytes(1001))):
        await refused(net.fetcher(), error_class=InputTooLarge)


async def test_endless_body_is_cut_off() -> None:
    """Of undeclared size, in chunks that never end."""
    sent = 0

    async def flood(request: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"8000\r\n" + bytes(0x8000) + b"\r\n")
            sent += 0x8000
            await writer.drain()

    net = internet()
    async with net.serving(flood):
        assert "larger than 1,000 bytes" in await refused(net.fetcher(), error_class=InputTooLarge)
    assert sent < 50_000_000


async def test_slow_body_is_cut_off() -> None:
    """A byte now and then resets no clock: the time is for the whole file."""

    async def drip(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n")
        while True:
            writer.write(b"a")
            await writer.drain()
            await asyncio.sleep(0.02)

    net = internet()
    async with net.serving(drip):
        assert "longer than 0.3 seconds" in await refused(net.fetcher(timeout_s=0.3))


async def test_silent_server_is_cut_off() -> None:
    """It takes the request and never answers."""

    async def stay_silent(request: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    net = internet()
    async with net.serving(stay_silent):
        assert "longer than 0.2 seconds" in await refused(net.fetcher(timeout_s=0.2))


async def test_slow_name_server_is_cut_off() -> None:
    """Looking up counts."""

    async def ponder(host: str, port: int) -> list[str]:
        await asyncio.sleep(30)
        return [PUBLIC]

    assert "longer than 0.2 seconds" in await refused(MediaFetcher(OPEN, resolver=ponder, timeout_s=0.2))


async def test_compressed_answer_is_never_inflated() -> None:
    """A gzip bomb below the limit of bytes."""
    bomb = gzip.compress(bytes(500_000))
    assert len(bomb) < OPEN.max_bytes
    net = internet()
    async with net.serving(answering(bomb, content_encoding="gzip")):
        assert "compressed" in await refused(net.fetcher())


async def test_broken_off_body_is_an_error() -> None:
    """Half a file is no file."""
    net = internet()
    async with net.serving(answering(b"half", content_length="800")):
        assert "broke off" in await refused(net.fetcher())


async def test_what_is_no_http_is_an_error() -> None:
    """Another service behind the port; endless headers."""

    async def greet(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.org ESMTP\r\n")

    async def head(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 200_000)

    net = internet()
    for handler in (greet, head):
        async with net.serving(handler):
            await refused(net.fetcher())


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would look names up itself, past all checks."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    net = internet()
    async with net.serving(answering()):
        assert await net.fetcher().fetch("http://files.example.org/", param=PARAM) == FILE
    assert net.connected == [(PUBLIC, 80)]


def certificate(folder: Path, host: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's side and that of a client who trusts it."""
    key, cert = folder / f"{host}.key", folder / f"{host}.pem"
    command = f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {key} -out {cert}"
    names = ["-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}"]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert, key)
    return server, ssl.create_default_context(cafile=str(cert))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")
async def test_certificate_is_held_against_the_hosts_name(tmp_path: Path) -> None:
    """The connection goes to an address, TLS still asks for the host: another host's certificate is refused."""
    net = internet()
    for host, is_accepted in (("files.example.org", True), ("other.example.org", False)):
        server, client = certificate(tmp_path, host)
        fetcher = MediaFetcher(OPEN, resolver=net.resolve, connector=net.connect, ssl_context=client)
        async with net.serving(answering(), tls=server):
            if is_accepted:
                assert await fetcher.fetch("https://files.example.org/", param=PARAM) == FILE
            else:
                assert "cannot be reached" in await refused(fetcher, "https://files.example.org/")
    assert net.connected == [(PUBLIC, 443)] * 2


async def test_cookies_are_not_kept() -> None:
    """Between two fetches of the same host."""
    net = internet()
    async with net.serving(answering(set_cookie="who=you")):
        fetcher = net.fetcher()
        for _ in range(2):
            await fetcher.fetch("http://files.example.org/", param=PARAM)
    assert b"cookie" not in net.requests[1].lower()
