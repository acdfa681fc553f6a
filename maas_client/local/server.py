"""Run the local server: listening socket, uvicorn, TLS, the proxy, the ready file."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
import os
import re
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import uvicorn  # noqa: TID253 - only the server imports this module
from starlette.types import ASGIApp  # noqa: TID253 - as above

from maas_client._local_server.record import KEEP_FILE, RECORD_FILE, ServerRecord
from maas_client._messages import Argument, Text
from maas_client._secret import hide
from maas_client.errors import ConfigError
from maas_client.local.config import ServerConfig
from maas_client.local.control import Control
from maas_client.local.fault_plan import FaultPlan
from maas_client.local.http.app import STOP_REASON, build_app
from maas_client.local.http.connections import CertificateAuthority, HeaderTimeoutProtocol
from maas_client.local.http.control import ControlMiddleware, control_table
from maas_client.local.http.faults import FaultMiddleware, OperationNames
from maas_client.local.http.hosts import LOOPBACK_HOSTS
from maas_client.local.http.page.access import PageAccess
from maas_client.local.http.page.app import build_page
from maas_client.local.http.page.security import WithPage
from maas_client.local.http.proxy import ConnectProxy, with_tunnel_authority
from maas_client.local.http.routes import azureml, foundry, login
from maas_client.local.http.security import SecurityPolicy, allowed_hosts
from maas_client.local.services import Services
from maas_client.local.state.files import (
    explain_state_errors,
    make_private_folder,
    write_private_file,
)

_LOG = logging.getLogger(__name__)
ROUTE_TABLES = (*azureml.TABLES, *foundry.TABLES, *login.TABLES)
"""Every route of the server. The security tests are generated from it, so a new route is covered."""
_CERTIFICATE_VARIABLES = (
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
)
"""Where requests, OpenSSL with httpx and Go, curl, and Node look for the certificate of a CA."""
_CREDENTIALS = {
    "AZURE_TENANT_ID": "00000000-0000-0000-0000-000000000000",
    "AZURE_CLIENT_ID": "00000000-0000-0000-0000-000000000000",
    "AZURE_CLIENT_SECRET": "local",
}
"""What azure-identity needs to ask for a token at all; the local sign-in accepts any value."""


class Server:
    """A local server: its services, its ASGI app and its listening socket."""

    def __init__(self, config: ServerConfig) -> None:
        _check_bind(config)
        self.config = config
        with explain_state_errors(config.state_dir):
            self.services = Services(config)
        try:
            self.socket = listen(config.host, config.port)
        except BaseException:
            self.services.close()
            raise
        try:
            self._delete_ready_files()  # a killed server may have left them
        except BaseException:
            self.socket.close()
            self.services.close()
            raise
        self.port: int = self.socket.getsockname()[1]
        self.config = replace(config, port=self.port)
        self.control: Control | None = None
        self._page_access = PageAccess(self.services.secret, config.api_key, self.port)
        page = build_page(self.services, self._security_policy(), self._page_access, self.url)
        app = WithPage(self._build_app(), page, self._page_access)
        self._uvicorn = _Uvicorn(_uvicorn_config(app), self._ready)
        self._uvicorn.idle_timeout_s = self.config.idle_timeout_s
        self._uvicorn.is_busy = self._is_busy
        self._uvicorn.has_state = self.services.has_state_dir
        self._uvicorn.start_services = self._start_services
        self._on_ready: Callable[[], None] = lambda: None
        self._ready_error: ConfigError | None = None
        try:
            self._set_up_tls()
        except BaseException:
            self.socket.close()
            self.services.close()
            raise

    def _build_app(self) -> ASGIApp:
        """Return the API, with what a server for tests has around it."""
        tables, plan, timetable = ROUTE_TABLES, self.config.faults, self.services.timetable
        if plan is None and timetable is None:
            return build_app(self.services, tables, self._security_policy())
        operations, plan = OperationNames(tables), plan or FaultPlan()
        for fault in plan.faults:
            operations.check(fault.operation)
        if plan.faults:
            count = len(plan.faults)
            faults = "1 fault" if count == 1 else f"{count} faults"
            _LOG.warning("requests fail on purpose: this server has a plan of %s", faults)
        started_at = time.time()
        if timetable is not None:
            self.control = Control(self.services, timetable, plan, operations.check)
            started_at = self.control.started_at
            tables = (*tables, control_table(self.control))
        app = build_app(self.services, tables, self._security_policy())
        app = FaultMiddleware(app, plan, operations, started_at)
        if self.control is None or timetable is None:
            return app
        return ControlMiddleware(app, self.control, timetable, operations)

    def _set_up_tls(self) -> None:
        """Set up TLS and the proxy if they are configured."""
        self._authority = self._proxy = None
        if not (self.config.tls or self.config.proxy):
            return
        self._authority = CertificateAuthority(make_private_folder(self.config.state_dir))
        if self.config.tls:
            self._uvicorn.config.load()
            self._uvicorn.config.ssl = self._authority.ssl_context(
                *_certificate_names(self.config.host)
            )
        if self.config.proxy:
            self._proxy = ConnectProxy(
                listen("127.0.0.1", 0), self._authority, self._uvicorn.tunnel
            )
            self._uvicorn.proxy = self._proxy

    @property
    def url(self) -> str:
        """Return the server's address for a client on this machine."""
        is_wildcard = self.config.host in ("", "0.0.0.0", "::")  # noqa: S104 - compared, not bound
        host = "127.0.0.1" if is_wildcard else self.config.host
        scheme = "https" if self.config.tls else "http"
        return (
            f"{scheme}://[{host}]:{self.port}" if ":" in host else f"{scheme}://{host}:{self.port}"
        )

    def new_page_link(self) -> str:
        """Return a link that opens the page in a browser, once."""
        return self._page_access.new_link(self.url)

    @property
    def ca_file(self) -> str | None:
        """Return the CA certificate's path, or None without TLS and proxy."""
        return str(self._authority.cert_path) if self._authority else None

    @property
    def proxy_url(self) -> str | None:
        """Return the proxy's address, or None."""
        return self._proxy.url if self._proxy else None

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment variables that direct an application for Azure to this server."""
        if self._proxy is None or self._authority is None:
            return {}
        certificate = str(self._authority.cert_path)
        # Programs differ in the case they read, and one that is set already must not win.
        proxies = {
            variable: value
            for name, value in (
                ("HTTPS_PROXY", self._proxy.url),
                ("NO_PROXY", "127.0.0.1,localhost"),
            )
            for variable in (name, name.lower())
        }
        certificates = dict.fromkeys(_CERTIFICATE_VARIABLES, certificate)
        return {**proxies, **certificates, "NODE_USE_ENV_PROXY": "1", **_CREDENTIALS}

    def _security_policy(self) -> SecurityPolicy:
        is_loopback = _is_loopback(self.config.host)

        def keys(label: str) -> list[str]:
            endpoint = self.services.deployments.find_by_label(label)
            return list(endpoint.body["keys"]) if endpoint else []

        return SecurityPolicy(
            allowed_hosts=allowed_hosts(self.port, self.config.host) if is_loopback else None,
            api_key=self.config.api_key,
            secret=self.services.secret,
            endpoint_keys=keys,
        )

    @property
    def is_serving(self) -> bool:
        """Return whether the server answers requests now."""
        return self._uvicorn.started and not self._uvicorn.should_exit

    def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Serve until ``stop`` is called or a signal arrives.

        ``on_ready`` is called once requests are answered.
        """
        self._on_ready = on_ready
        try:
            with explain_state_errors(self.config.state_dir):
                asyncio.run(self._uvicorn.serve(sockets=[self.socket]))
            if self._ready_error is not None:
                raise self._ready_error
            if not self.services.has_state_dir():
                raise ConfigError(
                    f"the state directory {self.config.state_dir} was deleted, moved or replaced, so the"
                    " server stopped",
                    hint="Put it back if it is needed, and start the server again.",
                )
        finally:
            with contextlib.suppress(ConfigError):
                self._delete_ready_files()
            self.socket.close()
            self.services.close()

    async def _start_services(self) -> None:
        try:
            await self.services.start()
        except BaseException:
            await self.services.stop()
            raise

    def _delete_ready_files(self) -> None:
        """Delete the record and the ready file, after a check that a ready file can be written there."""
        if self.services.has_state_dir():  # else another server may have its files there
            for name in (RECORD_FILE, KEEP_FILE):
                (self.config.state_dir / name).unlink(missing_ok=True)
        path = self.config.ready_file
        if path is None:
            return
        if path.exists() and not path.is_file() and not path.is_dir():
            raise ConfigError(  # the server would delete the device itself
                f"the ready file {path} is a pipe or a device",
                hint="Give --ready-file the path of a file.",
            )
        probe = path.with_name(f".{path.name}.{os.getpid()}")
        with _ready_file_errors(path):
            write_private_file(probe, "")
            probe.unlink()
            path.unlink(missing_ok=True)

    def _write_ready_file(self) -> None:
        path = self.config.ready_file
        if path is None:
            return
        content: dict[str, Any] = {"url": self.url, "pid": os.getpid()}
        content |= {"proxy": self.proxy_url} if self._proxy else {}
        content |= {"ca_file": self.ca_file} if self._authority else {}
        with _ready_file_errors(path):
            write_private_file(path, json.dumps(content))

    def stop(self) -> None:
        """Request that the server stops. Thread-safe."""
        self._uvicorn.stop()

    def _ready(self) -> None:
        try:
            self._write_ready_file()
            if self.config.durable:
                self._write_record()
        except (
            ConfigError
        ) as error:  # the disk became full, or the folder was deleted, since the start
            self._ready_error = error
            asyncio.get_running_loop().call_soon(self.stop)
            return
        self._on_ready()

    def _write_record(self) -> None:
        """Write where this server answers into its state directory, for the user's programs."""
        record = ServerRecord(
            url=self.url,
            pid=os.getpid(),
            engine=self.config.engine,
            precision=self.config.precision,
            api_key=hide(self.config.api_key),
            ca_file=self.ca_file if self.config.tls else None,
            is_embedded=self.config.is_embedded,
            idle_timeout_s=self.config.idle_timeout_s,
            started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        with contextlib.suppress(OSError):  # a full disk: the server still serves those who know it
            write_private_file(self.config.state_dir / RECORD_FILE, record.to_json())

    def _is_busy(self) -> bool:
        """Return whether an idle server must not stop: a job runs, or a client asked for it to stay."""
        return self.services.scheduler.is_busy or (self.config.state_dir / KEEP_FILE).exists()


@contextlib.contextmanager
def _ready_file_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"the ready file {path} cannot be written: {error.strerror or error}",
            hint="Choose another --ready-file, in a folder that you can write to.",
        ) from error


