"""Facts: what the server knows, in one SQLite file.

A fact is a JSON body under ``(kind, scope, key)``; jobs and deployments also carry a ``state``. Events
and metric points hang on an owner's id. Whatever a request was told has been committed before
(WAL, ``synchronous=FULL``). Bytes are not kept here (``files.py``), only which owner holds which.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from maas_client.errors import ConfigError

SCHEMA_VERSION = 1
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


class Record(NamedTuple):
    """One row: ``seq`` grows with age and is the paging token."""

    seq: int
    key: str
    state: str | None
    body: dict[str, Any]


class MetricPoint(NamedTuple):
    """One metric value. ``at`` is ISO time in UTC."""

    name: str
    step: int
    at: str
    value: float


def _fact(row: tuple[int, str, str | None, str]) -> Record:
    return Record(row[0], row[1], row[2], json.loads(row[3]))


class Reader:
    """Questions; each is one indexed read."""

    def __init__(self, db: sqlite3.Connection, lock: threading.RLock) -> None:
        self._db = db
        self._lock = lock

    def _ask(self, sql: str, *values: object) -> list[Any]:
        with self._lock:
            return self._db.execute(sql, values).fetchall()

    def get(self, kind: str, scope: str, key: str) -> Record | None:
        """Return one fact, or None."""
        rows = self._ask(
            "SELECT seq, key, state, body FROM facts WHERE kind=? AND scope=? AND key=?",
            kind,
            scope,
            key,
        )
        return _fact(rows[0]) if rows else None

    def newest(
        self, kind: str, scope: str, *, before: int | None = None, limit: int = -1
    ) -> list[Record]:
        """Return the facts of a scope, newest first, those older than ``before`` only."""
        rows = self._ask(
            "SELECT seq, key, state, body FROM facts WHERE kind=? AND scope=? AND seq<?"
            " ORDER BY seq DESC LIMIT ?",
            kind,
            scope,
            2**62 if before is None else before,
            limit,
        )
        return [_fact(row) for row in rows]

    def in_states(self, kind: str, states: Sequence[str]) -> list[Record]:
        """Return the facts of any scope in one of ``states``, oldest first."""
        marks = ",".join("?" * len(states))
        rows = self._ask(
            f"SELECT seq, key, state, body FROM facts WHERE kind=? AND state IN ({marks})"  # noqa: S608 - only question marks are put in
            " ORDER BY seq",
            kind,
            *states,
        )
        return [_fact(row) for row in rows]

    def all(self, kind: str) -> list[Record]:
        """Return every fact of a kind, oldest first."""
        rows = self._ask("SELECT seq, key, state, body FROM facts WHERE kind=? ORDER BY seq", kind)
        return [_fact(row) for row in rows]

    def events(self, owner: str, after: int = 0, limit: int = -1) -> list[dict[str, Any]]:
        """Return an owner's events from number ``after`` on (exclusive); each has its ``seq``."""
        rows = self._ask(
            "SELECT seq, body FROM events WHERE owner=? AND seq>? ORDER BY seq LIMIT ?",
            owner,
            after,
            limit,
        )
        return [{**json.loads(body), "seq": seq} for seq, body in rows]

    def points(self, owner: str) -> list[MetricPoint]:
        """Return all of an owner's metric points, by name and step."""
        rows = self._ask(
            "SELECT name, step, at, value FROM points WHERE owner=? ORDER BY name, step", owner
        )
        return [MetricPoint(*row) for row in rows]

    def point_names(self, owner: str) -> list[str]:
        """Return which metrics an owner has."""
        return [n for (n,) in self._ask("SELECT DISTINCT name FROM points WHERE owner=?", owner)]

    def series(
        self, owner: str, name: str, *, after: int = -1, since: str = "", limit: int = -1
    ) -> list[MetricPoint]:
        """Return the points of one metric behind step ``after`` and not told before ``since`` (ISO
        time in UTC, as points have it), at most ``limit``, by step."""
        rows = self._ask(
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
        """Return the ids of all contents that somebody holds."""
        return {content for (content,) in self._ask("SELECT DISTINCT content FROM holds")}


class Writer(Reader):
    """Questions and changes within one transaction."""

    def put(
        self, kind: str, scope: str, key: str, body: dict[str, Any], state: str | None = None
    ) -> None:
        """Insert or replace a fact; its age stays."""
        self._db.execute(
            "INSERT INTO facts (kind, scope, key, state, body) VALUES (?,?,?,?,?)"
            " ON CONFLICT (kind, scope, key) DO UPDATE SET state=excluded.state, body=excluded.body",
            (kind, scope, key, state, json.dumps(body, separators=(",", ":"))),
        )

    def delete(self, kind: str, scope: str, key: str) -> bool:
        """Delete a fact; False when there was none."""
        done = self._db.execute(
            "DELETE FROM facts WHERE kind=? AND scope=? AND key=?", (kind, scope, key)
        )
        return done.rowcount > 0

    def add_event(self, owner: str, body: dict[str, Any]) -> None:
        """Append an event; its number is one more than the owner's last."""
        self._db.execute(
            "INSERT INTO events (owner, seq, body) SELECT ?,"
            " (SELECT COALESCE(MAX(seq), 0) + 1 FROM events WHERE owner=?), ?",
            (owner, owner, json.dumps(body, separators=(",", ":"))),
        )

    def add_points(self, owner: str, points: Iterable[MetricPoint]) -> None:
        """Insert points; one of a step that was run again replaces the first, and one that is only told
        again (a resumed worker repeats its last) keeps its moment."""
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
        """Note that ``owner`` needs the bytes of ``content``."""
        self._db.execute("INSERT OR IGNORE INTO holds VALUES (?,?)", (content, owner))

    def remove_references(self, owner: str) -> list[str]:
        """Let go of all that ``owner`` held; return the contents that nobody holds any more."""
        mine = [c for (c,) in self._db.execute("SELECT content FROM holds WHERE owner=?", (owner,))]
        self._db.execute("DELETE FROM holds WHERE owner=?", (owner,))
        return [
            c
            for c in mine
            if not self._db.execute("SELECT 1 FROM holds WHERE content=? LIMIT 1", (c,)).fetchone()
        ]


class Store:
    """The file. Reads and writes go over two connections, so that a read never waits for a disk.

    ``durable=False`` (an embedded server with a state directory of its own, gone afterwards anyway)
    leaves the disk out. Raises ``ConfigError`` for a file of a newer version, and for one that cannot be
    opened: on a full disk, SQLite finds no room for what it keeps beside it.
    """

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        self._lock = threading.RLock()
        try:
            path.touch(mode=0o600, exist_ok=True)
            self._db = self._open(path, durable)
            self._migrate(path)
            self._reads = self._open(path, durable)
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(
                f"{path} cannot be opened: {error}",
                hint="Free some space if the disk is full, or choose another --state-dir.",
            ) from error
        self._writer = Writer(self._db, self._lock)
        self.read = Reader(self._reads, threading.RLock())

    @staticmethod
    def _open(path: Path, durable: bool) -> sqlite3.Connection:
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
        db.execute("PRAGMA journal_mode=WAL" if durable else "PRAGMA journal_mode=MEMORY")
        db.execute("PRAGMA synchronous=FULL" if durable else "PRAGMA synchronous=OFF")
        return db

    def _migrate(self, path: Path) -> None:
        (found,) = self._db.execute("PRAGMA user_version").fetchone()
        if found > SCHEMA_VERSION:
            self._db.close()
            raise ConfigError(
                f"{path} was written by a newer maas-client (format {found}, this one reads {SCHEMA_VERSION})",
                hint="Update maas-client, or choose another --state-dir.",
            )
        if found == 0:
            self._db.executescript(f"BEGIN;{_TABLES}PRAGMA user_version={SCHEMA_VERSION};COMMIT;")

    @contextmanager
    def write(self) -> Iterator[Writer]:
        """Run one transaction: committed at the end, undone by an exception."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite itself undoes what a full disk has cut short
                    self._db.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close both connections; what was committed stays."""
        with self._lock:
            self._reads.close()
            self._db.close()


def lock_state_dir(folder: Path) -> int:
    """Take the state directory for this process and return the descriptor that holds it.

    The lock goes with the process, kill -9 included. Raises ``ConfigError`` when another server
    has it.
    """
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _lock(descriptor)
    except OSError:
        owner = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise ConfigError(
            f"another server (process {owner}) already uses {folder}",
            hint="Stop it, or give this one its own --state-dir.",
        ) from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


def _lock(descriptor: int) -> None:
    try:
        import fcntl
    except ImportError:  # Windows: bytes beyond the text, which stays readable
        import msvcrt

        os.lseek(descriptor, 1 << 20, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]  # Windows only
        os.lseek(descriptor, 0, os.SEEK_SET)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
