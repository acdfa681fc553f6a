"""Deployments: a model that answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr

from maas_client.errors import ConfigError, NotFoundError
from maas_client.types._api_model import ApiModel


class Keys(BaseModel):
    """The two keys of a deployment; ``get_secret_value()`` shows one."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    primary: SecretStr
    secondary: SecretStr


class Deployment(ApiModel):
    """A model that answers under a name. ``with`` (or ``async with``) deletes it on the way out."""

    id: str
    name: str
    model: str | None = None
    """The model as the service names it; not the deployment's name."""
    status: str
    """The service's own provisioning word, verbatim."""
    ready: bool = False
    """A chat request has been answered, not merely ``Succeeded``."""
    url: str | None = None
    """Where it answers, as the service gave it."""
    delete_at: datetime | None = None
    """When ``delete_after`` wanted it gone; it is written on the deployment itself, as a tag."""
    properties: dict[str, Any] = Field(default_factory=dict)

    _delete: Callable[[], Any] | None = PrivateAttr(default=None)
    _adelete: Callable[[], Awaitable[Any]] | None = PrivateAttr(default=None)

    def __enter__(self) -> Self:
        if self._delete is None:  # or it would stay, and cost, unsaid
            raise ConfigError(
                f"deployment {self.name!r} is of no Client, so leaving the block would not delete it",
                hint="Of an AsyncClient it takes `async with`; else: with client.deployments.get(NAME).",
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._delete is not None:
            with suppress(NotFoundError):  # deleted inside the block
                self._delete()

    async def __aenter__(self) -> Self:
        if self._adelete is None:
            raise ConfigError(
                f"deployment {self.name!r} is of no AsyncClient, so leaving the block would not delete it",
                hint="Of a Client it takes `with`; else: async with await client.deployments.get(NAME).",
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._adelete is not None:
            with suppress(NotFoundError):  # deleted inside the block
                await self._adelete()
