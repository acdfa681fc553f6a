"""When a deployment is to be deleted: a tag on the resource itself.

Azure keeps a deployment until somebody deletes it, and charges by the hour; it knows no expiry. Both
kinds of deployment take tags (``specs/bicep-types``: serverlessEndpoints, accounts/deployments), so the
moment travels with the deployment: every machine sees it, whoever made it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

DELETE_AT_TAG = "maas-client-delete-at"


def format_delete_at(moment: datetime) -> str:
    """Return the tag's value: UTC, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_delete_at(tags: Any) -> datetime | None:
    """Return the moment, or None: there is none, or somebody wrote something else there."""
    said = tags.get(DELETE_AT_TAG) if isinstance(tags, Mapping) else None
    try:
        moment = datetime.fromisoformat(str(said))
    except ValueError:
        return None
    return moment if moment.tzinfo else None
