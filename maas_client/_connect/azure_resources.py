"""Which workspace, account or address of Azure is meant: ARM ids, Studio's ``config.json``, endpoints."""

from __future__ import annotations

import json
import re
from pathlib import Path

from maas_client._messages import Argument, Text
from maas_client._settings import Settings
from maas_client._transport.clouds import is_valid_url
from maas_client.errors import ConfigError
from maas_client.wire.operation import Plane

_DOWNLOAD_HINT = "Download config.json from Azure ML Studio."
_WORKSPACE_ID = re.compile(
    r"(?i)^/subscriptions/(?P<subscription>[^/]+)/resourceGroups/(?P<resource_group>[^/]+)"
    r"/providers/Microsoft\.MachineLearningServices/workspaces/(?P<workspace>[^/]+)/?$"
)
_ACCOUNT_ID = re.compile(
    r"(?i)^/subscriptions/(?P<subscription>[^/]+)/resourceGroups/(?P<resource_group>[^/]+)"
    r"/providers/Microsoft\.CognitiveServices/accounts/(?P<account>[^/]+)/?$"
)


def workspace_values(settings: Settings, config: str | Path | None) -> dict[str, str]:
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


def without_user(url: str) -> str:
    """Return an address as it may be printed: a user name and a password are left out."""
    return re.sub(r"//[^/@]*@", "//", url)


def account_values(account_id: str | None) -> dict[str, str]:
    """Return subscription, resource group and name of a Foundry account; nothing if none is given."""
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


def foundry_base_urls(endpoint: str) -> dict[str, str]:
    """Return the address up to ``/openai`` (what follows belongs to the operations), and the project's."""
    text = endpoint.strip().rstrip("/")
    if not is_valid_url(text):
        raise ConfigError(
            f"{without_user(endpoint)!r} is not an address",
            hint="It has the form https://NAME.openai.azure.com.",
        )
    text = re.sub(r"/openai(/v1)?$", "", text)
    is_project = re.search(r"/api/projects/[^/]+$", text) is not None
    return {
        Plane.FOUNDRY.value: f"{text}/openai",
        **({Plane.PROJECT.value: text} if is_project else {}),
    }
