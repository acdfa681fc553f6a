"""Uploads: nothing twice, nothing half, nothing changed on the way."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from maas_client.errors import AuthError, ConflictError, DatasetError, PermissionDeniedError
from maas_client.flows._backend import UploadRequest
from maas_client.flows.azureml import blob_upload as uploads
from tests.unit.fake_port import FakePort, Sent
from tests.unit.flows.fake_workspace import Blobs, workspace


@pytest.fixture
def port() -> FakePort:
    return workspace(FakePort())


def order(path: Path, data: bytes) -> UploadRequest:
    path.write_bytes(data)
    return UploadRequest(path, hashlib.sha256(data).hexdigest(), "train")


async def test_blob_path_contains_the_hash(port: FakePort, tmp_path: Path) -> None:
    blobs = Blobs(port)
    data = b'{"messages": []}\n'
    path, already = await uploads.upload_file(port, order(tmp_path / "train.jsonl", data))
    assert path == f"LocalUpload/{hashlib.sha256(data).hexdigest()}/train.jsonl"
    assert not already
    held, meta = blobs.held[path]
    assert held == data
    assert meta["x-ms-meta-upload_status"] == "completed"
    put = port.asked("blobs.put")[0]
    assert put.headers["if-none-match"] == "*"
    assert put.headers["content-md5"]
    assert put.at == "https://st1.blob.core.windows.net/c1?sv=1&sig=S1"


async def test_stored_file_is_not_sent_again(port: FakePort, tmp_path: Path) -> None:
    Blobs(port)
    one = order(tmp_path / "t.jsonl", b"x" * 100)
    await uploads.upload_file(port, one)
    _, already = await uploads.upload_file(port, one)
    assert already
    assert len(port.asked("blobs.put")) == 1


async def test_incomplete_blob_is_overwritten(port: FakePort, tmp_path: Path) -> None:
    blobs = Blobs(port)
    one = order(tmp_path / "t.jsonl", b"x" * 100)
    path, _ = await uploads.upload_file(port, one)
    blobs.held[path] = (b"half", {})
    await uploads.upload_file(port, one)
    assert blobs.held[path][0] == b"x" * 100
    assert "if-none-match" not in port.asked("blobs.put")[1].headers


async def test_uncommitted_blocks_are_not_sent_again(
    port: FakePort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "BLOCK_BYTES", 1000)
    blobs = Blobs(port)
    one = order(tmp_path / "big.jsonl", bytes(range(256)) * 20)
    calls = 0

    def broken(sent: Sent) -> object:
        nonlocal calls
        calls += 1
        if calls > 3:
            return PermissionDeniedError("killed", status=400)
        return blobs.block(sent)

    port.on("blocks.put", broken)
    with pytest.raises(PermissionDeniedError):
        await uploads.upload_file(port, one)
    port.on("blocks.put", blobs.block)
    before = len(port.asked("blocks.put"))
    path, _ = await uploads.upload_file(port, one)
    assert len(port.asked("blocks.put")) - before == 6 - 3
    assert blobs.held[path][0] == bytes(range(256)) * 20
    ids = [s.query["blockid"] for s in port.asked("blocks.put")]
    assert len({len(i) for i in ids}) == 1, "all block ids of a blob have one length"


@pytest.mark.parametrize("when", ["before", "between"])
async def test_changed_file_is_not_committed(
    port: FakePort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    monkeypatch.setattr(uploads, "BLOCK_BYTES", 1000)
    blobs = Blobs(port)
    one = order(tmp_path / "t.jsonl", b"x" * 3500)

    def change(sent: Sent) -> object:
        one.path.write_bytes(b"y" * 3500)
        return blobs.block(sent)

    if when == "before":
        one.path.write_bytes(b"x" * 3000)
    else:
        port.on("blocks.put", change)
    with pytest.raises(DatasetError, match="changed"):
        await uploads.upload_file(port, one)
    assert port.asked("blocks.commit") == []
    assert blobs.held == {}


async def test_conflict_after_lost_response_is_success(port: FakePort, tmp_path: Path) -> None:
    blobs = Blobs(port)

    def lost(sent: Sent) -> object:
        blobs.put(sent)
        return ConflictError("BlobAlreadyExists", status=409)

    port.on("blobs.put", lost)
    path, _ = await uploads.upload_file(port, order(tmp_path / "t.jsonl", b"abc"))
    assert blobs.held[path][0] == b"abc"


async def test_expired_sas_is_renewed(port: FakePort, tmp_path: Path) -> None:
    blobs = Blobs(port)
    port.on(
        "datastores.secrets",
        {"secretsType": "Sas", "sasToken": "sig=OLD"},
        {"secretsType": "Sas", "sasToken": "sig=NEW"},
    )

    def picky(sent: Sent) -> object:
        if sent.at and "OLD" in sent.at:
            return AuthError("AuthenticationFailed", status=403)
        return blobs.put(sent)

    port.on("blobs.put", picky)
    await uploads.upload_file(port, order(tmp_path / "t.jsonl", b"abc"))
    assert [s.at and s.at[-3:] for s in port.asked("blobs.put")] == ["OLD", "NEW"]


async def test_identity_based_datastore_needs_no_secret(port: FakePort, tmp_path: Path) -> None:
    Blobs(port)
    port.on(
        "datastores.get",
        {
            "name": "workspaceblobstore",
            "properties": {
                "accountName": "st1",
                "containerName": "c1",
                "credentials": {"credentialsType": "None"},
            },
        },
    )
    await uploads.upload_file(port, order(tmp_path / "t.jsonl", b"abc"))
    assert port.asked("datastores.secrets") == []
    assert port.asked("blobs.put")[0].at == "https://st1.blob.core.windows.net/c1"


async def test_blob_without_the_hash_is_replaced(port: FakePort, tmp_path: Path) -> None:
    blobs = Blobs(port)
    one = order(tmp_path / "t.jsonl", b"x" * 100)
    path, _ = await uploads.upload_file(port, one)
    blobs.held[path] = (b"y" * 100, {"x-ms-meta-upload_status": "completed"})
    _, already = await uploads.upload_file(port, one)
    assert not already
    assert blobs.held[path][0] == b"x" * 100
