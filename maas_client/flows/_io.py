"""The port: all that a flow may ask of the world.

A flow is a coroutine (or an async generator) over this protocol. ``_transport`` implements it twice:
blocking, whose methods never suspend, so that ``run`` drives a flow to its end without a loop or a
thread; and async, where the same five methods are awaited. Tests implement it a third time, with a
dict. Retries, auth, deadlines and redaction are behind ``send``; looking before a re-send, renewing a
SAS and probing for readiness are steps of flows.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from maas_client.wire.op import Op, Plane, Response
from maas_client.wire.scope import Scope

T = TypeVar("T")
A = TypeVar("A")
Coro = Coroutine[Any, Any, T]
"""What calling a flow gives."""


class IO(Protocol):
    """See the module's docstring. Every method may raise a ``MaasError`` and nothing else."""

    @property
    def scope(self) -> Scope: ...

    @property
    def cloud_name(self) -> str:
        """The Azure cloud: ``public``, ``usgov`` or ``china``."""
        ...

    @property
    def has_api_key(self) -> bool:
        """Whether requests are signed with an API key."""
        ...

    async def token(self, plane: Plane) -> str | None:
        """Return an access token for a plane; None if this client does not sign in."""
        ...

    async def send(
        self,
        op: Op[T],
        body: Any = None,
        *,
        base_url: str | None = None,
        url: str | None = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        key: str | None = None,
        deadline_s: float | None = None,
        **path: str,
    ) -> Response[T]:
        """Send one operation, again where ``op.resend`` allows, and return what it promised.

        ``at`` replaces the plane's base address (it may carry a query of its own: a SAS); ``url``
        replaces address and path: a ``Location``, a ``nextLink``, a SAS address.
        ``key`` is a deployment's key and replaces the plane's own credential. ``body`` is a
        JSON-ready value, bytes, or a ``Part`` list for multipart, as ``op.body`` says.
        """
        ...

    def lines(
        self,
        op: Op[Any],
        body: Any = None,
        *,
        base_url: str | None = None,
        headers: Mapping[str, str] | None = None,
        key: str | None = None,
        **path: str,
    ) -> AsyncGenerator[str, None]:
        """Yield the answer line by line as it arrives, without line ends. Never re-sent."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...

    def elapsed(self) -> float:
        """Seconds since some fixed moment: the larger of monotonic and wall-clock time, so that
        a laptop's sleep counts."""
        ...

    async def call(self, fn: Callable[[], T]) -> T:
        """Run something that blocks (hashing, reading a file) without stopping the others."""
        ...

    async def parallel(
        self, step: Callable[[A], Coro[T]], over: Sequence[A], limit: int
    ) -> list[T]:
        """Run ``step`` over all items, at most ``limit`` at once; results in order. The first
        error cancels the rest and is raised."""
        ...
