"""The doors: how a client is made for a workspace, a Foundry resource or the local server."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from maas_client._settings import Settings
from maas_client._transport import Connection
from maas_client._transport.auth import TokenCache, TokenCredential
from maas_client._transport.clouds import Cloud, get_cloud, is_loopback
from maas_client.errors import ConfigError
from maas_client.wire.op import Plane
from maas_client.wire.scope import Dialect, Scope

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
    """What a door was told, before a wire exists."""

    dialect: Dialect
    cloud_name: str
    settings: Settings
    values: dict[str, str] = field(default_factory=dict)
    base_urls: dict[str, str] = field(default_factory=dict)
    local_origin: str | None = None
    credential: TokenCredential | None = None
    api_key: str | None = field(default=None, repr=False)
    timeout_s: float = 60.0
    max_retries: int = 4
    http: Any = None
    ca_file: str | None = None


def build_connection(options: ConnectionOptions, wire: Any) -> Connection:
    """Settle a plan: the cloud's hosts, the tokens, the scope that flows see."""
    here = _cloud(options)
    bases = {Plane.ARM.value: here.arm, **options.base_urls}
    needs_tokens = options.local_origin is None
    return Connection(
        scope=Scope(
            dialect=options.dialect,
            local=options.local_origin is not None,
            values=options.values,
            base_urls=bases,
            cloud=here.name,
            catalog=options.settings.catalog,
        ),
        cloud=here,
        tokens=TokenCache(options.credential, here.authority) if needs_tokens else None,
        api_key=options.api_key,
        local_origin=options.local_origin,
        timeout_s=options.timeout_s,
        max_retries=options.max_retries,
        offline=options.settings.is_enabled("offline"),
    )


def _cloud(plan: ConnectionOptions) -> Cloud:
    url = plan.settings.cloud_metadata_url
    if plan.local_origin is not None or not url:
        return get_cloud(plan.cloud_name)
    from maas_client._transport.cloud_metadata import fetch_cloud

    return fetch_cloud(url, plan.ca_file)


def describe(scope: Scope) -> str:
    """Return what a client points at, for a repr: never a credential."""
    if scope.local:
        return f"the local server at {scope.base_urls[Plane.ARM.value]} ({scope.dialect})"
    place = scope.values.get("workspace") or scope.base_urls.get(Plane.FOUNDRY.value, "")
    return f"{scope.dialect} {place}"


