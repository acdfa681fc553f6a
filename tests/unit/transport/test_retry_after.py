"""All forms of Retry-After, invalid and extreme values too."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime

import pytest

from maas_client import errors
from maas_client._transport.retry import MAX_RETRY_AFTER_S, parse_retry_after, retry_delay
from maas_client.flows._arm import retry_after_s
from maas_client.wire.operation import Response

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250"}, 0.25),
        ({"x-ms-retry-after-ms": "40"}, 0.04),
        ({"retry-after": "9", "retry-after-ms": "100"}, 0.1),
        ({"retry-after": "Tue, 24 Nov 2026 12:00:05 GMT"}, 5.0),
        ({"retry-after": "Tue, 24 Nov 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "86400"}, MAX_RETRY_AFTER_S),
        ({"retry-after": "inf"}, MAX_RETRY_AFTER_S),
        ({"retry-after": "1e30"}, MAX_RETRY_AFTER_S),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "Tue, 99 Foo 2026"}, None),
        ({"retry-after-ms": "soon", "retry-after": "2"}, 2.0),
        ({"retry-after": "1_000"}, MAX_RETRY_AFTER_S),
        ({"retry-after": "-inf"}, None),
        ({"retry-after": "9" * 400}, MAX_RETRY_AFTER_S),
        ({"retry-after": "Tue, 24 Nov 9999 11:00:00 GMT"}, MAX_RETRY_AFTER_S),
        ({"retry-after": "Tue, 24 Nov 2026 11:00:00"}, 0.0),
        ({"retry-after": "Tue, 24 Nov 99999 11:00:00 GMT"}, None),
        ({"retry-after": "2, 3"}, None),
        ({"retry-after-ms": "nan", "x-ms-retry-after-ms": "inf"}, MAX_RETRY_AFTER_S),
        ({"retry-after-ms": "-1", "retry-after": "5"}, 0.0),
        ({}, None),
    ],
)
def test_parse_retry_after(headers: dict[str, str], expected: float | None) -> None:
    assert parse_retry_after(headers, NOW) == expected


@pytest.mark.parametrize(
    "error",
    [
        errors.RateLimitError("busy", status=429),
        errors.ServiceError("down", status=503),
        errors.TransportError("lost"),
    ],
)
@pytest.mark.parametrize("attempt", [2, 4, 50])
def test_clients_do_not_retry_at_the_same_moment(error: errors.MaasError, attempt: int) -> None:
    delays = [retry_delay(attempt, error, random.Random(seed)) for seed in range(1000)]
    assert max(delays) <= 8.0
    width = (max(delays) - min(delays)) / 10
    assert max(Counter(int(delay / width) for delay in delays).values()) < 200


def test_requested_wait_is_kept_and_spread() -> None:
    error = errors.RateLimitError("busy", status=429, retry_after=3.0)
    delays = [retry_delay(1, error, random.Random(seed)) for seed in range(100)]
    assert 3.0 <= min(delays) < max(delays) <= 3.25


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"x-ms-retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, 60.0),
        ({"retry-after": "86400"}, 60.0),
        ({"retry-after": "inf"}, 60.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_wait_of_a_long_running_operation_takes_every_form(
    headers: dict[str, str], expected: float | None
) -> None:
    assert retry_after_s(Response(None, 202, headers)) == expected
