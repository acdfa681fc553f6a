"""No key, token or SAS is in what a traceback shows, local variables included."""

# ruff: noqa: TID253 - what is printed by rich is the subject of these tests

from __future__ import annotations

import pickle
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.traceback import Traceback

from maas_client import AsyncClient, Client, errors
from maas_client._secret import Secret, SignedUrl
from maas_client._transport import AsyncHttpClient, SyncHttpClient, Transport, run_sync
from maas_client._transport.auth import TokenCache
from maas_client._transport.clouds import CLOUDS
from maas_client._transport.connection import Connection
from maas_client.wire import blob
from maas_client.wire.operation import Plane, Scope
from tests.unit.transport.conftest import (
    GET,
    PUT,
    ScriptedServer,
    close_connection,
    http_response,
    make_transport,
    send_head_slowly,
    send_slowly,
)

CANARY = "CANARY" + "x7"  # no literal: the source lines of a traceback must not contain it

FAULTS: dict[str, Any] = {
    "401": http_response(401, b'{"error": {"code": "no", "message": "no"}}'),
    "500": http_response(500),
    "redirect": http_response(302, headers="Location: http://127.0.0.1:1/\r\n"),
    "html": http_response(200, b"<html>"),
    "list": http_response(200, b"[]"),
    "no http": b"hello\r\n\r\n",
    "closed": close_connection,
    "slow body": send_slowly,
    "slow head": send_head_slowly,
    "truncated": http_response(200, b'{"a": 1}')[:-3],
    "wrong encoding": http_response(200, b"x", "Content-Encoding: gzip\r\n"),
}


def assert_hidden(error: BaseException) -> None:
    """Check what Python and rich print of the frames below the test's own, and the error itself."""
    error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
    frames = traceback.TracebackException.from_exception(error, capture_locals=True)
    console = Console(record=True, width=200, file=open("/dev/null", "w", encoding="utf-8"))  # noqa: SIM115
    with console.file:
        console.print(
            Traceback.from_exception(
                type(error), error, error.__traceback__, show_locals=True, locals_max_string=None
            )
        )
        outputs = {
            "traceback": "".join(frames.format()),
            "rich": console.export_text(),
            "str": str(error),
            "repr": repr(error),
            "vars": repr(vars(error)),
        }
    for printer, text in outputs.items():
        assert CANARY not in text, f"{printer}: {text[max(0, text.index(CANARY) - 300) :][:400]}"


class Credential:
    def get_token(self, *scopes: str, **kwargs: Any) -> Any:
        return type("Token", (), {"token": CANARY, "expires_on": time.time() + 3600})()


def token_transport(url: str, http: Any, timeout_s: float = 0.8) -> Transport[Any]:
    cloud = CLOUDS["public"]
    netloc = url.removeprefix("http://")
    suffixes = {**cloud.suffixes, Plane.ARM: (netloc,), Plane.BLOB: (netloc,)}
    test_cloud = type(cloud)(cloud.name, url, cloud.authority, cloud.scopes, suffixes)
    scope = Scope("azureml", False, {}, {"arm": url})
    tokens = TokenCache(Credential(), "login")
    connection = Connection(scope, test_cloud, tokens, timeout_s=timeout_s, max_retries=0)
    return Transport(connection, http)


def key_transport(url: str, http: Any, timeout_s: float = 0.8) -> Transport[Any]:
    return make_transport(url, http, api_key=Secret(CANARY), timeout_s=timeout_s, max_retries=0)


def deadline_s(fault: Any) -> float:
    """Return a deadline that only a slow answer exceeds."""
    return 0.8 if fault in (send_slowly, send_head_slowly) else 10


TRANSPORTS = {"token": token_transport, "key": key_transport}


