"""Run the local server embedded in this program: for tests, notebooks and scripts.

The HTTP server runs in a thread of this process. Training and text generation run in child processes, so
torch is never loaded here.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from maas_client import _clock
from maas_client._argument_types import checked
from maas_client._local_server.record import embedded_urls
from maas_client._messages import Argument, Text
from maas_client.errors import ConfigError, MaasError, ServiceError
from maas_client.local.config import (
    Engine,
    Precision,
    ServerConfig,
    check_extra_installed,
    check_precision,
)

if TYPE_CHECKING:
    from maas_client._client import AsyncClient, Client
    from maas_client.local.control import Control
    from maas_client.local.fault_plan import FaultPlan
    from maas_client.local.recorded_requests import RecordedRequests
    from maas_client.local.server import Server

_LOG = logging.getLogger(__name__)
_START_S = 30.0
_STOP_S = 30.0
_SPARE_WORKER_DELAY_S = 30.0
"""For a server with temporary state, which often ends after one job: it needs no worker for another one."""


__all__ = ["LocalServer", "serve"]


class LocalServer:
    """A local server in this program, created by ``maas_client.local.serve``.

    It runs between entering and leaving its ``with`` (or ``async with``) block, or between ``start()`` and
    ``close()``.

    Attributes:
        url: The server's address, for example ``http://127.0.0.1:40123``.
        environment: Environment variables for an application that uses Azure's own SDKs. Empty without
            ``proxy=True``.
        state_dir: The folder with jobs, models and logs.

    Example:
        ::

            with maas_client.local.serve(base="tiny") as server:
                client = server.client()
                job = client.jobs.create(model="Phi-3-mini-4k-instruct", training_data="train.jsonl")
    """

    def __init__(self, config: ServerConfig, *, temporary_state: bool) -> None:
        self._config = config
        self._is_temporary = temporary_state
        self._server: Server | None = None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._temporary: Path | None = None
        self._clients: list[Client] = []

    def __repr__(self) -> str:
        return f"<LocalServer {self.url if self._server else 'stopped'} ({self._config.engine})>"

    @property
    def url(self) -> str:
        """The address of the running server, for example ``http://127.0.0.1:40123``.

        Raises:
            MaasError: The server is not running.
        """
        return self._running().url

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that direct an application written for Azure to this server.

        The proxy and the certificate of the server's CA, under the names that Python, curl and Node read, and
        credentials for azure-identity. Empty unless the server was created with ``proxy=True``.

        Raises:
            MaasError: The server is not running.
        """
        return self._running().environment

    @property
    def state_dir(self) -> Path:
        """The folder with the server's state. A temporary one exists only while the server runs."""
        return self._config.state_dir

    @property
    def faults(self) -> FaultPlan | None:
        """The plan of the requests that fail on purpose, with its counts; None without one."""
        return self._config.faults

    @property
    def control(self) -> Control:
        """The object that seeds jobs, plans failures and moves the clock. Needs ``serve(control=True)``.

        Raises:
            MaasError: The server is not running, or was created without ``control=True``.
        """
        control = self._running().control
        if control is None:
            raise MaasError(
                "this local server has no control",
                hint='Create it with serve(engine="instant", control=True).',
            )
        return control

    @property
    def requests(self) -> RecordedRequests:
        """The requests that the server received, with redacted credentials. Needs ``serve(control=True)``.

        Raises:
            MaasError: The server is not running, or was created without ``control=True``.
        """
        return self.control.requests

    def page_link(self) -> str:
        """Return a link that opens the server's page in a browser. It works once, within an hour.

        Returns:
            The link, for example for ``webbrowser.open``.

        Raises:
            MaasError: The server is not running.

        Example:
            ::

                with maas_client.local.serve() as server:
                    webbrowser.open(server.page_link())
        """
        return self._running().new_page_link()

    def client(
        self, *, dialect: Literal["azureml", "foundry"] = "azureml", **options: Any
    ) -> Client:
        """Return a client that is connected to this server.

        Args:
            dialect: The API to use: ``"azureml"`` (default) or ``"foundry"``.
            **options: Other options of ``Client.local``, such as ``timeout`` or ``max_retries``.

        Returns:
            A ``Client``. It is closed when the server stops, if not before.

        Raises:
            MaasError: The server is not running.

        Example:
            ::

                with maas_client.local.serve() as server:
                    print(list(server.client().jobs.list()))
        """
        from maas_client._client import Client

        client = Client.local(url=self.url, dialect=dialect, **self._connection(), **options)
        self._clients.append(client)
        return client

    def async_client(
        self, *, dialect: Literal["azureml", "foundry"] = "azureml", **options: Any
    ) -> AsyncClient:
        """Return an async client that is connected to this server. Close it yourself.

        Args:
            dialect: The API to use: ``"azureml"`` (default) or ``"foundry"``.
            **options: Other options of ``AsyncClient.local``, such as ``timeout`` or ``max_retries``.

        Returns:
            An ``AsyncClient``.

        Raises:
            MaasError: The server is not running.

        Example:
            ::

                async with maas_client.local.serve() as server, server.async_client() as client:
                    jobs = [job async for job in client.jobs.list()]
        """
        from maas_client._client import AsyncClient

        return AsyncClient.local(url=self.url, dialect=dialect, **self._connection(), **options)

    def _connection(self) -> dict[str, Any]:
        options = {"api_key": self._config.api_key, "ca_file": self._running().ca_file}
        return {name: value for name, value in options.items() if value}

    def start(self) -> Self:
        """Start the server and wait until it answers requests. Entering a ``with`` block does the same.

        Returns:
            This server.

        Raises:
            ConfigError: The port or the state directory cannot be used.
            ServiceError: The server did not answer within 30 seconds.
        """
        from maas_client.local.server import Server

        if self._server is not None:
            return self
        if self._is_temporary:
            self._temporary = Path(tempfile.mkdtemp(prefix="maas-local-")).resolve()
            self._config = replace(self._config, state_dir=self._temporary)
        self._error = None
        try:
            server = Server(self._config)
        except BaseException:
            self._delete_temporary_state()
            raise
        ready = threading.Event()
        self._thread = threading.Thread(
            target=self._serve, args=(server, ready), name="maas-local-server", daemon=True
        )
        self._thread.start()
        ready.wait(_START_S)
        if self._error is not None or not server.is_serving:
            server.stop()
            self._delete_temporary_state()
            raise ServiceError(f"the local server did not start: {self._error or 'timed out'}")
        self._server = server
        embedded_urls.add(server.url)
        if timetable := server.services.timetable:
            for address in filter(None, (server.url, server.proxy_url)):
                _clock.register(address, timetable.clock)
        return self

    def _serve(self, server: Server, ready: threading.Event) -> None:
        try:
            server.run(ready.set)
        except BaseException as error:
            self._error = error
            if ready.is_set():
                _LOG.error("the local server has ended: %s", error)
        finally:
            ready.set()

    def close(self) -> None:
        """Stop the server and its child processes, and delete the state directory if it is temporary.

        Leaving a ``with`` block does the same. Closing a server that is not running does nothing.
        """
        server, self._server = self._server, None
        if server is None:
            return
        embedded_urls.discard(server.url)
        for address in filter(None, (server.url, server.proxy_url)):
            _clock.unregister(address)
        while self._clients:
            self._clients.pop().close()
        server.stop()
        assert self._thread is not None
        self._thread.join(_STOP_S)
        self._delete_temporary_state()

    def _delete_temporary_state(self) -> None:
        folder, self._temporary = self._temporary, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def _running(self) -> Server:
        if self._server is None:
            raise MaasError(
                "this local server is not running",
                hint="Use it inside its `with` block, or call start().",
            )
        return self._server

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        import asyncio

        return await asyncio.to_thread(self.start)

    async def __aexit__(self, *_: object) -> None:
        import asyncio

        await asyncio.to_thread(self.close)


