"""The server's records, in one SQLite file.

A record is a JSON body under ``(kind, scope, key)``; jobs and deployments also have a ``state``. Events and
metric points belong to an owner's id. Changes are committed before a request is answered (WAL,
``synchronous=FULL``). Bytes are stored elsewhere (``files.py``); the store knows who references them.
"""

from __future__ import annotations

import json
import os
import shlex
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from maas_client._files.file_lock import try_lock
from maas_client._local_server.record import LOCK_FILE
from maas_client.errors import ConfigError
from maas_client.local.state.files import explain_state_errors

SCHEMA_VERSION = 1
_PROBE_S = 0.3
"""How long a client that looks for the server may hold the lock of the state directory, and more."""
_TABLES = """
CREATE TABLE facts (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL, scope TEXT NOT NULL, key TEXT NOT NULL,
    state TEXT, body TEXT NOT NULL,
    UNIQUE (kind, scope, key));
CREATE INDEX facts_by_state ON facts (kind, state);
CREATE TABLE events (
    owner TEXT NOT NULL, seq INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (owner, seq)) WITHOUT ROWID;
CREATE TABLE points (
    owner TEXT NOT NULL, name TEXT NOT NULL, step INTEGER NOT NULL,
    at TEXT NOT NULL, value REAL NOT NULL,
    PRIMARY KEY (owner, name, step)) WITHOUT ROWID;
CREATE TABLE holds (
    content TEXT NOT NULL, owner TEXT NOT NULL,
    PRIMARY KEY (content, owner)) WITHOUT ROWID;
CREATE INDEX holds_by_owner ON holds (owner);
"""
_INDEXES = "CREATE INDEX IF NOT EXISTS facts_by_scope ON facts (kind, scope);"
"""Each entry also holds the row's ``seq``, so a page needs no sorting. Earlier versions read files with it."""


class Record(NamedTuple):
    """One record. ``seq`` grows with each new record and is the paging token."""

    seq: int
    key: str
    state: str | None
    body: dict[str, Any]


class MetricPoint(NamedTuple):
    """One metric value; ``at`` is the time in UTC (ISO 8601)."""

    name: str
    step: int
    at: str
    value: float


def _to_record(row: tuple[int, str, str | None, str]) -> Record:
    return Record(row[0], row[1], row[2], json.loads(row[3]))


