"""The settings of the client, and the only module that reads the environment.

An argument overrides an environment variable, a variable overrides the profile of the configuration file, and
the profile overrides the default. Only a profile that is named as an argument overrides variables.
``SETTINGS`` lists them all; ``maas-client config`` prints each value and its origin, secrets shortened to
their last four characters. Nothing is read at import: ``Settings.load()`` reads when it is called.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from maas_client._argument_types import check_type
from maas_client._files.small_file import read_small_file
from maas_client._messages import Argument, Text
from maas_client._secret import Secret
from maas_client.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    Attributes:
        key: The setting's name, also as an argument.
        variables: The environment variables it is read from; the first one that is set counts.
        default: The value if neither an argument nor a variable sets it.
        description: What the setting means.
        secret: True if the value must not be printed.
    """

    key: str
    variables: tuple[str, ...]
    default: str | None
    description: str
    secret: bool = False


DEFAULT_URL = "http://127.0.0.1:8765"
"""The address of a local server that was started without a port."""

SETTINGS: tuple[Setting, ...] = (
    Setting("backend", ("MAAS_BACKEND",), "local", "local, azureml or foundry"),
    Setting("profile", ("MAAS_PROFILE",), None, "the profile of the configuration file to use"),
    Setting(
        "config_file",
        ("MAAS_CONFIG_FILE",),
        None,
        "the configuration file with profiles (TOML)",
    ),
    Setting("url", ("MAAS_URL",), DEFAULT_URL, "the local server's address"),
    Setting(
        "start_server",
        ("MAAS_START_SERVER",),
        "1",
        "0: never start a local server where none runs",
    ),
    Setting("engine", ("MAAS_ENGINE",), "peft", "the engine of a local server: peft or instant"),
    Setting(
        "precision",
        ("MAAS_PRECISION",),
        "auto",
        "the weights with which a local server answers: auto (unquantised) or int8",
    ),
    Setting(
        "dialect",
        ("MAAS_DIALECT",),
        "azureml",
        "the API to use on the local server: azureml or foundry",
    ),
    Setting("api_key", ("MAAS_API_KEY",), None, "the local server's key, if it requires one", True),
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
    Setting("resource_id", ("MAAS_RESOURCE_ID",), None, "azureml: the workspace's full ARM id"),
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
        "foundry: the resource's key; if not set, azure-identity signs in",
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
    Setting("state_dir", ("MAAS_STATE_DIR",), None, "the folder of the local server's state"),
    Setting("cache_dir", ("MAAS_CACHE_DIR",), None, "the folder of downloaded base weights"),
    Setting("debug", ("MAAS_DEBUG",), None, "1: show tracebacks"),
    Setting(
        "ca_file",
        ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"),
        None,
        "a file of certificate authorities to trust instead of the default ones",
    ),
    Setting("hf_home", ("HF_HOME",), None, "the Hugging Face cache to look for weights in"),
    Setting(
        "hf_token",
        ("HF_TOKEN",),
        None,
        "the Hugging Face hub's token, for export --push-to; if not set, the one of hf auth login",
        True,
    ),
    Setting("hf_endpoint", ("HF_ENDPOINT",), None, "the Hugging Face hub's address"),
    Setting("github_actions", ("GITHUB_ACTIONS",), None, "true: print annotations for GitHub"),
)


_AZURE_IDENTITY_VARIABLES = (
    "AZURE_TENANT_ID",
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_CLIENT_CERTIFICATE_PATH",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_TOKEN_CREDENTIALS",
)
"""The variables that azure-identity reads (its README, "Environment variables")."""


def azure_identity_variables(environ: Mapping[str, str] | None = None) -> list[str]:
    """Return the names of azure-identity's variables that are set, without their values."""
    env: Mapping[str, str] = os.environ if environ is None else environ  # noqa: TID251 - the one place
    return [name for name in _AZURE_IDENTITY_VARIABLES if env.get(name)]


_CHOICES = {
    "backend": ("local", "azureml", "foundry"),
    "engine": ("peft", "instant"),
    "dialect": ("azureml", "foundry"),
}
_OUTSIDE_PROFILES = frozenset({"profile", "config_file"})


