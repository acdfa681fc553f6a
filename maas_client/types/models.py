"""Models that a backend stores."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from pydantic import Field

from maas_client.types._api_model import ApiModel

__all__ = ["Model"]


class Model(ApiModel):
    """A model that the backend can deploy: fine-tuned by a job, imported, or a base model.

    Attributes:
        id: What ``deployments.create(model=...)`` takes.
        name: The model's name.
        version: The model's version; None on foundry.
        job: The name of the job that trained it; None for an imported or base model.
        base_model: The base model it was trained from; None if the service does not report it.
        created_at: When it was created; None if the service does not report it.
        properties: The service's own properties and tags.
        raw: The service's response, unchanged.
    """

    _REPR_FIELDS: ClassVar = ("name", "version", "id", "base_model", "job")

    id: str
    name: str
    version: str | None = None
    job: str | None = None
    base_model: str | None = None
    created_at: datetime | None = None
    properties: dict[str, Any] = Field(default_factory=dict)
