"""``serve --realistic``: the numbers are the catalog's, and the minute is counted to the second."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import datetime, timedelta
from typing import Any

import pytest

from maas_client.catalog import limits
from maas_client.local.rules.foundry import SCOPE
from maas_client.local.rules.realism import Realism
from maas_client.local.rules.refusal import Refusal
from maas_client.local.services.answers import Piece
from maas_client.local.services.limits import Limits, Ticket
from maas_client.local.state.store import Fact


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def endpoint(scope: str = "workspace", **request: Any) -> Fact:
    body = {"scope": scope, "operation": "op", "request": request, "name": "tickets",
            "created": "2026-11-24T08:00:00.000000Z"}  # fmt: skip
    return Fact(1, "tickets", "Succeeded", body)


def foundry(capacity: Any, sku: str = "GlobalStandard") -> Fact:
    return endpoint(SCOPE, sku={"name": sku, "capacity": capacity})


async def used(ticket: Ticket, tokens: int) -> None:
    async def answer() -> AsyncGenerator[Piece, None]:
        yield Piece("a")
        yield Piece(finish_reason="stop", usage={"total_tokens": tokens})

    assert [piece.text async for piece in ticket.counting(answer())] == ["a", ""]


def refused(held: Limits, one: Fact) -> Refusal:
    with pytest.raises(Refusal) as caught:
        held.enter(one)
    assert caught.value.status == 429
    return caught.value


def test_it_is_off_by_default() -> None:
    held = Limits(Realism(on=False))
    assert all(held.enter(endpoint()).headers == {} for _ in range(2000))
    assert held.arm("sub", "GET") == {}
    assert held.warm(foundry(1))


def test_the_numbers_are_the_catalogs() -> None:
    real, known = Realism(on=True), limits("azureml")
    rate = real.rate(endpoint())
    assert rate is not None
    assert rate.requests == known.int_of("deployment_requests_per_minute") == 1000
    assert rate.tokens == known.int_of("deployment_tokens_per_minute") == 200_000
    assert "2026-01" in rate.source
    small = real.rate(foundry(3))
    assert small is not None
    assert (small.requests, small.tokens) == (3, 3000)
    for odd in (None, 0, "many", True):
        unit = real.rate(foundry(odd))
        assert unit is not None
        assert unit.tokens == 1000
    assert real.rate(foundry(50, "ProvisionedManaged")) is None


def test_a_thousand_requests_a_minute_and_not_one_more() -> None:
    clock = Clock()
    held = Limits(Realism(on=True), clock)
    for _ in range(1000):
        said = held.enter(endpoint()).headers
        clock.now += 1 / 32
    assert "1000 requests" in said["x-maas-realistic"]
    assert "x-ratelimit-remaining-requests" not in said
    refusal = refused(held, endpoint())
    assert refusal.headers == {"Retry-After": "29"}
    assert "2026-01" in refusal.message
    clock.now += 28.75
    held.enter(endpoint())
    refused(held, endpoint())


async def test_tokens_count_when_an_answer_has_ended() -> None:
    clock = Clock()
    held = Limits(Realism(on=True), clock)
    first, second = held.enter(foundry(5)), held.enter(foundry(5))
    assert second.headers["x-ratelimit-remaining-requests"] == "3"
    assert second.headers["x-ratelimit-remaining-tokens"] == "5000"
    await used(first, 4000)
    clock.now += 20
    third = held.enter(foundry(5))
    assert third.headers["x-ratelimit-remaining-tokens"] == "1000"
    await used(third, 1000)
    refusal = refused(held, foundry(5))
    assert refusal.headers == {"Retry-After": "40", "retry-after-ms": "40000"}
    clock.now += 40
    held.enter(foundry(5))


def test_the_first_to_ask_a_foundry_deployment_is_told_to_wait() -> None:
    held = Limits(Realism(on=True))
    assert [held.warm(foundry(1)) for _ in range(3)] == [False, True, True]


def test_arm_takes_a_burst_and_then_so_many_a_second() -> None:
    clock = Clock()
    held = Limits(Realism(on=True), clock)
    for _ in range(200):
        said = held.arm("sub", "PUT")
    assert said == {"x-ms-ratelimit-remaining-subscription-writes": "0"}
    with pytest.raises(Refusal) as caught:
        held.arm("sub", "POST")
    assert caught.value.status == 429
    assert caught.value.headers == {"Retry-After": "1"}
    held.arm("other", "PUT")
    held.arm("sub", "GET")
    clock.now += 1
    for _ in range(10):
        held.arm("sub", "PATCH")
    with pytest.raises(Refusal):
        held.arm("sub", "PATCH")


def test_the_developer_tier_ends_after_a_day() -> None:
    one = foundry(1, "DeveloperTier")
    born = datetime.fromisoformat(one.body["created"])
    assert Realism(on=True).delete_at(one) == born + timedelta(hours=24)
    assert Realism(on=False).delete_at(one) is None
    assert Realism(on=True).delete_at(foundry(1)) is None
