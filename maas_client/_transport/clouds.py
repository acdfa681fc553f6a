"""Azure's clouds, and which hosts may be handed a credential.

Hosts and scopes: docs/azure-http.md section 6 (azure-ai-ml ``_azure_environments.py``). A token goes to ARM and
to hosts under the cloud's own suffixes; azure-core sends it to any host an answer names
(reliability.md finding 5), which is why this file exists.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from maas_client._transport.retry import BlockedRequestError
from maas_client.errors import ConfigError
from maas_client.wire.op import Plane


@dataclass(frozen=True, slots=True)
class Cloud:
    """One cloud: ARM's address, and per plane the token scope and the trusted host suffixes."""

    name: str
    arm: str
    authority: str
    """The login host, for azure-identity."""
    scopes: Mapping[Plane, str]
    suffixes: Mapping[Plane, tuple[str, ...]]


def _cloud(
    name: str, arm: str, login: str, azureml: str, ml: str, storage: str, ai: str, openai: str
) -> Cloud:
    return Cloud(
        name,
        f"https://{arm}",
        login,
        {
            Plane.ARM: f"https://{arm}/.default",
            Plane.HISTORY: f"https://{arm}/.default",
            Plane.BLOB: "https://storage.azure.com/.default",
            Plane.INFERENCE: f"{ml}/.default",
            Plane.FOUNDRY: f"{ai}/.default",
        },
        {
            Plane.ARM: (arm,),
            Plane.HISTORY: (f".api.{azureml}", f".{azureml}"),
            Plane.BLOB: (f".blob.{storage}",),
            Plane.INFERENCE: (
                ".models.ai.azure.com",
                f".inference.{azureml}",
                ".inference.ml.azure.com",
            ),
            Plane.FOUNDRY: (f".{openai}", ".services.ai.azure.com", ".cognitiveservices.azure.com"),
        },
    )


CLOUDS: dict[str, Cloud] = {
    cloud.name: cloud
    for cloud in (
        _cloud(
            "public",
            "management.azure.com",
            "login.microsoftonline.com",
            "azureml.ms",
            "https://ml.azure.com",
            "core.windows.net",
            "https://ai.azure.com",
            "openai.azure.com",
        ),
        _cloud(
            "usgov",
            "management.usgovcloudapi.net",
            "login.microsoftonline.us",
            "ml.azure.us",
            "https://ml.azure.us",
            "core.usgovcloudapi.net",
            "https://cognitiveservices.azure.us",
            "openai.azure.us",
        ),
        _cloud(
            "china",
            "management.chinacloudapi.cn",
            "login.chinacloudapi.cn",
            "ml.azure.cn",
            "https://ml.azure.cn",
            "core.chinacloudapi.cn",
            "https://cognitiveservices.azure.cn",
            "openai.azure.cn",
        ),
    )
}


def get_cloud(name: str) -> Cloud:
    """Return a cloud by name, or raise ``ConfigError``."""
    found = CLOUDS.get(name.lower())
    if found is None:
        raise ConfigError(f"no cloud is called {name!r}", hint="It is public, usgov or china.")
    return found


def from_metadata(document: Any, name: str = "custom") -> Cloud:
    """Build a cloud from the document behind ``ARM_CLOUD_METADATA_URL`` (one entry, or a list)."""
    entry = document[0] if isinstance(document, list) and document else document
    try:
        arm = urlsplit(entry["resourceManager"])
        login = urlsplit(entry["authentication"]["loginEndpoint"])
        suffixes = entry.get("suffixes", {})
    except (KeyError, TypeError, AttributeError) as bad:
        raise ConfigError(
            "the cloud metadata document has no resourceManager or loginEndpoint"
        ) from bad
    public = CLOUDS["public"]
    arm_host = arm.netloc
    storage = suffixes.get("storage", "core.windows.net")
    return Cloud(
        name,
        f"{arm.scheme}://{arm_host}",
        login.netloc,
        {
            **public.scopes,
            Plane.ARM: f"https://{arm_host}/.default",
            Plane.HISTORY: f"https://{arm_host}/.default",
        },
        {
            **public.suffixes,
            Plane.ARM: (arm_host,),
            Plane.BLOB: (f".blob.{storage}",),
            Plane.HISTORY: (*public.suffixes[Plane.HISTORY], arm_host),
        },
    )


def is_loopback(url: str) -> bool:
    """True for 127.0.0.0/8, ``[::1]`` and ``localhost``, whatever the port."""
    host = (urlsplit(url).hostname or "").rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_host(
    cloud: Cloud, plane: Plane, url: str, *, local_origin: str | None, has_key: bool = False
) -> None:
    """Refuse to hand a credential to a host that has no business with it.

    ``home`` is the one origin of a local connection: everything must stay there. A deployment's own
    key (``keyed``) goes where ARM said that the deployment answers, but never in clear text.
    Raises ``BlockedRequestError``; nothing was sent.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    netloc = parts.netloc.lower()
    if parts.username or parts.password:
        raise BlockedRequestError(f"{host}: an address with a user name in it is not used")
    if local_origin is not None:
        if f"{parts.scheme}://{netloc}" != local_origin.rstrip("/").lower():
            raise BlockedRequestError(
                f"the server at {local_origin} named another host, {host}; no credential is sent there"
            )
        return
    if parts.scheme != "https" and not is_loopback(url):
        raise BlockedRequestError(f"{host}: a credential is never sent over {parts.scheme}")
    if has_key:
        return
    trusted = cloud.suffixes.get(plane, ())
    if not any(
        netloc == s or host == s or (s.startswith(".") and host.endswith(s)) for s in trusted
    ):
        raise BlockedRequestError(
            f"{host} is not a host of the {cloud.name} cloud for {plane.value}; no token is sent there",
            hint="Private link and sovereign hosts need cloud= or ARM_CLOUD_METADATA_URL.",
        )
