"""Azure's SDKs for JavaScript, unmodified, through the proxy; skipped where Node or the packages are absent.

Install the packages with ``npm install --prefix tests/official @azure/storage-blob @azure/identity``, or name
their ``node_modules`` folder in ``NODE_PATH``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.official.conftest import ServerProcess

_FOLDER = Path(__file__).parent


def _node_modules(*packages: str) -> str:
    """Return the folder with the packages. Skips the test where there is none."""
    listed = os.environ.get("NODE_PATH", "")  # noqa: TID251 - a child's environment
    for folder in (_FOLDER / "node_modules", *(Path(p) for p in listed.split(os.pathsep) if p)):
        if all((folder / package).is_dir() for package in packages):
            return str(folder)
    pytest.skip(f"npm packages are not installed: {', '.join(packages)}")


@pytest.mark.slow
def test_storage_blob(server_process: ServerProcess) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is not installed")
    environment = {
        **server_process.environment,
        "NODE_PATH": _node_modules("@azure/storage-blob", "@azure/identity"),
        "NODE_EXTRA_CA_CERTS": server_process.ca_file,
    }
    done = subprocess.run(
        [node, str(_FOLDER / "scripts" / "blobs.cjs")],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout == "answered\n", done.stderr
