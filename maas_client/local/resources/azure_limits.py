"""What Azure documents of a deployment's limits, kept here with ``serve --realistic`` (off by default).

Every number is the catalog's, with its source (``catalog/limits.json``); what is not documented is not
imitated. How Azure counts within a minute is not known: here it is the last sixty seconds, and an
answer's tokens count when it has ended.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from maas_client.catalog import Limit, load_limits
from maas_client.local.resources.assets import FOUNDRY_SCOPE
from maas_client.local.resources.errors import ApiError, user_error
from maas_client.local.state.store import Record
from maas_client.wire import lifetime


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What a deployment may do in a minute, and who says so."""

    requests: int
    tokens: int
    source: str


@dataclass(frozen=True, slots=True)
class RequestBucket:
    """Requests that ARM takes at once, and those that come back each second."""

    kind: str
    """``reads``, ``writes`` or ``deletes``."""
    size: int
    per_second: int


class AzureLimits:
    """The documented limits; with ``on=False`` there are none."""

    def __init__(self, *, enabled: bool) -> None:
        self.enabled = enabled
        self._azureml, self._foundry = load_limits("azureml"), load_limits("foundry")

    def rate_limit(self, endpoint: Record) -> RateLimit | None:
        """Return what a deployment may do in a minute; None: anything (provisioned throughput is sold
        in other units)."""
        if not self.enabled:
            return None
        if endpoint.body["scope"] != FOUNDRY_SCOPE:
            requests = self._azureml["deployment_requests_per_minute"]
            tokens = self._azureml["deployment_tokens_per_minute"]
            return RateLimit(_int(requests), _int(tokens), _source(tokens))
        sku = endpoint.body["request"].get("sku") or {}
        if "provisioned" in str(sku.get("name")).lower():
            return None
        requests = self._foundry["deployment_capacity_requests_per_minute"]
        tokens = self._foundry["deployment_capacity_tokens_per_minute"]
        said = sku.get("capacity")
        units = said if isinstance(said, int) and said > 0 else 1
        return RateLimit(units * _int(requests), units * _int(tokens), _source(tokens))

    def arm_bucket(self, method: str) -> RequestBucket | None:
        """Return how often a subscription may ask ARM to do what ``method`` does."""
        if not self.enabled:
            return None
        kind = {"GET": "reads", "HEAD": "reads", "DELETE": "deletes"}.get(method, "writes")
        size, rate = (self._azureml[f"arm_{kind}_{of}"] for of in ("at_once", "per_second"))
        return RequestBucket(kind, _int(size), _int(rate))

    def check_model_not_deployed(self, model_id: str, others: Iterable[Record]) -> None:
        """Refuse a second endpoint for a tuned model in a workspace."""
        most = self._azureml["deployments_per_model"]
        taken = [f.body["name"] for f in others if f.body["model_id"] == model_id]
        if self.enabled and len(taken) >= _int(most):
            raise user_error(
                f"The model is deployed as {taken[0]} already, and a project may deploy a model "
                f"{_int(most)} time(s) ({_source(most)}; this server is --realistic).",
                target="modelSettings.modelId",
            )

    def check_deployment_count(self, others: Iterable[Record]) -> None:
        """Refuse one tuned deployment more than a Foundry resource may have."""
        most = self._foundry["deployments_max"]
        if self.enabled and sum(1 for f in others if f.body["target"]["folder"]) >= _int(most):
            raise ApiError(
                400, "quotaExceeded",
                f"A resource may have {_int(most)} deployments of tuned models ({_source(most)}; this "
                "server is --realistic).",
            )  # fmt: skip

    def deletion_time(self, endpoint: Record) -> datetime | None:
        """Return when a deployment goes by itself: what ``delete_after`` wrote on it, and what the
        developer tier is documented to do."""
        request = endpoint.body["request"]
        sku = request.get("sku")
        name = str(sku.get("name")) if isinstance(sku, dict) else ""
        moments = [lifetime.read_delete_at(request.get("tags"))]
        if self.enabled and name.lower() == "developertier":
            hours = _int(self._foundry["deployment_developer_hours"])
            born = datetime.fromisoformat(endpoint.body["created"])
            moments.append(born + timedelta(hours=hours))
        return min((moment for moment in moments if moment), default=None)


def _int(limit: Limit) -> int:
    value: Any = limit.value
    return int(value)


def _source(limit: Limit) -> str:
    return f"{limit.source.title}; {limit.source.as_of}"
