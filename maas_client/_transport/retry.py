"""The retry policy: which operations are sent again, and after what delay.

A create whose outcome is unknown is never sent again blindly, because that could start a second, paid job.
A ``Retry-After`` header is obeyed up to a limit, whatever it contains. Delays are randomized, so that many
clients do not retry at the same moment.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from maas_client.errors import MaasError, RateLimitError, StatusError, TransportError
from maas_client.wire.operation import ResendPolicy

MAX_RETRY_AFTER_S = 120.0
"""A longer Retry-After is reduced to this. The operation's deadline may end the wait earlier."""

_RETRYABLE_STATUSES = frozenset({408, 429, 500, 502, 503, 504})


class NotSentError(TransportError):
    """No connection was made, so the service cannot have acted."""

    was_sent = False


class BlockedRequestError(TransportError):
    """This library refused to send the request: the host is not trusted, or MAAS_OFFLINE is set."""

    was_sent = False


class TimedOutError(TransportError):
    """The time ran out before the response was complete; the service may still act on the request."""

    timed_out = True


def can_retry(error: BaseException, resend: ResendPolicy) -> bool:
    """Return whether an operation may be sent again after ``error``.

    Args:
        error: The error of the last attempt.
        resend: The operation's policy.
    """
    if resend == "never" or not isinstance(error, MaasError):
        return False
    if isinstance(error, BlockedRequestError):
        return False
    if isinstance(error, NotSentError):
        return True
    if isinstance(error, TransportError):
        return resend == "safe"
    if not isinstance(error, StatusError) or error.status not in _RETRYABLE_STATUSES:
        return False
    return resend == "safe" or error.status == 429


def retry_delay(attempt: int, error: BaseException, rng: random.Random) -> float:
    """Return the delay before the next attempt, in seconds.

    Args:
        attempt: The number of the attempt that failed, from 1.
        error: Its error. A ``retry_after`` of the service takes precedence over the backoff.
        rng: The source of the jitter.
    """
    retry_after = error.retry_after if isinstance(error, StatusError) else None
    if retry_after is not None:
        return retry_after + rng.uniform(0, 0.25)
    backoff = min(8.0, 0.4 * 2.0 ** (attempt - 1))
    # Throttled clients wait longer, but not all for the same time.
    return rng.uniform(backoff / 2 if isinstance(error, RateLimitError) else 0.05, backoff)


def parse_retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return the wait that a response asks for, in seconds; None if it names none or it is invalid.

    Azure uses four forms: ``retry-after-ms`` and ``x-ms-retry-after-ms`` in milliseconds, which take
    precedence, and ``retry-after`` in seconds or as a date.

    Args:
        headers: The response headers, names in lower case.
        now: The current time, for a date; default: now.

    Returns:
        A number from 0 to ``MAX_RETRY_AFTER_S``, or None.
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
            seconds = _seconds_until(text, now) if name == "retry-after" else math.nan
        if math.isfinite(seconds):
            return min(max(seconds, 0.0), MAX_RETRY_AFTER_S)
        if seconds == math.inf:
            return MAX_RETRY_AFTER_S
    return None


def _seconds_until(http_date: str, now: datetime | None) -> float:
    try:
        moment = parsedate_to_datetime(http_date)
    except (ValueError, TypeError, IndexError, OverflowError):
        return math.nan
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - (now or datetime.now(UTC))).total_seconds()