def _certificate_names(host: str) -> list[str]:
    """Return the host names for the port's certificate."""
    is_wildcard = host in ("", "0.0.0.0", "::")  # noqa: S104 - compared, not bound
    name = socket.gethostname() if is_wildcard else host
    is_valid = re.fullmatch(r"[A-Za-z0-9.:-]{1,253}", name) is not None
    return list(dict.fromkeys(["localhost", "127.0.0.1", "::1", *([name] if is_valid else [])]))


def _uvicorn_config(app: ASGIApp) -> uvicorn.Config:
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
        self.idle_timeout_s: float | None = None
        self.is_busy: Callable[[], bool] = lambda: False
        self.has_state: Callable[[], bool] = lambda: True
        self.start_services: Callable[[], Awaitable[None]]
        self._requests = 0
        self._active_at = time.monotonic()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        # Not in the application's lifespan, whose errors uvicorn prints with a traceback, and exits with 3.
        await self.start_services()
        await super().startup(sockets)
        if self.started:
            if self.proxy is not None:
                await self.proxy.start()
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Shut down as uvicorn does, without its fixed wait of 0.1 s: a test may start a server for itself."""
        if self.proxy is not None:
            await self.proxy.close()
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.config.timeout_graceful_shutdown):
                await self._wait_for_requests()
        for task in self.server_state.tasks:
            task.cancel(STOP_REASON)
        # After a second Ctrl-C, which does not wait for requests, the application ends properly as well.
        await self.lifespan.shutdown()

    async def _wait_for_requests(self) -> None:
        """Wait until all responses are sent, or until a second Ctrl-C."""
        state = self.server_state
        while (state.connections or state.tasks) and not self.force_exit:  # noqa: ASYNC110 - uvicorn has no event
            await asyncio.sleep(0.005)

    def tunnel(self, authority: str) -> asyncio.Protocol:
        """Return the protocol that serves HTTP inside a proxy tunnel to ``authority``."""
        protocol_class: Any = self.config.http_protocol_class
        protocol = protocol_class(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        protocol.app = with_tunnel_authority(protocol.app, authority)
        return cast("asyncio.Protocol", protocol)

    async def main_loop(self) -> None:
        """Tick as uvicorn does, but react to ``stop`` at once."""
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        ticks = 0
        # Without its state directory, everything that the server still accepts would be lost.
        while self.has_state() and not await self.on_tick(ticks):
            ticks = (ticks + 1) % 864_000
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await self._stop.wait()
            if self.idle_timeout_s is not None and ticks % 10 == 0:
                self._stop_when_idle(self.idle_timeout_s)

    def _stop_when_idle(self, timeout_s: float) -> None:
        """Stop if no request was served and no job ran for this time."""
        requests = self.server_state.total_requests
        if requests != self._requests or self.server_state.tasks or self.is_busy():
            self._requests, self._active_at = requests, time.monotonic()
        elif time.monotonic() - self._active_at > timeout_s:
            self.should_exit = True

    def stop(self) -> None:
        """Request the end of the main loop. Thread-safe."""
        self.should_exit = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended already
                self._loop.call_soon_threadsafe(self._stop.set)

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Handle SIGINT and SIGTERM in the main thread only, and do not raise them again afterwards.

        A requested stop is not a failure.
        """
        with super().capture_signals():
            yield
            self._captured_signals.clear()


