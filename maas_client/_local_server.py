"""The user's local server as a process: find the running one, start one, stop it.

A server writes ``server.json`` into its state directory once it answers requests, and holds the lock of that
directory as long as it lives. A record beside an unlocked file is left over from a killed server and ignored.
The folder has mode 0700 and the file 0600, because it contains the server's key.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from maas_client import errors
from maas_client._argument_types import check_type
from maas_client._file_lock import try_lock
from maas_client._messages import AnyOf, Argument, Text
from maas_client._secret import Secret, hide
from maas_client._settings import DEFAULT_URL, Settings, server_environment

if TYPE_CHECKING:
    from http.client import HTTPConnection

LOCK_FILE = "lock"
RECORD_FILE = "server.json"
KEEP_FILE = "keep"
"""A server with this file in its state directory does not stop when it is idle."""
LOG_FILE = "server.log"
_START_LOCK_FILE = "start.lock"
IDLE_TIMEOUT_S = 1800.0
"""After this time without jobs and requests a server that was started for a command stops."""
_START_S = 60.0
_STOP_S = 30.0
_NOTICE_S = 2.0
"""After this time a program says that it waits for a server."""
_POLL_S = 0.02
_PROBE_TIMEOUT_S = 2.0
_PAGE_TIMEOUT_S = 10.0
_MAX_RECORD_BYTES = 1 << 16

_log = logging.getLogger("maas_client")

embedded_urls: set[str] = set()
"""The addresses of servers that run inside this program: their jobs end with it."""


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """A running local server.

    Attributes:
        url: Its address, on this machine.
        pid: Its process; 0 for a server of which only the address is known.
        engine: ``peft`` or ``instant``; None if it is not known.
        precision: The weights it answers with: ``auto`` (unquantised) or ``int8``.
        api_key: The only key that it accepts; None: it accepts every non-empty one.
        ca_file: The certificate of its CA, if it serves HTTPS.
        is_embedded: Whether it runs inside another program.
        idle_timeout_s: It stops after this time without jobs and requests; None: it does not.
        started_at: When it started, as text (ISO 8601).
    """

    url: str
    pid: int = 0
    engine: str | None = None
    precision: str = "auto"
    api_key: Secret | None = None
    ca_file: str | None = None
    is_embedded: bool = False
    idle_timeout_s: float | None = None
    started_at: str | None = None

    def to_json(self) -> str:
        """Return the record as JSON, with the key."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps({name: value for name, value in fields.items() if value is not None})


def stop_command(folder: Path | None) -> str:
    """Return the command that stops the server of a state directory."""
    is_usual = folder is None or folder == state_folder(Settings.load())
    option = "" if is_usual else f" --state-dir {shlex.quote(str(folder))}"
    return f"maas-client serve --stop{option}"


def state_folder(settings: Settings) -> Path | None:
    """Return the state directory of the user's server; None if this user has no home directory."""
    try:
        return settings.state_path().resolve()
    except RuntimeError:
        return None


def find_key(settings: Settings) -> ServerRecord | None:
    """Return the user's running server if it is at the address in the settings, for its key."""
    folder = state_folder(settings)
    try:
        record = read_running(folder) if folder else None
    except errors.ConfigError:  # a record that others could have written names no key
        return None
    return record if record and record.url == (settings.url or "").rstrip("/") else None


def read_running(folder: Path) -> ServerRecord | None:
    """Return the server that uses a state directory; None if none answers requests there.

    Raises:
        ConfigError: Another user could have written the record, or could read it; or it is no file.
    """
    path = folder / RECORD_FILE
    if os.path.exists(path) and not os.path.isfile(path):
        raise errors.ConfigError(f"{path} is not a file", hint="Delete it, or move it elsewhere.")
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if os.name == "posix" and (status.st_uid != os.geteuid() or status.st_mode & 0o077):
            raise errors.ConfigError(
                f"{path} can be written or read by other users",
                hint=f"Delete it, run: chmod 700 {folder}, and start the server again.",
            )
        text = file.read(_MAX_RECORD_BYTES)
    record = _parse_record(text)
    if record is None or not _is_this_machine(record.url) or not _is_locked(folder):
        return None
    return record