class Constructors(ABC):
    """The constructors that ``Client`` and ``AsyncClient`` share."""

    @abstractmethod
    def __init__(self, plan: ConnectionOptions) -> None: ...

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
        """Connect to an Azure ML workspace or a hub-based Foundry project.

        Given by its parts, by ``resource_id``, by the environment, or by Studio's ``config.json`` (this
        folder, ``.azureml/``, or a parent). ``credential`` is anything with ``get_token``; without one,
        ``DefaultAzureCredential``. ``timeout`` in seconds is the deadline of one operation.
        Raises ``ConfigError`` saying what is missing.
        """
        settings = Settings.load(
            subscription_id=subscription_id,
            resource_group=resource_group,
            workspace=workspace,
            resource_id=resource_id,
            cloud=cloud,
            ca_file=ca_file,
        )
        explicit = any((subscription_id, resource_group, workspace))
        return cls(
            ConnectionOptions(
                dialect="azureml",
                cloud_name=str(settings.cloud),
                settings=settings,
                values=_workspace(settings, config, explicit=explicit),
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
        """Connect to a Foundry resource (``https://NAME.openai.azure.com``, ``https://NAME.services.ai.azure.com``
        or a project's address).

        A key or a credential, not both; ``account_id`` (the account's ARM id) is needed for deployments
        only. Phi models are not tuned here: use ``Client.azureml``. Raises ``ConfigError``.
        """
        settings = Settings.load(
            foundry_endpoint=endpoint,
            foundry_api_key=api_key,
            foundry_account_id=account_id,
            cloud=cloud,
            ca_file=ca_file,
        )
        if credential is not None and api_key is not None:
            raise ConfigError(
                "both api_key= and credential= are given", hint="Leave one of them out."
            )
        return cls(
            ConnectionOptions(
                dialect="foundry",
                cloud_name=str(settings.cloud),
                settings=settings,
                values=_account(settings.foundry_account_id),
                base_urls={
                    Plane.FOUNDRY.value: _foundry_base(settings.require("foundry_endpoint"))
                },
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
        timeout: float = 60.0,
        max_retries: int = 4,
        http: Any = None,
        ca_file: str | None = None,
    ) -> Self:
        """Connect to the local server (``maas-client serve``), speaking either dialect to it.

        Raises ``ConfigError`` for an address that is not on this machine, unless ``api_key`` is given.
        """
        settings = Settings.load(url=url, dialect=dialect, api_key=api_key, ca_file=ca_file)
        home = settings.require("url").rstrip("/")
        said = settings.require("dialect").lower()
        if said not in ("azureml", "foundry"):
            raise ConfigError(f"no dialect is called {said!r}", hint="It is azureml or foundry.")
        if not re.match(r"https?://[^/?#]+$", home):
            raise ConfigError(
                f"{home!r} is not a server's address", hint="For example http://127.0.0.1:8765."
            )
        if not is_loopback(home) and not settings.api_key:
            raise ConfigError(
                f"{home} is not on this machine, and no key is given",
                hint="Start that server with --api-key and pass the key as api_key= or MAAS_API_KEY.",
            )
        foundry = said == "foundry"
        values = {**_LOCAL_WORKSPACE, **({"account": "local"} if foundry else {})}
        return cls(
            ConnectionOptions(
                dialect="foundry" if foundry else "azureml",
                cloud_name="public",
                settings=settings,
                values=values,
                base_urls={Plane.ARM.value: home, Plane.FOUNDRY.value: f"{home}/openai"},
                local_origin=home,
                api_key=settings.api_key,
                timeout_s=timeout,
                max_retries=max_retries,
                http=http,
                ca_file=settings.ca_file,
            )
        )

    @classmethod
    def from_env(cls, **options: Any) -> Self:
        """Connect as ``MAAS_BACKEND`` says: local (the default), azureml or foundry.

        ``options`` are those every door takes: ``timeout``, ``max_retries``, ``http``, ``ca_file``. The
        variables are listed by ``maas-client config``. Raises ``ConfigError``.
        """
        said = Settings.load().require("backend").lower()
        if said == "local":
            return cls.local(**options)
        if said == "azureml":
            return cls.azureml(**options)
        if said == "foundry":
            return cls.foundry(**options)
        raise ConfigError(f"no backend is called {said!r}", hint="It is local, azureml or foundry.")


def _workspace(settings: Settings, config: str | Path | None, *, explicit: bool) -> dict[str, str]:
    """Return subscription, resource group and workspace from the first place that names them."""
    if settings.resource_id and not explicit:
        found = _WORKSPACE_ID.match(settings.resource_id)
        if not found:
            raise ConfigError(
                "resource_id= is not a workspace's ARM id",
                hint="It reads /subscriptions/.../resourceGroups/.../providers/"
                "Microsoft.MachineLearningServices/workspaces/NAME.",
            )
        return found.groupdict()
    parts = {
        "subscription": settings.subscription_id,
        "resource_group": settings.resource_group,
        "workspace": settings.workspace,
    }
    if not all(parts.values()):
        _, held = studio_config(Path(config) if config else None)
        parts = {name: value or held.get(name) for name, value in parts.items()}
    missing = [name for name, value in parts.items() if not value]
    if missing:
        told = ", ".join(name.replace("_", " ") for name in missing)
        raise ConfigError(
            f"no {told} is given",
            hint="Pass subscription_id=, resource_group= and workspace=, or resource_id=; or put Studio's "
            "config.json into this folder; or set MAAS_SUBSCRIPTION_ID, MAAS_RESOURCE_GROUP, MAAS_WORKSPACE.",
        )
    return {name: str(value) for name, value in parts.items()}


def studio_config(path: Path | None = None) -> tuple[Path | None, dict[str, str]]:
    """Read Studio's ``config.json``: given, or in this folder, ``.azureml/``, or a parent's.

    Returns which file it is and its parts; None and nothing where there is none.
    """
    here = Path.cwd()
    places = (
        [path]
        if path
        else [
            folder / part
            for folder in (here, *here.parents)
            for part in ("config.json", ".azureml/config.json")
        ]
    )
    for place in places:
        if not place.is_file():
            continue
        try:
            held = json.loads(place.read_text("utf-8"))
            found = {
                "subscription": held.get("subscription_id"),
                "resource_group": held.get("resource_group"),
                "workspace": held.get("workspace_name"),
            }
        except (OSError, ValueError, AttributeError) as bad:
            if path is None:
                continue  # somebody else's config.json
            raise ConfigError(f"{place} is not a workspace's config.json") from bad
        if all(found.values()):
            return place, {name: str(value) for name, value in found.items()}
    if path is not None:
        raise ConfigError(
            f"{path} names no workspace", hint="Download config.json from Azure ML Studio."
        )
    return None, {}


def _account(account_id: str | None) -> dict[str, str]:
    if not account_id:
        return {}
    found = _ACCOUNT_ID.match(account_id)
    if not found:
        raise ConfigError(
            "account_id= is not a Foundry account's ARM id",
            hint="It reads /subscriptions/.../resourceGroups/.../providers/"
            "Microsoft.CognitiveServices/accounts/NAME.",
        )
    return found.groupdict()


def _foundry_base(endpoint: str) -> str:
    """Return the base address up to ``/openai``; ``/v1`` and what follows belong to the operations."""
    text = endpoint.strip().rstrip("/")
    if not re.match(r"https?://[^/?#]+", text):
        raise ConfigError(f"{endpoint!r} is not an address", hint="It begins with https://.")
    text = re.sub(r"/openai(/v1)?$", "", text)
    return f"{text}/openai"
