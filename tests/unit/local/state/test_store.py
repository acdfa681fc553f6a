"""The record store: transactions, one server per state directory, file versions."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys

import pytest

from maas_client.errors import ConfigError
from maas_client.local.state.store import SCHEMA_VERSION, MetricPoint, Store, lock_state_dir
from tests.faults import state_machines


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "facts.db")
    yield store
    store.close()


def test_replaced_record_keeps_its_age(store):
    with store.write() as writer:
        writer.put("job", "w", "a", {"n": 1}, "NotStarted")
        writer.put("job", "w", "b", {"n": 2}, "NotStarted")
        writer.put("job", "w", "a", {"n": 3}, "Running")
    assert [(f.key, f.state, f.body["n"]) for f in store.read.newest("job", "w")] == [
        ("b", "NotStarted", 2),
        ("a", "Running", 3),
    ]


def test_pages_follow_the_token(store):
    with store.write() as writer:
        for n in range(5):
            writer.put("job", "w", f"j{n}", {})
    first = store.read.newest("job", "w", limit=2)
    rest = store.read.newest("job", "w", before=first[-1].seq, limit=9)
    assert [f.key for f in first + rest] == ["j4", "j3", "j2", "j1", "j0"]


def test_exception_rolls_the_transaction_back(store):
    def broken():
        with store.write() as writer:
            writer.put("job", "w", "a", {})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert store.read.get("job", "w", "a") is None
    with store.write() as writer:  # the next transaction works
        writer.put("job", "w", "a", {})


def test_reader_sees_nothing_before_the_commit(store):
    with store.write() as writer:
        writer.put("job", "w", "a", {})
        assert store.read.get("job", "w", "a") is None
    assert store.read.get("job", "w", "a") is not None


def test_new_value_of_a_step_replaces_the_old_one_and_a_repeated_value_keeps_its_time(store):
    with store.write() as writer:
        writer.add_points(
            "o", [MetricPoint("loss", 1, "t1", 2.0), MetricPoint("loss", 2, "t1", 1.0)]
        )
        writer.add_points(
            "o", [MetricPoint("loss", 1, "t2", 2.0), MetricPoint("loss", 2, "t2", 0.5)]
        )
    points = [(p.step, p.at, p.value) for p in store.read.series("o", "loss")]
    assert points == [(1, "t1", 2.0), (2, "t2", 0.5)]


def test_events_are_numbered_per_owner(store):
    with store.write() as writer:
        for owner in ("a", "b", "a"):
            writer.add_event(owner, {"kind": "message"})
    assert [e["seq"] for e in store.read.events("a")] == [1, 2]
    assert [e["seq"] for e in store.read.events("a", after=1)] == [2]


def test_content_is_unreferenced_when_its_last_reference_is_removed(store):
    with store.write() as writer:
        writer.add_reference("c1", "blob")
        writer.add_reference("c1", "job")
        assert writer.remove_references("blob") == []
        assert writer.remove_references("job") == ["c1"]
        assert writer.remove_references("job") == []


def test_newer_file_is_refused_and_not_changed(tmp_path):
    path = tmp_path / "facts.db"
    Store(path).close()
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    db.close()
    with pytest.raises(ConfigError, match="newer maas-client"):
        Store(path)
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION + 1,)
    db.close()


@pytest.mark.skipif(os.name != "posix", reason="modes are posix")
def test_files_of_the_store_are_private(tmp_path):
    store = Store(tmp_path / "facts.db")
    with store.write() as writer:
        writer.put("a", "b", "c", {})
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()}
    store.close()
    assert set(modes.values()) == {0o600}, modes


def test_committed_records_survive_kill_9(tmp_path):
    child = (
        "import os, signal, sys; from pathlib import Path; from maas_client.local.state.store import Store\n"
        "store = Store(Path(sys.argv[1]))\n"
        "for n in range(20):\n"
        "    with store.write() as writer:\n"
        "        writer.put('job', 'w', f'j{n}', {})\n"
        "    print(n, flush=True)\n"
        "open_write = store.write(); writer = open_write.__enter__(); writer.put('job', 'w', 'never', {})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / "facts.db"
    result = subprocess.run([sys.executable, "-c", child, path], capture_output=True, text=True)
    assert result.stdout.split() == [str(n) for n in range(20)]
    store = Store(path)
    assert len(store.read.newest("job", "w")) == 20
    assert store.read.get("job", "w", "never") is None
    store.close()


def test_second_server_for_a_state_directory_is_refused(tmp_path):
    lock = lock_state_dir(tmp_path)
    child = (
        "import sys; from pathlib import Path; from maas_client.local.state.store import lock_state_dir\n"
        "lock_state_dir(Path(sys.argv[1]))"
    )
    second = subprocess.run([sys.executable, "-c", child, tmp_path], capture_output=True, text=True)
    assert f"another server (process {os.getpid()}) already uses" in second.stderr
    os.close(lock)
    assert subprocess.run([sys.executable, "-c", child, tmp_path]).returncode == 0


def test_pages_are_read_by_index_and_without_sorting(store):
    """A page of a list must not read or sort the other records."""
    with store.write() as writer:
        for n in range(50):
            writer.put("job", "w", f"j{n:02}", {}, "Queued")
    plans: list[str] = []
    query = store.read._query

    def explain(sql, *values):
        plans.extend(row[3] for row in store._reads.execute(f"EXPLAIN QUERY PLAN {sql}", values))
        return query(sql, *values)

    store.read._query = explain
    assert [f.key for f in store.read.newest("job", "w", limit=2)] == ["j49", "j48"]
    assert [f.key for f in store.read.oldest("job", "w", after=2, limit=2)] == ["j02", "j03"]
    assert [f.key for f in store.read.by_key("job", "w", "j1", limit=2)] == ["j10", "j11"]
    assert not any("SCAN" in plan or "TEMP B-TREE" in plan for plan in plans), plans
    assert [f.key for f in store.read.with_prefix("job", "w", "j4")][:2] == ["j49", "j48"]
    assert [f.key for f in store.read.in_states("job", ("New", "Queued"), limit=1)] == ["j00"]
    assert not any("SCAN" in plan for plan in plans), plans


def test_random_operations_restarts_and_kills_agree_with_dictionaries():
    state_machines.run(state_machines.StoreMachine, examples=25)
