"""OpenAI's and Azure's packages for JavaScript, unmodified, through the proxy.

The tests are skipped where Node or the packages are absent. ``make setup`` installs the packages where npm is
present; ``NODE_PATH`` may name another ``node_modules`` folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from maas_client import Client
from tests.official.conftest import ServerProcess

_FOLDER = Path(__file__).parent


def _node_modules(*packages: str) -> str:
    """Return the folder with the packages. Skips the test where there is none."""
    listed = os.environ.get("NODE_PATH", "")  # noqa: TID251 - a child's environment
    for folder in (_FOLDER / "node_modules", *(Path(p) for p in listed.split(os.pathsep) if p)):
        if all((folder / package).is_dir() for package in packages):
            return str(folder)
    pytest.skip(f"npm packages are not installed: {', '.join(packages)}")


def _run(server: ServerProcess, script: str, packages: tuple[str, ...], *args: str) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is not installed")
    environment = {
        **server.environment,
        "NODE_PATH": _node_modules(*packages),
        "NODE_EXTRA_CA_CERTS": server.ca_file,
    }
    done = subprocess.run(
        [node, str(_FOLDER / "scripts" / script), *args],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout == "answered\n", done.stderr


@pytest.mark.slow
def test_storage_blob(server_process: ServerProcess) -> None:
    _run(server_process, "blobs.cjs", ("@azure/storage-blob", "@azure/identity"))


@pytest.mark.slow
def test_openai(server_process: ServerProcess, train_file: Path) -> None:
    _run(server_process, "openai.cjs", ("openai", "undici"), str(train_file))


@pytest.mark.slow
def test_ai_inference(server_process: ServerProcess) -> None:
    packages = (
        "@azure-rest/ai-inference",
        "@azure/identity",
        "@azure/core-auth",
        "@azure/core-sse",
    )
    with Client.local(url=server_process.url) as client:
        client.deployments.create("inference-js", "Phi-4-mini-instruct")
        key = client.deployments.keys("inference-js").primary.get_secret_value()
    url = "https://inference-js.eastus2.models.ai.azure.com"
    _run(server_process, "inference.cjs", packages, url, key)
