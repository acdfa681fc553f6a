"""Models that a backend stores, and deployments: models that answer chat requests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from typing import Any, ClassVar, Self

from pydantic import Field, PrivateAttr, SecretStr

from maas_client._messages import PythonOnly, Text
from maas_client.errors import ConfigError, NotFoundError
from maas_client.types._api_model import FrozenModel, SimulatableModel

__all__ = ["Deployment", "Keys", "Model"]


class Model(SimulatableModel):
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


class Keys(FrozenModel):
    """The two keys of a deployment. Their values are hidden until ``get_secret_value()`` is called.

    Attributes:
        primary: The first key.
        secondary: The second key; it stays valid while the first one is replaced.

    Example:
        >>> client.deployments.keys("tickets").primary.get_secret_value()
    """

    primary: SecretStr
    secondary: SecretStr


class Deployment(SimulatableModel):
    """A model that answers chat requests under a name.

    As a context manager (``with``, or ``async with`` for one of an ``AsyncClient``) it is deleted on exit.

    Attributes:
        id: The ARM id, or the name where there is none.
        name: The deployment's name, which ``client.chat`` takes.
        model: The deployed model as the service names it.
        status: The service's own provisioning state, such as ``Succeeded``.
        ready: True if it answers chat requests. ``create`` waits for this, which can be later than
            ``Succeeded``.
        url: The address of the endpoint; None until the service reports it.
        delete_at: When it is due to be deleted (see ``delete_after``); None if no time is set. The time is
            stored on the service as a tag.
        properties: The service's own properties and tags.
        raw: The service's response, unchanged.

    Example:
        >>> with client.deployments.create(name="tickets", model=job.fine_tuned_model) as deployment:
        ...     client.chat.complete(deployment, messages)
    """

    _REPR_FIELDS: ClassVar = ("name", "status", "ready", "model", "url", "delete_at")

    id: str
    name: str
    model: str | None = None
    status: str
    ready: bool = False
    url: str | None = None
    delete_at: datetime | None = None
    properties: dict[str, Any] = Field(default_factory=dict)

    _delete: Callable[[], Any] | None = PrivateAttr(default=None)
    _adelete: Callable[[], Awaitable[Any]] | None = PrivateAttr(default=None)

    def __enter__(self) -> Self:
        if self._delete is None:  # it would stay, and cost money, without anyone noticing
            raise ConfigError(
                f"deployment {self.name!r} has no Client, so leaving the block would not delete it",
                hint=Text(
                    PythonOnly(
                        "Use `async with` for a deployment of an AsyncClient; otherwise get it first: "
                        "with client.deployments.get(NAME)."
                    )
                ),
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._delete is not None:
            with suppress(NotFoundError):  # deleted inside the block
                self._delete()

    async def __aenter__(self) -> Self:
        if self._adelete is None:
            raise ConfigError(
                f"deployment {self.name!r} has no AsyncClient, so leaving the block would not delete it",
                hint=Text(
                    PythonOnly(
                        "Use `with` for a deployment of a Client; otherwise get it first: "
                        "async with await client.deployments.get(NAME)."
                    )
                ),
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._adelete is not None:
            with suppress(NotFoundError):  # deleted inside the block
                await self._adelete()