def find_unknown_variables(environ: Mapping[str, str] | None = None) -> list[tuple[str, str]]:
    """Return variables that look like misspelled ones of this library, each with the right name."""
    from difflib import get_close_matches

    env: Mapping[str, str] = os.environ if environ is None else environ  # noqa: TID251 - the one place
    known = [name for setting in SETTINGS for name in setting.variables if name.startswith("MAAS_")]
    suspects = [name for name in env if name.upper().startswith("MAAS") and name not in known]
    pairs = [(name, get_close_matches(name.upper(), known, n=1, cutoff=0.8)) for name in suspects]
    return [(name, matches[0]) for name, matches in pairs if matches]


_reported: set[str] = set()


def report_unknown_variables() -> list[str]:
    """Return a sentence for each variable that looks misspelled, once in a process."""
    pairs = [pair for pair in find_unknown_variables() if pair[0] not in _reported]
    _reported.update(name for name, _ in pairs)
    return [f"{name} is not a setting. Did you mean {meant}?" for name, meant in pairs]


def config_path(environ: Mapping[str, str] | None = None) -> Path | None:
    """Return the configuration file; it may not exist. None if this user has no home directory."""
    env: Mapping[str, str] = os.environ if environ is None else environ  # noqa: TID251 - the one place
    if text := env.get("MAAS_CONFIG_FILE"):
        return Path(text).expanduser()
    try:
        home = Path(env.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    except RuntimeError:
        return None
    return home / "maas-client" / "config.toml"


@dataclass(frozen=True, slots=True)
class Profiles:
    """The content of a configuration file.

    Attributes:
        path: The file.
        values: The settings of each profile, by name.
        default: The profile that is used if none is named.
    """

    path: Path | None
    values: Mapping[str, Mapping[str, str]]
    default: str | None = None


def read_profiles(environ: Mapping[str, str] | None = None) -> Profiles:
    """Read the configuration file.

    Raises:
        ConfigError: The file is invalid; the message names the place.
    """
    path = config_path(environ)
    try:
        text = read_small_file(path).decode() if path else ""
    except (FileNotFoundError, NotADirectoryError):
        return Profiles(path, {})
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise ConfigError(
            f"cannot read the configuration file {path}: {reason}",
            hint="Write it again as UTF-8 text, in a file that you can read.",
        ) from error
    import tomllib

    try:
        content = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits
        raise ConfigError(
            f"the configuration file {path} is not valid TOML: {error}",
            hint="Fix the syntax there.",
        ) from error
    _check_names(path, "", content, ("profile", "profiles"))
    default, profiles = content.get("profile"), content.get("profiles", {})
    if not isinstance(default, str | None) or not isinstance(profiles, dict):
        raise ConfigError(
            f"{path}: profile must be a name, and profiles a table",
            hint="See docs/how-to/profiles.md.",
        )
    for name, values in profiles.items():
        if not isinstance(values, dict):
            raise ConfigError(
                f"{path}: profiles.{name} is not a table", hint="See docs/how-to/profiles.md."
            )
        _check_profile(path, name, values)
    return Profiles(
        path, {n: {k: _to_text(v) for k, v in p.items()} for n, p in profiles.items()}, default
    )


def _check_profile(path: Path | None, name: str, values: Mapping[str, object]) -> None:
    keys = {setting.key: setting for setting in SETTINGS if setting.key not in _OUTSIDE_PROFILES}
    _check_names(path, f"profiles.{name}.", values, keys)
    for key, value in values.items():
        if keys[key].secret:
            raise ConfigError(
                f"{path}: profiles.{name}.{key} is a key, which does not belong into this file",
                hint=f"Set {keys[key].variables[0]} instead.",
            )
        if not isinstance(value, str | int):
            raise ConfigError(
                f"{path}: profiles.{name}.{key} must be a text", hint="Write it in quotation marks."
            )
        choices = _CHOICES.get(key)
        if choices and str(value).lower() not in choices:
            raise ConfigError(
                f"{path}: profiles.{name}.{key} is {str(value)[:40]!r}",
                hint=f"Use {', '.join(choices[:-1])} or {choices[-1]}.",
            )


def _check_names(path: Path | None, place: str, keys: Iterable[str], known: Iterable[str]) -> None:
    from difflib import get_close_matches

    names = list(known)
    for name in keys:
        if name not in names:
            matches = get_close_matches(name.lower().replace("-", "_"), names, n=1)
            raise ConfigError(
                f"{path}: unknown key {place}{name}",
                hint=f"Did you mean {matches[0]}?" if matches else f"Known: {', '.join(names)}.",
            )


def _to_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True, slots=True)
class SettingValue:
    """A setting's value and its origin: ``argument``, a variable, ``profile NAME``, or ``default``."""

    value: str | None
    origin: str