@pytest.mark.parametrize("make", TRANSPORTS.values(), ids=TRANSPORTS)
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_credential_is_in_no_local_variable(
    server: ScriptedServer, fault: Any, make: Callable[..., Transport[Any]]
) -> None:
    server.script = [fault]
    with pytest.raises(errors.MaasError) as caught:
        run_sync(make(server.url, SyncHttpClient(), deadline_s(fault)).send(PUT, {"a": 1}))
    assert CANARY in server.requests[0].decode()
    assert_hidden(caught.value)


@pytest.mark.parametrize("make", TRANSPORTS.values(), ids=TRANSPORTS)
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_credential_is_in_no_local_variable_async(
    server: ScriptedServer, fault: Any, make: Callable[..., Transport[Any]]
) -> None:
    server.script = [fault]
    http = AsyncHttpClient()
    with pytest.raises(errors.MaasError) as caught:
        await make(server.url, http, deadline_s(fault)).send(PUT, {"a": 1})
    assert_hidden(caught.value)
    with pytest.raises(errors.MaasError) as caught:
        await make(server.url, http, deadline_s(fault)).send(GET, thing="x", key=CANARY + "key")
    assert_hidden(caught.value)
    await http.aclose()


@pytest.mark.parametrize("fault", ["500", "no http", "closed", "slow head"])
def test_sas_is_in_no_local_variable(server: ScriptedServer, fault: str) -> None:
    server.script = [FAULTS[fault]]
    base_url = SignedUrl(f"{server.url}/c?sv=1&sig={CANARY}")
    with pytest.raises(errors.MaasError) as caught:
        run_sync(
            token_transport(server.url, SyncHttpClient()).send(
                blob.BLOB_PUT, b"x", base_url=base_url, blob="x"
            )
        )
    assert CANARY in server.requests[0].decode()
    assert_hidden(caught.value)


def test_credential_is_hidden_if_nothing_listens() -> None:
    closed = ScriptedServer()
    closed.close()
    for make in TRANSPORTS.values():
        with pytest.raises(errors.MaasError) as caught:
            run_sync(make(closed.url, SyncHttpClient()).send(PUT, {"a": 1}))
        assert_hidden(caught.value)


def interrupt_and_wait(connection: socket.socket) -> None:
    """Interrupt the client, which waits for an answer, and wait until it closes the connection."""
    main_thread = threading.main_thread().ident
    assert main_thread is not None
    signal.pthread_kill(main_thread, signal.SIGALRM)
    connection.recv(1)


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise ``KeyboardInterrupt`` for SIGALRM, as Python does for SIGINT."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, previous)


def test_credential_is_hidden_after_ctrl_c(server: ScriptedServer) -> None:
    server.script = [interrupt_and_wait]
    for make in TRANSPORTS.values():
        transport = make(server.url, SyncHttpClient(), timeout_s=10)
        with interruptible(), pytest.raises(KeyboardInterrupt) as caught:
            run_sync(transport.send(PUT, {"a": 1}))
        assert CANARY in server.requests[-1].decode()
        assert_hidden(caught.value)


def test_traceback_that_the_caller_handles_is_kept(server: ScriptedServer) -> None:
    closed = ScriptedServer()
    closed.close()

    def send_while_handling_another_error() -> None:
        try:
            raise LookupError("the caller's own")
        except LookupError:
            run_sync(key_transport(closed.url, SyncHttpClient()).send(PUT, {"a": 1}))

    with pytest.raises(errors.MaasError) as caught:
        send_while_handling_another_error()
    cause: BaseException | None = caught.value
    while cause is not None and not isinstance(cause, LookupError):
        cause = cause.__context__
    assert cause is not None
    assert cause.__traceback__ is not None


