"""Models: those a backend holds for us."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from maas_client.types._api_model import ApiModel


class Model(ApiModel):
    """A model the backend knows: tuned by a job, imported, or a base model."""

    id: str
    """What ``deployments.create(model=...)`` takes."""
    name: str
    version: str | None = None
    job: str | None = None
    """The name of the job that made it."""
    base_model: str | None = None
    created_at: str | None = None
    properties: dict[str, Any] = Field(default_factory=dict)
