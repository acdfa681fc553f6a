"""A local deployment that cannot answer ends ``fine_tune`` with the reason."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import maas_client as maas
from maas_client.local.embedded_server import LocalServer


@pytest.fixture
def broken_engine(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let every chat end with an internal error."""
    reason = "the weights cannot be read"

    async def stream(*_: Any) -> AsyncIterator[Any]:
        raise RuntimeError(reason)
        yield

    assert server._server is not None
    monkeypatch.setattr(server._server.services.chat_engine, "stream", stream)
    return reason


@pytest.mark.usefixtures("broken_engine")
async def test_permanent_internal_error_ends_the_wait(client: Any, train: Path) -> None:
    start = time.monotonic()
    with pytest.raises(maas.ServiceError) as caught:
        await client.fine_tune(train, model="Phi-3-mini", deploy="broken")
    assert caught.value.status == 500
    # The wait for a deployment is 30 minutes. Retries of the request itself take a few seconds.
    assert time.monotonic() - start < 60
    await client.deployments.delete("broken")
