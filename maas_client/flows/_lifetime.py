"""``delete_after``: how it is said, and what it promises."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta

from maas_client.errors import ConfigError

Lifetime = timedelta | float | str
"""Seconds, a ``timedelta``, or a text such as ``2h``, ``90m``, ``1d12h``."""

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_TEXT = re.compile(r"(?:(\d{1,5})d)?(?:(\d{1,5})h)?(?:(\d{1,5})m)?(?:(\d{1,7})s)?", re.ASCII)
_LONGEST_S = 366 * 86400.0


def lifetime_seconds(lifetime: Lifetime) -> float:
    """Return a lifetime in seconds. Raises ``ConfigError`` for what is none, or longer than a year."""
    if isinstance(lifetime, timedelta):
        found = lifetime.total_seconds()
    elif isinstance(lifetime, str):
        found = _read(lifetime)
    elif isinstance(lifetime, int | float) and not isinstance(lifetime, bool):
        found = float(lifetime)
    else:
        found = math.nan
    if not 0 < found <= _LONGEST_S:
        raise ConfigError(
            f"delete_after= cannot be {lifetime!r}: from one second to 366 days is wanted",
            hint="For example 2h, 90m or 1d12h, or a number of seconds.",
        )
    return found


def _read(text: str) -> float:
    found = _TEXT.fullmatch(text.strip().lower())
    if not found or not any(found.groups()):
        return math.nan
    parts = zip(found.groups(), _UNITS.values(), strict=True)
    return float(sum(int(number) * unit for number, unit in parts if number))


def utc_now() -> datetime:
    """Return the time; given to ``io.call``, since a flow has no clock."""
    return datetime.now(UTC)
