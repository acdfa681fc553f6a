"""Profiles of the configuration file: what overrides what, and errors with the place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from maas_client import Client, cli
from maas_client._settings import Settings, config_path, find_unknown_variables, read_profiles
from maas_client.errors import ConfigError

TEXT = """
profile = "home"

[profiles.home]
url = "http://127.0.0.1:9999"

[profiles.work]
backend = "azureml"
subscription_id = "s"
resource_group = "g"
workspace = "w"
offline = true
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(TEXT)
    monkeypatch.setenv("MAAS_CONFIG_FILE", str(path))
    return path


def test_argument_variable_profile_default(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.load()
    assert (settings.profile, settings.origin("profile")) == ("home", str(file))
    assert (settings.url, settings.origin("url")) == ("http://127.0.0.1:9999", "profile home")
    assert (settings.backend, settings.origin("backend")) == ("local", "default")
    monkeypatch.setenv("MAAS_PROFILE", "work")
    monkeypatch.setenv("MAAS_WORKSPACE", "of-the-variable")
    settings = Settings.load(resource_group="given")
    assert settings.origin("profile") == "MAAS_PROFILE"
    assert (settings.backend, settings.origin("backend")) == ("azureml", "profile work")
    assert (settings.workspace, settings.origin("workspace")) == (
        "of-the-variable",
        "MAAS_WORKSPACE",
    )
    assert (settings.resource_group, settings.origin("resource_group")) == ("given", "argument")
    assert settings.is_enabled("offline")
    named = Settings.load(profile="work")  # named in the call, so it overrides variables
    assert (named.workspace, named.origin("workspace")) == ("w", "profile work")


@pytest.mark.usefixtures("file")
def test_from_env_takes_a_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAAS_BACKEND", "foundry")
    with Client.from_env(profile="work") as client:
        assert repr(client) == "<Client of azureml w>"
    monkeypatch.delenv("MAAS_BACKEND")
    with Client.from_env() as client:
        assert "9999" in repr(client)
    with pytest.raises(ConfigError, match="no profile 'wrok'") as caught:
        Client.from_env(profile="wrok")
    assert "Did you mean work?" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("profile = [", "not valid TOML"),
        ("profile = 3", "profile must be a name"),
        ("profiles = 3", "profiles a table"),
        ("[profiles]\nwork = 3", "profiles.work is not a table"),
        (
            "[profiles.work]\nbakcend = 'local'",
            "unknown key profiles.work.bakcend. Did you mean backend",
        ),
        ("[profile.work]\nbackend = 'local'", "profile must be a name"),
        ("[profiles.work]\nurl = ['a']", "profiles.work.url must be a text"),
        ("[profiles.unused]\nbackend = 'zzz'", "profiles.unused.backend is 'zzz'"),
        ("[profiles.unused]\nengine = 5", "profiles.unused.engine is '5'"),
        ("[profiles.work]\nfoundry_api_key = 'CANARY'", "Set MAAS_FOUNDRY_API_KEY instead"),
        ("[profiles.work]\nprofile = 'a'", "unknown key profiles.work.profile"),
        ("profile = 'gone'", "no profile 'gone'"),
    ],
)
def test_an_invalid_file_names_the_place(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        Settings.load()
    assert str(file) in str(caught.value)
    assert "CANARY" not in str(caught.value)


def test_where_the_file_is(tmp_path: Path) -> None:
    assert config_path({"XDG_CONFIG_HOME": str(tmp_path)}) == tmp_path / "maas-client/config.toml"
    assert config_path({"MAAS_CONFIG_FILE": "~/x"}) == Path.home() / "x"
    default = config_path({})
    assert default is not None
    assert default.parts[-3:] == (".config", "maas-client", "config.toml")
    assert read_profiles({"MAAS_CONFIG_FILE": str(tmp_path / "none")}).values == {}


@pytest.mark.usefixtures("file")
def test_the_command_line_shows_profiles_and_origins(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "--profile", "work", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert (rows["backend"]["value"], rows["backend"]["origin"]) == ("azureml", "profile work")
    assert rows["profile"]["origin"] == "argument"
    assert cli.main(["config"]) == 0
    out, err = capsys.readouterr()
    assert "profile home" in out
    assert "home, work" in err
    assert cli.main(["jobs", "list", "--profile", "nothing"]) == 1
    assert "no profile 'nothing'" in capsys.readouterr().err


def test_misspelled_variables_are_named() -> None:
    env = {"MAAS_BAKCEND": "local", "MAAS_URL": "x", "MAASIVE": "1", "maas_ofline": "1", "PATH": ""}
    assert find_unknown_variables(env) == [
        ("MAAS_BAKCEND", "MAAS_BACKEND"),
        ("maas_ofline", "MAAS_OFFLINE"),
    ]
