"""Rate limits of ``serve --realistic``: chats per deployment and minute, and ARM requests per subscription.

The limits themselves are in ``resources/azure_limits.py``.
"""

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
    time: float
    tokens: int = 0


@dataclass(slots=True)
class Admission:
    """A chat request that was admitted; ``headers`` are sent with its response."""

    headers: dict[str, str] = field(default_factory=dict)
    entry: _RequestEntry | None = None

    async def count_tokens(
        self, chunks: AsyncGenerator[ChatChunk, None]
    ) -> AsyncGenerator[ChatChunk, None]:
        """Yield the chunks of an answer and count its tokens when it ends."""
        try:
            async for chunk in chunks:
                if self.entry is not None and chunk.usage:
                    self.entry.tokens = chunk.usage["total_tokens"]
                yield chunk
        finally:
            await chunks.aclose()


class RateLimiter:
    """Admits requests or refuses them with 429. Used on the server's event loop only."""

    def __init__(
        self, azure_limits: AzureLimits, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._azure_limits = azure_limits
        self._clock = clock
        self._entries: dict[str, deque[_RequestEntry]] = {}
        self._refused_once: set[str] = set()
        self._buckets: dict[tuple[str, str], tuple[float, float]] = {}

    def admit(self, endpoint: Record) -> Admission:
        """Admit a chat request. Raises ``ApiError`` 429 with ``Retry-After`` when the limit is reached."""
        rate = self._azure_limits.rate_limit(endpoint)
        if rate is None:
            return Admission()
        now, entries = self._clock(), self._entries_for(endpoint)
        while entries and entries[0].time <= now - _MINUTE_S:
            entries.popleft()
        is_foundry = endpoint.body["scope"] == FOUNDRY_SCOPE
        wait_s = _wait_s(entries, rate, now)
        if wait_s > 0:
            raise _too_many_requests(rate, wait_s, is_foundry=is_foundry)
        entries.append(_RequestEntry(now))
        headers = {
            "x-maas-realistic": f"{rate.requests} requests, {rate.tokens} tokens a minute ({rate.source})"
        }
        if is_foundry:
            used_tokens = sum(entry.tokens for entry in entries)
            headers["x-ratelimit-remaining-requests"] = str(rate.requests - len(entries))
            headers["x-ratelimit-remaining-tokens"] = str(max(rate.tokens - used_tokens, 0))
        return Admission(headers, entries[-1])

    def _entries_for(self, endpoint: Record) -> deque[_RequestEntry]:
        return self._entries.setdefault(str(endpoint.body["operation"]), deque())

    def is_ready(self, endpoint: Record) -> bool:
        """Return whether a Foundry deployment answers.

        With ``--realistic`` the first request finds it not ready: on Azure a deployment may not answer for
        minutes after ARM reports Succeeded; how long is not documented.
        """
        operation_id = str(endpoint.body["operation"])
        if not self._azure_limits.enabled or operation_id in self._refused_once:
            return True
        self._refused_once.add(operation_id)
        return False

    def consume_arm_quota(self, subscription: str, method: str) -> dict[str, str]:
        """Admit a request to ARM and return the rate limit headers of its response.

        Raises ``ApiError`` 429 with ``Retry-After`` when the limit is reached.
        """
        bucket = self._azure_limits.arm_bucket(method)
        if bucket is None:
            return {}
        remaining = self._available(subscription, bucket) - 1
        if remaining < 0:
            wait_s = math.ceil(-remaining / bucket.per_second)
            raise ApiError(
                429, "TooManyRequests",
                f"A subscription may send {bucket.size} {bucket.kind} at once and {bucket.per_second} per "
                f"second (this server runs with --realistic). Try again in {wait_s} s.",
                headers={"Retry-After": str(wait_s)},
            )  # fmt: skip
        self._buckets[subscription, bucket.kind] = remaining, self._clock()
        return {f"x-ms-ratelimit-remaining-subscription-{bucket.kind}": str(int(remaining))}

    def _available(self, subscription: str, bucket: RequestBucket) -> float:
        level, updated = self._buckets.get(
            (subscription, bucket.kind), (bucket.size, self._clock())
        )
        return min(bucket.size, level + (self._clock() - updated) * bucket.per_second)


def _wait_s(entries: deque[_RequestEntry], rate: RateLimit, now: float) -> float:
    """Return the seconds until one more request is within the limit; 0: it is now."""
    requests, tokens, wait_s = len(entries), sum(entry.tokens for entry in entries), 0.0
    for oldest in entries:
        if requests < rate.requests and tokens < rate.tokens:
            break
        requests, tokens = requests - 1, tokens - oldest.tokens
        wait_s = oldest.time + _MINUTE_S - now
    return wait_s


def _too_many_requests(rate: RateLimit, wait_s: float, *, is_foundry: bool) -> ApiError:
    headers = {"Retry-After": str(math.ceil(wait_s))}
    if is_foundry:
        headers["retry-after-ms"] = str(math.ceil(wait_s * 1000))
    return ApiError(
        429, "TooManyRequests",
        f"This deployment accepts {rate.requests} requests and {rate.tokens} tokens per minute "
        f"({rate.source}; this server runs with --realistic). Try again in {math.ceil(wait_s)} s.",
        headers=headers,
    )  # fmt: skip