@checked
def serve(
    *,
    base: str = "tiny",
    engine: Engine = "peft",
    device: str = "auto",
    precision: Precision = "auto",
    port: int = 0,
    state_dir: str | os.PathLike[str] | None = None,
    api_key: str | None = None,
    threads: int | None = None,
    max_jobs: int = 1,
    cache_dir: str | os.PathLike[str] | None = None,
    tls: bool = False,
    proxy: bool = False,
    min_examples: int | None = None,
    realistic: bool = False,
    faults: FaultPlan | None = None,
    control: bool = False,
) -> LocalServer:
    """Return a local server to use in a ``with`` (or ``async with``) block.

    Args:
        base: The weights that model names run on: ``"auto"`` (the model's own weights if they are on this
            machine, else a stand-in), ``"tiny"`` (default: half a million random parameters, which run the
            complete workflow in seconds but learn nothing useful), ``"smollm2-135m"``, a folder with
            safetensors, or a Hugging Face id that was pulled before.
        engine: ``"peft"`` (default) trains with torch. ``"instant"`` needs no torch and simulates training
            and answers.
        device: ``"auto"`` (default: a GPU if there is one), ``"cpu"``, ``"cuda"`` or ``"mps"``.
        precision: The weights to answer with: ``"auto"`` (default) are unquantised, ``"int8"`` has linear
            layers in eight bits, on a CPU. The server logs how far its answers are from unquantised ones.
            Training and sessions never use int8.
        port: The port on 127.0.0.1. 0 (default) picks a free one.
        state_dir: The folder for jobs, models and logs, which is kept. None (default): a temporary folder
            that is deleted when the server stops.
        api_key: The key that requests must carry. None (default): every non-empty credential is accepted.
        threads: CPU threads of each training process. None (default): the cores that this process may use,
            divided by ``max_jobs``; hyperthreads and more than a container's CPU limit gain nothing.
        max_jobs: Jobs that run at the same time. Others wait in a queue. Default: 1.
        cache_dir: The folder with pulled base weights. None (default): the user's cache folder.
        tls: True: serve HTTPS with a certificate of the state directory's own CA. Default: False.
        proxy: True: also run an HTTPS proxy that directs Azure's host names to this server. Set the variables
            of ``LocalServer.environment`` for an application that uses Azure's SDKs. Default: False.
        min_examples: A job with fewer training examples is refused. None (default): the minimum that Azure
            documents, 10.
        realistic: True: enforce the rate limits and delays that Azure documents (docs/how-to/deployments.md).
            Default: False.
        faults: Requests that fail on purpose, to test a program (``maas_client.testing.FaultPlan``). None
            (default): none.
        control: True: a server for tests. Its jobs follow a timetable on a virtual clock, which
            ``LocalServer.control`` moves (docs/how-to/testing.md). Needs the engine ``"instant"``. Default:
            False.

    Returns:
        A ``LocalServer`` that is not running yet. Its ``with`` block starts and stops it.

    Raises:
        MissingExtraError: A package is missing. The message says what to install.
        ConfigError: There is no such engine or precision, int8 was asked for where it is not possible, or an
            argument has no effect with the engine.

    Example:
        ::

            with maas_client.local.serve(engine="instant") as server:
                result = server.client().fine_tune(
                    "train.jsonl", model="Phi-3-mini-4k-instruct", deploy="tickets"
                )
    """
    check_extra_installed(engine)
    check_precision(precision, engine, device)
    if engine == "instant":
        given = {"base": base != "tiny", "device": device != "auto", "threads": threads is not None}
        for name in (name for name, is_given in given.items() if is_given):
            raise ConfigError(
                Text.format(
                    "{} has no effect with the engine instant, which loads no weights",
                    Argument(name),
                ),
                hint=Text.format("Leave out {}.", Argument(name)),
            )
    if control and faults is None:
        from maas_client.local.fault_plan import FaultPlan

        faults = FaultPlan()
    is_temporary = state_dir is None
    folder = Path(os.fspath(state_dir)) if state_dir is not None else Path(tempfile.gettempdir())
    config = ServerConfig(
        state_dir=folder.expanduser().resolve(),
        port=port,
        base=base,
        engine=engine,
        device=device,
        precision=precision,
        api_key=api_key,
        threads=threads,
        max_jobs=max_jobs,
        cache_dir=Path(os.fspath(cache_dir)) if cache_dir is not None else None,
        durable=not is_temporary,
        spare_worker_delay_s=_SPARE_WORKER_DELAY_S if is_temporary else 0.0,
        is_embedded=True,
        tls=tls,
        proxy=proxy,
        min_examples=min_examples,
        realistic=realistic,
        faults=faults,
        control=control,
    )
    return LocalServer(config, temporary_state=is_temporary)
