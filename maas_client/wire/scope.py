"""What a connection points at: the part of it that flows may know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Dialect = Literal["azureml", "foundry"]


@dataclass(slots=True)
class Scope:
    """One connection, as a flow sees it."""

    dialect: Dialect
    local: bool
    """True when the address is our own server on loopback: nothing is retired there, polls are quick."""
    values: Mapping[str, str]
    """Path values that every operation of the dialect needs (subscription, workspace, ...)."""
    base_urls: Mapping[str, str]
    """Base address by ``Plane.value``, for planes whose address is not discovered."""
    cloud: str = "public"
    catalog: str | None = None
    """Path of the catalog override file, if there is one."""
    cache: dict[str, Any] = field(default_factory=dict)
    """What flows have looked up and may keep: the workspace, the data plane's address, keys."""
