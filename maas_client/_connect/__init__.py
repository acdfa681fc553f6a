"""The constructors of both clients: for a workspace, a Foundry resource, or the local server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Self, TypedDict, Unpack
from urllib.parse import urlsplit

from maas_client._argument_types import check_type
from maas_client._connect.azure_resources import (
    account_values,
    foundry_base_urls,
    without_user,
    workspace_values,
)
from maas_client._connect.options import ConnectionOptions
from maas_client._local_server.process import LocalServer
from maas_client._local_server.record import ServerRecord, find_key
from maas_client._messages import AnyOf, Argument, Text
from maas_client._secret import hide
from maas_client._settings import Settings
from maas_client._transport.auth import TokenCredential
from maas_client._transport.clouds import is_loopback, is_valid_url
from maas_client.errors import ConfigError
from maas_client.flows._signature import expand_options
from maas_client.wire.operation import Dialect, local_base_urls

_LOCAL_WORKSPACE = {
    "subscription": "00000000-0000-0000-0000-000000000000",
    "resource_group": "local",
    "workspace": "local",
}


class CommonOptions(TypedDict, total=False):
    """Options that every constructor takes; the docstrings of the constructors describe them."""

    timeout: float
    max_retries: int
    http: Any
    ca_file: str | None


_COMMON_DEFAULTS: CommonOptions = {
    "timeout": 60.0,
    "max_retries": 4,
    "http": None,
    "ca_file": None,
}


class Constructors(ABC):
    """The constructors that ``Client`` and ``AsyncClient`` share."""

    @abstractmethod
    def __init__(self, options: ConnectionOptions) -> None: ...

    @classmethod
    def azureml(
        cls,
        *,
        subscription_id: str | None = None,
        resource_group: str | None = None,
        workspace: str | None = None,
        resource_id: str | None = None,
        config: str | Path | None = None,
        credential: TokenCredential | None = None,
        cloud: str | None = None,
        timeout: float = 60.0,
        max_retries: int = 4,
        http: Any = None,
        ca_file: str | None = None,
    ) -> Self:
        """Connect to an Azure ML workspace or a hub-based Foundry project, where Phi models are tuned.

        The workspace is given by its three parts, by ``resource_id``, by environment variables, or by
        the ``config.json`` that Azure ML Studio offers for download. Nothing is sent.

        Args:
            subscription_id: The subscription; default: ``MAAS_SUBSCRIPTION_ID``.
            resource_group: The resource group; default: ``MAAS_RESOURCE_GROUP``.
            workspace: The name of the workspace; default: ``MAAS_WORKSPACE``.
            resource_id: The workspace's ARM id, instead of the three parts; default:
                ``MAAS_RESOURCE_ID``.
            config: The path of a ``config.json``; default: ``config.json`` or ``.azureml/config.json``
                in this folder or one of its parents.
            credential: An object with ``get_token``, as in azure-identity; default: a
                ``DefaultAzureCredential``, created with the first request.
            cloud: ``"public"``, ``"usgov"`` or ``"china"``; default: ``MAAS_CLOUD``, else public.
            timeout: Seconds for one operation, with its retries; default: 60.
            max_retries: How often a request is sent again after an error that allows it; default: 4.
            http: An ``httpx.Client`` to use (``httpx.AsyncClient`` for ``AsyncClient``), which the caller
                closes; default: one of the client's own.
            ca_file: A PEM file with the CA certificates to trust; default: ``REQUESTS_CA_BUNDLE`` or
                ``SSL_CERT_FILE``, else the usual ones.

        Returns:
            The client.

        Raises:
            ConfigError: A part of the workspace is missing or given twice, or a value is invalid.

        Example:
            >>> client = maas.Client.azureml(
            ...     subscription_id="...", resource_group="ml", workspace="tickets"
            ... )
        """
        check_type("config", config, str | Path | None, "a path")
        settings = Settings.load(
            subscription_id=subscription_id,
            resource_group=resource_group,
            workspace=workspace,
            resource_id=resource_id,
            cloud=cloud,
            ca_file=ca_file,
        )
        return cls(
            ConnectionOptions(
                dialect="azureml",
                cloud_name=str(settings.cloud),
                settings=settings,
                values=workspace_values(settings, config),
                credential=credential,
                timeout_s=timeout,
                max_retries=max_retries,
                http=http,
                ca_file=settings.ca_file,
            )
        )

    @classmethod
    def foundry(
        cls,
        *,
        endpoint: str | None = None,
        api_key: str | None = None,
        credential: TokenCredential | None = None,
        account_id: str | None = None,
        cloud: str | None = None,
        timeout: float = 60.0,
        max_retries: int = 4,
        http: Any = None,
        ca_file: str | None = None,
    ) -> Self:
        """Connect to a Foundry resource. Phi models are not tuned there: use ``Client.azureml``.

        Nothing is sent.

        Args:
            endpoint: ``https://NAME.openai.azure.com``, ``https://NAME.services.ai.azure.com``, or the
                address of a project; default: ``MAAS_FOUNDRY_ENDPOINT``.
            api_key: A key of the resource; default: ``MAAS_FOUNDRY_API_KEY``.
            credential: An object with ``get_token``, as in azure-identity, instead of a key; default
                without a key: a ``DefaultAzureCredential``, created with the first request.
            account_id: The account's ARM id, which only deployments need; default:
                ``MAAS_FOUNDRY_ACCOUNT_ID``.
            cloud: ``"public"``, ``"usgov"`` or ``"china"``; default: ``MAAS_CLOUD``, else public.
            timeout: Seconds for one operation, with its retries; default: 60.
            max_retries: How often a request is sent again after an error that allows it; default: 4.
            http: An ``httpx.Client`` to use (``httpx.AsyncClient`` for ``AsyncClient``), which the caller
                closes; default: one of the client's own.
            ca_file: A PEM file with the CA certificates to trust; default: ``REQUESTS_CA_BUNDLE`` or
                ``SSL_CERT_FILE``, else the usual ones.

        Returns:
            The client.

        Raises:
            ConfigError: The endpoint is missing, a value is invalid, or both ``api_key`` and
                ``credential`` are given.

        Example:
            >>> client = maas.Client.foundry(endpoint="https://tickets.openai.azure.com", api_key="...")
        """
        api_key = hide(api_key)
        settings = Settings.load(
            foundry_endpoint=endpoint,
            foundry_api_key=api_key,
            foundry_account_id=account_id,
            cloud=cloud,
            ca_file=ca_file,
        )
        if credential is not None and api_key is not None:
            raise ConfigError(
                Text.format(
                    "both {} and {} are given", Argument("api_key"), Argument("credential")
                ),
                hint="Leave out one of them.",
            )
        return cls(
            ConnectionOptions(
                dialect="foundry",
                cloud_name=str(settings.cloud),
                settings=settings,
                values=account_values(settings.foundry_account_id),
                base_urls=foundry_base_urls(settings.require("foundry_endpoint")),
                credential=credential,
                api_key=None if credential is not None else settings.foundry_api_key,
                timeout_s=timeout,
                max_retries=max_retries,
                http=http,
                ca_file=settings.ca_file,
            )
        )

    @classmethod
    def local(
        cls,
        *,
        url: str | None = None,
        dialect: Dialect | None = None,
        api_key: str | None = None,
        engine: str | None = None,
        keep: bool = False,
        timeout: float = 60.0,
        max_retries: int = 4,
        http: Any = None,
        ca_file: str | None = None,
    ) -> Self:
        """Connect to the local server. Nothing is sent.

        Without an address, the client uses your running server. If none runs, the first request starts one:
        a process of its own, which keeps its state in the usual folder and stops after 30 minutes without
        jobs and requests. Programs that start at the same time share one server.

        Args:
            url: The server's address; default: ``MAAS_URL``, else your running server or a new one.
            dialect: Which HTTP API to use: ``"azureml"`` or ``"foundry"``; default: ``MAAS_DIALECT``,
                else azureml.
            api_key: The key that the server was started with; default: the key of your own server, else
                ``MAAS_API_KEY``.
            engine: The engine of the server: ``"peft"`` trains, ``"instant"`` simulates and needs no torch.
                Default: the running server's, else ``MAAS_ENGINE``, else peft.
            keep: True: the server keeps running when it is idle; default: False. Stop it with
                ``maas-client serve --stop``.
            timeout: Seconds for one operation, with its retries; default: 60.
            max_retries: How often a request is sent again after an error that allows it; default: 4.
            http: An ``httpx.Client`` to use (``httpx.AsyncClient`` for ``AsyncClient``), which the caller
                closes; default: one of the client's own.
            ca_file: A PEM file with the CA certificates to trust, for a server with TLS; default:
                ``REQUESTS_CA_BUNDLE`` or ``SSL_CERT_FILE``, else the usual ones.

        Returns:
            The client.

        Raises:
            ConfigError: The address, dialect or engine is invalid, the server is on another machine and
                there is no key, or your own server has another engine or key.

        Example:
            >>> client = maas.Client.local()
        """
        api_key = hide(api_key)
        settings = Settings.load(
            url=url, dialect=dialect, api_key=api_key, ca_file=ca_file, engine=engine
        )
        server, record = _local_server(settings, keep=keep)
        origin = (record.url if record else settings.require("url")).rstrip("/")
        api_key = settings.api_key
        if record and settings.origin("api_key") != "argument":
            api_key = record.api_key or api_key
        name = settings.require("dialect").lower()
        if name not in ("azureml", "foundry"):
            raise ConfigError(f"unknown dialect {name!r}", hint="Use azureml or foundry.")
        if not is_valid_url(origin) or urlsplit(origin)[2:] != ("", "", ""):
            raise ConfigError(
                f"{without_user(origin)!r} is not the address of a server",
                hint="Use an address such as http://127.0.0.1:8765 or http://[::1]:8765.",
            )
        if not is_loopback(origin) and not api_key:
            raise ConfigError(
                f"{origin} is on another machine, and no key is given",
                hint=Text.format(
                    "Start that server with --api-key and pass the key as {}.",
                    AnyOf(Argument("api_key"), "MAAS_API_KEY"),
                ),
            )
        is_foundry = name == "foundry"
        return cls(
            ConnectionOptions(
                dialect="foundry" if is_foundry else "azureml",
                cloud_name="public",
                settings=settings,
                values={**_LOCAL_WORKSPACE, **({"account": "local"} if is_foundry else {})},
                base_urls=local_base_urls(origin),
                local_origin=origin,
                server=server,
                api_key=hide(api_key),
                timeout_s=timeout,
                max_retries=max_retries,
                http=http,
                ca_file=settings.ca_file or (record.ca_file if record else None),
            )
        )

    @classmethod
    @expand_options(CommonOptions, _COMMON_DEFAULTS)
    def from_env(cls, profile: str | None = None, **options: Unpack[CommonOptions]) -> Self:
        """Connect to the backend that environment variables, or a profile, select.

        ``MAAS_BACKEND`` is ``local`` (the default), ``azureml`` or ``foundry``. ``maas-client config``
        lists all variables. Nothing is sent.

        Args:
            profile: A profile of ``~/.config/maas-client/config.toml``, which overrides the variables;
                default: ``MAAS_PROFILE``, else the file's own default, which do not.
            timeout: Seconds for one operation, with its retries; default: 60.
            max_retries: How often a request is sent again after an error that allows it; default: 4.
            http: An ``httpx.Client`` to use (``httpx.AsyncClient`` for ``AsyncClient``), which the caller
                closes; default: one of the client's own.
            ca_file: A PEM file with the CA certificates to trust; default: ``REQUESTS_CA_BUNDLE`` or
                ``SSL_CERT_FILE``, else the usual ones.

        Returns:
            The client.

        Raises:
            ConfigError: A variable is missing or invalid, or there is no such profile.

        Example:
            >>> os.environ["MAAS_BACKEND"] = "local"
            >>> client = maas.Client.from_env(timeout=30)
        """
        with Settings.use_profile(profile):
            backend = Settings.load().require("backend").lower()
            if backend == "local":
                return cls.local(**options)
            if backend == "azureml":
                return cls.azureml(**options)
            if backend == "foundry":
                return cls.foundry(**options)
        raise ConfigError(f"unknown backend {backend!r}", hint="Use local, azureml or foundry.")


def _local_server(
    settings: Settings, *, keep: bool
) -> tuple[LocalServer | None, ServerRecord | None]:
    """Return what finds or starts the server, if no address was given, and the running server."""
    engine = settings.require("engine").lower()
    if engine not in ("peft", "instant"):
        raise ConfigError(f"unknown engine {engine!r}", hint="Use peft or instant.")
    if settings.origin("url") == "default":
        server = LocalServer(settings, keep=keep)
        return server, server.find()
    for name, is_given in (("engine", settings.origin("engine") == "argument"), ("keep", keep)):
        if is_given:
            raise ConfigError(
                Text.format(
                    "{} applies to a server that this client starts, but the address of a server is given",
                    Argument(name),
                ),
                hint=Text.format(
                    "Leave out one of them: {} or {}.",
                    Argument(name),
                    AnyOf(Argument("url"), "MAAS_URL"),
                ),
            )
    return None, find_key(settings)
