"""Files by URL, for operators who allow it: fetched by the API process, and never from its own network."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence

import httpcore2
import httpx2

from app.errors import InputTooLarge, InvalidInput
from app.media.addresses import is_public
from app.media.limits import MediaLimits

Resolver = Callable[[str, int], Awaitable[list[str]]]
Connector = Callable[[str, int, float | None], Awaitable[httpcore2.AsyncNetworkStream]]

_MAX_REDIRECTS = 3
_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_URL_CHARACTERS = 4096
_PORTS = {"http": 80, "https": 443}


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of the host, as the system's resolver gives them. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


async def connect(address: str, port: int, timeout_s: float | None) -> httpcore2.AsyncNetworkStream:
    """To an address, not to a name. Raises httpcore2's errors."""
    return await httpcore2.AnyIOBackend().connect_tcp(address, port, timeout_s)


class _NotPublicError(Exception):
    """The host leads into a network that nobody from outside may reach through this server."""


class _CheckedNetwork(httpcore2.AsyncNetworkBackend):
    """Looks a host up once, and connects to the very address that was checked: a name server that answers otherwise
    the next time changes nothing. TLS still checks the certificate against the host's name."""

    def __init__(self, resolver: Resolver, connector: Connector) -> None:
        self._resolver = resolver
        self._connector = connector

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        addresses = await self._resolver(host, port)
        # One that is not public makes all suspect: a host that is what it says has none.
        if not addresses or not all(map(is_public, addresses)):
            raise _NotPublicError
        for address in addresses[:-1]:
            try:
                return await self._connector(address, port, timeout)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return await self._connector(addresses[-1], port, timeout)