class Reader:
    """Queries; each is one indexed read."""

    def __init__(self, db: sqlite3.Connection, lock: threading.RLock) -> None:
        self._db = db
        self._lock = lock

    def _query(self, sql: str, *values: object) -> list[Any]:
        with self._lock:
            return self._db.execute(sql, values).fetchall()

    def get(self, kind: str, scope: str, key: str) -> Record | None:
        """Return one record, or None."""
        rows = self._query(
            "SELECT seq, key, state, body FROM facts WHERE kind=? AND scope=? AND key=?",
            kind,
            scope,
            key,
        )
        return _to_record(rows[0]) if rows else None

    def newest(
        self, kind: str, scope: str, *, before: int | None = None, limit: int = -1
    ) -> list[Record]:
        """Return a scope's records, newest first, and only those older than ``before``."""
        rows = self._query(
            "SELECT seq, key, state, body FROM facts INDEXED BY facts_by_scope"
            " WHERE kind=? AND scope=? AND seq<? ORDER BY seq DESC LIMIT ?",
            kind,
            scope,
            2**62 if before is None else before,
            limit,
        )
        return [_to_record(row) for row in rows]

    def oldest(self, kind: str, scope: str, *, after: int = 0, limit: int = -1) -> list[Record]:
        """Return a scope's records, oldest first, and only those newer than ``after``."""
        rows = self._query(
            "SELECT seq, key, state, body FROM facts INDEXED BY facts_by_scope"
            " WHERE kind=? AND scope=? AND seq>? ORDER BY seq LIMIT ?",
            kind,
            scope,
            after,
            limit,
        )
        return [_to_record(row) for row in rows]

    def by_key(self, kind: str, scope: str, start: str, limit: int = -1) -> list[Record]:
        """Return a scope's records by key, from the key ``start``."""
        rows = self._query(
            "SELECT seq, key, state, body FROM facts"
            " WHERE kind=? AND scope=? AND key>=? ORDER BY key LIMIT ?",
            kind,
            scope,
            start,
            limit,
        )
        return [_to_record(row) for row in rows]

    def with_prefix(self, kind: str, scope: str, prefix: str) -> list[Record]:
        """Return a scope's records whose key begins with ``prefix``, newest first."""
        rows = self._query(
            "SELECT seq, key, state, body FROM facts"
            " WHERE kind=? AND scope=? AND key>=? AND key<? ORDER BY seq DESC",
            kind,
            scope,
            prefix,
            prefix[:-1] + chr(ord(prefix[-1]) + 1),
        )
        return [_to_record(row) for row in rows]

    def in_states(self, kind: str, states: Sequence[str], *, limit: int = -1) -> list[Record]:
        """Return the records of all scopes in one of ``states``, oldest first."""
        placeholders = ",".join("?" * len(states))
        rows = self._query(
            f"SELECT seq, key, state, body FROM facts WHERE kind=? AND state IN ({placeholders})"  # noqa: S608 - only question marks
            " ORDER BY seq LIMIT ?",
            kind,
            *states,
            limit,
        )
        return [_to_record(row) for row in rows]

    def all(self, kind: str) -> list[Record]:
        """Return all records of a kind, oldest first."""
        rows = self._query(
            "SELECT seq, key, state, body FROM facts WHERE kind=? ORDER BY seq", kind
        )
        return [_to_record(row) for row in rows]

    def recent(self, kind: str, before: int | None, limit: int) -> list[tuple[str, Record]]:
        """Return records of all scopes with their scope, newest first, and only those older than ``before``."""
        rows = self._query(
            "SELECT seq, key, state, body, scope FROM facts WHERE kind=? AND seq<? ORDER BY seq DESC LIMIT ?",
            kind,
            2**62 if before is None else before,
            limit,
        )
        return [(row[4], _to_record(row[:4])) for row in rows]

    def events(self, owner: str, after: int = 0, limit: int = -1) -> list[dict[str, Any]]:
        """Return an owner's events after number ``after``, each with its ``seq``."""
        rows = self._query(
            "SELECT seq, body FROM events WHERE owner=? AND seq>? ORDER BY seq LIMIT ?",
            owner,
            after,
            limit,
        )
        return [{**json.loads(body), "seq": seq} for seq, body in rows]

    def points(self, owner: str) -> list[MetricPoint]:
        """Return all of an owner's metric points, by name and step."""
        rows = self._query(
            "SELECT name, step, at, value FROM points WHERE owner=? ORDER BY name, step", owner
        )
        return [MetricPoint(*row) for row in rows]

    def point_names(self, owner: str) -> list[str]:
        """Return the names of an owner's metrics."""
        return [n for (n,) in self._query("SELECT DISTINCT name FROM points WHERE owner=?", owner)]

    def last_point(self, owner: str, name: str) -> MetricPoint | None:
        """Return the point of one metric with the highest step, or None."""
        rows = self._query(
            "SELECT name, step, at, value FROM points WHERE owner=? AND name=? ORDER BY step DESC LIMIT 1",
            owner,
            name,
        )
        return MetricPoint(*rows[0]) if rows else None

    def series(
        self, owner: str, name: str, *, after: int = -1, since: str = "", limit: int = -1
    ) -> list[MetricPoint]:
        """Return the points of one metric after step ``after``, by step.

        Only points at or after ``since`` (ISO 8601, UTC), and at most ``limit`` of them.
        """
        rows = self._query(
            "SELECT name, step, at, value FROM points WHERE owner=? AND name=? AND step>? AND at>=?"
            " ORDER BY step LIMIT ?",
            owner,
            name,
            after,
            since,
            limit,
        )
        return [MetricPoint(*row) for row in rows]

    def referenced_contents(self) -> set[str]:
        """Return the names of everything that is referenced."""
        return {content for (content,) in self._query("SELECT DISTINCT content FROM holds")}


