"""The retry table, deadlines, refusals and what never leaves, over a real socket."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest

from maas_client import Client, errors
from maas_client._transport import AsyncHttpClient, Connection, SyncHttpClient, Transport, run_sync
from maas_client._transport.auth import TokenCache
from maas_client._transport.clouds import CLOUDS
from maas_client.wire.op import Op, Plane
from maas_client.wire.scope import Scope
from tests.unit.transport.conftest import Scripted, answer, drip, drip_head, hang_up

GET = Op("things.get", "GET", Plane.ARM, "/things/{thing}", dict[str, Any])
CREATE = Op(
    "things.create", "POST", Plane.ARM, "/things", dict[str, Any], resend="refused", body="json"
)
PUT = Op("things.put", "PUT", Plane.ARM, "/things", dict[str, Any], body="json")


def transport(server: Scripted, **options: Any) -> Transport[SyncHttpClient]:
    scope = Scope("azureml", True, {}, {"arm": server.url})
    connection = Connection(scope, CLOUDS["public"], None, local_origin=server.url, **options)
    return Transport(connection, SyncHttpClient())


def test_a_lost_answer_to_a_get_is_asked_for_again(server: Scripted) -> None:
    server.script = [hang_up, answer(503), answer(200, b'{"a": 1}')]
    assert run_sync(transport(server).send(GET, thing="x")).value == {"a": 1}
    assert len(server.seen) == 3


@pytest.mark.parametrize("first", [hang_up, answer(500), answer(502), answer(503), answer(408)])
def test_a_create_with_an_unknown_outcome_is_never_sent_twice(server: Scripted, first: Any) -> None:
    server.script = [first, answer(200)]
    with pytest.raises(errors.MaasError):
        run_sync(transport(server).send(CREATE, {"n": 1}))
    assert len(server.seen) == 1


@pytest.mark.parametrize("first", [answer(429), answer(503, headers="Retry-After: 0\r\n")])
def test_a_create_the_service_refused_to_look_at_is_sent_again(
    server: Scripted, first: bytes
) -> None:
    server.script = [first, answer(200, b'{"id": 7}')]
    assert run_sync(transport(server).send(CREATE, {"n": 1})).value == {"id": 7}
    assert len(server.seen) == 2


def test_retries_end(server: Scripted) -> None:
    server.script = [answer(503, headers="Retry-After: 0\r\n")]
    with pytest.raises(errors.ServiceError) as caught:
        run_sync(transport(server, max_retries=2).send(GET, thing="x"))
    assert caught.value.status == 503
    assert len(server.seen) == 3


def test_a_long_retry_after_ends_at_the_deadline_not_at_its_own_wish(server: Scripted) -> None:
    server.script = [answer(429, headers="Retry-After: 86400\r\n")]
    start = time.monotonic()
    with pytest.raises(errors.RateLimitError) as caught:
        run_sync(transport(server, timeout_s=2).send(GET, thing="x"))
    assert time.monotonic() - start < 2
    assert caught.value.retry_after == 120


@pytest.mark.parametrize("slow", [drip, drip_head])
def test_what_drips_ends_at_the_deadline(server: Scripted, slow: Any) -> None:
    server.script = [slow]
    start = time.monotonic()
    with pytest.raises(errors.TransportError, match="deadline"):
        run_sync(transport(server, timeout_s=0.5, max_retries=0).send(GET, thing="x"))
    assert time.monotonic() - start < 1.5


@pytest.mark.parametrize("slow", [drip, drip_head])
async def test_what_drips_ends_at_the_deadline_async(server: Scripted, slow: Any) -> None:
    server.script = [slow]
    scope = Scope("azureml", True, {}, {"arm": server.url})
    wire = AsyncHttpClient()
    connection = Connection(
        scope, CLOUDS["public"], None, local_origin=server.url, timeout_s=0.5, max_retries=0
    )
    start = time.monotonic()
    with pytest.raises(errors.TransportError, match="deadline"):
        await Transport(connection, wire).send(GET, thing="x")
    assert time.monotonic() - start < 1.5
    await wire.aclose()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_error_and_nothing_goes_elsewhere(server: Scripted, status: int) -> None:
    other = Scripted()
    other.script = [answer(200)]
    server.script = [answer(status, headers=f"Location: {other.url}/x\r\n")]
    with pytest.raises(errors.ServiceError, match="redirect"):
        run_sync(transport(server).send(PUT, {"secret": 1}))
    assert other.seen == []
    other.close()


@pytest.mark.parametrize(
    "body", [b"<html>hello</html>", b"", b'{"a": ', b"[1]", b"null", b"NaN", b"\xff\xfe"]
)
def test_a_200_with_a_wrong_body_is_our_error(server: Scripted, body: bytes) -> None:
    server.script = [answer(200, body, "x-ms-request-id: r-1\r\n")]
    if body == b"":
        assert run_sync(transport(server).send(GET, thing="x")).value == {}
        return
    with pytest.raises(errors.ServiceError) as caught:
        run_sync(transport(server).send(GET, thing="x"))
    assert caught.value.request_id == "r-1"


def test_a_truncated_body_is_our_error(server: Scripted) -> None:
    whole = answer(200, b'{"a": 12345}')
    server.script = [whole[:-4]]
    with pytest.raises(errors.TransportError):
        run_sync(transport(server, max_retries=0).send(GET, thing="x"))


def test_a_bomb_is_not_read_to_its_end(server: Scripted) -> None:
    def pour(peer: Any) -> None:
        peer.sendall(
            b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: 999999999\r\n\r\n"
        )
        for _ in range(200):
            peer.sendall(b" " * 2**20)

    server.script = [pour]
    with pytest.raises(errors.TransportError, match="larger than"):
        run_sync(transport(server, max_retries=0).send(GET, thing="x"))


@pytest.mark.parametrize("thing", ["../x", "a/b", "a?b", "a#b", "..", "a\nb", ""])
def test_a_name_that_would_change_the_path_is_refused_or_quoted(
    server: Scripted, thing: str
) -> None:
    server.script = [answer(200)]
    try:
        run_sync(transport(server).send(GET, thing=thing))
    except errors.ConfigError:
        assert server.seen == []
        return
    path = server.seen[0].split(b" ")[1]
    assert path.count(b"/") == 2
    assert b"?" not in path
    assert b"#" not in path


class Credential:
    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def get_token(self, *scopes: str, **kwargs: Any) -> Any:
        self.asked.append({"scopes": scopes, **kwargs})
        return type("T", (), {"token": f"tok{len(self.asked)}", "expires_on": time.time() + 3600})()


def test_a_refused_token_is_renewed_once_with_the_claims_asked_for(server: Scripted) -> None:
    challenge = 'WWW-Authenticate: Bearer realm="", claims="eyJhIjogMX0="\r\n'
    server.script = [answer(401, headers=challenge), answer(200, b'{"a": 1}')]
    credential = Credential()
    scope = Scope("azureml", False, {}, {"arm": server.url})
    cloud = CLOUDS["public"]
    trusted = {**cloud.suffixes, Plane.ARM: (server.url.removeprefix("http://"),)}
    near = type(cloud)(cloud.name, server.url, cloud.authority, cloud.scopes, trusted)
    connection = Connection(scope, near, TokenCache(credential, near.authority))
    port = Transport(connection, SyncHttpClient())
    assert run_sync(port.send(GET, thing="x")).value == {"a": 1}
    assert credential.asked[1]["claims"] == '{"a": 1}'
    assert b"Bearer tok2" in server.seen[1]
    run_sync(port.send(GET, thing="x"))
    assert len(credential.asked) == 2, "a good token is kept"


def test_a_token_goes_to_no_host_that_merely_an_answer_named(server: Scripted) -> None:
    server.script = [answer(200)]
    credential = Credential()
    scope = Scope("azureml", False, {}, {"arm": "https://management.azure.com"})
    connection = Connection(scope, CLOUDS["public"], TokenCache(credential, "login"))
    port = Transport(connection, SyncHttpClient())
    for url in (
        f"{server.url}/op",
        "https://evil.example/op",
        "https://management.azure.com.evil.example/",
    ):
        with pytest.raises(errors.TransportError, match=r"no token|never"):
            run_sync(port.send(GET, url=url))
    assert credential.asked == []
    assert server.seen == []


def test_a_local_client_stays_at_its_own_server(server: Scripted) -> None:
    with pytest.raises(errors.TransportError, match="another host"):
        run_sync(transport(server).send(GET, url="http://127.0.0.1:1/op"))


def test_offline_refuses_before_anything_is_sent() -> None:
    scope = Scope("azureml", False, {}, {"arm": "https://management.azure.com"})
    connection = Connection(
        scope, CLOUDS["public"], TokenCache(Credential(), "login"), offline=True
    )
    with pytest.raises(errors.TransportError, match="MAAS_OFFLINE"):
        run_sync(Transport(connection, SyncHttpClient()).send(GET, thing="x"))


def test_no_sas_in_a_log_or_an_error(server: Scripted, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server.script = [answer(403, b'{"error": {"code": "AuthFailed", "message": "no"}}')]
    blob = Op("blobs.put", "PUT", Plane.BLOB, "/{blob:path}", type(None), ok=(201,), body="bytes")
    with pytest.raises(errors.PermissionDeniedError) as caught:
        run_sync(
            transport(server).send(
                blob, b"x", base_url=f"{server.url}/c?sv=1&sig=CANARY", blob="a/b"
            )
        )
    assert "sig=CANARY" in server.seen[0].decode()
    assert "CANARY" not in caplog.text
    assert "CANARY" not in str(caught.value)


def test_nobody_there_is_said_at_once_and_says_what_to_do() -> None:
    free = Scripted()
    free.close()
    port = transport(free)
    slept: list[float] = []
    port.http.sleep = slept.append  # type: ignore[method-assign,assignment]  # a spy: no retry, no wait
    with pytest.raises(errors.TransportError, match="maas-client serve"):
        run_sync(port.send(GET, thing="x"))
    assert slept == []


@pytest.mark.parametrize("dialect", ["azureml", "foundry"])
def test_a_body_without_items_is_no_empty_list(server: Scripted, dialect: Any) -> None:
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
def test_what_to_do_is_said_of_every_failure(server: Scripted, status: int) -> None:
    server.script = [f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode()]
    with (
        Client.local(url=server.url, max_retries=0) as client,
        pytest.raises(errors.ServiceError) as failed,
    ):
        client.jobs.get("x")
    assert failed.value.hint
