"""Everyone who has a key: found by the secret that they present, held to what their key allows."""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from app.access.keys import Key, digest_of
from app.access.limits import Bucket
from app.access.usage import Usage, Used
from app.errors import RateLimited, Unauthorized

MISSING, UNKNOWN, EXPIRED = "missing", "unknown", "expired"
REFUSALS = (MISSING, UNKNOWN, EXPIRED)
_NOBODY = bytes(32)


class Client:
    """One key as it is used. Owned by the event loop. now: a clock's seconds, which only grow. buckets: those that it
    has, of `requests` and `tokens`."""

    def __init__(self, key: Key, now: Callable[[], float]) -> None:
        self.now = now
        self.usage = Usage()
        self.num_open = 0
        self._requests: Bucket | None = None
        self._tokens: Bucket | None = None
        self.become(key)

    def become(self, key: Key) -> None:
        """The key was changed: what of its limits stays the same goes on."""
        self.key = key
        self.is_limited = not key.allowance.is_unlimited
        self._requests = self._bucket(self._requests, key.allowance.requests_per_minute)
        self._tokens = self._bucket(self._tokens, key.allowance.tokens_per_minute)
        both = {"requests": self._requests, "tokens": self._tokens}
        self.buckets = {name: bucket for name, bucket in both.items() if bucket is not None}

    def _bucket(self, old: Bucket | None, per_minute: int | None) -> Bucket | None:
        if per_minute is None:
            return None
        return old if old is not None and old.per_minute == per_minute else Bucket(per_minute, self.now())

    def begin(self) -> None:
        """A request of theirs; `end` belongs to it. Raises RateLimited, and then takes nothing."""
        if self.is_limited:
            now = self.now()
            if (error := self._refusal(now)) is not None:
                self.usage.limited += 1
                raise error
            if self._requests is not None:
                self._requests.take(1, now)
        self.num_open += 1
        self.usage.requests += 1

    def _refusal(self, now: float) -> RateLimited | None:
        """A request is let in while there are tokens left: what it will take is not known before."""
        name, concurrent = self.key.name, self.key.allowance.concurrent
        if concurrent is not None and self.num_open >= concurrent:
            return RateLimited(f'The key "{name}" may have {concurrent} requests open at a time.')
        if self._requests is not None and self._requests.level(now) < 1:
            what = f"make {self._requests.per_minute} requests"
            return _too_fast(name, what, self._requests.seconds_until(1, now))
        if self._tokens is not None and self._tokens.level(now) <= 0:
            return _too_fast(name, f"use {self._tokens.per_minute} tokens", self._tokens.seconds_until(1, now))
        return None

    def end(self) -> None:
        self.num_open -= 1

    def spend(self, model_id: str, used: Used) -> None:
        """What an answer took."""
        self.usage.add(model_id, used)
        if self._tokens is not None:
            self._tokens.take(used.input_tokens + used.output_tokens, self.now())


def _too_fast(name: str, what: str, wait_s: float) -> RateLimited:
    text = f'The key "{name}" may {what} a minute; the next request in {wait_s:.3g} s.'
    return RateLimited(text, retry_after_s=wait_s)


class Clients:
    """Owned by the event loop.

    version: grows with each change, for who keeps something about clients. refusals: by reason.
    """

    def __init__(self, keys: Sequence[Key], *, clock: Callable[[], float], unix_time: Callable[[], float]) -> None:
        """clock: seconds that only grow."""
        self._clock = clock
        self._unix_time = unix_time
        self._known: dict[str, Client] = {}
        self._by_digest: dict[bytes, Client] = {}
        self.version = 0
        self.refusals: Counter[str] = Counter(dict.fromkeys(REFUSALS, 0))
        self.change(keys)

    def __iter__(self) -> Iterator[Client]:
        """Those whose keys were revoked included: what they used is still to be accounted for."""
        return iter(list(self._known.values()))

    def named(self, name: str) -> Client | None:
        """Also where its key was revoked."""
        return self._known.get(name)

    def is_valid(self, client: Client) -> bool:
        """Whether its key still lets anybody in."""
        return self._by_digest.get(client.key.digest) is client and not self._is_expired(client.key)

    def change(self, keys: Sequence[Key]) -> None:
        """These are valid from now on; requests that have begun go on."""
        self._by_digest = {}
        for key in keys:
            client = self._known.get(key.name)
            if client is None:
                client = self._known[key.name] = Client(key, self._clock)
            else:
                client.become(key)
            self._by_digest[key.digest] = client
        self.version += 1

    def identify(self, presented: Sequence[bytes]) -> Client:
        """Who has one of these secrets. Raises Unauthorized.

        Secrets are found by their hash, so that the time it takes says nothing about one that is not known whole.
        """
        for secret in presented:
            digest = digest_of(secret)
            client = self._by_digest.get(digest)
            if hmac.compare_digest(_NOBODY if client is None else client.key.digest, digest) and client is not None:
                if self._is_expired(client.key):
                    self.refusals[EXPIRED] += 1
                    raise Unauthorized(f'The API key "{client.key.name}" has expired.')
                return client
        reason = UNKNOWN if presented else MISSING
        self.refusals[reason] += 1
        if presented:
            raise Unauthorized("This API key is not valid here.")
        raise Unauthorized("An API key is needed: send `Authorization: Bearer <key>`, or `x-api-key` or `api-key`.")

    def _is_expired(self, key: Key) -> bool:
        return key.expires_at is not None and key.expires_at <= self._unix_time()