def _parse_record(text: bytes) -> ServerRecord | None:
    try:
        data = json.loads(text)
        record = ServerRecord(
            **{name: data[name] for name in ServerRecord.__slots__ if name in data}
        )
    except (ValueError, TypeError, RecursionError):
        return None
    texts = (record.url, *(text for text in (record.api_key, record.ca_file) if text is not None))
    if not all(isinstance(text, str) for text in texts) or not isinstance(record.pid, int):
        return None
    return replace(record, api_key=hide(record.api_key))


def _is_this_machine(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_locked(folder: Path) -> bool:
    """Return whether a living server holds the lock of a state directory."""
    try:
        descriptor = os.open(folder / LOCK_FILE, os.O_RDWR)
    except OSError:
        return False
    try:
        return not try_lock(descriptor)
    finally:
        os.close(descriptor)


def _lock_owner(folder: Path) -> str:
    """Return the process that a server has written into its lock file."""
    with suppress(OSError):
        return (folder / LOCK_FILE).read_text("ascii", "replace").strip()[:32] or "unknown"
    return "unknown"


def find_default_server(api_key: str | None) -> ServerRecord | None:
    """Return the server at the default address, such as one in a container.

    None if nothing answers there as this library's server does, if the port belongs to another user, or if
    the server needs a key and none is given.
    """
    parts = urlsplit(DEFAULT_URL)
    host, port = str(parts.hostname), int(parts.port or 80)
    with suppress(OSError), socket.create_connection((host, port), timeout=_PROBE_TIMEOUT_S):
        if _is_port_of_other_user(port) or not _answers_discovery(host, port):
            return None
        if not api_key and _needs_key(host, port):
            return None
        return ServerRecord(DEFAULT_URL)
    return None


def _answers_discovery(host: str, port: int) -> bool:
    """Return whether the program at an address answers as the local server does. No key is sent."""
    try:
        content = json.loads(_get(host, port, "/discovery")[1])
        return {"history", "metric", "modelmanagement"} <= set(content)
    except (ValueError, TypeError, RecursionError):
        return False


def _needs_key(host: str, port: int) -> bool:
    """Return whether the server at an address refuses a credential that is no key of it."""
    return _get(host, port, "/", {"Authorization": "Bearer local"})[0] == 401


def _get(
    host: str, port: int, path: str, headers: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    """Return the status and the body of an answer; 0 and nothing without an answer."""
    from http.client import HTTPConnection

    return _send(HTTPConnection(host, port, timeout=_PROBE_TIMEOUT_S), "GET", path, headers)


def _send(
    connection: HTTPConnection, method: str, path: str, headers: Mapping[str, str] | None
) -> tuple[int, bytes]:
    from http.client import HTTPException

    try:
        connection.request(method, path, headers=dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.read(_MAX_RECORD_BYTES)
    except (OSError, HTTPException) as error:
        return 0, str(error)[:200].encode("utf-8", "replace")  # why there is no answer
    finally:
        connection.close()


def new_page_link(server: ServerRecord) -> str:
    """Return a link that opens the page of a running server in a browser, once.

    Raises:
        TransportError: The server does not answer.
        AuthError: The server does not accept the key.
        UnsupportedError: The server has no page.
    """
    from http.client import HTTPConnection, HTTPSConnection

    parts = urlsplit(server.url)
    host = parts.hostname or ""
    if parts.scheme == "https":
        import ssl

        context = ssl.create_default_context(cafile=server.ca_file)
        connection: HTTPConnection = HTTPSConnection(
            host, parts.port, timeout=_PAGE_TIMEOUT_S, context=context
        )
    else:
        connection = HTTPConnection(host, parts.port, timeout=_PAGE_TIMEOUT_S)
    credential = {"Authorization": f"Bearer {server.api_key or 'local'}"}
    status, body = _send(connection, "POST", "/page/link", credential)
    if status == 200:
        with suppress(ValueError, TypeError, KeyError, RecursionError):
            return str(json.loads(body)["url"])
    if status in (401, 403):
        raise errors.AuthError(
            f"the local server at {server.url} does not accept the key",
            status=status,
            hint="Set MAAS_API_KEY to the key that it was started with (serve --api-key).",
        )
    if status == 0:
        reason = f" ({body.decode()})" if body else ""
        raise errors.TransportError(
            f"cannot connect to {server.url}{reason}",
            hint="Start the local server with: maas-client serve",
        )
    raise errors.UnsupportedError(
        f"the server at {server.url} has no page (it answers {status})",
        hint="Check the address, or start the local server again with this version: maas-client serve",
    )


def _is_port_of_other_user(port: int) -> bool:
    """Return whether another user than root listens on a loopback port; False where it cannot be read."""
    if os.name != "posix":
        return False
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]:
            fields = line.split()
            address, local_port = fields[1].split(":")
            is_here = address in ("0100007F", "00000000") and int(local_port, 16) == port
            if is_here and fields[3] == "0A" and int(fields[7]) not in (0, os.geteuid()):
                return True
    return False


class LocalServer:
    """The local server that a client without an address uses: the running one, else one that is started.

    Args:
        settings: Name the state directory and the engine.
        keep: Whether the server stays when it is idle.
    """

    def __init__(self, settings: Settings, *, keep: bool = False) -> None:
        check_type("keep", keep, bool, "True or False")
        self._folder = state_folder(settings)
        self._engine = settings.engine
        self._is_engine_required = settings.origin("engine") == "argument"
        self._can_start = not settings.is_disabled("start_server")
        self._api_key = settings.api_key
        self._keep = keep
        self._default: ServerRecord | None = None

    def find(self) -> ServerRecord | None:
        """Return the running server, without starting one."""
        record = (read_running(self._folder) if self._folder else None) or self._default
        if record is not None:
            self._accept(record)
        return record

    def ensure_running(self) -> ServerRecord:
        """Return the running server; start one if none runs. Programs that do so at once share one.

        Raises:
            ConfigError: The server cannot start, or has another engine than the one that was asked for.
            MissingExtraError: A package that the server needs is not installed.
            ServiceError: The server did not answer in time.
        """
        if record := self.find():
            return record
        if record := find_default_server(self._api_key):
            # A server answers shortly before its record, with the key, is written.
            if self._folder and (own_record := self._wait_for_other(self._folder)):
                record = own_record
            else:
                self._default = record
            self._accept(record)
            return record
        if not self._can_start or self._folder is None:
            return ServerRecord(DEFAULT_URL)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _start_lock(self._folder):
                record = self._wait_for_other(self._folder) or self._start(self._folder)
        except OSError as error:
            raise errors.ConfigError(
                f"cannot start a local server with its state in {self._folder}: {error.strerror or error}",
                hint="Use another folder (MAAS_STATE_DIR).",
            ) from error
        self._accept(record)
        return record

    def _accept(self, record: ServerRecord) -> None:
        if self._is_engine_required and record.engine != self._engine:
            actual = f"the engine {record.engine}" if record.engine else "an unknown engine"
            raise errors.ConfigError(
                f"the local server at {record.url} runs with {actual}, not {self._engine}",
                hint=Text.format(
                    "Leave out {}, or stop that server: {}",
                    Argument("engine"),
                    stop_command(self._folder),
                ),
            )
        if self._keep and self._folder and record.idle_timeout_s is not None:
            with suppress(OSError):
                (self._folder / KEEP_FILE).touch(mode=0o600)

    def _wait_for_other(self, folder: Path) -> ServerRecord | None:
        """Return the server that another program has started, or is starting; None if there is none."""
        _wait_until(
            lambda: not _is_locked(folder) or read_running(folder) is not None,
            lambda: f"the local server (process {_lock_owner(folder)}) with its state in {folder}",
            _START_S,
            hint="Stop its process, or use another state directory (MAAS_STATE_DIR).",
        )
        return read_running(folder)

    def _start(self, folder: Path) -> ServerRecord:
        engine = self._engine or "peft"
        arguments = ["--json", "--state-dir", str(folder), "--port", str(_free_port())]
        arguments += ["--engine", engine, "--api-key", "auto"]
        arguments += ["--idle-timeout", f"{IDLE_TIMEOUT_S:g}"]
        log = folder / LOG_FILE
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(log, flags, 0o600)
        options: dict[str, Any] = {"start_new_session": True}
        if os.name != "posix":  # detached, in its own process group
            options = {"creationflags": 0x00000008 | 0x00000200}
        try:
            process = _ServerProcess(
                [sys.executable, "-P", "-m", "maas_client", "serve", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=descriptor,
                env=server_environment(),
                **options,
            )
        finally:
            os.close(descriptor)
        _started.append(process)
        record = self._wait_until_ready(process, folder, log)
        note = ", simulated: nothing is trained" if engine == "instant" else ""
        lifetime = (
            "keeps running" if self._keep else f"stops after {IDLE_TIMEOUT_S / 60:.0f} idle minutes"
        )
        _log.warning(
            "started a local server at %s (engine %s%s; state in %s). It %s; stop it with: %s",
            record.url, engine, note, folder, lifetime, stop_command(folder),
            extra={"is_notice": True},
        )  # fmt: skip
        return record

    def _wait_until_ready(self, process: _ServerProcess, folder: Path, log: Path) -> ServerRecord:
        deadline = time.monotonic() + _START_S
        while process.poll() is None:
            record = read_running(folder)
            if record is not None and record.pid == process.pid:
                return record
            if time.monotonic() > deadline:
                process.kill()
                process.wait()
                raise errors.ServiceError(
                    f"the local server did not start within {_START_S:.0f} seconds",
                    hint=f"Its log: {log}",
                )
            time.sleep(_POLL_S)
        raise _start_error(log)


class _ServerProcess(subprocess.Popen[bytes]):
    """A process that may outlive this program, of which ``Popen`` would warn at its end."""

    def __del__(self) -> None: ...


_started: list[_ServerProcess] = []
"""The servers that this program has started."""


def _free_port() -> int:
    """Return the default port, or 0 for any other if a program listens there."""
    port = int(urlsplit(DEFAULT_URL).port or 0)
    with socket.socket() as probe:
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return 0
    return port


def _start_error(log: Path) -> errors.MaasError:
    """Return the error that the server has written to its log before it ended."""
    message, hint, kind = "it ended", f"Its log: {log}", ""
    with suppress(OSError, ValueError, KeyError, IndexError, TypeError):
        text = log.read_text("utf-8", "replace").strip()
        if not text:
            hint = f"Check that its disk has room: its log {log} is empty."
        last = text.splitlines()[-1]
        error = json.loads(last)["error"]
        message, hint, kind = error["message"], error.get("hint") or hint, error["type"]
    if kind == "MissingExtraError":
        install, simulate, _ = hint.partition(" To simulate")
        if not simulate:  # the engine instant, which needs the server's packages
            return errors.MissingExtraError(message, extra="server", hint=install)
        option = AnyOf(Argument("engine", "instant"), "MAAS_ENGINE=instant")
        return errors.MissingExtraError(
            message,
            extra="local",
            hint=Text.format("{} To simulate training, use {}.", install, option),
        )
    return errors.ConfigError(f"the local server did not start: {message}", hint=hint)


def _wait_until(
    is_done: Callable[[], bool], describe: Callable[[], str], limit_s: float, *, hint: str
) -> None:
    """Wait for what ``describe`` names, and log it after two seconds. Raises ``ServiceError`` at the limit."""
    started = time.monotonic()
    is_noticed = False
    while not is_done():
        waited_s = time.monotonic() - started
        if waited_s > _NOTICE_S and not is_noticed:
            is_noticed = True
            _log.warning("waiting for %s: it is not ready", describe(), extra={"is_notice": True})
        if waited_s > limit_s:
            raise errors.ServiceError(
                f"{describe()} is not ready after {limit_s:.0f} seconds", hint=hint
            )
        time.sleep(_POLL_S)


@contextmanager
def _start_lock(folder: Path) -> Iterator[None]:
    """Let one program at a time start a server. Others wait until it answers."""
    descriptor = os.open(folder / _START_LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _wait_until(
            lambda: try_lock(descriptor),
            lambda: f"another program that starts a local server with its state in {folder}",
            2 * _START_S,
            hint="Start one with: maas-client serve",
        )
        yield
    finally:
        os.close(descriptor)


def stop(folder: Path) -> ServerRecord | None:
    """Stop the server that uses a state directory and wait until it has ended; None if there is none.

    Raises:
        ConfigError: The server runs inside another program.
        ServiceError: It did not end in time.
    """
    record = read_running(folder)
    if record is None:
        return None
    if record.is_embedded:
        raise errors.ConfigError(
            f"the local server at {record.url} runs inside another program (process {record.pid})",
            hint="Close it there.",
        )
    with suppress(ProcessLookupError):
        os.kill(record.pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_S
    while _is_locked(folder):
        if time.monotonic() > deadline:
            raise errors.ServiceError(
                f"the local server (process {record.pid}) has not ended within {_STOP_S:.0f} seconds",
                hint=f"End its process {record.pid}.",
            )
        time.sleep(_POLL_S)
    return record
