"""Counting for ``serve --realistic``: how much each deployment has been asked in the last minute, and how
often a subscription has asked ARM. What the numbers are: ``rules/realism.py``."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

from maas_client.local.rules.foundry import SCOPE
from maas_client.local.rules.realism import Bucket, Rate, Realism
from maas_client.local.rules.refusal import Refusal
from maas_client.local.services.answers import Piece
from maas_client.local.state.store import Fact

_MINUTE_S = 60.0


@dataclass(slots=True)
class _Asked:
    when: float
    tokens: int = 0


@dataclass(slots=True)
class Ticket:
    """One chat that was let in; ``headers`` go with its answer."""

    headers: dict[str, str] = field(default_factory=dict)
    asked: _Asked | None = None

    async def counting(self, pieces: AsyncGenerator[Piece, None]) -> AsyncGenerator[Piece, None]:
        """Yield an answer's pieces and count its tokens when it ends."""
        try:
            async for piece in pieces:
                if self.asked is not None and piece.usage:
                    self.asked.tokens = piece.usage["total_tokens"]
                yield piece
        finally:
            await pieces.aclose()


class Limits:
    """Lets requests in, or refuses them with 429. Used on the server's loop alone."""

    def __init__(self, realism: Realism, clock: Callable[[], float] = time.monotonic) -> None:
        self._realism = realism
        self._clock = clock
        self._asked: dict[str, deque[_Asked]] = {}
        self._cold: set[str] = set()
        self._buckets: dict[tuple[str, str], tuple[float, float]] = {}

    def enter(self, endpoint: Fact) -> Ticket:
        """Let a chat in. Raises ``Refusal``: 429 with ``Retry-After``."""
        rate = self._realism.rate(endpoint)
        if rate is None:
            return Ticket()
        now, asked = self._clock(), self._of(endpoint)
        while asked and asked[0].when <= now - _MINUTE_S:
            asked.popleft()
        foundry = endpoint.body["scope"] == SCOPE
        wait_s = _wait_s(asked, rate, now)
        if wait_s > 0:
            raise _too_many(rate, wait_s, foundry=foundry)
        asked.append(_Asked(now))
        headers = {
            "x-maas-realistic": f"{rate.requests} requests, {rate.tokens} tokens a minute ({rate.source})"
        }
        if foundry:
            used = sum(one.tokens for one in asked)
            headers["x-ratelimit-remaining-requests"] = str(rate.requests - len(asked))
            headers["x-ratelimit-remaining-tokens"] = str(max(rate.tokens - used, 0))
        return Ticket(headers, asked[-1])

    def _of(self, endpoint: Fact) -> deque[_Asked]:
        return self._asked.setdefault(str(endpoint.body["operation"]), deque())

    def warm(self, endpoint: Fact) -> bool:
        """Tell whether a Foundry deployment that ARM calls Succeeded answers; the first to ask is told
        that it does not. How long that lasts on Azure is not documented ("for minutes")."""
        own = str(endpoint.body["operation"])
        if not self._realism.on or own in self._cold:
            return True
        self._cold.add(own)
        return False

    def arm(self, subscription: str, method: str) -> dict[str, str]:
        """Take a request to ARM from its bucket and return what the answer says of it. Raises
        ``Refusal``: 429 with ``Retry-After``."""
        bucket = self._realism.arm(method)
        if bucket is None:
            return {}
        left = self._filled(subscription, bucket) - 1
        if left < 0:
            wait_s = math.ceil(-left / bucket.per_second)
            raise Refusal(
                429, "TooManyRequests",
                f"A subscription may make {bucket.size} {bucket.kind} at once and {bucket.per_second} a "
                "second. This server is --realistic.", headers={"Retry-After": str(wait_s)},
            )  # fmt: skip
        self._buckets[subscription, bucket.kind] = left, self._clock()
        return {f"x-ms-ratelimit-remaining-subscription-{bucket.kind}": str(int(left))}

    def _filled(self, subscription: str, bucket: Bucket) -> float:
        held, since = self._buckets.get((subscription, bucket.kind), (bucket.size, self._clock()))
        return min(bucket.size, held + (self._clock() - since) * bucket.per_second)


def _wait_s(asked: deque[_Asked], rate: Rate, now: float) -> float:
    """Return how long until there is room for one more request: 0 is now."""
    requests, tokens, wait_s = len(asked), sum(one.tokens for one in asked), 0.0
    for oldest in asked:
        if requests < rate.requests and tokens < rate.tokens:
            break
        requests, tokens = requests - 1, tokens - oldest.tokens
        wait_s = oldest.when + _MINUTE_S - now
    return wait_s


def _too_many(rate: Rate, wait_s: float, *, foundry: bool) -> Refusal:
    headers = {"Retry-After": str(math.ceil(wait_s))}
    if foundry:
        headers["retry-after-ms"] = str(math.ceil(wait_s * 1000))
    return Refusal(
        429, "TooManyRequests",
        f"This deployment takes {rate.requests} requests and {rate.tokens} tokens a minute "
        f"({rate.source}; this server is --realistic). Try again in {math.ceil(wait_s)} s.",
        headers=headers,
    )  # fmt: skip
