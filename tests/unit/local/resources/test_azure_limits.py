"""``serve --realistic``: the catalog's numbers, and a window of exactly one minute."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import datetime, timedelta
from typing import Any

import pytest

from maas_client.catalog import load_limits
from maas_client.local.resources.assets import FOUNDRY_SCOPE
from maas_client.local.resources.azure_limits import AzureLimits
from maas_client.local.resources.errors import ApiError
from maas_client.local.services.chat_engines import ChatChunk
from maas_client.local.services.rate_limiter import Admission, RateLimiter
from maas_client.local.state.store import Record


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def endpoint(scope: str = "workspace", **request: Any) -> Record:
    body = {"scope": scope, "operation": "op", "request": request, "name": "tickets",
            "created": "2026-11-24T08:00:00.000000Z"}  # fmt: skip
    return Record(1, "tickets", "Succeeded", body)


def foundry(capacity: Any, sku: str = "GlobalStandard") -> Record:
    return endpoint(FOUNDRY_SCOPE, sku={"name": sku, "capacity": capacity})


async def finish_answer(ticket: Admission, tokens: int) -> None:
    async def answer() -> AsyncGenerator[ChatChunk, None]:
        yield ChatChunk("a")
        yield ChatChunk(finish_reason="stop", usage={"total_tokens": tokens})

    assert [piece.text async for piece in ticket.count_tokens(answer())] == ["a", ""]


def check_refused(limiter: RateLimiter, deployment: Record) -> ApiError:
    with pytest.raises(ApiError) as caught:
        limiter.admit(deployment)
    assert caught.value.status == 429
    return caught.value


def test_nothing_is_limited_by_default() -> None:
    limiter = RateLimiter(AzureLimits(enabled=False))
    assert all(limiter.admit(endpoint()).headers == {} for _ in range(2000))
    assert limiter.consume_arm_quota("sub", "GET") == {}
    assert limiter.is_ready(foundry(1))


def test_limits_come_from_the_catalog() -> None:
    azure, catalog = AzureLimits(enabled=True), load_limits("azureml")
    rate = azure.rate_limit(endpoint())
    assert rate is not None
    assert rate.requests == catalog.get_int("deployment_requests_per_minute") == 1000
    assert rate.tokens == catalog.get_int("deployment_tokens_per_minute") == 200_000
    assert "2026-01" in rate.source
    small = azure.rate_limit(foundry(3))
    assert small is not None
    assert (small.requests, small.tokens) == (3, 3000)
    for capacity in (None, 0, "many", True):
        unit = azure.rate_limit(foundry(capacity))
        assert unit is not None
        assert unit.tokens == 1000
    assert azure.rate_limit(foundry(50, "ProvisionedManaged")) is None


def test_request_over_the_limit_per_minute_is_refused() -> None:
    clock = Clock()
    limiter = RateLimiter(AzureLimits(enabled=True), clock)
    for _ in range(1000):
        headers = limiter.admit(endpoint()).headers
        clock.now += 1 / 32
    assert "1000 requests" in headers["x-maas-realistic"]
    assert "x-ratelimit-remaining-requests" not in headers
    refusal = check_refused(limiter, endpoint())
    assert refusal.headers == {"Retry-After": "29"}
    assert "2026-01" in refusal.message
    clock.now += 28.75
    limiter.admit(endpoint())
    check_refused(limiter, endpoint())


async def test_tokens_count_when_an_answer_has_ended() -> None:
    clock = Clock()
    limiter = RateLimiter(AzureLimits(enabled=True), clock)
    first, second = limiter.admit(foundry(5)), limiter.admit(foundry(5))
    assert second.headers["x-ratelimit-remaining-requests"] == "3"
    assert second.headers["x-ratelimit-remaining-tokens"] == "5000"
    await finish_answer(first, 4000)
    clock.now += 20
    third = limiter.admit(foundry(5))
    assert third.headers["x-ratelimit-remaining-tokens"] == "1000"
    await finish_answer(third, 1000)
    refusal = check_refused(limiter, foundry(5))
    assert refusal.headers == {"Retry-After": "40", "retry-after-ms": "40000"}
    clock.now += 40
    limiter.admit(foundry(5))


def test_first_request_to_a_foundry_deployment_is_not_ready() -> None:
    limiter = RateLimiter(AzureLimits(enabled=True))
    assert [limiter.is_ready(foundry(1)) for _ in range(3)] == [False, True, True]


def test_arm_accepts_a_burst_and_then_a_rate_per_second() -> None:
    clock = Clock()
    limiter = RateLimiter(AzureLimits(enabled=True), clock)
    for _ in range(200):
        headers = limiter.consume_arm_quota("sub", "PUT")
    assert headers == {"x-ms-ratelimit-remaining-subscription-writes": "0"}
    with pytest.raises(ApiError) as caught:
        limiter.consume_arm_quota("sub", "POST")
    assert caught.value.status == 429
    assert caught.value.headers == {"Retry-After": "1"}
    limiter.consume_arm_quota("other", "PUT")
    limiter.consume_arm_quota("sub", "GET")
    clock.now += 1
    for _ in range(10):
        limiter.consume_arm_quota("sub", "PATCH")
    with pytest.raises(ApiError):
        limiter.consume_arm_quota("sub", "PATCH")


def test_developer_tier_is_deleted_after_a_day() -> None:
    deployment = foundry(1, "DeveloperTier")
    created = datetime.fromisoformat(deployment.body["created"])
    assert AzureLimits(enabled=True).deletion_time(deployment) == created + timedelta(hours=24)
    assert AzureLimits(enabled=False).deletion_time(deployment) is None
    assert AzureLimits(enabled=True).deletion_time(foundry(1)) is None
