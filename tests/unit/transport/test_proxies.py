"""Proxies of the environment that cannot be used: told for Azure, nothing to a server on this machine."""

from __future__ import annotations

import pytest

from maas_client import AsyncClient, Client
from maas_client.errors import ConfigError, MaasError

BAD = ["socks5://127.0.0.1:9", "garbage://127.0.0.1:9"]


@pytest.fixture(params=BAD)
def proxy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param.startswith("socks"):
        import sys

        monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setenv("ALL_PROXY", request.param)


@pytest.mark.usefixtures("proxy")
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_it_is_told_before_anything_is_sent(kind: type[Client] | type[AsyncClient]) -> None:
    with pytest.raises(ConfigError, match="ALL_PROXY"):
        kind.foundry(endpoint="https://x.openai.azure.com", api_key="k")


@pytest.mark.usefixtures("proxy")
def test_a_server_on_this_machine_needs_none() -> None:
    with (
        Client.local(url="http://127.0.0.1:1") as client,
        pytest.raises(MaasError, match="Start one"),
    ):
        client.jobs.get("x")
