"""azure-storage-blob, unmodified, through the proxy."""

from __future__ import annotations

import pytest

from tests.official.conftest import ServerProcess


@pytest.mark.slow
def test_azure_storage_blob(server_process: ServerProcess) -> None:
    assert server_process.run("blobs.py").endswith("answered\n")