class MediaFetcher:
    """Fetches one file at a time for each caller; keeps no connection, cookie or credential between two fetches, and
    takes no proxy from the environment. Belongs to the event loop.

    limits: `allow_urls`, `allow_hosts` and `max_bytes` of it hold here. timeout_s: for one file, redirects included.
    """

    def __init__(
        self,
        limits: MediaLimits,
        *,
        resolver: Resolver = resolve,
        connector: Connector = connect,
        ssl_context: ssl.SSLContext | None = None,
        timeout_s: float = 20.0,
    ) -> None:
        self._limits = limits
        self._network = _CheckedNetwork(resolver, connector)
        self._ssl_context = ssl_context
        self._timeout_s = timeout_s

    def become(self, limits: MediaLimits) -> None:
        """For the fetches that begin from now on."""
        self._limits = limits

    async def fetch(self, url: str, *, param: str, headers: Sequence[tuple[bytes, bytes]] = ()) -> bytes:
        """The file as it is, never decompressed. headers: to be sent besides those of every fetch. Raises InvalidInput
        with the reason, InputTooLarge."""
        if not self._limits.allow_urls:
            raise InvalidInput(
                f"{param}: this server fetches no URLs; send the file itself, or base64 of it.", param=param
            )
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._follow(_parsed(url, param), param, headers)
        except TimeoutError:
            raise InvalidInput(f"{param}: the URL took longer than {self._timeout_s:g} seconds.", param=param) from None

    async def _follow(self, url: httpx2.URL, param: str, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        for _ in range(_MAX_REDIRECTS + 1):
            self._require_allowed(url, param)
            answer = await self._get(url, param, headers)
            if isinstance(answer, bytes):
                return answer
            url = _parsed(answer, param, base=url)
        raise InvalidInput(f"{param}: the URL was redirected more than {_MAX_REDIRECTS} times.", param=param)

    def _require_allowed(self, url: httpx2.URL, param: str) -> None:
        if url.scheme not in _PORTS:
            raise InvalidInput(f"{param}: only http and https URLs are fetched.", param=param)
        if not url.host:
            raise InvalidInput(f"{param}: the URL names no host.", param=param)
        if url.port is not None and not 0 < url.port < 2**16:
            raise InvalidInput(f"{param}: there is no port {url.port}.", param=param)
        if url.userinfo:
            raise InvalidInput(f"{param}: a URL with a user name or password is not fetched.", param=param)
        if not self._is_listed(url.raw_host.decode("ascii")):
            raise InvalidInput(f"{param}: the host {url.host} is not one that this server fetches from.", param=param)

    def _is_listed(self, host: str) -> bool:
        """`*.example.org` stands for every host below example.org, not for itself. host: as in DNS (`xn--...`)."""
        host = host.lower().rstrip(".")
        patterns = [pattern.lower().rstrip(".") for pattern in self._limits.allow_hosts]
        return not patterns or any(
            host.endswith(pattern[1:]) and len(host) > len(pattern) - 1 if pattern.startswith("*.") else host == pattern
            for pattern in patterns
        )

    async def _get(self, url: httpx2.URL, param: str, headers: Sequence[tuple[bytes, bytes]]) -> bytes | str:
        """The file, or where it has moved to."""
        context = self._context() if url.scheme == "https" else None
        all_headers = [*_headers(url), *headers]
        try:
            async with (
                httpcore2.AsyncConnectionPool(ssl_context=context, network_backend=self._network) as pool,
                pool.stream("GET", _core_url(url), headers=all_headers, extensions=self._extensions()) as response,
            ):
                return await self._read(response, param)
        except _NotPublicError:
            raise InvalidInput(f"{param}: the host {url.host} is not in the public internet.", param=param) from None
        except httpcore2.TimeoutException:
            raise TimeoutError from None
        except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError, UnicodeError) as error:
            reason = (
                "has no address"
                if isinstance(error, socket.gaierror | UnicodeError)
                else "cannot be reached, or broke off"
            )
            raise InvalidInput(f"{param}: the host {url.host} {reason}.", param=param) from None

    async def _read(self, response: httpcore2.Response, param: str) -> bytes | str:
        headers = {name.lower(): value.decode("latin-1").strip() for name, value in response.headers}
        if response.status in _REDIRECTS and b"location" in headers:
            return headers[b"location"]
        if response.status != 200:
            raise InvalidInput(f"{param}: the URL was answered with status {response.status}.", param=param)
        if headers.get(b"content-encoding", "identity").lower() not in ("", "identity"):
            raise InvalidInput(f"{param}: the URL was answered with a compressed file, unasked.", param=param)
        return await self._body(response, headers.get(b"content-length", ""), param)

    async def _body(self, response: httpcore2.Response, declared: str, param: str) -> bytes:
        """Stops reading where the limit is passed, whatever was declared."""
        if declared.isdecimal():
            self._limits.require_bytes(int(declared), param=param)
        body = bytearray()
        async for chunk in response.aiter_stream():
            body += chunk
            if len(body) > self._limits.max_bytes:
                most = self._limits.max_bytes
                raise InputTooLarge(f"{param}: the URL's file is larger than {most:,} bytes, the limit.", param=param)
        if not body:
            raise InvalidInput(f"{param}: the URL's file is empty.", param=param)
        return bytes(body)

    def _context(self) -> ssl.SSLContext:
        """Made at the first use: it reads all certificates. SSL_CERT_FILE of the environment holds."""
        if self._ssl_context is None:
            self._ssl_context = httpx2.create_ssl_context()
        return self._ssl_context

    def _extensions(self) -> dict[str, dict[str, float]]:
        return {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), self._timeout_s)}


def _parsed(url: str, param: str, base: httpx2.URL | None = None) -> httpx2.URL:
    try:
        if len(url) > _MAX_URL_CHARACTERS:
            raise httpx2.InvalidURL("too long")
        return httpx2.URL(url) if base is None else base.join(url)
    except (httpx2.InvalidURL, ValueError):
        raise InvalidInput(f"{param}: this is not a URL that can be fetched.", param=param) from None


def _core_url(url: httpx2.URL) -> httpcore2.URL:
    port = url.port or _PORTS[url.scheme]
    return httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=port, target=url.raw_path)


def _headers(url: httpx2.URL) -> list[tuple[bytes, bytes]]:
    return [
        (b"Host", url.netloc),
        (b"Accept", b"*/*"),
        (b"Accept-Encoding", b"identity"),
        (b"Connection", b"close"),
        (b"User-Agent", b"pipeserve"),
    ]
