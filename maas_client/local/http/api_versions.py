"""Validation of ``api-version``: malformed versions are refused, unknown newer ones get a warning."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any

from maas_client.local.resources.errors import ApiError
from maas_client.wire.op import Op, Plane

NEWEST_VERSION = "2026-07-01"
"""The newest api-version known when this was written (docs/azure-http.md sections 1.1 and 4.6)."""

_DATED = re.compile(r"(\d{4}-\d{2}-\d{2})(-[a-z]{2,24})?", re.IGNORECASE)
_NAMED = re.compile(r"v\d+(\.\d+)?|preview|latest", re.IGNORECASE)


def check_api_version(op: Op[Any], query: Mapping[str, str]) -> str | None:
    """Return a warning, or None. Raises ``ApiError`` for a malformed version.

    ARM requires a version; the other APIs accept requests without one. The login has version numbers of its
    own: msal requests 1.1 before it reports why a secret was refused.
    """
    if op.plane is Plane.ANONYMOUS:
        return None
    if "api-version" not in query:
        if op.plane is Plane.ARM:
            raise ApiError(
                400,
                "MissingApiVersionParameter",
                "The api-version query parameter (?api-version=) is required for all requests.",
            )
        return None
    version = query["api-version"]
    match = _DATED.fullmatch(version)
    if not match:
        if _NAMED.fullmatch(version) and op.plane is not Plane.ARM:
            return None
        raise _invalid_version()
    try:
        date.fromisoformat(match[1])
    except ValueError:
        raise _invalid_version() from None
    if match[1] > NEWEST_VERSION:
        return (
            f"api-version {version} is newer than the newest this server knows ({NEWEST_VERSION}); "
            f"the request was handled as {NEWEST_VERSION}"
        )
    return None


def _invalid_version() -> ApiError:
    return ApiError(
        400,
        "InvalidApiVersionParameter",
        "The api-version is invalid. Use a date, YYYY-MM-DD, followed by -preview for a preview version.",
    )
