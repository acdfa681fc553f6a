"""The part of a connection that flows use: its dialect, paths and base URLs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Dialect = Literal["azureml", "foundry"]


@dataclass(slots=True)
class Scope:
    """A connection to a workspace, a Foundry resource or the local server."""

    dialect: Dialect
    local: bool
    """True for the local server: no model is retired there, and polling is fast."""
    values: Mapping[str, str]
    """The values of the path templates: subscription, workspace, ..."""
    base_urls: Mapping[str, str]
    """Base URL by ``Plane.value``, for planes whose URL is not discovered."""
    cloud: str = "public"
    catalog: str | None = None
    """The path of the user's own catalog file, if there is one."""
    cache: dict[str, Any] = field(default_factory=dict)
    """What flows have looked up: the workspace, the URL of the data plane, keys."""
