"""Write the body of a request as JSON, and name the place of what JSON does not have."""

from __future__ import annotations

import json
from collections.abc import Iterable
from math import isfinite
from typing import Any

from maas_client.errors import ConfigError
from maas_client.wire.operation import Operation

_DEPTH_LIMIT = 200
"""Levels of a body that are searched for what JSON does not have."""


def encode_json(op: Operation[Any], body: Any) -> bytes:
    """Return a body as JSON. Raises ``ConfigError`` for one that cannot be written."""
    try:
        return json.dumps(body, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        place, reason = _find_no_json(body) or ("", str(error))
        where = f" at {place}" if place else ""
        raise ConfigError(
            f"the body of {op.name} cannot be written as JSON{where}: {reason}"
        ) from None


def _find_no_json(value: Any, place: str = "", depth: int = 0) -> tuple[str, str] | None:
    """Return where a body has a value that JSON does not have, and what it is; None if there is none."""
    members: Iterable[tuple[str, Any]] = ()
    if depth > _DEPTH_LIMIT:
        return place, "it is nested too deeply"
    if isinstance(value, dict):
        members = ((f"{place}.{key}".lstrip("."), member) for key, member in value.items())
    elif isinstance(value, list | tuple):
        members = ((f"{place}[{i}]", member) for i, member in enumerate(value))
    elif isinstance(value, float) and not isfinite(value):
        return place, f"{value} is not a number of JSON"
    elif isinstance(value, str):
        if not value.isascii() and value != value.encode("utf-8", "replace").decode():
            return place, "it has text that is no valid Unicode"
    elif value is not None and not isinstance(value, bool | int | float):
        return place, f"{type(value).__name__} is not a type of JSON"
    return next(filter(None, (_find_no_json(v, p, depth + 1) for p, v in members)), None)
