"""The bill: (training + validation) x epochs at the user's own prices, and hosting by the hour."""

from __future__ import annotations

from decimal import Decimal

import pytest

from maas_client.dataset.cost import (
    HOURS_PER_MONTH,
    Prices,
    TokenRange,
    Usage,
    billed_tokens,
    forecast_cost,
)
from maas_client.errors import ConfigError

TRAIN, HELD = TokenRange(1_000_000, 800_000, 1_500_000), TokenRange(100_000, 80_000, 150_000)


def test_billed_is_training_and_validation_times_epochs() -> None:
    assert billed_tokens(TRAIN, HELD, 3) == TokenRange(3_300_000, 2_640_000, 4_950_000)
    assert billed_tokens(TRAIN, epochs=0.5).likely == 500_000


def test_a_forecast_names_its_sums_and_what_has_no_price() -> None:
    prices = Prices(training_per_million_tokens="3.00", hosting_per_hour=0.74)
    bill = forecast_cost(billed_tokens(TRAIN, HELD, 3), prices, Usage(HOURS_PER_MONTH, 10_000, 0))
    training, hosting = bill.costs
    assert (training.amount, training.at_least, training.at_most) == (
        Decimal("9.90"),
        Decimal("7.92"),
        Decimal("14.85"),
    )
    assert training.how == "3,300,000 tokens x 3.00 a million"
    assert hosting.amount == Decimal("540.20")
    assert bill.total == Decimal("550.10")
    assert bill.missing == ("input_per_million_tokens",)
    assert bill.to_dict()["total"] == "550.10"


def test_no_price_is_built_in() -> None:
    bill = forecast_cost(TRAIN, Prices())
    assert not bill.costs
    assert bill.missing == ("training_per_million_tokens",)


def test_cents_do_not_drift() -> None:
    prices = Prices(hosting_per_hour=0.1)
    assert forecast_cost(TokenRange(0, 0, 0), prices, Usage(3)).total == Decimal("0.30")


@pytest.mark.parametrize("price", [-1, "cheap", float("nan"), float("inf")])
def test_prices_that_make_no_sense(price: object) -> None:
    with pytest.raises(ConfigError, match="must be a number from 0 up"):
        Prices(hosting_per_hour=price)  # type: ignore[arg-type]  # the point of the test


def test_epochs_that_make_no_sense_and_stats_without_tokens() -> None:
    with pytest.raises(ConfigError, match="epochs"):
        billed_tokens(TRAIN, epochs=0)
    with pytest.raises(ConfigError, match="no tokens"):
        TokenRange.from_stats({})
    assert TokenRange.from_stats(
        {"tokens": {"total": 5, "at_least": 1, "at_most": 9}}
    ) == TokenRange(5, 1, 9)
