"""Send operations over a real socket: retries, deadlines, errors, credentials."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

import pytest

from maas_client import Client, errors
from maas_client._transport import AsyncHttpClient, SyncHttpClient, Transport, run_sync
from maas_client._transport.auth import TokenCache
from maas_client._transport.clouds import CLOUDS
from maas_client._transport.connection import Connection
from maas_client.wire.operation import Operation, Plane, Scope
from tests.unit.transport.conftest import (
    ScriptedServer,
    close_connection,
    http_response,
    send_head_slowly,
    send_slowly,
)

GET = Operation("things.get", "GET", Plane.ARM, "/things/{thing}", dict[str, Any])
CREATE = Operation(
    "things.create", "POST", Plane.ARM, "/things", dict[str, Any], resend="refused", body="json"
)
PUT = Operation("things.put", "PUT", Plane.ARM, "/things", dict[str, Any], body="json")


def transport(server: ScriptedServer, **options: Any) -> Transport[SyncHttpClient]:
    scope = Scope("azureml", True, {}, {"arm": server.url})
    connection = Connection(scope, CLOUDS["public"], None, local_origin=server.url, **options)
    return Transport(connection, SyncHttpClient())


def test_get_is_retried_after_a_lost_response(server: ScriptedServer) -> None:
    server.script = [close_connection, http_response(503), http_response(200, b'{"a": 1}')]
    assert run_sync(transport(server).send(GET, thing="x")).value == {"a": 1}
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    "first",
    [
        close_connection,
        http_response(500),
        http_response(502),
        http_response(503),
        http_response(503, headers="Retry-After: 0\r\n"),
        http_response(408),
    ],
)
def test_create_with_unknown_outcome_is_not_retried(server: ScriptedServer, first: Any) -> None:
    server.script = [first, http_response(200)]
    with pytest.raises(errors.MaasError):
        run_sync(transport(server).send(CREATE, {"n": 1}))
    assert len(server.requests) == 1


def test_create_is_retried_if_the_service_did_nothing(server: ScriptedServer) -> None:
    server.script = [http_response(429), http_response(200, b'{"id": 7}')]
    assert run_sync(transport(server).send(CREATE, {"n": 1})).value == {"id": 7}
    assert len(server.requests) == 2


def test_retries_stop_at_max_retries(server: ScriptedServer) -> None:
    server.script = [http_response(503, headers="Retry-After: 0\r\n")]
    with pytest.raises(errors.ServiceError) as caught:
        run_sync(transport(server, max_retries=2).send(GET, thing="x"))
    assert caught.value.status == 503
    assert len(server.requests) == 3


def test_retries_are_logged_with_their_reason(
    server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "maas_client")
    server.script = [http_response(503), http_response(200, b"{}")]
    run_sync(transport(server).send(GET, thing="x"))
    [line] = [r.getMessage() for r in caplog.records if "again in" in r.getMessage()]
    assert line.startswith("things.get: ")
    assert "retry 1 of at most 4" in line


def test_long_retry_after_is_limited_by_the_deadline(server: ScriptedServer) -> None:
    server.script = [http_response(429, headers="Retry-After: 86400\r\n")]
    start = time.monotonic()
    with pytest.raises(errors.RateLimitError) as caught:
        run_sync(transport(server, timeout_s=2).send(GET, thing="x"))
    assert time.monotonic() - start < 2
    assert caught.value.retry_after == 120


@pytest.mark.parametrize("slow", [send_slowly, send_head_slowly])
def test_slow_response_ends_at_the_deadline(server: ScriptedServer, slow: Any) -> None:
    server.script = [slow]
    start = time.monotonic()
    with pytest.raises(errors.TransportError, match="deadline"):
        run_sync(transport(server, timeout_s=0.5, max_retries=0).send(GET, thing="x"))
    assert time.monotonic() - start < 3


@pytest.mark.parametrize("slow", [send_slowly, send_head_slowly])
async def test_slow_response_ends_at_the_deadline_async(server: ScriptedServer, slow: Any) -> None:
    server.script = [slow]
    scope = Scope("azureml", True, {}, {"arm": server.url})
    http = AsyncHttpClient()
    connection = Connection(
        scope, CLOUDS["public"], None, local_origin=server.url, timeout_s=0.5, max_retries=0
    )
    start = time.monotonic()
    with pytest.raises(errors.TransportError, match="deadline"):
        await Transport(connection, http).send(GET, thing="x")
    assert time.monotonic() - start < 3
    await http.aclose()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_an_error_and_is_not_followed(server: ScriptedServer, status: int) -> None:
    second_server = ScriptedServer()
    second_server.script = [http_response(200)]
    server.script = [http_response(status, headers=f"Location: {second_server.url}/x\r\n")]
    with pytest.raises(errors.ServiceError, match="redirect"):
        run_sync(transport(server).send(PUT, {"secret": 1}))
    assert second_server.requests == []
    second_server.close()


@pytest.mark.parametrize(
    "body", [b"<html>hello</html>", b"", b'{"a": ', b"[1]", b"null", b"NaN", b"\xff\xfe"]
)
def test_unexpected_body_is_a_service_error(server: ScriptedServer, body: bytes) -> None:
    server.script = [http_response(200, body, "x-ms-request-id: r-1\r\n")]
    if body == b"":
        assert run_sync(transport(server).send(GET, thing="x")).value == {}
        return
    with pytest.raises(errors.ServiceError) as caught:
        run_sync(transport(server).send(GET, thing="x"))
    assert caught.value.request_id == "r-1"


def test_truncated_body_is_a_transport_error(server: ScriptedServer) -> None:
    whole = http_response(200, b'{"a": 12345}')
    server.script = [whole[:-4]]
    with pytest.raises(errors.TransportError):
        run_sync(transport(server, max_retries=0).send(GET, thing="x"))


def test_response_over_the_size_limit_is_refused(server: ScriptedServer) -> None:
    def send_endlessly(peer: Any) -> None:
        peer.sendall(
            b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: 999999999\r\n\r\n"
        )
        for _ in range(200):
            peer.sendall(b" " * 2**20)

    server.script = [send_endlessly]
    with pytest.raises(errors.TransportError, match="larger than"):
        run_sync(transport(server, max_retries=0).send(GET, thing="x"))


@pytest.mark.parametrize("thing", ["../x", "a/b", "a?b", "a#b", "..", "a\nb", ""])
def test_path_values_are_quoted_or_refused(server: ScriptedServer, thing: str) -> None:
    server.script = [http_response(200)]
    try:
        run_sync(transport(server).send(GET, thing=thing))
    except errors.ConfigError:
        assert server.requests == []
        return
    path = server.requests[0].split(b" ")[1]
    assert path.count(b"/") == 2
    assert b"?" not in path
    assert b"#" not in path


class Credential:
    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []

    def get_token(self, *scopes: str, **kwargs: Any) -> Any:
        self.requests.append({"scopes": scopes, **kwargs})
        return type(
            "T", (), {"token": f"tok{len(self.requests)}", "expires_on": time.time() + 3600}
        )()


def test_refused_token_is_renewed_once_with_the_requested_claims(server: ScriptedServer) -> None:
    challenge = 'WWW-Authenticate: Bearer realm="", claims="eyJhIjogMX0="\r\n'
    server.script = [http_response(401, headers=challenge), http_response(200, b'{"a": 1}')]
    credential = Credential()
    scope = Scope("azureml", False, {}, {"arm": server.url})
    cloud = CLOUDS["public"]
    trusted = {**cloud.suffixes, Plane.ARM: (server.url.removeprefix("http://"),)}
    test_cloud = type(cloud)(cloud.name, server.url, cloud.authority, cloud.scopes, trusted)
    connection = Connection(scope, test_cloud, TokenCache(credential, test_cloud.authority))
    sender = Transport(connection, SyncHttpClient())
    assert run_sync(sender.send(GET, thing="x")).value == {"a": 1}
    assert credential.requests[1]["claims"] == '{"a": 1}'
    assert b"Bearer tok2" in server.requests[1]
    run_sync(sender.send(GET, thing="x"))
    assert len(credential.requests) == 2, "a good token is kept"


def test_token_is_not_sent_to_hosts_named_by_a_response(server: ScriptedServer) -> None:
    server.script = [http_response(200)]
    credential = Credential()
    scope = Scope("azureml", False, {}, {"arm": "https://management.azure.com"})
    connection = Connection(scope, CLOUDS["public"], TokenCache(credential, "login"))
    sender = Transport(connection, SyncHttpClient())
    for url in (
        f"{server.url}/op",
        "https://evil.example/op",
        "https://management.azure.com.evil.example/",
    ):
        with pytest.raises(errors.TransportError, match=r"nothing is sent|never"):
            run_sync(sender.send(GET, url=url))
    assert credential.requests == []
    assert server.requests == []


def test_local_client_sends_to_its_server_only(server: ScriptedServer) -> None:
    with pytest.raises(errors.TransportError, match="another host"):
        run_sync(transport(server).send(GET, url="http://127.0.0.1:1/op"))


def test_offline_refuses_before_sending() -> None:
    scope = Scope("azureml", False, {}, {"arm": "https://management.azure.com"})
    connection = Connection(
        scope, CLOUDS["public"], TokenCache(Credential(), "login"), offline=True
    )
    with pytest.raises(errors.TransportError, match="MAAS_OFFLINE"):
        run_sync(Transport(connection, SyncHttpClient()).send(GET, thing="x"))


def test_no_sas_in_logs_or_errors(server: ScriptedServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server.script = [http_response(403, b'{"error": {"code": "AuthFailed", "message": "no"}}')]
    blob = Operation(
        "blobs.put", "PUT", Plane.BLOB, "/{blob:path}", type(None), ok=(201,), body="bytes"
    )
    with pytest.raises(errors.PermissionDeniedError) as caught:
        run_sync(
            transport(server).send(
                blob, b"x", base_url=f"{server.url}/c?sv=1&sig=CANARY", blob="a/b"
            )
        )
    assert "sig=CANARY" in server.requests[0].decode()
    assert "CANARY" not in caplog.text
    assert "CANARY" not in str(caught.value)


def test_refused_connection_fails_at_once_with_a_hint() -> None:
    closed_server = ScriptedServer()
    closed_server.close()
    sender = transport(closed_server)
    slept: list[float] = []
    sender.http.sleep = slept.append  # type: ignore[method-assign,assignment]  # a spy: no retry, no wait
    with pytest.raises(errors.TransportError, match="maas-client serve"):
        run_sync(sender.send(GET, thing="x"))
    assert slept == []


@pytest.mark.parametrize("dialect", ["azureml", "foundry"])
def test_body_without_items_is_not_an_empty_list(server: ScriptedServer, dialect: Any) -> None:
    """A list that is looked through before a create must not be taken for empty."""
    server.script = [
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    ]
    with (
        Client.local(url=server.url, dialect=dialect) as client,
        pytest.raises(errors.ServiceError),
    ):
        list(client.jobs.list())


@pytest.mark.parametrize("status", [302, 500, 502, 503, 504])
def test_every_service_failure_has_a_hint(server: ScriptedServer, status: int) -> None:
    server.script = [f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode()]
    with (
        Client.local(url=server.url, max_retries=0) as client,
        pytest.raises(errors.ServiceError) as failed,
    ):
        client.jobs.get("x")
    assert failed.value.hint


@pytest.mark.parametrize("code", ["model_unusable", "DeploymentFailed"])
def test_failure_that_lasts_is_not_tried_again_later(server: ScriptedServer, code: str) -> None:
    body = json.dumps(
        {"error": {"code": code, "message": "No base weights are in /b. Restore it."}}
    ).encode()
    server.script = [b"HTTP/1.1 500 No\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)]
    with (
        Client.local(url=server.url, max_retries=0) as client,
        pytest.raises(errors.ServiceError, match="No base weights") as failed,
    ):
        client.jobs.get("x")
    assert failed.value.hint is None
