"""The retry policy: which operations are sent again, and after what delay.

A create whose outcome is unknown is never sent again blindly, because that could start a second, paid job.
A ``Retry-After`` header is obeyed up to a limit, whatever it contains. Delays are randomized, so that many
clients do not retry at the same moment.
"""

from __future__ import annotations

import random

from maas_client.errors import MaasError, RateLimitError, StatusError, TransportError
from maas_client.wire.operation import ResendPolicy
from maas_client.wire.parsing import MAX_RETRY_AFTER_S as MAX_RETRY_AFTER_S
from maas_client.wire.parsing import parse_retry_after as parse_retry_after

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
