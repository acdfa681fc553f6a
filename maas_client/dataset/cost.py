"""Forecast the cost of a job and its deployment from prices that the user gives.

The tokens of training and validation data are billed once per epoch (Azure ML reports them in the
job's property ``__azureml_ft_training_tokens``), and a deployment is billed for every hour that it exists,
even when idle. No prices are built in: they depend on the contract and change over time.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from maas_client._messages import Argument, Text
from maas_client.errors import ConfigError

Price = float | int | str | Decimal
_MILLION = 1_000_000
_LARGEST = 10**12
"""The largest price and the largest use: sums stay exact."""


@dataclass(frozen=True, slots=True)
class TokenRange:
    """An estimated number of tokens with its lower and upper bound."""

    likely: int
    at_least: int
    at_most: int

    @classmethod
    def from_stats(cls, stats: dict[str, Any]) -> TokenRange:
        """Return the tokens from ``FileReport.stats``. Raises ``ConfigError`` if none were counted."""
        counted = stats.get("tokens")
        if not counted:
            raise ConfigError(
                "no tokens were counted",
                hint=Text.format("Validate the file with {}.", Argument("content", True)),
            )
        return cls(counted["total"], counted["at_least"], counted["at_most"])

    def for_epochs(self, epochs: float) -> TokenRange:
        """Return the tokens that are billed for a number of epochs."""
        return TokenRange(*(round(n * epochs) for n in (self.likely, self.at_least, self.at_most)))

    def __add__(self, other: TokenRange) -> TokenRange:
        return TokenRange(
            self.likely + other.likely,
            self.at_least + other.at_least,
            self.at_most + other.at_most,
        )


def billed_tokens(
    train: TokenRange, validation: TokenRange | None = None, epochs: float = 1
) -> TokenRange:
    """Return the tokens that a job is billed for: (training + validation) x epochs."""
    if epochs <= 0:
        raise ConfigError(f"epochs must be more than 0, not {epochs}")
    return (train + validation if validation else train).for_epochs(epochs)


@dataclass(frozen=True, slots=True)
class Prices:
    """The user's prices, in one currency. A price of None is unknown and left out of the sum."""

    training_per_million_tokens: Price | None = None
    hosting_per_hour: Price | None = None
    input_per_million_tokens: Price | None = None
    output_per_million_tokens: Price | None = None
    currency: str = "USD"

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if name != "currency" and value is not None:
                _decimal(name, value)

    def as_decimal(self, name: str) -> Decimal | None:
        """Return a price as an exact number, or None if it is unknown."""
        value = getattr(self, name)
        return None if value is None else _decimal(name, value)


def _decimal(name: str, value: Price) -> Decimal:
    try:
        price = Decimal(str(value))
    except ArithmeticError:
        price = Decimal("NaN")
    if not price.is_finite() or price < 0:
        raise ConfigError(
            Text.format("{} must be a number from 0 up, not {}", Argument(name), repr(value))
        )
    if price > _LARGEST:
        raise ConfigError(
            Text.format("{} must be at most {:,}, not {}", Argument(name), _LARGEST, repr(value))
        )
    return price


@dataclass(frozen=True, slots=True)
class ExpectedUsage:
    """The expected use of the deployment."""

    hosting_hours: float = 0
    """Hours that the deployment exists: 730 for a month. Idle hours are billed too."""
    input_tokens: int = 0
    output_tokens: int = 0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            _decimal(name, value)


@dataclass(frozen=True, slots=True)
class CostItem:
    """One line of a forecast, in the prices' currency."""

    what: str
    amount: Decimal
    at_least: Decimal
    at_most: Decimal
    how: str
    """The calculation in words."""


@dataclass(frozen=True, slots=True)
class CostForecast:
    """The cost of a job and its deployment, item by item. ``missing`` names the prices that were not given."""

    currency: str
    costs: tuple[CostItem, ...]
    missing: tuple[str, ...] = ()

    @property
    def total(self) -> Decimal:
        """Return the estimated sum of the items."""
        return sum((cost.amount for cost in self.costs), Decimal(0))

    def to_dict(self) -> dict[str, Any]:
        """Return the forecast, ready for JSON; amounts are strings, so that no digit is lost."""
        return {
            "currency": self.currency,
            "total": str(self.total),
            "costs": [
                {**asdict(cost), **{k: str(getattr(cost, k)) for k in _AMOUNTS}}
                for cost in self.costs
            ],
            "missing": list(self.missing),
        }


_AMOUNTS = ("amount", "at_least", "at_most")


def forecast_cost(
    billed: TokenRange, prices: Prices, usage: ExpectedUsage | None = None
) -> CostForecast:
    """Return the cost of a job with these billed tokens and of its deployment."""
    use = usage or ExpectedUsage()
    input_tokens = TokenRange(use.input_tokens, use.input_tokens, use.input_tokens)
    output_tokens = TokenRange(use.output_tokens, use.output_tokens, use.output_tokens)
    billed_items = (
        ("training", "training_per_million_tokens", billed),
        ("input", "input_per_million_tokens", input_tokens),
        ("output", "output_per_million_tokens", output_tokens),
    )
    costs, missing = [], []
    for item, price_name, tokens in billed_items:
        price = prices.as_decimal(price_name)
        if price is None and tokens.at_most:
            missing.append(price_name)
        elif price is not None and tokens.at_most:
            costs.append(_token_cost(item, tokens, price))
    hourly = prices.as_decimal("hosting_per_hour")
    if hourly is None and use.hosting_hours:
        missing.append("hosting_per_hour")
    elif hourly is not None and use.hosting_hours:
        amount = _round_to_cents(Decimal(str(use.hosting_hours)) * hourly)
        how = f"{use.hosting_hours:,g} hours x {hourly}"
        costs.append(CostItem("hosting", amount, amount, amount, how))
    return CostForecast(prices.currency, tuple(costs), tuple(missing))


def _token_cost(item: str, tokens: TokenRange, price: Decimal) -> CostItem:
    amounts = [
        _round_to_cents(Decimal(count) * price / _MILLION)
        for count in (tokens.likely, tokens.at_least, tokens.at_most)
    ]
    how = f"{tokens.likely:,} tokens x {price} per million"
    return CostItem(item, amounts[0], amounts[1], amounts[2], how)


def _round_to_cents(amount: Decimal) -> Decimal:
    return amount.quantize(Decimal("0.01"), ROUND_HALF_UP)