_named_profile: ContextVar[str | None] = ContextVar("maas_client_profile", default=None)


def _select_profile(
    env: Mapping[str, str], named: str | None
) -> tuple[str | None, Mapping[str, str], str]:
    """Return the name, the values and the origin of the profile in effect; no values without one."""
    profiles = read_profiles(env)
    name, origin = named, "argument"
    if not name:
        name, origin = env.get("MAAS_PROFILE") or None, "MAAS_PROFILE"
    if not name:
        name, origin = profiles.default, str(profiles.path)
    if name is None:
        return None, {}, "default"
    if name not in profiles.values:
        from difflib import get_close_matches

        known = list(profiles.values)
        matches = get_close_matches(name, known, n=1)
        raise ConfigError(
            f"there is no profile {name!r} in {profiles.path}",
            hint=f"Did you mean {matches[0]}?"
            if matches
            else f"Use one of: {', '.join(known)}."
            if known
            else f"Add it to that file: [profiles.{name}]",
        )
    return name, profiles.values[name], origin


class Settings:
    """The settings in effect. ``settings.url`` is a value, ``settings.origin("url")`` its origin."""

    def __init__(self, values: Mapping[str, SettingValue]) -> None:
        self._values = dict(values)

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, **arguments: str | None) -> Settings:
        """Read the settings.

        Args:
            environ: The variables to read instead of the environment.
            **arguments: Values by setting key; one that is not None overrides the environment.
        """
        for key, value in arguments.items():
            check_type(key.removeprefix("foundry_"), value, str | None, "a text")
        env: Mapping[str, str] = os.environ if environ is None else environ  # noqa: TID251 - the one place
        named = arguments.get("profile") or _named_profile.get()
        name, profile, name_origin = _select_profile(env, named)
        values = {}
        for setting in SETTINGS:
            variable = next((name for name in setting.variables if env.get(name)), None)
            is_in_profile = setting.key in profile
            if setting.key == "profile":
                value, origin = name, name_origin
            elif arguments.get(setting.key) is not None:
                value, origin = arguments[setting.key], "argument"
            elif variable and not (named and is_in_profile):
                value, origin = env[variable], variable
            elif is_in_profile:
                value, origin = profile[setting.key], f"profile {name}"
            else:
                value, origin = setting.default, "default"
            hidden = Secret(value) if setting.secret and value is not None else value
            values[setting.key] = SettingValue(hidden, origin)
        return cls(values)

    @staticmethod
    @contextmanager
    def use_profile(name: str | None) -> Iterator[None]:
        """Let ``load`` use this profile in the block, as if each call named it. None changes nothing."""
        check_type("profile", name, str | None, "a text")
        token = _named_profile.set(name or _named_profile.get())
        try:
            yield
        finally:
            _named_profile.reset(token)

    def __getattr__(self, key: str) -> str | None:
        if key.startswith("_") or key not in self._values:
            raise AttributeError(key)
        return self._values[key].value

    def origin(self, key: str) -> str:
        """Return where a value came from: ``argument``, a variable, ``profile NAME``, or ``default``."""
        return self._values[key].origin

    def require(self, key: str) -> str:
        """Return a value that must be set.

        Raises:
            ConfigError: It is not set; the hint names the argument and the variable.
        """
        value = self._values[key].value
        if not value:
            setting = next(s for s in SETTINGS if s.key == key)
            raise ConfigError(
                f"no {key.replace('_', ' ')} was given",
                hint=Text.format(
                    "Pass {}, or set {} ({}).",
                    Argument(key.removeprefix("foundry_")),
                    setting.variables[0],
                    setting.description,
                ),
            )
        return value

    def is_enabled(self, key: str) -> bool:
        """Return whether a switch is on: ``1``, ``true``, ``yes`` or ``on``."""
        return (self._values[key].value or "").strip().lower() in {"1", "true", "yes", "on"}

    def is_disabled(self, key: str) -> bool:
        """Return whether a switch is off: ``0``, ``false``, ``no`` or ``off``."""
        return (self._values[key].value or "").strip().lower() in {"0", "false", "no", "off"}

    def state_path(self) -> Path:
        """Return the local server's state directory; it may not exist yet."""
        if self._values["state_dir"].value:
            return Path(str(self._values["state_dir"].value)).expanduser()
        return _data_home() / "state"

    def cache_path(self) -> Path:
        """Return the directory of downloaded base weights; it may not exist yet."""
        if self._values["cache_dir"].value:
            return Path(str(self._values["cache_dir"].value)).expanduser()
        return _data_home() / "bases"

    def upload_state_path(self) -> str | None:
        """Return the directory of locks and upload journals; None if this user has no home directory."""
        try:
            return str(_data_home() / "client")
        except RuntimeError:
            return None

    def catalog_file(self) -> Path | None:
        """Return the user's catalog override file, if one is set."""
        path = self._values["catalog"].value
        return Path(path).expanduser() if path else None

    def to_rows(self) -> list[tuple[Setting, str | None, str]]:
        """Return every setting with its value (secrets shortened) and its origin."""
        rows = []
        for setting in SETTINGS:
            value, origin = self._values[setting.key].value, self._values[setting.key].origin
            if setting.secret and value:
                value = f"...{value[-4:]}"
            rows.append((setting, value, origin))
        return rows


