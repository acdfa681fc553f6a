"""One client, many threads; connections that the server closes while they are kept alive."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import httpcore
import pytest

from maas_client import Client, errors
from maas_client._transport import AsyncHttpClient, SyncHttpClient, Transport, run_sync
from maas_client._transport.auth import TokenCache
from maas_client._transport.clouds import CLOUDS
from maas_client._transport.connection import Connection
from maas_client.local.embedded_server import serve
from maas_client.wire.operation import Plane, Scope
from tests.unit.transport.conftest import (
    GET,
    PUT,
    ScriptedServer,
    close_connection,
    http_response,
    make_transport,
)

THREADS = 16


@pytest.fixture
def keep_alive_server() -> Iterator[ScriptedServer]:
    server = ScriptedServer(keep_alive=True)
    yield server
    server.close()


class SlowCredential:
    """Counts its calls; a call takes long enough for every thread to ask."""

    def __init__(self) -> None:
        self.calls = 0

    def get_token(self, *scopes: str, **kwargs: Any) -> Any:
        self.calls += 1
        time.sleep(0.2)  # the time that a sign-in takes
        return type(
            "Token", (), {"token": f"token-{self.calls}", "expires_on": time.time() + 3600}
        )()


def test_threads_share_one_token_request(keep_alive_server: ScriptedServer) -> None:
    keep_alive_server.script = [http_response(keep_alive=True)]
    url = keep_alive_server.url
    cloud = CLOUDS["public"]
    suffixes = {**cloud.suffixes, Plane.ARM: (url.removeprefix("http://"),)}
    credential = SlowCredential()
    connection = Connection(
        Scope("azureml", False, {}, {"arm": url}),
        replace(cloud, suffixes=suffixes),
        TokenCache(credential, "login"),
    )
    transport = Transport(connection, SyncHttpClient())
    with ThreadPoolExecutor(THREADS) as pool:
        sent = [
            pool.submit(lambda: run_sync(transport.send(GET, thing="x"))) for _ in range(THREADS)
        ]
        assert [each.result().status for each in sent] == [200] * THREADS
    transport.http.close()
    assert credential.calls == 1


def test_responses_of_threads_are_not_mixed_up() -> None:
    with serve(engine="instant") as local, Client.local(url=local.url) as client:

        def ask(number: int) -> str:
            with pytest.raises(errors.NotFoundError) as caught:
                client.jobs.get(f"no-such-job-{number}")
            return caught.value.message

        with ThreadPoolExecutor(THREADS) as pool:
            messages = list(pool.map(ask, range(20 * THREADS)))
    assert all(f"no-such-job-{n}" in message for n, message in enumerate(messages))


def test_every_verb_works_from_16_threads() -> None:
    with (
        serve(engine="instant") as local,
        Client.local(url=local.url, dialect="foundry") as client,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        verbs = [
            lambda: list(client.jobs.list()),
            lambda: list(client.datasets.list()),
            lambda: list(client.models.list()),
            lambda: list(client.deployments.list()),
        ] * (2 * THREADS)
        assert [each.result() for each in [pool.submit(verb) for verb in verbs]] == [[]] * len(
            verbs
        )


def test_16_threads_upload_and_create_on_one_client(tmp_path: Path) -> None:
    with (
        serve(engine="instant", max_jobs=0) as local,
        Client.local(url=local.url) as client,
        ThreadPoolExecutor(THREADS) as pool,
    ):

        def create(number: int) -> tuple[str, str, str]:
            path = tmp_path / f"train-{number}.jsonl"
            question = {"role": "user", "content": f"Question {number}?"}
            row = {"messages": [question, {"role": "assistant", "content": "So."}]}
            path.write_text(f"{json.dumps(row)}\n" * 12)
            dataset = client.datasets.upload(path)
            job = client.jobs.create("Phi-4-mini-instruct", training_data=dataset)
            return dataset.filename or "", dataset.id, client.jobs.get(job).training_data or ""

        created = list(pool.map(create, range(THREADS)))
        assert [name for name, _, _ in created] == [f"train-{n}.jsonl" for n in range(THREADS)]
        assert [data.endswith(identifier) for _, identifier, data in created] == [True] * THREADS
        assert len(set(created)) == len(list(client.jobs.list())) == THREADS


def test_close_while_threads_call_is_an_error_of_this_library(
    keep_alive_server: ScriptedServer,
) -> None:
    keep_alive_server.script = [
        lambda connection: (time.sleep(0.02), connection.sendall(http_response(keep_alive=True)))[1]
    ]
    transport = make_transport(keep_alive_server.url, SyncHttpClient(), max_retries=0)
    outcomes: list[str] = []

    def call() -> None:
        while True:
            try:
                run_sync(transport.send(GET, thing="x"))
            except errors.MaasError as error:
                outcomes.append(type(error).__name__)
                return

    threads = [threading.Thread(target=call) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    transport.http.close()
    for thread in threads:
        thread.join(10)
    assert len(outcomes) == THREADS
    gc.collect()  # a connection that is open still would be a warning, hence an error, here


def test_connection_that_is_made_while_the_client_is_closed_is_closed_too(
    keep_alive_server: ScriptedServer,
) -> None:
    """httpcore closes the connections of its pool, and not one that a thread is opening."""
    client = SyncHttpClient()
    transport = make_transport(keep_alive_server.url, client, max_retries=0)
    backend = client._client._transport._pool._network_backend  # type: ignore[attr-defined]
    inner, is_connecting, is_closed = backend._inner, threading.Event(), threading.Event()
    created: list[Any] = []

    class LateBackend(httpcore.NetworkBackend):
        def connect_tcp(self, *args: Any, **options: Any) -> httpcore.NetworkStream:
            is_connecting.set()
            assert is_closed.wait(10)
            created.append(inner.connect_tcp(*args, **options))
            return cast("httpcore.NetworkStream", created[0])

    backend._inner = LateBackend()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(lambda: run_sync(transport.send(GET, thing="x")))
        assert is_connecting.wait(10)
        client.close()
        is_closed.set()
        with pytest.raises(errors.ConfigError, match="this client is closed"):
            call.result(10)
    assert created[0].get_extra_info("socket").fileno() == -1, "the socket is closed"
    assert keep_alive_server.requests == []


@pytest.mark.parametrize("closed_at", [1, 2, 3, 7])
async def test_connection_closed_between_two_requests_is_not_seen(closed_at: int) -> None:
    """The keep-alive race: the server closes an idle connection as the next request is sent on it."""
    for asynchronous in (False, True):
        server = ScriptedServer(keep_alive=True)
        ok = http_response(200, json.dumps({"a": 1}).encode(), keep_alive=True)
        server.script = [ok] * closed_at + [close_connection] + [ok]
        http: Any = AsyncHttpClient() if asynchronous else SyncHttpClient()
        transport: Any = make_transport(server.url, http)
        for op in [GET, PUT] * 5:
            response = await transport.send(op, {} if op is PUT else None, thing="x")
            assert response.value == {"a": 1}
        await http.aclose() if asynchronous else http.close()
        server.close()


def test_retries_of_a_failing_service_end_at_the_deadline(server: ScriptedServer) -> None:
    """The deadline counts connecting, waiting between attempts and reading together."""
    server.script = [http_response(503, headers="Retry-After: 0\r\n")]
    transport = make_transport(server.url, SyncHttpClient(), timeout_s=1.0, max_retries=10**6)
    start = time.monotonic()
    with pytest.raises(errors.MaasError):
        run_sync(transport.send(GET, thing="x"))
    transport.http.close()
    assert time.monotonic() - start < 3


_FORK = """
import os, sys
import httpx
import maas_client as maas

client = maas.Client.local(url=sys.argv[1], max_retries=0)
def ask():
    for _ in range(40):
        list(client.jobs.list())
list(client.jobs.list())
http = httpx.Client(trust_env=False)
clients = [maas.Client.local(url=sys.argv[1], max_retries=0, http=http) for _ in range(2)]
child = os.fork()
try:
    ask()
    list(clients[0].jobs.list())
    with http.stream("GET", sys.argv[1]) as answer:  # the first request of the other ends no other
        list(clients[1].jobs.list())
        answer.read()
finally:
    if child == 0:
        client.close()
        os._exit(0 if sys.exc_info()[0] is None else 1)
assert os.waitpid(child, 0)[1] == 0
list(client.jobs.list())  # the child has not closed the connection
client.close()
http.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_has_connections_of_its_own(keep_alive_server: ScriptedServer) -> None:
    keep_alive_server.script = [http_response(body=b'{"value": []}', keep_alive=True)]
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", _FORK, keep_alive_server.url],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(keep_alive_server.requests) == 88
