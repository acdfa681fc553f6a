"""Unusable proxies in the environment: an error for Azure, ignored for a server on this machine."""

from __future__ import annotations

import pytest

from maas_client import AsyncClient, Client
from maas_client.errors import ConfigError, MaasError

UNUSABLE = ["socks5://127.0.0.1:9", "garbage://127.0.0.1:9"]


@pytest.fixture(params=UNUSABLE)
def proxy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param.startswith("socks"):
        import sys

        monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setenv("ALL_PROXY", request.param)


@pytest.mark.usefixtures("proxy")
@pytest.mark.parametrize("client_class", [Client, AsyncClient])
def test_unusable_proxy_is_an_error_for_azure(
    client_class: type[Client] | type[AsyncClient],
) -> None:
    with pytest.raises(ConfigError, match="ALL_PROXY"):
        client_class.foundry(endpoint="https://x.openai.azure.com", api_key="k")


@pytest.mark.usefixtures("proxy")
def test_unusable_proxy_is_ignored_for_loopback() -> None:
    with (
        Client.local(url="http://127.0.0.1:1") as client,
        pytest.raises(MaasError, match="maas-client serve"),
    ):
        client.jobs.get("x")
