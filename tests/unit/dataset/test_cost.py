"""Cost forecast: (training + validation) x epochs at the user's prices, and hosting by the hour."""

from __future__ import annotations

from decimal import Decimal

import pytest

from maas_client.dataset.cost import (
    ExpectedUsage,
    Prices,
    TokenRange,
    billed_tokens,
    forecast_cost,
)
from maas_client.errors import ConfigError

TRAIN, VALIDATION = TokenRange(1_000_000, 800_000, 1_500_000), TokenRange(100_000, 80_000, 150_000)


def test_billed_tokens_are_training_plus_validation_times_epochs() -> None:
    assert billed_tokens(TRAIN, VALIDATION, 3) == TokenRange(3_300_000, 2_640_000, 4_950_000)
    assert billed_tokens(TRAIN, epochs=0.5).likely == 500_000


def test_forecast_lists_calculations_and_missing_prices() -> None:
    prices = Prices(training_per_million_tokens="3.00", hosting_per_hour=0.74)
    forecast = forecast_cost(
        billed_tokens(TRAIN, VALIDATION, 3), prices, ExpectedUsage(730, 10_000, 0)
    )
    training, hosting = forecast.costs
    assert (training.amount, training.at_least, training.at_most) == (
        Decimal("9.90"),
        Decimal("7.92"),
        Decimal("14.85"),
    )
    assert training.how == "3,300,000 tokens x 3.00 per million"
    assert hosting.amount == Decimal("540.20")
    assert forecast.total == Decimal("550.10")
    assert forecast.missing == ("input_per_million_tokens",)
    assert forecast.to_dict()["total"] == "550.10"


def test_no_price_has_a_default() -> None:
    forecast = forecast_cost(TRAIN, Prices())
    assert not forecast.costs
    assert forecast.missing == ("training_per_million_tokens",)


def test_amounts_are_exact_to_the_cent() -> None:
    prices = Prices(hosting_per_hour=0.1)
    assert forecast_cost(TokenRange(0, 0, 0), prices, ExpectedUsage(3)).total == Decimal("0.30")


@pytest.mark.parametrize("price", [-1, "cheap", float("nan"), float("inf")])
def test_invalid_price_is_rejected(price: object) -> None:
    with pytest.raises(ConfigError, match="must be a number from 0 up"):
        Prices(hosting_per_hour=price)  # type: ignore[arg-type]  # the point of the test


def test_invalid_epochs_and_missing_token_counts_are_rejected() -> None:
    with pytest.raises(ConfigError, match="epochs"):
        billed_tokens(TRAIN, epochs=0)
    with pytest.raises(ConfigError, match="no tokens"):
        TokenRange.from_stats({})
    assert TokenRange.from_stats(
        {"tokens": {"total": 5, "at_least": 1, "at_most": 9}}
    ) == TokenRange(5, 1, 9)
