"""The options of a client that do not change: its backend, credentials, deadlines and local server."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from maas_client._transport.auth import TokenCache
from maas_client._transport.clouds import Cloud
from maas_client.wire.operation import Scope


@dataclass(slots=True)
class Connection:
    """The options of a client that do not change.

    Attributes:
        scope: The backend and its base addresses.
        cloud: The Azure cloud, which decides the trusted hosts.
        tokens: The access tokens; None on the local server, and on foundry with a key.
        api_key: The key of the local server or of the Foundry resource.
        local_origin: The origin of the local server, the only host that requests are sent to; None for Azure.
        timeout_s: The deadline of one operation in seconds: connecting, sending, retrying and reading.
        max_retries: How often a failed operation is sent again.
        server: Finds or starts the local server before each request; None if its address was given.
        offline: Refuse every request that leaves this machine.
    """

    scope: Scope
    cloud: Cloud
    tokens: TokenCache | None
    api_key: str | None = field(default=None, repr=False)
    local_origin: str | None = None
    timeout_s: float = 60.0
    max_retries: int = 4
    server: RunningServer | None = None
    offline: bool = False


class ServerAddress(Protocol):
    """Where the local server answers."""

    @property
    def url(self) -> str: ...
    @property
    def api_key(self) -> str | None: ...


class RunningServer(Protocol):
    """Finds the user's local server, and starts it where none runs."""

    def find(self) -> ServerAddress | None: ...
    def ensure_running(self) -> ServerAddress: ...
