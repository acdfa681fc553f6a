"""The file store: generated names, atomic writes, a private directory."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing

import pytest

from maas_client.errors import ConfigError
from maas_client.local.state.atomic_folder import write_folder
from maas_client.local.state.files import (
    FileStore,
    explain_state_errors,
    make_private_folder,
    reset_state,
    run_reference,
    write_private_file,
)

posix = pytest.mark.skipif(os.name != "posix", reason="modes are posix")


def _names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_draft_is_invisible_until_it_is_committed(tmp_path):
    files = FileStore(tmp_path)
    with files.draft() as draft:
        draft.write(b"abc")
        draft.write(memoryview(b"def"))
        assert not files.content_path(draft.id).exists()
        content = draft.commit(durable=True)
    assert files.content_path(content).read_bytes() == b"abcdef"
    assert draft.size == 6


def test_draft_without_commit_is_deleted(tmp_path):
    files = FileStore(tmp_path)
    with files.draft() as draft:
        draft.write(b"abc")
    assert _names(tmp_path / "contents") == []


@pytest.mark.parametrize(
    "name", ["..", "../x", "/etc/passwd", "a" * 31, "A" * 32, "a" * 31 + "\n", "", "a" * 32 + "/.."]
)
def test_only_generated_ids_have_a_path(tmp_path, name):
    files = FileStore(tmp_path)
    with pytest.raises(ValueError, match="not a"):
        files.content_path(name)
    with pytest.raises(ValueError, match="not a"):
        files.run_folder(name)
    assert _names(tmp_path / "runs") == []


def test_garbage_collection_deletes_what_is_not_referenced(tmp_path):
    files = FileStore(tmp_path)
    contents = []
    for _ in range(3):
        with files.draft() as draft:
            draft.write(b"x")
            contents.append(draft.commit(durable=False))
    files.run_folder("b" * 32), files.run_folder("c" * 32)
    (tmp_path / "contents" / ".dead.part").write_bytes(b"half")
    assert files.collect_garbage({contents[0], run_reference("b" * 32)}) == 4
    assert _names(tmp_path / "contents") == [contents[0]]
    assert _names(tmp_path / "runs") == ["b" * 32]


@posix
def test_everything_is_private_with_any_umask(tmp_path):
    umask = os.umask(0)
    try:
        root = make_private_folder(tmp_path / "state" / "deep")
        files = FileStore(root)
        with files.draft() as draft:
            draft.commit(durable=False)
        files.run_folder("b" * 32)
        write_private_file(root / "ready", "{}")
    finally:
        os.umask(umask)
    for path in [root, *root.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


@posix
def test_directory_that_others_can_write_to_is_refused(tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(ConfigError, match="other users can write"):
        make_private_folder(shared)


@posix
def test_directory_that_others_can_read_becomes_private(tmp_path):
    folder = tmp_path / "open"
    folder.mkdir(mode=0o755)
    make_private_folder(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@posix
def test_symlink_is_replaced_and_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "ready").symlink_to(victim)
    write_private_file(tmp_path / "ready", "theirs")
    assert victim.read_text() == "mine"
    assert not (tmp_path / "ready").is_symlink()


def test_reset_deletes_only_the_servers_files(tmp_path):
    files = FileStore(tmp_path)
    with files.draft() as draft:
        draft.commit(durable=False)
    for name in ("facts.db", "facts.db-wal", "children.log", "notes.txt"):
        (tmp_path / name).write_text("x")
    reset_state(tmp_path)
    assert _names(tmp_path) == ["notes.txt"]


@pytest.mark.skipif(os.name != "posix", reason="needs ulimit")
def test_weights_that_do_not_fit_the_disk_are_an_os_error_with_the_folder(tmp_path):
    """safetensors has an error class of its own, of which the command line would print that it is a bug."""
    import resource

    safetensors = pytest.importorskip("safetensors.numpy")
    tensors = {"x": pytest.importorskip("numpy").zeros(1 << 20)}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            write_folder(
                tmp_path / "out",
                lambda draft: safetensors.save_file(tensors, draft / "weights"),
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.filename == str(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_damaged_index_of_the_store_is_named(tmp_path):
    with closing(sqlite3.connect(tmp_path / "facts.db", isolation_level=None)) as db:
        db.executescript(
            "CREATE TABLE t(a, b); INSERT INTO t VALUES(1, 2); CREATE INDEX i ON t(a);"
            "PRAGMA writable_schema=ON;"
            "UPDATE sqlite_master SET sql='CREATE INDEX i ON t(b)' WHERE name='i'"
        )
    with (
        closing(sqlite3.connect(tmp_path / "facts.db")) as db,
        pytest.raises(ConfigError, match=r"facts.db is damaged: database disk image is malformed"),
        explain_state_errors(tmp_path),
    ):
        db.execute("DELETE FROM t WHERE a=1")
