"""Facts: committed or not there, one server per directory, nothing newer opened."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys

import pytest

from maas_client.errors import ConfigError
from maas_client.local.state.store import SCHEMA_VERSION, MetricPoint, Store, lock_state_dir


@pytest.fixture
def store(tmp_path):
    held = Store(tmp_path / "facts.db")
    yield held
    held.close()


def test_a_fact_is_read_back_and_keeps_its_age(store):
    with store.write() as facts:
        facts.put("job", "w", "a", {"n": 1}, "NotStarted")
        facts.put("job", "w", "b", {"n": 2}, "NotStarted")
        facts.put("job", "w", "a", {"n": 3}, "Running")
    assert [(f.key, f.state, f.body["n"]) for f in store.read.newest("job", "w")] == [
        ("b", "NotStarted", 2),
        ("a", "Running", 3),
    ]


def test_pages_follow_the_token(store):
    with store.write() as facts:
        for n in range(5):
            facts.put("job", "w", f"j{n}", {})
    first = store.read.newest("job", "w", limit=2)
    rest = store.read.newest("job", "w", before=first[-1].seq, limit=9)
    assert [f.key for f in first + rest] == ["j4", "j3", "j2", "j1", "j0"]


def test_an_exception_undoes_the_transaction(store):
    def broken():
        with store.write() as facts:
            facts.put("job", "w", "a", {})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert store.read.get("job", "w", "a") is None
    with store.write() as facts:  # and the next one works
        facts.put("job", "w", "a", {})


def test_a_reader_sees_nothing_before_the_commit(store):
    with store.write() as facts:
        facts.put("job", "w", "a", {})
        assert store.read.get("job", "w", "a") is None
    assert store.read.get("job", "w", "a") is not None


def test_a_point_of_a_step_run_again_replaces_the_first_and_one_told_again_keeps_its_moment(store):
    with store.write() as facts:
        facts.add_points(
            "o", [MetricPoint("loss", 1, "t1", 2.0), MetricPoint("loss", 2, "t1", 1.0)]
        )
        facts.add_points(
            "o", [MetricPoint("loss", 1, "t2", 2.0), MetricPoint("loss", 2, "t2", 0.5)]
        )
    kept = [(p.step, p.at, p.value) for p in store.read.series("o", "loss")]
    assert kept == [(1, "t1", 2.0), (2, "t2", 0.5)]


def test_events_are_numbered_per_owner(store):
    with store.write() as facts:
        for owner in ("a", "b", "a"):
            facts.add_event(owner, {"kind": "message"})
    assert [e["seq"] for e in store.read.events("a")] == [1, 2]
    assert [e["seq"] for e in store.read.events("a", after=1)] == [2]


def test_a_content_is_free_when_its_last_holder_lets_go(store):
    with store.write() as facts:
        facts.add_reference("c1", "blob")
        facts.add_reference("c1", "job")
        assert facts.remove_references("blob") == []
        assert facts.remove_references("job") == ["c1"]
        assert facts.remove_references("job") == []


def test_a_newer_file_is_refused_and_left_alone(tmp_path):
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
    with store.write() as facts:
        facts.put("a", "b", "c", {})
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()}
    store.close()
    assert set(modes.values()) == {0o600}, modes


def test_what_was_committed_outlives_kill_9(tmp_path):
    child = (
        "import os, signal, sys; from pathlib import Path; from maas_client.local.state.store import Store\n"
        "store = Store(Path(sys.argv[1]))\n"
        "for n in range(20):\n"
        "    with store.write() as facts:\n"
        "        facts.put('job', 'w', f'j{n}', {})\n"
        "    print(n, flush=True)\n"
        "held = store.write(); facts = held.__enter__(); facts.put('job', 'w', 'never', {})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / "facts.db"
    done = subprocess.run([sys.executable, "-c", child, path], capture_output=True, text=True)
    assert done.stdout.split() == [str(n) for n in range(20)]
    store = Store(path)
    assert len(store.read.newest("job", "w")) == 20
    assert store.read.get("job", "w", "never") is None
    store.close()


def test_a_state_directory_has_one_server(tmp_path):
    held = lock_state_dir(tmp_path)
    child = (
        "import sys; from pathlib import Path; from maas_client.local.state.store import lock_state_dir\n"
        "lock_state_dir(Path(sys.argv[1]))"
    )
    again = subprocess.run([sys.executable, "-c", child, tmp_path], capture_output=True, text=True)
    assert f"another server (process {os.getpid()}) already uses" in again.stderr
    os.close(held)
    assert subprocess.run([sys.executable, "-c", child, tmp_path]).returncode == 0
