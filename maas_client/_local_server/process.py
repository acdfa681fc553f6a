"""The process of the user's local server: use the running one, start one, stop it."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from maas_client import _settings, errors
from maas_client._argument_types import check_type
from maas_client._files.file_lock import try_lock
from maas_client._local_server.probe import find_default_server
from maas_client._local_server.record import (
    KEEP_FILE,
    ServerRecord,
    is_locked,
    lock_owner,
    read_running,
    state_folder,
    stop_command,
)
from maas_client._messages import AnyOf, Argument, Text
from maas_client._settings import Settings, server_environment

LOG_FILE = "server.log"
_START_LOCK_FILE = "start.lock"
IDLE_TIMEOUT_S = 1800.0
"""After this time without jobs and requests a server that was started for a command stops."""
_START_S = 60.0
_STOP_S = 30.0
_NOTICE_S = 2.0
"""After this time a program says that it waits for a server."""
_POLL_S = 0.02

_log = logging.getLogger("maas_client")


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
        self._is_key_required = settings.origin("api_key") == "argument"
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
            ConfigError: The server cannot start, or has another engine or key than the one given.
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
            return ServerRecord(_settings.DEFAULT_URL)
        if self._is_key_required:
            raise errors.ConfigError(
                "no local server runs that accepts the key given, and one that is started has its own",
                hint=Text.format(
                    "Leave out {}, or give the server's address.", Argument("api_key")
                ),
            )
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
        if self._is_key_required and record.api_key not in (None, self._api_key):
            raise errors.ConfigError(
                f"the local server at {record.url} has another key than the one given",
                hint=Text.format(
                    "Leave out {}: the client reads the key of your own server.",
                    Argument("api_key"),
                ),
            )
        if self._keep and self._folder and record.idle_timeout_s is not None:
            with suppress(OSError):
                (self._folder / KEEP_FILE).touch(mode=0o600)

    def _wait_for_other(self, folder: Path) -> ServerRecord | None:
        """Return the server that another program has started, or is starting; None if there is none."""
        _wait_until(
            lambda: not is_locked(folder) or read_running(folder) is not None,
            lambda: f"the local server (process {lock_owner(folder)}) with its state in {folder}",
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
    port = int(urlsplit(_settings.DEFAULT_URL).port or 0)
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
    while is_locked(folder):
        if time.monotonic() > deadline:
            raise errors.ServiceError(
                f"the local server (process {record.pid}) has not ended within {_STOP_S:.0f} seconds",
                hint=f"End its process {record.pid}.",
            )
        time.sleep(_POLL_S)
    return record
