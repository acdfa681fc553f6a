"""When the disk fills up, a running job fails with a reason; a job that is ready to start waits for space."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import maas_client as maas
from maas_client.local.embedded_server import LocalServer, serve
from maas_client.local.resources.jobs import JobRef, Jobs
from maas_client.local.state.files import DiskReserve
from maas_client.local.state.store import Store
from tests.contract.server.conftest import Azure, chats

REASON = "The disk is full: free some space"


def fill(store: Store) -> None:
    """Stop SQLite's file from growing, as on a full disk (it returns SQLITE_FULL), and fill it up."""
    with store._lock:
        store._db.execute("PRAGMA max_page_count=1")  # SQLite never shrinks below the current size
        for size in (2000, 200, 20, 0):
            with pytest.raises(sqlite3.OperationalError, match="full"):
                _write_on(store, size)


def _write_on(store: Store, size: int) -> None:
    while True:
        with store.write() as writer:
            writer.add_event("nobody", {"kind": "message", "message": "x" * size})


def make_room(store: Store) -> None:
    with store._lock:
        store._db.execute("PRAGMA max_page_count=1000000")


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with serve(engine="instant") as running:
        yield running


@pytest.fixture
def store(server: LocalServer) -> Store:
    assert server._server is not None
    return server._server.services.store


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(chats(3000))
    return path


def started(client: maas.Client, data: Path, store: Store, name: str) -> maas.Job:
    """Return a running job with its first points written, then let the disk be full."""
    job = client.jobs.create(
        model="Phi-3-mini", training_data=data, name=name, hyperparameters={"epochs": 100}
    )
    deadline = time.monotonic() + 60
    while client.jobs.get(job).status != "Running":
        assert time.monotonic() < deadline
    fill(store)
    return job


@pytest.mark.slow
def test_job_fails_using_reserved_space(
    server: LocalServer, store: Store, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spent = []

    def spend(self: DiskReserve) -> bool:
        spent.append(real(self))
        make_room(store)
        return spent[-1]

    real = DiskReserve.release
    monkeypatch.setattr(DiskReserve, "release", spend)
    with server.client() as client:
        job = started(client, data, store, "fills")
        with pytest.raises(maas.JobFailedError, match=REASON):
            client.jobs.wait(job, timeout=60)
        assert spent == [True], "the room that was kept was needed, and was there"
        assert client.jobs.resume(job).status in ("Queued", "Starting", "Preparing", "Running")
        client.jobs.cancel(job)
        next_job = client.jobs.create(model="Phi-3-mini", training_data=data, name="after")
        assert client.jobs.wait(next_job, timeout=60).succeeded, "the server lives"


def test_job_fails_once_space_is_free(
    server: LocalServer, store: Store, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    releases = []
    monkeypatch.setattr(DiskReserve, "release", lambda self: releases.append(self))
    with server.client() as client:
        job = started(client, data, store, "waits")
        deadline = time.monotonic() + 60
        while len(releases) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert client.jobs.get(job).status == "Running", "nothing can be written down"
        make_room(store)
        with pytest.raises(maas.JobFailedError, match=REASON):
            client.jobs.wait(job, timeout=60)


def test_trained_model_is_kept_when_disk_fills_at_end(
    server: LocalServer, store: Store, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spent, completed = DiskReserve.release, Jobs.complete

    def spend(self: DiskReserve) -> bool:
        make_room(store)
        return spent(self)

    def complete(self: Jobs, ref: JobRef, result: dict[str, Any]) -> None:
        if not full:
            full.append(ref)
            fill(store)
        completed(self, ref, result)

    full: list[JobRef] = []
    monkeypatch.setattr(DiskReserve, "release", spend)
    monkeypatch.setattr(Jobs, "complete", complete)
    with server.client() as client:
        job = client.jobs.create(model="Phi-3-mini", training_data=data)
        assert client.jobs.wait(job, timeout=60).succeeded
    assert full


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m,mode=700", "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a file system needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill_file(path: Path) -> None:
    """Write to a file until not one byte more can be stored."""
    with path.open("wb", buffering=0) as out:
        for size in (1 << 16, 1 << 10, 1):
            with contextlib.suppress(OSError):
                while True:
                    out.write(b"x" * size)


@pytest.mark.parametrize("kind", ["file", "job", "blob"])
def test_deletion_makes_space_on_a_disk_that_is_full_to_the_last_byte(
    small_disk: Path, kind: str
) -> None:
    with serve(engine="instant", state_dir=small_disk / "state") as server:
        data = chats(12) + b"\n" * 200_000
        azure = Azure(server.url)
        azure.job("old", data)
        base, sas = azure.container()
        put = {"x-ms-blob-type": "BlockBlob"}
        assert azure.http.put(f"{base}/b?{sas}", content=data, headers=put).status_code == 201
        upload = {"file": ("t.jsonl", data)}
        file = azure.http.post("/openai/v1/files", data={"purpose": "fine-tune"}, files=upload)
        filler = small_disk / "filler"
        fill_file(filler)
        full = azure.http.post("/openai/v1/files", data={"purpose": "fine-tune"}, files=upload)
        assert full.status_code == 507, full.text
        deleted = {
            "file": lambda: azure.http.delete(f"/openai/v1/files/{file.json()['id']}"),
            "job": lambda: azure.arm("DELETE", "/jobs/old"),
            "blob": lambda: azure.http.delete(f"{base}/b?{sas}"),
        }[kind]()
        assert deleted.status_code in (200, 202), deleted.text
        filler.unlink()
        again = azure.http.post("/openai/v1/files", data={"purpose": "fine-tune"}, files=upload)
        assert again.status_code == 200, "there is space again"
        azure.http.close()
    with serve(engine="instant", state_dir=small_disk / "state") as server:
        azure = Azure(server.url)
        status = azure.arm("GET", "/jobs/old").status_code
        assert status == (404 if kind == "job" else 200), "the deletion is durable"
        azure.http.close()


def test_reserve_is_allocated_and_released(tmp_path: Path) -> None:
    reserve = DiskReserve(tmp_path)
    assert not reserve.release()
    reserve.allocate()
    (file,) = tmp_path.iterdir()
    assert file.stat().st_size == 1 << 20
    assert reserve.release()
    assert list(tmp_path.iterdir()) == []
