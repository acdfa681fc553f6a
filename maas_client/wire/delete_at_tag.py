"""The time at which a deployment is to be deleted, stored as a tag of the Azure resource.

Azure bills a deployment by the hour until it is deleted, and has no expiry. Both kinds of deployment have tags
(Bicep types serverlessEndpoints and accounts/deployments), so the time is visible on every machine, whoever
created the deployment.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

DELETE_AT_TAG = "maas-client-delete-at"


def format_delete_at(moment: datetime) -> str:
    """Return the value of the tag: UTC, with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_delete_at(tags: Any) -> datetime | None:
    """Return the time, or None if there is no tag or its value is not a time with a zone."""
    value = tags.get(DELETE_AT_TAG) if isinstance(tags, Mapping) else None
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return moment if moment.tzinfo else None
