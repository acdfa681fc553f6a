"""``serve --realistic``: the numbers are the catalog's, and the minute is counted to the second."""

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


async def used(ticket: Admission, tokens: int) -> None:
    async def answer() -> AsyncGenerator[ChatChunk, None]:
        yield ChatChunk("a")
        yield ChatChunk(finish_reason="stop", usage={"total_tokens": tokens})

    assert [piece.text async for piece in ticket.count_tokens(answer())] == ["a", ""]


def refused(held: RateLimiter, one: Record) -> ApiError:
    with pytest.raises(ApiError) as caught:
        held.admit(one)
    assert caught.value.status == 429
    return caught.value


def test_it_is_off_by_default() -> None:
    held = RateLimiter(AzureLimits(enabled=False))
    assert all(held.admit(endpoint()).headers == {} for _ in range(2000))
    assert held.admit_arm_request("sub", "GET") == {}
    assert held.is_ready(foundry(1))


def test_the_numbers_are_the_catalogs() -> None:
    real, known = AzureLimits(enabled=True), load_limits("azureml")
    rate = real.rate_limit(endpoint())
    assert rate is not None
    assert rate.requests == known.get_int("deployment_requests_per_minute") == 1000
    assert rate.tokens == known.get_int("deployment_tokens_per_minute") == 200_000
    assert "2026-01" in rate.source
    small = real.rate_limit(foundry(3))
    assert small is not None
    assert (small.requests, small.tokens) == (3, 3000)
    for odd in (None, 0, "many", True):
        unit = real.rate_limit(foundry(odd))
        assert unit is not None
        assert unit.tokens == 1000
    assert real.rate_limit(foundry(50, "ProvisionedManaged")) is None


def test_a_thousand_requests_a_minute_and_not_one_more() -> None:
    clock = Clock()
    held = RateLimiter(AzureLimits(enabled=True), clock)
    for _ in range(1000):
        said = held.admit(endpoint()).headers
        clock.now += 1 / 32
    assert "1000 requests" in said["x-maas-realistic"]
    assert "x-ratelimit-remaining-requests" not in said
    refusal = refused(held, endpoint())
    assert refusal.headers == {"Retry-After": "29"}
    assert "2026-01" in refusal.message
    clock.now += 28.75
    held.admit(endpoint())
    refused(held, endpoint())


async def test_tokens_count_when_an_answer_has_ended() -> None:
    clock = Clock()
    held = RateLimiter(AzureLimits(enabled=True), clock)
    first, second = held.admit(foundry(5)), held.admit(foundry(5))
    assert second.headers["x-ratelimit-remaining-requests"] == "3"
    assert second.headers["x-ratelimit-remaining-tokens"] == "5000"
    await used(first, 4000)
    clock.now += 20
    third = held.admit(foundry(5))
    assert third.headers["x-ratelimit-remaining-tokens"] == "1000"
    await used(third, 1000)
    refusal = refused(held, foundry(5))
    assert refusal.headers == {"Retry-After": "40", "retry-after-ms": "40000"}
    clock.now += 40
    held.admit(foundry(5))


def test_the_first_to_ask_a_foundry_deployment_is_told_to_wait() -> None:
    held = RateLimiter(AzureLimits(enabled=True))
    assert [held.is_ready(foundry(1)) for _ in range(3)] == [False, True, True]


def test_arm_takes_a_burst_and_then_so_many_a_second() -> None:
    clock = Clock()
    held = RateLimiter(AzureLimits(enabled=True), clock)
    for _ in range(200):
        said = held.admit_arm_request("sub", "PUT")
    assert said == {"x-ms-ratelimit-remaining-subscription-writes": "0"}
    with pytest.raises(ApiError) as caught:
        held.admit_arm_request("sub", "POST")
    assert caught.value.status == 429
    assert caught.value.headers == {"Retry-After": "1"}
    held.admit_arm_request("other", "PUT")
    held.admit_arm_request("sub", "GET")
    clock.now += 1
    for _ in range(10):
        held.admit_arm_request("sub", "PATCH")
    with pytest.raises(ApiError):
        held.admit_arm_request("sub", "PATCH")


def test_the_developer_tier_ends_after_a_day() -> None:
    one = foundry(1, "DeveloperTier")
    born = datetime.fromisoformat(one.body["created"])
    assert AzureLimits(enabled=True).deletion_time(one) == born + timedelta(hours=24)
    assert AzureLimits(enabled=False).deletion_time(one) is None
    assert AzureLimits(enabled=True).deletion_time(foundry(1)) is None