def has_display() -> bool:
    """Return whether this user probably sees the windows of a program that is started here."""
    if sys.platform != "linux":
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))  # noqa: TID251 - the one place


_TRACKER_PREFIXES = ("MLFLOW_", "WANDB_", "TENSORBOARD_", "DATABRICKS_")
_NETWORK_VARIABLES = frozenset(
    {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"}
)


def tracker_variables() -> dict[str, str]:
    """Return the variables of experiment trackers, for a job that reports to one (``report_to``)."""
    return {
        name: value
        for name, value in os.environ.items()  # noqa: TID251 - the one place
        if name.startswith(_TRACKER_PREFIXES) or name.upper() in _NETWORK_VARIABLES
    }


def set_variables(variables: Mapping[str, str]) -> None:
    """Set environment variables of this process, for libraries that read their settings from them."""
    os.environ.update(variables)  # noqa: TID251 - the one place


def child_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a child process of the local server.

    It contains what Python and the dynamic loader need, and no variable that could hold a credential.

    Args:
        extra: Variables to add.
    """
    names = {"PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "USERPROFILE"}
    prefixes = (
        "PYTHON",
        "LD_",
        "DYLD_",
        "CUDA_",
        "NVIDIA_",
        "OMP_",
        "MKL_",
        "ONEDNN_",
        "ATEN_",
        "OPENBLAS_",
        "VIRTUAL_ENV",
    )
    env = {
        name: value
        for name, value in os.environ.items()  # noqa: TID251 - the one place
        if name in names or name.startswith(prefixes)
    }
    return {**env, **extra}


def server_environment() -> dict[str, str]:
    """Return the environment for a local server: that of its children, and the settings that are no keys."""
    names = {name for setting in SETTINGS if not setting.secret for name in setting.variables}
    return child_environment(
        {name: value for name, value in os.environ.items() if name in names}  # noqa: TID251 - the one place
    )


def _data_home() -> Path:
    if sys.platform == "win32":
        return Path.home() / "AppData" / "Local" / "maas-client"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "maas-client"
    return Path.home() / ".local" / "share" / "maas-client"
