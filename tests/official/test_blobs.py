"""azure-storage-blob, unmodified, through the proxy."""

from __future__ import annotations

import pytest

from tests.official.conftest import Served


@pytest.mark.slow
def test_azure_storage_blob(served: Served) -> None:
    assert served.run("blobs.py").endswith("answered\n")
