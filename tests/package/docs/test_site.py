"""The site of docs/ builds without a warning and has every public name, command, setting, code and model."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import maas_client
from maas_client import _client, catalog, cli, errors, graders, testing, types
from maas_client._settings import SETTINGS
from maas_client.dataset.codes import all_codes

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.skipif(
    find_spec("mkdocs") is None, reason="the dependency group docs is not installed: make setup"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site: about five seconds of CPU time, most of it for the Python API."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},  # noqa: TID251 - the program's own variables
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def text_of(site: Path, page: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", (site / page / "index.html").read_text("utf-8")))


@pytest.mark.slow
def test_site_has_every_public_name(site: Path) -> None:
    pages = [path.read_text("utf-8") for path in (site / "reference" / "api").rglob("index.html")]
    anchors = {anchor for page in pages for anchor in re.findall(r'id="([\w.]+)"', page)}
    documented = {
        anchor.rpartition(".")[2] for anchor in anchors if anchor.startswith("maas_client")
    }
    modules = {"__version__", "errors", "graders", "local", "types"}
    names = {*maas_client.__all__, *types.__all__, *errors.__all__, *graders.__all__} - modules
    assert not names - documented
    methods = {
        f"maas_client._client.{resource.__name__}.{name}"
        for resource in _client.Resource.__subclasses__()
        for name in vars(resource)
        if not name.startswith("_") and not resource.__name__.startswith("Async")
    }
    assert len(methods) > 30
    assert not methods - anchors
    assert not set(testing.__all__) - documented
    assert "hyperparameters: Hyperparameters" in text_of(site, "reference/api/clients")


def test_site_has_every_command_setting_code_and_model(site: Path) -> None:
    commands = text_of(site, "reference/command-line")
    for command in (*cli.COMMANDS, "jobs watch", "--max-billed-tokens", "--print-completion"):
        assert command in commands
    settings = text_of(site, "reference/settings")
    assert not [s.key for s in SETTINGS if s.key not in settings or s.variables[0] not in settings]
    codes = text_of(site, "reference/codes")
    assert not [code for code in all_codes() if code not in codes]
    assert (site / "reference" / "codes" / "CHAT_ROLE_UNKNOWN" / "index.html").exists()
    models = text_of(site, "reference/models")
    assert not [name for name in catalog.load_models() if name not in models]
    assert "https://" in (site / "reference" / "models" / "index.html").read_text("utf-8")


def test_site_loads_nothing_from_other_hosts(site: Path) -> None:
    page = (site / "index.html").read_text("utf-8")
    loaded = re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=[\"']?([^\"' >]+)", page)
    assert loaded
    assert not [address for address in loaded if address.startswith(("http:", "https:", "//"))]
