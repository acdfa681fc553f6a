"""The record of a running local server, in its state directory.

A server writes ``server.json`` into its state directory once it answers requests, and holds the lock of that
directory as long as it lives. A record beside an unlocked file is left over from a killed server and ignored.
The folder has mode 0700 and the file 0600, because it contains the server's key.
"""

from __future__ import annotations

import ipaddress
import json
import os
import shlex
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from maas_client._files.file_lock import try_lock
from maas_client._secret import Secret, hide
from maas_client._settings import Settings
from maas_client.errors import ConfigError

LOCK_FILE = "lock"
RECORD_FILE = "server.json"
KEEP_FILE = "keep"
"""A server with this file in its state directory does not stop when it is idle."""
_MAX_BYTES = 1 << 16

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
    except ConfigError:  # a record that others could have written names no key
        return None
    return record if record and record.url == (settings.url or "").rstrip("/") else None


def read_running(folder: Path) -> ServerRecord | None:
    """Return the server that uses a state directory; None if none answers requests there.

    Raises:
        ConfigError: Another user could have written the record, or could read it; or it is no file.
    """
    path = folder / RECORD_FILE
    if os.path.exists(path) and not os.path.isfile(path):
        raise ConfigError(f"{path} is not a file", hint="Delete it, or move it elsewhere.")
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if os.name == "posix" and (status.st_uid != os.geteuid() or status.st_mode & 0o077):
            raise ConfigError(
                f"{path} can be written or read by other users",
                hint=f"Delete it, run: chmod 700 {folder}, and start the server again.",
            )
        text = file.read(_MAX_BYTES)
    record = parse_record(text)
    if record is None or not _is_this_machine(record.url) or not is_locked(folder):
        return None
    return record


def parse_record(text: bytes) -> ServerRecord | None:
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


def is_locked(folder: Path) -> bool:
    """Return whether a living server holds the lock of a state directory."""
    try:
        descriptor = os.open(folder / LOCK_FILE, os.O_RDWR)
    except OSError:
        return False
    try:
        return not try_lock(descriptor)
    finally:
        os.close(descriptor)


def lock_owner(folder: Path) -> str:
    """Return the process that a server has written into its lock file."""
    with suppress(OSError):
        return (folder / LOCK_FILE).read_text("ascii", "replace").strip()[:32] or "unknown"
    return "unknown"
