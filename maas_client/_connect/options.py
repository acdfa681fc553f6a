"""What a constructor of a client has collected, and the connection that is built from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from maas_client._argument_types import check_type
from maas_client._local_server.process import LocalServer
from maas_client._messages import Argument, Text
from maas_client._secret import find_invalid_character
from maas_client._settings import Settings
from maas_client._transport.auth import TokenCache, TokenCredential
from maas_client._transport.clouds import Cloud, fetch_cloud, get_cloud
from maas_client._transport.connection import Connection
from maas_client.errors import ConfigError
from maas_client.flows.identifiers import check_number
from maas_client.wire.operation import Dialect, Plane, Scope


@dataclass(slots=True)
class ConnectionOptions:
    """What a constructor has collected, before anything is connected.

    Args:
        dialect: Which of the two HTTP APIs is used.
        cloud_name: The Azure cloud: ``public``, ``usgov`` or ``china``.
        settings: The settings of the environment, with the constructor's arguments on top.
        values: Values for path templates, such as the subscription.
        base_urls: Base addresses by plane, for planes whose address is not discovered.
        local_origin: The address of the local server; None for Azure.
        server: Finds or starts the local server; None if its address was given.
        credential: An azure-identity credential.
        api_key: A key instead of a credential.
        timeout_s: Seconds for one operation with its retries.
        max_retries: How often a request is sent again.
        http: The HTTP client to use; None to create one.
        ca_file: A file of CA certificates.
    """

    dialect: Dialect
    cloud_name: str
    settings: Settings
    values: dict[str, str] = field(default_factory=dict)
    base_urls: dict[str, str] = field(default_factory=dict)
    local_origin: str | None = None
    server: LocalServer | None = None
    credential: TokenCredential | None = None
    api_key: str | None = field(default=None, repr=False)
    timeout_s: float = 60.0
    max_retries: int = 4
    http: Any = None
    ca_file: str | None = None


def build_connection(options: ConnectionOptions, http: Any) -> Connection:
    """Return the connection: the cloud's hosts, the tokens, and the scope that flows see."""
    _check_key(options)
    check_number("timeout", options.timeout_s, may_equal=False)
    check_number("max_retries", options.max_retries, is_whole=True)
    if not callable(getattr(options.credential, "get_token", None)):
        check_type("credential", options.credential, type(None), "an object with get_token")
    cloud = _resolve_cloud(options)
    is_local = options.local_origin is not None
    return Connection(
        scope=Scope(
            dialect=options.dialect,
            local=is_local,
            values=options.values,
            base_urls={Plane.ARM.value: cloud.arm, **options.base_urls},
            cloud=cloud.name,
            catalog=options.settings.catalog,
            client_dir=options.settings.upload_state_path(),
        ),
        cloud=cloud,
        tokens=None if is_local else TokenCache(options.credential, cloud.authority),
        api_key=options.api_key,
        local_origin=options.local_origin,
        server=options.server,
        timeout_s=options.timeout_s,
        max_retries=options.max_retries,
        offline=options.settings.is_enabled("offline"),
    )


def _check_key(options: ConnectionOptions) -> None:
    if options.api_key is None:
        return
    reason = find_invalid_character(options.api_key)
    if reason is not None:
        name = "api_key" if options.local_origin is not None else "foundry_api_key"
        origin = options.settings.origin(name)
        raise ConfigError(
            Text.format(
                "{} cannot be used as a key: {}",
                Argument("api_key") if origin == "argument" else origin,
                reason,
            ),
            hint="Copy the key again. A key has letters, digits and punctuation only.",
        )


def _resolve_cloud(options: ConnectionOptions) -> Cloud:
    url = options.settings.cloud_metadata_url
    if options.local_origin is not None or not url:
        return get_cloud(options.cloud_name)
    return fetch_cloud(url, options.ca_file)


def describe(client: object) -> str:
    """Return what a client or one of its resources is connected to, for its ``repr``. Contains no credential.

    A traceback also shows a client whose constructor failed, which is connected to nothing.
    """
    if not hasattr(client, "_io"):
        return "nothing yet"
    scope: Scope = client._io.scope
    if scope.local:
        return f"the local server at {scope.base_urls[Plane.ARM.value]} ({scope.dialect})"
    name = scope.values.get("workspace") or scope.base_urls.get(Plane.FOUNDRY.value, "")
    return f"{scope.dialect} {name}"
