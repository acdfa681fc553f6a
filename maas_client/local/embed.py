"""A server in this program: for tests, notebooks and scripts that want no second process.

The HTTP runs in a thread of this process; torch never does: training and answering are child processes
here as everywhere. Own port and, unless told otherwise, own state directory, gone at the end.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from maas_client.errors import MaasError, ServiceError
from maas_client.local.config import Engine, ServerConfig, check_extra_installed, default_threads

if TYPE_CHECKING:
    from maas_client._client import AsyncClient, Client
    from maas_client.local.server import Server

_START_S = 30.0
_STOP_S = 30.0


class LocalServer:
    """A running local server. Ends with its ``with``, or with ``close``."""

    def __init__(self, config: ServerConfig, *, temporary_state: bool) -> None:
        self._config = config
        self._own_state = temporary_state
        self._server: Server | None = None
        self._thread: threading.Thread | None = None
        self._problem: BaseException | None = None
        self._temporary: Path | None = None
        self._clients: list[Client] = []

    def __repr__(self) -> str:
        return f"<LocalServer {self.url if self._server else 'stopped'} ({self._config.engine})>"

    @property
    def url(self) -> str:
        """Return the address it answers at."""
        return self._running().url

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables with which an application for Azure reaches it (``proxy=True``)."""
        return self._running().environment

    @property
    def state_dir(self) -> Path:
        """Return where it keeps its state; a temporary one exists while it runs."""
        return self._config.state_dir

    def client(self, *, dialect: Literal["azureml", "foundry"] = "azureml", **rest: Any) -> Client:
        """Return a client to it, closed with the server at the latest; what ``Client.local`` takes may be
        given."""
        from maas_client._client import Client

        made = Client.local(url=self.url, dialect=dialect, **self._key(), **rest)
        self._clients.append(made)
        return made

    def async_client(
        self, *, dialect: Literal["azureml", "foundry"] = "azureml", **rest: Any
    ) -> AsyncClient:
        """Return an async client to it."""
        from maas_client._client import AsyncClient

        return AsyncClient.local(url=self.url, dialect=dialect, **self._key(), **rest)

    def _key(self) -> dict[str, Any]:
        known = {"api_key": self._config.api_key, "ca_file": self._running().ca_file}
        return {name: value for name, value in known.items() if value}

    def start(self) -> Self:
        """Start it and return when it answers. Raises ``MaasError`` when it cannot."""
        from maas_client.local.server import Server

        if self._server is not None:
            return self
        if self._own_state:
            self._temporary = Path(tempfile.mkdtemp(prefix="maas-local-")).resolve()
            self._config = replace(self._config, state_dir=self._temporary)
        self._problem = None
        try:
            server = Server(self._config)
        except BaseException:
            self._forget_state()
            raise
        ready = threading.Event()
        self._thread = threading.Thread(
            target=self._serve, args=(server, ready), name="maas-local-server", daemon=True
        )
        self._thread.start()
        ready.wait(_START_S)
        if self._problem is not None or not server.is_serving:
            server.stop()
            self._forget_state()
            raise ServiceError(f"the local server did not start: {self._problem or 'timed out'}")
        self._server = server
        return self

    def _serve(self, server: Server, ready: threading.Event) -> None:
        try:
            server.run(ready.set)
        except BaseException as problem:
            self._problem = problem
        finally:
            ready.set()

    def close(self) -> None:
        """Stop it, end its children, and delete the state directory that was its own."""
        server, self._server = self._server, None
        if server is None:
            return
        while self._clients:
            self._clients.pop().close()
        server.stop()
        assert self._thread is not None
        self._thread.join(_STOP_S)
        self._forget_state()

    def _forget_state(self) -> None:
        folder, self._temporary = self._temporary, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def _running(self) -> Server:
        if self._server is None:
            raise MaasError("this local server is not running", hint="Use it inside its `with`.")
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


def serve(
    *,
    base: str = "tiny",
    engine: Engine = "peft",
    device: str = "auto",
    port: int = 0,
    state_dir: str | os.PathLike[str] | None = None,
    api_key: str | None = None,
    threads: int | None = None,
    max_jobs: int = 1,
    cache_dir: str | os.PathLike[str] | None = None,
    tls: bool = False,
    proxy: bool = False,
    realistic: bool = False,
) -> LocalServer:
    """Return a local server to be used in a ``with`` (or ``async with``).

    ``base`` is what a model's name runs on (``tiny``: half a million random parameters; a real test
    of the road, not of answers). ``engine="instant"`` needs no torch and simulates. ``state_dir`` is
    kept when given, otherwise a temporary one is deleted at the end. ``threads`` for each training
    process: all cores unless given. ``proxy``: ``environment`` takes applications written for Azure
    here; ``tls``: HTTPS under a certificate of its own CA. ``realistic``:
    the limits that Azure documents are kept (``docs/deployments.md``). Raises ``MissingExtraError``
    naming what to install.
    """
    check_extra_installed(engine)
    own = state_dir is None
    folder = Path(os.fspath(state_dir)) if state_dir is not None else Path(tempfile.gettempdir())
    config = ServerConfig(
        state_dir=folder.expanduser().resolve(),
        port=port,
        base=base,
        engine=engine,
        device=device,
        api_key=api_key,
        threads=threads or default_threads(),
        max_jobs=max_jobs,
        cache_dir=Path(os.fspath(cache_dir)) if cache_dir is not None else None,
        durable=not own,
        tls=tls,
        proxy=proxy,
        realistic=realistic,
    )
    return LocalServer(config, temporary_state=own)
