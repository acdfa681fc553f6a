"""``validate --price-training P``: what the job would cost, at prices from the user's own list."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from maas_client.types.report import ValidationReport

_PRICES = {
    "price_training": ("training_per_million_tokens", "a million training tokens"),
    "price_hosting": ("hosting_per_hour", "an hour of hosting"),
}


def add_cost_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    for name, (_, of_what) in _PRICES.items():
        parser.add_argument(f"--{name.replace('_', '-')}", metavar="P",
                            help=f"price of {of_what}, for a forecast")  # fmt: skip
    parser.add_argument("--hours", type=float, default=0, metavar="H",
                        help="hours of hosting in the forecast (730 are a month)")  # fmt: skip
    parser.add_argument("--currency", default="USD", help="of these prices (USD)")


def forecast_cost(args: argparse.Namespace, report: ValidationReport) -> dict[str, Any] | None:
    """Return the forecast, JSON-ready, or None if no price was given."""
    from maas_client.dataset import cost as money

    given = {field: getattr(args, name) for name, (field, _) in _PRICES.items()}
    if not any(given.values()):
        return None
    prices = money.Prices(**given, currency=args.currency)
    tokens = [money.TokenRange.from_stats(file.stats) for file in report.files]
    train = tokens[0]
    for more in tokens[1:]:
        train = train + more
    billed = money.billed_tokens(train, epochs=args.epochs or 1)
    bill = money.forecast_cost(billed, prices, money.Usage(hosting_hours=args.hours))
    said = {"likely": billed.likely, "at_least": billed.at_least, "at_most": billed.at_most}
    return {"billed_tokens": said, **bill.to_dict()}


def cost_lines(bill: dict[str, Any]) -> Iterator[str]:
    """Yield the forecast for a reader."""
    currency = bill["currency"]
    for cost in bill["costs"]:
        exact = cost["at_least"] == cost["at_most"]
        between = "" if exact else f", surely {cost['at_least']} to {cost['at_most']}"
        yield f"{cost['what']}: {currency} {cost['amount']} ({cost['how']}{between})"
    yield f"in all: {currency} {bill['total']}, by the prices given"
