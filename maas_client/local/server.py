"""The server as a process: sockets, signals, the ready file."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import os
import re
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import uvicorn  # noqa: TID253 - only the server imports this module
from starlette.types import ASGIApp  # noqa: TID253 - as above

from maas_client.errors import ConfigError
from maas_client.local.config import ServerConfig
from maas_client.local.http.app import build_app
from maas_client.local.http.connections import CertificateAuthority, HeaderTimeoutProtocol
from maas_client.local.http.hosts import LOOPBACK_HOSTS
from maas_client.local.http.proxy import ConnectProxy, with_tunnel_authority
from maas_client.local.http.routes import azureml, foundry, login
from maas_client.local.http.security import SecurityPolicy, allowed_hosts
from maas_client.local.services import Services
from maas_client.local.state.files import make_private_folder, write_private_file


class Server:
    """One server: its services, its app and its listening socket."""

    def __init__(self, config: ServerConfig) -> None:
        _check_bind(config)
        self.config = config
        self.services = Services(config)
        try:
            self.socket = listen(config.host, config.port)
        except BaseException:
            self.services.close()
            raise
        self._unready()  # what a killed server has left is not about this one
        self.port: int = self.socket.getsockname()[1]
        self.config = replace(config, port=self.port)
        tables = (*azureml.TABLES, *foundry.TABLES, *login.TABLES)
        self._uvicorn = _Uvicorn(
            _settings(build_app(self.services, tables, self._rules())), self._ready
        )
        self._on_ready: Callable[[], None] = lambda: None
        try:
            self._secure()
        except BaseException:
            self.socket.close()
            self.services.close()
            raise

    def _secure(self) -> None:
        """Put TLS on the port and a proxy beside it, where asked for."""
        self._authority = self._proxy = None
        if not (self.config.tls or self.config.proxy):
            return
        self._authority = CertificateAuthority(make_private_folder(self.config.state_dir))
        if self.config.tls:
            self._uvicorn.config.load()
            self._uvicorn.config.ssl = self._authority.ssl_context(*_names(self.config.host))
        if self.config.proxy:
            self._proxy = ConnectProxy(
                listen("127.0.0.1", 0), self._authority, self._uvicorn.tunnel
            )
            self._uvicorn.proxy = self._proxy

    @property
    def url(self) -> str:
        """Return where it answers, for a client on this machine."""
        wide = self.config.host in ("", "0.0.0.0", "::")  # noqa: S104 - compared, not bound
        host = "127.0.0.1" if wide else self.config.host
        scheme = "https" if self.config.tls else "http"
        return (
            f"{scheme}://[{host}]:{self.port}" if ":" in host else f"{scheme}://{host}:{self.port}"
        )

    @property
    def ca_file(self) -> str | None:
        """Return the CA's certificate, where the server shows certificates."""
        return str(self._authority.cert_path) if self._authority else None

    @property
    def proxy_url(self) -> str | None:
        """Return the proxy's address, if there is one."""
        return self._proxy.url if self._proxy else None

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables with which an application for Azure reaches this server instead."""
        if self._proxy is None or self._authority is None:
            return {}
        ca = str(self._authority.cert_path)
        return {
            "HTTPS_PROXY": self._proxy.url,
            "REQUESTS_CA_BUNDLE": ca,
            "SSL_CERT_FILE": ca,
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def _rules(self) -> SecurityPolicy:
        local = _is_loopback(self.config.host)

        def keys(label: str) -> list[str]:
            endpoint = self.services.deployments.find_by_label(label)
            return list(endpoint.body["keys"]) if endpoint else []

        return SecurityPolicy(
            allowed_hosts=allowed_hosts(self.port, self.config.host) if local else None,
            api_key=self.config.api_key,
            secret=self.services.secret,
            endpoint_keys=keys,
        )

    @property
    def is_serving(self) -> bool:
        """Tell whether requests are answered now."""
        return self._uvicorn.started and not self._uvicorn.should_exit

    def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Serve until told to stop, then leave everything whole. ``on_ready`` is called once
        requests are answered."""
        self._on_ready = on_ready
        try:
            asyncio.run(self._uvicorn.serve(sockets=[self.socket]))
        finally:
            self._unready()
            self.socket.close()
            self.services.close()

    def _unready(self) -> None:
        if self.config.ready_file is not None:
            self.config.ready_file.unlink(missing_ok=True)

    def stop(self) -> None:
        """Ask the server to stop. Any thread."""
        self._uvicorn.stop()

    def _ready(self) -> None:
        if self.config.ready_file is not None:
            told: dict[str, Any] = {"url": self.url, "pid": os.getpid()}
            told |= {"proxy": self.proxy_url} if self._proxy else {}
            told |= {"ca_file": self.ca_file} if self._authority else {}
            write_private_file(self.config.ready_file, json.dumps(told))
        self._on_ready()


def _names(host: str) -> list[str]:
    """Return the names that the certificate of the port is for: those under which it may be asked."""
    wide = host in ("", "0.0.0.0", "::")  # noqa: S104 - compared, not bound
    own = socket.gethostname() if wide else host
    fits = re.fullmatch(r"[A-Za-z0-9.:-]{1,253}", own) is not None
    return list(dict.fromkeys(["localhost", "127.0.0.1", "::1", *([own] if fits else [])]))


def _settings(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="asyncio",
        http=HeaderTimeoutProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=3,
        h11_max_incomplete_event_size=64 << 10,
    )


class _Uvicorn(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready
        self._loop: asyncio.AbstractEventLoop | None = None
        self.proxy: ConnectProxy | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            if self.proxy is not None:
                await self.proxy.start()
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self.proxy is not None:
            await self.proxy.close()
        await super().shutdown(sockets)

    def tunnel(self, authority: str) -> asyncio.Protocol:
        """Return the protocol that serves HTTP inside a tunnel to ``authority``."""
        make: Any = self.config.http_protocol_class
        made = make(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        made.app = with_tunnel_authority(made.app, authority)
        return cast("asyncio.Protocol", made)

    async def main_loop(self) -> None:
        """Tick as uvicorn does, but hear of a stop at once."""
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        ticks = 0
        while not await self.on_tick(ticks):
            ticks = (ticks + 1) % 864_000
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await self._stop.wait()

    def stop(self) -> None:
        """Ask for the end. Any thread."""
        self.should_exit = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended already
                self._loop.call_soon_threadsafe(self._stop.set)

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Take SIGINT and SIGTERM in the main thread only, and end without raising them again:
        a stop that was asked for is no failure."""
        with super().capture_signals():
            yield
            self._captured_signals.clear()


def listen(host: str, port: int) -> socket.socket:
    """Return a bound, listening socket.

    The protocol is named: on a socket without it asyncio leaves Nagle's algorithm on, and every
    answer waits 44 ms. Raises ``ConfigError`` when the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(2048)
    except (OSError, OverflowError) as error:
        sock.close()
        raise ConfigError(
            f"cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}",
            hint="Is a server running already? --port 0 picks a free port.",
        ) from error
    sock.set_inheritable(False)
    return sock


def _check_bind(config: ServerConfig) -> None:
    if not _is_loopback(config.host) and not config.api_key:
        raise ConfigError(
            f"--host {config.host} can be reached from other machines, so it needs a key",
            hint="Add --api-key KEY, or --api-key auto for a random one.",
        )
    if not _is_loopback(config.host) and len(config.api_key or "") < 16:
        raise ConfigError(
            "a key for other machines must have at least 16 characters",
            hint="--api-key auto makes a random one.",
        )


def _is_loopback(host: str) -> bool:
    if host in LOOPBACK_HOSTS:
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False