class Writer(Reader):
    """Queries and changes in one transaction."""

    def put(
        self, kind: str, scope: str, key: str, body: dict[str, Any], state: str | None = None
    ) -> None:
        """Insert or replace a record. A replaced record keeps its ``seq``."""
        self._db.execute(
            "INSERT INTO facts (kind, scope, key, state, body) VALUES (?,?,?,?,?)"
            " ON CONFLICT (kind, scope, key) DO UPDATE SET state=excluded.state, body=excluded.body",
            (kind, scope, key, state, json.dumps(body, separators=(",", ":"))),
        )

    def delete(self, kind: str, scope: str, key: str) -> bool:
        """Delete a record; return False if there was none."""
        cursor = self._db.execute(
            "DELETE FROM facts WHERE kind=? AND scope=? AND key=?", (kind, scope, key)
        )
        return cursor.rowcount > 0

    def add_event(self, owner: str, body: dict[str, Any]) -> None:
        """Append an event; its number is one more than the owner's last."""
        self._db.execute(
            "INSERT INTO events (owner, seq, body) SELECT ?,"
            " (SELECT COALESCE(MAX(seq), 0) + 1 FROM events WHERE owner=?), ?",
            (owner, owner, json.dumps(body, separators=(",", ":"))),
        )

    def add_points(self, owner: str, points: Iterable[MetricPoint]) -> None:
        """Insert points.

        A new value for a step replaces the old one; a repeated value (a resumed worker repeats its last point)
        keeps its time.
        """
        self._db.executemany(
            "INSERT INTO points (owner, name, step, at, value) VALUES (?,?,?,?,?) ON CONFLICT DO UPDATE"
            " SET at=excluded.at, value=excluded.value WHERE value IS NOT excluded.value",
            [(owner, *point) for point in points],
        )

    def delete_history(self, owner: str) -> None:
        """Delete an owner's events and points."""
        self._db.execute("DELETE FROM events WHERE owner=?", (owner,))
        self._db.execute("DELETE FROM points WHERE owner=?", (owner,))

    def add_reference(self, content: str, owner: str) -> None:
        """Record that ``owner`` references ``content``."""
        self._db.execute("INSERT OR IGNORE INTO holds VALUES (?,?)", (content, owner))

    def remove_references(self, owner: str) -> list[str]:
        """Remove all references of ``owner``; return what is no longer referenced by anyone."""
        contents = [
            c for (c,) in self._db.execute("SELECT content FROM holds WHERE owner=?", (owner,))
        ]
        self._db.execute("DELETE FROM holds WHERE owner=?", (owner,))
        return [
            c
            for c in contents
            if not self._db.execute("SELECT 1 FROM holds WHERE content=? LIMIT 1", (c,)).fetchone()
        ]


class Store:
    """The SQLite file. Reads and writes use two connections, so that a read never waits for the disk.

    ``durable=False`` does not wait for the disk (for an embedded server with a temporary state directory).
    Raises ``ConfigError`` for a file of a newer version, and for one that cannot be opened: on a full disk
    SQLite cannot create the files it needs beside it.
    """

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        self._lock = threading.RLock()
        with explain_state_errors(path.parent), ExitStack() as opened:
            path.touch(mode=0o600, exist_ok=True)
            self._db = self._open(path, durable, opened)
            self._migrate(path)
            self._reads = self._open(path, durable, opened)
            opened.pop_all()
        self._writer = Writer(self._db, self._lock)
        self.read = Reader(self._reads, threading.RLock())

    @staticmethod
    def _open(path: Path, durable: bool, opened: ExitStack) -> sqlite3.Connection:
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
        opened.enter_context(closing(db))  # it is closed again if a later step fails
        db.execute("PRAGMA journal_mode=WAL" if durable else "PRAGMA journal_mode=MEMORY")
        db.execute("PRAGMA synchronous=FULL" if durable else "PRAGMA synchronous=OFF")
        return db

    def _migrate(self, path: Path) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise ConfigError(
                f"{path} was written by a newer maas-client"
                f" (format {version}, this one reads {SCHEMA_VERSION})",
                hint="Update maas-client, or choose another --state-dir.",
            )
        if version == 0:
            self._db.executescript(f"BEGIN;{_TABLES}PRAGMA user_version={SCHEMA_VERSION};COMMIT;")
        self._db.execute(_INDEXES)

    @contextmanager
    def write(self) -> Iterator[Writer]:
        """Run one transaction: committed at the end, rolled back by an exception."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # on a full disk SQLite rolls back by itself
                    self._db.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close both connections."""
        with self._lock:
            self._reads.close()
            self._db.close()


def lock_state_dir(folder: Path) -> int:
    """Lock a state directory for this process; return the descriptor that holds the lock.

    The lock ends with the process, also after kill -9. Raises ``ConfigError`` if another server has it.
    """
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(folder / LOCK_FILE, flags, 0o600)
    deadline = time.monotonic() + _PROBE_S
    while not try_lock(descriptor):
        if time.monotonic() < deadline:
            time.sleep(0.02)
            continue
        owner = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise ConfigError(
            f"another server (process {owner}) already uses {folder}",
            hint=f"Stop it with: maas-client serve --stop --state-dir {shlex.quote(str(folder))}. "
            "Or give this one a folder and a port of its own: --state-dir DIR --port 0",
        )
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor
