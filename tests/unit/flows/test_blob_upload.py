"""Uploads: stored bytes are not sent again, and incomplete or changed files are not committed."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest

from maas_client.errors import (
    AuthError,
    BadRequestError,
    ConflictError,
    DatasetError,
    PermissionDeniedError,
)
from maas_client.flows._requests import UploadRequest
from maas_client.flows.azureml import blob_upload
from tests.unit.fake_port import FakePort, Sent
from tests.unit.flows.fake_workspace import FakeBlobs, workspace


@pytest.fixture
def port() -> FakePort:
    return workspace(FakePort())


def make_request(path: Path, data: bytes) -> UploadRequest:
    path.write_bytes(data)
    return UploadRequest(path, hashlib.sha256(data).hexdigest(), "train")


async def test_blob_path_contains_the_hash(port: FakePort, tmp_path: Path) -> None:
    blobs = FakeBlobs(port)
    data = b'{"messages": []}\n'
    path, attached = await blob_upload.upload_file(
        port, make_request(tmp_path / "train.jsonl", data)
    )
    assert path == f"LocalUpload/{hashlib.sha256(data).hexdigest()}/data.jsonl"
    assert not attached
    content, meta = blobs.contents[path]
    assert content == data
    assert meta["x-ms-meta-upload_status"] == "completed"
    put = port.asked("blobs.put")[0]
    assert put.headers["if-none-match"] == "*"
    assert put.headers["content-md5"]
    assert put.at == "https://st1.blob.core.windows.net/c1?sv=1&sig=S1"


async def test_stored_file_is_not_sent_again(port: FakePort, tmp_path: Path) -> None:
    FakeBlobs(port)
    request = make_request(tmp_path / "t.jsonl", b"x" * 100)
    await blob_upload.upload_file(port, request)
    _, attached = await blob_upload.upload_file(port, request)
    assert attached
    assert len(port.asked("blobs.put")) == 1


async def test_incomplete_blob_is_overwritten(port: FakePort, tmp_path: Path) -> None:
    blobs = FakeBlobs(port)
    request = make_request(tmp_path / "t.jsonl", b"x" * 100)
    path, _ = await blob_upload.upload_file(port, request)
    blobs.contents[path] = (b"half", {})
    await blob_upload.upload_file(port, request)
    assert blobs.contents[path][0] == b"x" * 100
    assert "if-none-match" not in port.asked("blobs.put")[1].headers


async def test_uncommitted_blocks_are_not_sent_again(
    port: FakePort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blob_upload, "BLOCK_BYTES", 1000)
    blobs = FakeBlobs(port)
    request = make_request(tmp_path / "big.jsonl", bytes(range(256)) * 20)
    calls = 0

    def fail_after_three(sent: Sent) -> object:
        nonlocal calls
        calls += 1
        if calls > 3:
            return PermissionDeniedError("killed", status=400)
        return blobs.block(sent)

    port.on("blocks.put", fail_after_three)
    with pytest.raises(PermissionDeniedError):
        await blob_upload.upload_file(port, request)
    port.on("blocks.put", blobs.block)
    before = len(port.asked("blocks.put"))
    path, _ = await blob_upload.upload_file(port, request)
    assert len(port.asked("blocks.put")) - before == 6 - 3
    assert blobs.contents[path][0] == bytes(range(256)) * 20
    ids = [s.query["blockid"] for s in port.asked("blocks.put")]
    assert len({len(i) for i in ids}) == 1, "all block ids of a blob have one length"


@pytest.mark.parametrize("when", ["before", "between"])
async def test_changed_file_is_not_committed(
    port: FakePort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    monkeypatch.setattr(blob_upload, "BLOCK_BYTES", 1000)
    blobs = FakeBlobs(port)
    request = make_request(tmp_path / "t.jsonl", b"x" * 3500)

    def change(sent: Sent) -> object:
        request.path.write_bytes(b"y" * 3500)
        return blobs.block(sent)

    if when == "before":
        request.path.write_bytes(b"x" * 3000)
    else:
        port.on("blocks.put", change)
    with pytest.raises(DatasetError, match="changed"):
        await blob_upload.upload_file(port, request)
    assert port.asked("blocks.commit") == []
    assert blobs.contents == {}


async def test_file_that_changes_while_it_is_sent_is_named(port: FakePort, tmp_path: Path) -> None:
    blobs = FakeBlobs(port)
    request = make_request(tmp_path / "t.jsonl", b"x" * 3500)

    def change_and_compare(sent: Sent) -> object:
        request.path.write_bytes(b"y" * 3500)
        digest = hashlib.md5(b"".join(sent.body), usedforsecurity=False).digest()
        assert sent.headers["content-md5"] != base64.b64encode(digest).decode()
        return BadRequestError("another MD5", status=400, code="Md5Mismatch")

    port.on("blobs.put", change_and_compare)
    with pytest.raises(DatasetError, match="changed during the upload"):
        await blob_upload.upload_file(port, request)
    assert blobs.contents == {}


async def test_conflict_after_lost_response_is_success(port: FakePort, tmp_path: Path) -> None:
    blobs = FakeBlobs(port)

    def store_and_conflict(sent: Sent) -> object:
        blobs.put(sent)
        return ConflictError("BlobAlreadyExists", status=409)

    port.on("blobs.put", store_and_conflict)
    path, _ = await blob_upload.upload_file(port, make_request(tmp_path / "t.jsonl", b"abc"))
    assert blobs.contents[path][0] == b"abc"


async def test_expired_sas_is_renewed(port: FakePort, tmp_path: Path) -> None:
    blobs = FakeBlobs(port)
    port.on(
        "datastores.secrets",
        {"secretsType": "Sas", "sasToken": "sig=OLD"},
        {"secretsType": "Sas", "sasToken": "sig=NEW"},
    )

    def reject_old_sas(sent: Sent) -> object:
        if sent.at and "OLD" in sent.at:
            return AuthError("AuthenticationFailed", status=403)
        return blobs.put(sent)

    port.on("blobs.put", reject_old_sas)
    await blob_upload.upload_file(port, make_request(tmp_path / "t.jsonl", b"abc"))
    assert [s.at and s.at[-3:] for s in port.asked("blobs.put")] == ["OLD", "NEW"]


async def test_identity_based_datastore_needs_no_secret(port: FakePort, tmp_path: Path) -> None:
    FakeBlobs(port)
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
    await blob_upload.upload_file(port, make_request(tmp_path / "t.jsonl", b"abc"))
    assert port.asked("datastores.secrets") == []
    assert port.asked("blobs.put")[0].at == "https://st1.blob.core.windows.net/c1"


async def test_blob_without_the_hash_is_replaced(port: FakePort, tmp_path: Path) -> None:
    blobs = FakeBlobs(port)
    request = make_request(tmp_path / "t.jsonl", b"x" * 100)
    path, _ = await blob_upload.upload_file(port, request)
    blobs.contents[path] = (b"y" * 100, {"x-ms-meta-upload_status": "completed"})
    _, attached = await blob_upload.upload_file(port, request)
    assert not attached
    assert blobs.contents[path][0] == b"x" * 100
