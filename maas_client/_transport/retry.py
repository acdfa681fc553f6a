"""What is sent again, and after how long. The one retry policy of the library.

reliability.md R1-R10: a create whose outcome is unknown is never re-sent blind; a Retry-After is obeyed up
to a cap and never raises; delays carry full jitter, so that a thousand clients do not return at once.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from maas_client.errors import MaasError, RateLimitError, StatusError, TransportError
from maas_client.wire.op import ResendPolicy

MAX_RETRY_AFTER_S = 120.0
"""A longer Retry-After is cut to this; the deadline of the operation may end it sooner."""

_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})


class NotSentError(TransportError):
    """The connection was never made: the service cannot have acted."""


class BlockedRequestError(TransportError):
    """We ourselves would not send it: the host is not trusted with a credential, or offline is set."""


def can_retry(error: BaseException, resend: ResendPolicy) -> bool:
    """Say whether the operation may be sent again after ``error`` without asking first."""
    if resend == "never" or not isinstance(error, MaasError):
        return False
    if isinstance(error, BlockedRequestError):
        return False
    if isinstance(error, NotSentError):
        return True
    if isinstance(error, TransportError):
        return resend == "safe"
    if not isinstance(error, StatusError) or error.status not in _TRANSIENT:
        return False
    if resend == "safe":
        return True
    return error.status == 429 or (error.status == 503 and error.retry_after is not None)


def retry_delay(attempt: int, error: BaseException, rng: random.Random) -> float:
    """Return the wait in seconds before attempt ``attempt + 1`` (the first attempt is 1)."""
    asked = error.retry_after if isinstance(error, StatusError) else None
    if asked is not None:
        return asked + rng.uniform(0, 0.25)
    ceiling = min(8.0, 0.4 * 2.0 ** (attempt - 1))
    return rng.uniform(0.05, ceiling) if not isinstance(error, RateLimitError) else ceiling


def parse_retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Read a Retry-After in seconds from any of the four forms in use; None for none or nonsense.

    ``retry-after-ms`` and ``x-ms-retry-after-ms`` first (milliseconds), then ``retry-after`` in
    seconds or as a date (reliability.md R5, R6). Never negative, never above ``MAX_RETRY_AFTER_S``.
    """
    for name, factor in (
        ("retry-after-ms", 0.001),
        ("x-ms-retry-after-ms", 0.001),
        ("retry-after", 1.0),
    ):
        text = headers.get(name, "").strip()
        if not text:
            continue
        try:
            seconds = float(text) * factor
        except ValueError:
            seconds = _until(text, now) if name == "retry-after" else math.nan
        if math.isfinite(seconds):
            return min(max(seconds, 0.0), MAX_RETRY_AFTER_S)
        if seconds == math.inf:
            return MAX_RETRY_AFTER_S
    return None


def _until(text: str, now: datetime | None) -> float:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return math.nan
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - (now or datetime.now(UTC))).total_seconds()
