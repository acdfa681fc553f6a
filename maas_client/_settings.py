"""The only reader of the environment. An argument beats it, it beats a default.

``SETTINGS`` is the whole list; ``maas-client config`` prints each value with its origin, secrets as
their last four characters. Nothing is read at import: ``BlobProperties.load()`` reads when it is called.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from maas_client.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Setting:
    """One variable: where it is read, what holds without it, and what it means."""

    key: str
    variables: tuple[str, ...]
    default: str | None
    description: str
    secret: bool = False


SETTINGS: tuple[Setting, ...] = (
    Setting("backend", ("MAAS_BACKEND",), "local", "local, azureml or foundry"),
    Setting("url", ("MAAS_URL",), "http://127.0.0.1:8765", "the local server's address"),
    Setting("dialect", ("MAAS_DIALECT",), "azureml", "what to speak to it: azureml or foundry"),
    Setting("api_key", ("MAAS_API_KEY",), None, "the local server's key, if it wants one", True),
    Setting(
        "subscription_id",
        ("MAAS_SUBSCRIPTION_ID", "AZURE_SUBSCRIPTION_ID"),
        None,
        "azureml: the subscription",
    ),
    Setting(
        "resource_group",
        ("MAAS_RESOURCE_GROUP", "AZURE_RESOURCE_GROUP"),
        None,
        "azureml: the resource group",
    ),
    Setting("workspace", ("MAAS_WORKSPACE",), None, "azureml: the workspace or hub project"),
    Setting("resource_id", ("MAAS_RESOURCE_ID",), None, "azureml: the workspace's whole ARM id"),
    Setting(
        "foundry_endpoint",
        ("MAAS_FOUNDRY_ENDPOINT", "AZURE_OPENAI_ENDPOINT"),
        None,
        "foundry: https://NAME.openai.azure.com or a project's address",
    ),
    Setting(
        "foundry_api_key",
        ("MAAS_FOUNDRY_API_KEY", "AZURE_OPENAI_API_KEY"),
        None,
        "foundry: the resource's key; without it azure-identity is used",
        True,
    ),
    Setting(
        "foundry_account_id",
        ("MAAS_FOUNDRY_ACCOUNT_ID",),
        None,
        "foundry: the account's ARM id, for deployments",
    ),
    Setting("cloud", ("MAAS_CLOUD",), "public", "public, usgov or china"),
    Setting(
        "cloud_metadata_url",
        ("ARM_CLOUD_METADATA_URL",),
        None,
        "another cloud's metadata document",
    ),
    Setting("offline", ("MAAS_OFFLINE",), None, "1: refuse every request that leaves this machine"),
    Setting("catalog", ("MAAS_CATALOG",), None, "a catalog override file (JSON)"),
    Setting("state_dir", ("MAAS_STATE_DIR",), None, "where the local server keeps its state"),
    Setting("cache_dir", ("MAAS_CACHE_DIR",), None, "where pulled base weights lie"),
    Setting("debug", ("MAAS_DEBUG",), None, "1: show tracebacks"),
    Setting(
        "ca_file",
        ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"),
        None,
        "certificate authorities to trust instead of the usual ones",
    ),
    Setting("hf_home", ("HF_HOME",), None, "the Hugging Face cache that is looked into"),
    Setting("github_actions", ("GITHUB_ACTIONS",), None, "true: print annotations for GitHub"),
)


_SIGN_IN = (
    "AZURE_TENANT_ID",
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_CLIENT_CERTIFICATE_PATH",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_TOKEN_CREDENTIALS",
)
"""Variables by which azure-identity signs in (its README, "Environment variables")."""


def azure_identity_variables(environ: Mapping[str, str] | None = None) -> list[str]:
    """Return the names of azure-identity's variables that are set, and no value of any."""
    env: Mapping[str, str] = os.environ if environ is None else environ  # noqa: TID251 - here
    return [name for name in _SIGN_IN if env.get(name)]


@dataclass(frozen=True, slots=True)
class SettingValue:
    """A setting's value and where it came from: ``argument``, a variable's name, or ``default``."""

    value: str | None
    origin: str


class Settings:
    """The settings of one call. ``settings.url`` is the value, ``settings.origin("url")`` its source."""

    def __init__(self, values: Mapping[str, SettingValue]) -> None:
        self._values = dict(values)

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, **given: str | None) -> Settings:
        """Read the settings; a keyword that is not None beats the environment."""
        env: Mapping[str, str] = os.environ if environ is None else environ  # noqa: TID251 - here
        values = {}
        for setting in SETTINGS:
            if given.get(setting.key) is not None:
                values[setting.key] = SettingValue(given[setting.key], "argument")
                continue
            found = next((v for v in setting.variables if env.get(v)), None)
            values[setting.key] = (
                SettingValue(env[found], found)
                if found
                else SettingValue(setting.default, "default")
            )
        return cls(values)

    def __getattr__(self, key: str) -> str | None:
        if key.startswith("_") or key not in self._values:
            raise AttributeError(key)
        return self._values[key].value

    def origin(self, key: str) -> str:
        """Return where the value came from."""
        return self._values[key].origin

    def require(self, key: str) -> str:
        """Return a value that must be there, or raise ``ConfigError`` saying what to set."""
        value = self._values[key].value
        if not value:
            setting = next(s for s in SETTINGS if s.key == key)
            raise ConfigError(
                f"no {key.replace('_', ' ')} is given",
                hint=f"Pass {key.removeprefix('foundry_')}=, or set {setting.variables[0]} "
                f"({setting.description}).",
            )
        return value

    def is_enabled(self, key: str) -> bool:
        """Return whether a switch is on: 1, true, yes, on."""
        return (self._values[key].value or "").strip().lower() in {"1", "true", "yes", "on"}

    def state_path(self) -> Path:
        """Return the local server's state directory; it need not exist."""
        if self._values["state_dir"].value:
            return Path(str(self._values["state_dir"].value)).expanduser()
        return _data_home() / "state"

    def cache_path(self) -> Path:
        """Return the directory of pulled base weights; it need not exist."""
        if self._values["cache_dir"].value:
            return Path(str(self._values["cache_dir"].value)).expanduser()
        return _data_home() / "bases"

    def build_path(self) -> Path:
        """Return the directory of what is compiled for this machine; it need not exist."""
        return _data_home() / "built"

    def catalog_file(self) -> Path | None:
        """Return the user's catalog override file, if one is set."""
        said = self._values["catalog"].value
        return Path(said).expanduser() if said else None

    def to_rows(self) -> list[tuple[Setting, str | None, str]]:
        """Return every setting with its value, secrets shortened, and its origin."""
        rows = []
        for setting in SETTINGS:
            held = self._values[setting.key]
            shown = f"...{held.value[-4:]}" if setting.secret and held.value else held.value
            rows.append((setting, shown, held.origin))
        return rows


def child_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a child process of the local server: what Python and the loader
    need, no variable that holds a credential, and ``extra`` on top."""
    keep = {"PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "USERPROFILE"}
    begin = (
        "PYTHON",
        "LD_",
        "DYLD_",
        "CUDA_",
        "NVIDIA_",
        "OMP_",
        "MKL_",
        "OPENBLAS_",
        "VIRTUAL_ENV",
    )
    env = {
        name: value
        for name, value in os.environ.items()  # noqa: TID251 - this file is the reader
        if name in keep or name.startswith(begin)
    }
    return {**env, **extra}


def _data_home() -> Path:
    if sys.platform == "win32":
        return Path.home() / "AppData" / "Local" / "maas-client"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "maas-client"
    return Path.home() / ".local" / "share" / "maas-client"