def listen(host: str, port: int) -> socket.socket:
    """Return a bound, listening socket.

    The socket has an explicit protocol: without it asyncio does not switch Nagle's algorithm off, and every
    response takes 44 ms. Raises ``ConfigError`` if the address cannot be used.
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
            hint="If a server is running already, stop it or use --port 0, which picks a free port.",
        ) from error
    sock.set_inheritable(False)
    return sock


def _check_bind(config: ServerConfig) -> None:
    if config.control and config.engine != "instant":
        raise ConfigError(
            Text.format("{} needs simulated jobs", Argument("control")),
            hint=Text.format("Use {}.", Argument("engine", "instant")),
        )
    if config.control and config.max_jobs != 1:
        raise ConfigError(
            Text.format(
                "{} has no effect with {}: jobs follow a timetable and do not wait for each other",
                Argument("max_jobs"),
                Argument("control"),
            ),
            hint="Leave it out.",
        )
    if config.faults is not None and not _is_loopback(config.host):
        raise ConfigError(
            "--faults makes requests fail on purpose, so it needs a loopback address",
            hint="Leave out --host.",
        )
    if not _is_loopback(config.host) and not config.api_key:
        raise ConfigError(
            f"--host {config.host} can be reached from other machines, so a key is required",
            hint="Add --api-key KEY, or --api-key auto for a random key.",
        )
    if not _is_loopback(config.host) and len(config.api_key or "") < 16:
        raise ConfigError(
            "a key for other machines must have at least 16 characters",
            hint="--api-key auto creates a random key.",
        )


def _is_loopback(host: str) -> bool:
    if host in LOOPBACK_HOSTS:
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False
