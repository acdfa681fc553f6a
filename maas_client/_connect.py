"""The constructors of both clients: for a workspace, a Foundry resource, or the local server."""

from __future__ import annotations

import json
import logging
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypedDict, Unpack
from urllib.parse import urlsplit

from maas_client._argument_types import check_type
from maas_client._local_server.process import LocalServer
from maas_client._local_server.record import ServerRecord, find_key
from maas_client._messages import AnyOf, Argument, Text
from maas_client._secret import find_invalid_character, hide
from maas_client._settings import Settings
from maas_client._transport import Connection
from maas_client._transport.auth import TokenCache, TokenCredential
from maas_client._transport.clouds import Cloud, get_cloud, is_loopback, is_valid_url
from maas_client.errors import ConfigError
from maas_client.flows._signature import expand_options
from maas_client.flows.identifiers import check_number
from maas_client.wire.operation import Dialect, Plane, Scope, local_base_urls

_log = logging.getLogger("maas_client")
_DOWNLOAD_HINT = "Download config.json from Azure ML Studio."
_WORKSPACE_ID = re.compile(
    r"(?i)^/subscriptions/(?P<subscription>[^/]+)/resourceGroups/(?P<resource_group>[^/]+)"
    r"/providers/Microsoft\.MachineLearningServices/workspaces/(?P<workspace>[^/]+)/?$"
)
_ACCOUNT_ID = re.compile(
    r"(?i)^/subscriptions/(?P<subscription>[^/]+)/resourceGroups/(?P<resource_group>[^/]+)"
    r"/providers/Microsoft\.CognitiveServices/accounts/(?P<account>[^/]+)/?$"
)
_LOCAL_WORKSPACE = {
    "subscription": "00000000-0000-0000-0000-000000000000",
    "resource_group": "local",
    "workspace": "local",
}


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
    from maas_client._transport.clouds import fetch_cloud

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
                values=_workspace_values(settings, config),
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
                values=_account_values(settings.foundry_account_id),
                base_urls=_foundry_base_urls(settings.require("foundry_endpoint")),
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
            api_key: The key that the server was started with; default: ``MAAS_API_KEY``, else the key of your
                running server.
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
                there is no key, or the running server has another engine.

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
        if record and (record.api_key or settings.origin("api_key") == "default"):
            api_key = record.api_key
        name = settings.require("dialect").lower()
        if name not in ("azureml", "foundry"):
            raise ConfigError(f"unknown dialect {name!r}", hint="Use azureml or foundry.")
        if not is_valid_url(origin) or urlsplit(origin)[2:] != ("", "", ""):
            raise ConfigError(
                f"{_without_user(origin)!r} is not the address of a server",
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


def _workspace_values(settings: Settings, config: str | Path | None) -> dict[str, str]:
    """Return subscription, resource group and workspace: from the arguments, the environment or a file."""
    names = ("resource_id", "subscription_id", "resource_group", "workspace")
    given = [name for name in names if settings.origin(name) == "argument"]
    given += ["config"] if config else []
    if len(given) > 1 and (given[0] == "resource_id" or len(given) == len(names)):
        raise ConfigError(
            Text.format(
                "the workspace is given twice: as {} and as {}",
                Argument(given[0]),
                Argument(given[-1]),
            ),
            hint="Leave out one of them.",
        )
    if settings.resource_id and given in ([], ["resource_id"]):
        match = _WORKSPACE_ID.match(settings.resource_id)
        if not match:
            raise ConfigError(
                Text.format("{} is not the ARM id of a workspace", Argument("resource_id")),
                hint="It has the form /subscriptions/.../resourceGroups/.../providers/"
                "Microsoft.MachineLearningServices/workspaces/NAME.",
            )
        return match.groupdict()
    parts = {
        part: getattr(settings, name) if name in given or not config else None
        for part, name in zip(
            ("subscription", "resource_group", "workspace"), names[1:], strict=True
        )
    }  # a file that is given counts more than the environment
    if not all(parts.values()):
        _, file_parts = studio_config(Path(config) if config else None)
        parts = {name: value or file_parts.get(name) for name, value in parts.items()}
    missing = [name.replace("_", " ") for name, value in parts.items() if not value]
    if missing:
        first = ", ".join(missing[:-1])
        raise ConfigError(
            f"no {first}{' or ' if first else ''}{missing[-1]} is given",
            hint=Text.format(
                "Pass {}, {} and {}, or {}; or put Studio's config.json into this folder; or set "
                "MAAS_SUBSCRIPTION_ID, MAAS_RESOURCE_GROUP and MAAS_WORKSPACE.",
                Argument("subscription_id"),
                Argument("resource_group"),
                Argument("workspace"),
                Argument("resource_id"),
            ),
        )
    return {name: str(value) for name, value in parts.items()}


def studio_config(path: Path | None = None) -> tuple[Path | None, dict[str, str]]:
    """Read Studio's ``config.json``: the one given, or one in this folder, ``.azureml/``, or a parent.

    Returns the path of the file and the parts of the workspace; None and nothing if there is no file.
    Raises ``ConfigError`` if the file that is given is not one.
    """
    candidates = [path] if path else _default_config_files()
    for candidate in candidates:
        if not candidate.is_file():
            continue
        try:
            content = json.loads(candidate.read_text("utf-8"))
            parts = {
                "subscription": content.get("subscription_id"),
                "resource_group": content.get("resource_group"),
                "workspace": content.get("workspace_name"),
            }
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            if path is None:
                continue  # another program's config.json
            raise ConfigError(
                f"{candidate} is not a workspace's config.json", hint=_DOWNLOAD_HINT
            ) from error
        if all(parts.values()):
            return candidate, {name: str(value) for name, value in parts.items()}
    if path is not None:
        raise ConfigError(
            f"{path} does not describe a workspace",
            hint=_DOWNLOAD_HINT,
        )
    return None, {}


def _default_config_files() -> list[Path]:
    try:
        here = Path.cwd()
    except FileNotFoundError as error:
        raise ConfigError(
            "the working directory was deleted, so it has no config.json",
            hint="Change to an existing folder, or name the workspace with arguments or environment variables.",
        ) from error
    names = ("config.json", ".azureml/config.json")
    return [folder / name for folder in (here, *here.parents) for name in names]


def _without_user(url: str) -> str:
    """Return an address as it may be printed: a user name and a password are left out."""
    return re.sub(r"//[^/@]*@", "//", url)


def _account_values(account_id: str | None) -> dict[str, str]:
    if not account_id:
        return {}
    match = _ACCOUNT_ID.match(account_id)
    if not match:
        raise ConfigError(
            Text.format("{} is not the ARM id of a Foundry account", Argument("account_id")),
            hint="It has the form /subscriptions/.../resourceGroups/.../providers/"
            "Microsoft.CognitiveServices/accounts/NAME.",
        )
    return match.groupdict()


def _foundry_base_urls(endpoint: str) -> dict[str, str]:
    """Return the address up to ``/openai`` (what follows belongs to the operations), and the project's."""
    text = endpoint.strip().rstrip("/")
    if not is_valid_url(text):
        raise ConfigError(
            f"{_without_user(endpoint)!r} is not an address",
            hint="It has the form https://NAME.openai.azure.com.",
        )
    text = re.sub(r"/openai(/v1)?$", "", text)
    is_project = re.search(r"/api/projects/[^/]+$", text) is not None
    return {
        Plane.FOUNDRY.value: f"{text}/openai",
        **({Plane.PROJECT.value: text} if is_project else {}),
    }