def test_key_is_hidden_by_the_constructors(monkeypatch: pytest.MonkeyPatch) -> None:
    for construct in (
        lambda key: Client.local(url="ftp://x", api_key=key),
        lambda key: Client.local(url="http://[::1", api_key=key),
        lambda key: Client.local(dialect="x", api_key=key),
        lambda key: Client.local(api_key=key + "\n"),
        lambda key: Client.local(api_key=key + "\u00e9"),
        lambda key: Client.foundry(endpoint="x", api_key=key),
        lambda key: Client.foundry(endpoint="https://[", api_key=key),
        lambda key: Client.foundry(endpoint="https://x", api_key=key, account_id="x"),
        lambda key: AsyncClient.foundry(endpoint="https://x.openai.azure.com", api_key=key, http=3),
    ):
        with pytest.raises(errors.ConfigError) as caught:
            construct(Secret(CANARY))
        assert_hidden(caught.value)
    monkeypatch.setenv("MAAS_API_KEY", CANARY + "\n")
    with pytest.raises(errors.ConfigError, match="MAAS_API_KEY") as caught:
        Client.local()
    assert_hidden(caught.value)


def test_key_is_in_no_repr_of_a_client() -> None:
    client = Client.local(api_key=CANARY)
    for thing in (client, vars(client), client._io._connection, vars(client._io), client.jobs):
        assert CANARY not in repr(thing)
    client.close()


def test_failing_credential_shows_nothing(server: ScriptedServer) -> None:
    class Failing:
        def get_token(self, *scopes: str, **kwargs: Any) -> Any:
            client_secret = CANARY
            raise ValueError(f"a secret of {len(client_secret)} characters")

    transport = token_transport(server.url, SyncHttpClient())
    transport._connection.tokens = TokenCache(Failing(), "login")
    with pytest.raises(errors.AuthError) as caught:
        run_sync(transport.send(GET, thing="x"))
    assert_hidden(caught.value)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "None"),
        (CANARY, "an object of type str"),
        (type("T", (), {"token": CANARY, "expires_on": "soon"})(), "expires_on"),
        (type("T", (), {"token": CANARY, "expires_on": None})(), "expires_on"),
        (type("T", (), {"token": CANARY + "\n", "expires_on": 9e9})(), "line break"),
        (type("T", (), {"token": CANARY + "\u00e9", "expires_on": 9e9})(), "ASCII"),
        (type("T", (), {"token": "", "expires_on": 9e9})(), "empty"),
        (type("T", (), {"token": b"bytes", "expires_on": 9e9})(), "type T"),
    ],
)
def test_credential_that_returns_no_token_is_an_auth_error(
    server: ScriptedServer, answer: Any, message: str
) -> None:
    class Odd:
        def get_token(self, *scopes: str, **kwargs: Any) -> Any:
            return answer

    class AsyncOdd:
        async def get_token(self, *scopes: str, **kwargs: Any) -> Any:
            return answer

    transport = token_transport(server.url, SyncHttpClient())
    for credential in (Odd(), AsyncOdd()):
        transport._connection.tokens = TokenCache(credential, "login")
        with pytest.raises(errors.AuthError, match=message) as caught:
            run_sync(transport.send(GET, thing="x"))
        assert_hidden(caught.value)
    assert not server.requests


def test_pytest_shows_no_key(server: ScriptedServer, tmp_path: Path) -> None:
    server.script = [http_response(500)]
    (tmp_path / "key").write_text(CANARY)
    (tmp_path / "test_key.py").write_text(
        textwrap.dedent(
            f"""
            from pathlib import Path
            import maas_client as maas

            def test_key():
                maas.Client.local(
                    url="{server.url}", max_retries=0, api_key=Path("key").read_text()
                ).jobs.get("x")
            """
        )
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--showlocals", "-p", "no:cacheprovider", "test_key.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ServiceError" in done.stdout
    assert CANARY not in done.stdout


def test_secret_is_a_string() -> None:
    secret = Secret("abc")
    assert secret == "abc"
    assert isinstance(secret[:2], Secret)
    assert "abc" not in repr([secret, {"k": secret}, (secret[:3],)])
    assert pickle.loads(pickle.dumps(secret)) == secret
    assert f"{secret}" == "abc"
    assert (
        repr(SignedUrl("https://h/c?sv=1&sig=abc&x=2")) == "'https://h/c?sv=1&sig=**********&x=2'"
    )
