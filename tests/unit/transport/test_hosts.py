"""Which hosts receive anything: credentials, rows and signed addresses go by the same list."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from maas_client import errors
from maas_client._transport import SyncHttpClient, Transport, run_sync
from maas_client._transport.auth import TokenCache
from maas_client._transport.clouds import CLOUDS
from maas_client._transport.connection import Connection
from maas_client.wire import azureml, blob
from maas_client.wire.operation import Scope
from tests.unit.transport.conftest import (
    GET,
    ScriptedServer,
    http_response,
    make_transport,
)

SAS = "sv=2024-11-04&sig=CANARY"


@pytest.fixture
def other_server() -> Iterator[ScriptedServer]:
    other_server = ScriptedServer()
    other_server.script = [http_response(201)]
    yield other_server
    other_server.close()


class Credential:
    def get_token(self, *scopes: str, **kwargs: Any) -> Any:
        return type("Token", (), {"token": "CANARY", "expires_on": time.time() + 3600})()


def azure_transport(cloud: str = "public") -> Transport[SyncHttpClient]:
    scope = Scope("azureml", False, {}, {"arm": CLOUDS[cloud].arm})
    tokens = TokenCache(Credential(), "login")
    return Transport(Connection(scope, CLOUDS[cloud], tokens, max_retries=0), SyncHttpClient())


def test_local_client_uploads_to_its_server_only(
    server: ScriptedServer, other_server: ScriptedServer
) -> None:
    transport = make_transport(server.url, SyncHttpClient())
    for base_url in (
        f"{other_server.url}/c?{SAS}",
        f"https://evil.example/c?{SAS}",
        f"https://acct.blob.core.windows.net/c?{SAS}",
    ):
        with pytest.raises(errors.TransportError, match="another host"):
            run_sync(transport.send(blob.BLOB_PUT, b"row", base_url=base_url, blob="x"))
    assert not other_server.requests


def test_local_client_reads_from_its_server_only(
    server: ScriptedServer, other_server: ScriptedServer
) -> None:
    transport = make_transport(server.url, SyncHttpClient())
    for op in (azureml.LOG_FILE, azureml.DISCOVERY_GET):
        with pytest.raises(errors.TransportError, match="another host"):
            run_sync(transport.send(op, url=f"{other_server.url}/x?{SAS}"))
    assert not other_server.requests


@pytest.mark.parametrize(
    "container",
    [
        "http://acct.blob.core.windows.net/c",
        "https://evil.example/c",
        "https://acct.blob.core.windows.net.evil.example/c",
        "https://acct.blob.core.windows.net:8443/c",
        "https://user@acct.blob.core.windows.net/c",
        "ftp://acct.blob.core.windows.net/c",
        "https://evil.example\\.blob.core.windows.net/c",
        "https://[::1/c",
        "https://acct.blob.core.windows.net:99999/c",
        "https:///c",
        "//acct.blob.core.windows.net/c",
    ],
)
def test_upload_with_a_sas_obeys_the_list_of_hosts(container: str) -> None:
    with pytest.raises(errors.TransportError) as caught:
        run_sync(
            azure_transport().send(blob.BLOB_PUT, b"row", base_url=f"{container}?{SAS}", blob="x")
        )
    assert type(caught.value).__name__ == "BlockedRequestError"
    assert "CANARY" not in str(caught.value)


def test_upload_with_a_sas_over_http_to_this_machine_is_refused(
    other_server: ScriptedServer,
) -> None:
    with pytest.raises(errors.TransportError):
        run_sync(
            azure_transport().send(
                blob.BLOB_PUT, b"row", base_url=f"{other_server.url}/c?{SAS}", blob="x"
            )
        )
    assert not other_server.requests


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/log",
        "http://acct.blob.core.windows.net/log",
        "https://management.azure.com:444/log",
        "http://[::1",
    ],
)
@pytest.mark.parametrize("op", [azureml.LOG_FILE, azureml.DISCOVERY_GET, GET])
def test_addresses_of_a_response_obey_the_list_of_hosts(url: str, op: Any) -> None:
    """Also where no credential is sent: a service must not make this client fetch any address."""
    with pytest.raises(errors.TransportError) as caught:
        run_sync(azure_transport().send(op, url=url))
    assert type(caught.value).__name__ == "BlockedRequestError"


@pytest.mark.parametrize("cloud", ["public", "usgov", "china"])
def test_hosts_of_each_cloud_are_allowed(cloud: str) -> None:
    from maas_client._transport.clouds import check_host
    from maas_client.wire.operation import Plane

    storage = CLOUDS[cloud].suffixes[Plane.BLOB][0]
    history = CLOUDS[cloud].suffixes[Plane.HISTORY][0]
    for plane, url in (
        (Plane.ARM, f"{CLOUDS[cloud].arm}/subscriptions"),
        (Plane.BLOB, f"https://acct{storage}/c?{SAS}"),
        (Plane.BLOB, f"https://acct{storage}:443/c"),
        (Plane.ANONYMOUS, f"https://acct{storage}/log?{SAS}"),
        (Plane.ANONYMOUS, f"https://eastus{history}/discovery"),
        (Plane.HISTORY, f"https://guid.workspace.eastus{history}/history"),
    ):
        check_host(CLOUDS[cloud], plane, url, local_origin=None)
