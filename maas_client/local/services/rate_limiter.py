"""Counting for ``serve --realistic``: how much each deployment has been asked in the last minute, and how
often a subscription has asked ARM. What the numbers are: ``rules/realism.py``."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

from maas_client.local.resources.assets import FOUNDRY_SCOPE
from maas_client.local.resources.azure_limits import AzureLimits, RateLimit, RequestBucket
from maas_client.local.resources.errors import ApiError
from maas_client.local.services.chat_engines import ChatChunk
from maas_client.local.state.store import Record

_MINUTE_S = 60.0


@dataclass(slots=True)
class _RequestEntry:
    when: float
    tokens: int = 0


@dataclass(slots=True)
class Admission:
    """One chat that was let in; ``headers`` go with its answer."""

    headers: dict[str, str] = field(default_factory=dict)
    entry: _RequestEntry | None = None

    async def count_tokens(
        self, pieces: AsyncGenerator[ChatChunk, None]
    ) -> AsyncGenerator[ChatChunk, None]:
        """Yield an answer's pieces and count its tokens when it ends."""
        try:
            async for piece in pieces:
                if self.entry is not None and piece.usage:
                    self.entry.tokens = piece.usage["total_tokens"]
                yield piece
        finally:
            await pieces.aclose()


class RateLimiter:
    """Lets requests in, or refuses them with 429. Used on the server's loop alone."""

    def __init__(self, realism: AzureLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._realism = realism
        self._clock = clock
        self._entries: dict[str, deque[_RequestEntry]] = {}
        self._refused_once: set[str] = set()
        self._buckets: dict[tuple[str, str], tuple[float, float]] = {}

    def admit(self, endpoint: Record) -> Admission:
        """Let a chat in. Raises ``ApiError``: 429 with ``Retry-After``."""
        rate = self._realism.rate_limit(endpoint)
        if rate is None:
            return Admission()
        now, entries = self._clock(), self._entries_for(endpoint)
        while entries and entries[0].when <= now - _MINUTE_S:
            entries.popleft()
        foundry = endpoint.body["scope"] == FOUNDRY_SCOPE
        wait_s = _wait_s(entries, rate, now)
        if wait_s > 0:
            raise _too_many_requests(rate, wait_s, foundry=foundry)
        entries.append(_RequestEntry(now))
        headers = {
            "x-maas-realistic": f"{rate.requests} requests, {rate.tokens} tokens a minute ({rate.source})"
        }
        if foundry:
            used = sum(entry.tokens for entry in entries)
            headers["x-ratelimit-remaining-requests"] = str(rate.requests - len(entries))
            headers["x-ratelimit-remaining-tokens"] = str(max(rate.tokens - used, 0))
        return Admission(headers, entries[-1])

    def _entries_for(self, endpoint: Record) -> deque[_RequestEntry]:
        return self._entries.setdefault(str(endpoint.body["operation"]), deque())

    def is_ready(self, endpoint: Record) -> bool:
        """Tell whether a Foundry deployment that ARM calls Succeeded answers; the first to ask is told
        that it does not. How long that lasts on Azure is not documented ("for minutes")."""
        operation_id = str(endpoint.body["operation"])
        if not self._realism.enabled or operation_id in self._refused_once:
            return True
        self._refused_once.add(operation_id)
        return False

    def admit_arm_request(self, subscription: str, method: str) -> dict[str, str]:
        """Take a request to ARM from its bucket and return what the answer says of it. Raises
        ``ApiError``: 429 with ``Retry-After``."""
        bucket = self._realism.arm_bucket(method)
        if bucket is None:
            return {}
        remaining = self._available(subscription, bucket) - 1
        if remaining < 0:
            wait_s = math.ceil(-remaining / bucket.per_second)
            raise ApiError(
                429, "TooManyRequests",
                f"A subscription may make {bucket.size} {bucket.kind} at once and {bucket.per_second} a "
                "second. This server is --realistic.", headers={"Retry-After": str(wait_s)},
            )  # fmt: skip
        self._buckets[subscription, bucket.kind] = remaining, self._clock()
        return {f"x-ms-ratelimit-remaining-subscription-{bucket.kind}": str(int(remaining))}

    def _available(self, subscription: str, bucket: RequestBucket) -> float:
        level, updated = self._buckets.get(
            (subscription, bucket.kind), (bucket.size, self._clock())
        )
        return min(bucket.size, level + (self._clock() - updated) * bucket.per_second)


def _wait_s(entries: deque[_RequestEntry], rate: RateLimit, now: float) -> float:
    """Return how long until there is room for one more request: 0 is now."""
    requests, tokens, wait_s = len(entries), sum(entry.tokens for entry in entries), 0.0
    for oldest in entries:
        if requests < rate.requests and tokens < rate.tokens:
            break
        requests, tokens = requests - 1, tokens - oldest.tokens
        wait_s = oldest.when + _MINUTE_S - now
    return wait_s


def _too_many_requests(rate: RateLimit, wait_s: float, *, foundry: bool) -> ApiError:
    headers = {"Retry-After": str(math.ceil(wait_s))}
    if foundry:
        headers["retry-after-ms"] = str(math.ceil(wait_s * 1000))
    return ApiError(
        429, "TooManyRequests",
        f"This deployment takes {rate.requests} requests and {rate.tokens} tokens a minute "
        f"({rate.source}; this server is --realistic). Try again in {math.ceil(wait_s)} s.",
        headers=headers,
    )  # fmt: skip
