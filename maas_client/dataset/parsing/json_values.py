"""Look into parsed JSON values."""

from __future__ import annotations

from typing import Any


def collect_strings(value: Any) -> list[str]:
    """Return every string value within a JSON value, in any order. Keys are not included."""
    strings: list[str] = []
    level = [value]
    while level:
        next_level: list[Any] = []
        for item in level:
            if isinstance(item, str):
                strings.append(item)
            elif isinstance(item, dict):
                next_level += item.values()
            elif isinstance(item, list):
                next_level += item
        level = next_level
    return strings
