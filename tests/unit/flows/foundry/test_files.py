"""Files: uploaded once, in one request or in parts by size, processed, and never with changed bytes."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import pytest

from maas_client.errors import DatasetError, NotFoundError, ServiceError, TransportError
from maas_client.flows.foundry import files, multipart_upload
from maas_client.flows.foundry.fingerprints import dated_base_url
from tests.unit.fake_port import FakePort, Sent, collect
from tests.unit.flows.foundry.fake_resource import Resource, upload_request

TEXT = b'{"messages":[]}\n'
SHA = hashlib.sha256(TEXT).hexdigest()


def write(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


async def find_nothing() -> None:
    return None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "tickets.jsonl"
    file.write_bytes(TEXT)
    return file


async def test_filename_contains_the_start_of_the_hash(path: Path) -> None:
    io = Resource()
    dataset = await files.upload(io, upload_request(path, SHA))
    assert io.files[0]["filename"] == f"tickets-{SHA[:8]}.jsonl"
    assert io.files[0]["purpose"] == "fine-tune"
    assert (dataset.id, dataset.name, dataset.sha256, dataset.attached) == (
        "file-0",
        "tickets",
        SHA,
        False,
    )


async def test_stored_file_is_not_sent_again(path: Path) -> None:
    io = Resource()
    await files.upload(io, upload_request(path, SHA))
    again = await files.upload(io, upload_request(path, SHA))
    assert again.attached
    assert len(io.asked("files.create")) == 1


async def test_rejected_file_is_uploaded_again(path: Path) -> None:
    io = Resource()
    await files.upload(io, upload_request(path, SHA))
    io.files[0]["status"] = "error"
    assert not (await files.upload(io, upload_request(path, SHA))).attached


@pytest.mark.parametrize(
    "error", [TransportError("gone"), ServiceError("bad gateway", status=502)], ids=["cut", "502"]
)
async def test_lost_response_does_not_create_a_second_file(path: Path, error: Exception) -> None:
    io = Resource()

    def create_and_fail(sent: Sent) -> Exception:
        io.create_file(sent)
        return error

    io.on("files.create", create_and_fail)
    dataset = await files.upload(io, upload_request(path, SHA))
    assert dataset.id == "file-0"
    assert len(io.asked("files.create")) == 1


async def test_file_that_was_not_created_is_sent_again(path: Path) -> None:
    io = Resource()
    io.on("files.create", TransportError("gone"), io.create_file)
    await files.upload(io, upload_request(path, SHA))
    assert len(io.files) == 1
    assert [sent.op for sent in io.sent].count("files.list") > 2


async def test_changed_file_is_not_sent(path: Path) -> None:
    io = Resource()
    write(path, TEXT + b"{}\n")
    with pytest.raises(DatasetError, match="changed"):
        await files.upload(io, upload_request(path, SHA))
    assert io.files == []


async def test_rejection_has_the_services_text(path: Path) -> None:
    io = Resource()
    pending = {"id": "file-9", "filename": "t.jsonl", "status": "pending"}
    io.on("files.create", pending)
    io.on(
        "files.get",
        {**pending, "status": "running"},
        {**pending, "status": "error", "status_details": "Line 3 is no chat."},
    )
    with pytest.raises(DatasetError, match="Line 3 is no chat"):
        await files.upload(io, upload_request(path, SHA))
    assert len(io.slept) == 2


async def test_large_file_is_sent_in_parts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytes(range(256)) * 40
    sha = write(path, data)
    monkeypatch.setattr(multipart_upload, "PART_BYTES", 4096)
    io = Resource()
    parts: list[bytes] = []

    def create_part(sent: Sent) -> dict[str, str]:
        parts.append(b"".join(dict(sent.body)["data"][1]))
        return {"id": f"part-{len(parts)}"}

    io.on("uploads.create", {"id": "upload-1", "status": "pending"})
    io.on("uploads.part", create_part)
    io.on(
        "uploads.complete",
        {"id": "upload-1", "status": "completed", "file": {"id": "file-7", "status": "processed"}},
    )
    progress: list[tuple[int, int]] = []
    request = upload_request(
        path, sha, progress=lambda sent_bytes, total: progress.append((sent_bytes, total))
    )
    dataset = await multipart_upload.upload_in_parts(
        io, request, "tickets-x.jsonl", len(data), find_nothing
    )
    assert dataset.id == "file-7"
    assert b"".join(parts) == data
    complete = io.asked("uploads.complete")[0].body
    assert complete == {
        "part_ids": ["part-1", "part-2", "part-3"],
        "md5": hashlib.md5(data).hexdigest(),
    }
    assert progress[-1] == (len(data), len(data))


async def test_files_from_100_mb_use_the_uploads_api(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    async def in_parts(io: FakePort, request: object, name: str, size: int, find: object) -> object:
        sizes.append(size)
        raise ServiceError("enough", status=400)

    monkeypatch.setattr(multipart_upload, "upload_in_parts", in_parts)
    limit = 100 * 2**20
    with path.open("wb") as file:
        file.truncate(limit)
    with pytest.raises(ServiceError, match="enough"):
        await files.upload(Resource(), upload_request(path, SHA))
    with path.open("wb") as file:
        file.truncate(limit - 1)
    with pytest.raises(DatasetError, match="changed"):  # one request: it hashes other bytes
        await files.upload(Resource(), upload_request(path, SHA))
    assert sizes == [limit]


async def test_failed_multipart_upload_is_canceled(path: Path) -> None:
    io = Resource()
    io.on("uploads.create", {"id": "upload-1"})
    io.on("uploads.part", ServiceError("no", status=400))
    io.on("uploads.cancel", {"id": "upload-1", "status": "cancelled"})
    with pytest.raises(ServiceError, match="no"):
        await multipart_upload.upload_in_parts(
            io, upload_request(path, SHA), "t.jsonl", len(TEXT), find_nothing
        )
    assert len(io.asked("uploads.cancel")) == 1


async def test_upload_that_expired_is_not_continued_silently(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The service ends an upload after an hour. Its parts are sent again, with a warning."""
    now = [1_000_000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    monkeypatch.setattr(multipart_upload, "PART_BYTES", 4)
    io = Resource()
    io.scope.client_dir = str(tmp_path / "client")
    io.on(
        "uploads.create", *({"id": f"upload-{n}", "expires_at": now[0] + 3600 * n} for n in (1, 2))
    )
    io.on(
        "uploads.part", {"id": "part-1"}, {"id": "part-2"}, TransportError("lost"), {"id": "part"}
    )
    completed = {"id": "u", "status": "completed", "file": {"id": "file-7", "status": "processed"}}
    io.on("uploads.complete", completed)

    async def upload() -> str:
        request = upload_request(path, SHA)
        return (
            await multipart_upload.upload_in_parts(io, request, "t.jsonl", len(TEXT), find_nothing)
        ).id

    with pytest.raises(TransportError, match="lost"):
        await upload()
    assert len(io.asked("uploads.part")) == 3
    now[0] += 3600 - 30
    assert await upload() == "file-7"
    assert f"an earlier upload of {path} has expired: all of it is sent again" in caplog.text
    assert [sent.path["upload"] for sent in io.asked("uploads.part")[3:]] == ["upload-2"] * 4


async def test_upload_that_the_service_ended_is_repeated_with_a_warning(
    path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multipart_upload, "PART_BYTES", 4)
    io = Resource()
    io.scope.client_dir = str(tmp_path / "client")
    io.on("uploads.create", {"id": "upload-1"}, {"id": "upload-2"})
    ended = ServiceError("Upload upload-1 has expired", status=400)
    io.on("uploads.part", {"id": "part-1"}, TransportError("lost"), ended, {"id": "part"})
    io.on("uploads.cancel", {"id": "upload-1", "status": "expired"})
    completed = {"id": "u", "status": "completed", "file": {"id": "file-7", "status": "processed"}}
    io.on("uploads.complete", completed)
    request = upload_request(path, SHA)
    arguments = (io, request, "t.jsonl", len(TEXT), find_nothing)
    with pytest.raises(TransportError):
        await multipart_upload.upload_in_parts(*arguments)
    assert (await multipart_upload.upload_in_parts(*arguments)).id == "file-7"
    assert f"{path} is sent again from its start: Upload upload-1 has expired" in caplog.text


async def test_upload_that_cannot_end_in_time_is_announced(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(multipart_upload, "PART_BYTES", 4)
    io = Resource()
    io.on("uploads.create", {"id": "upload-1", "expires_at": int(time.time()) + 3600})

    def slow_part(sent: Sent) -> dict[str, str]:
        io.slept.append(25 * 60)  # 4 parts need 100 minutes
        return {"id": f"part-{len(io.slept)}"}

    io.on("uploads.part", slow_part)
    completed = {"id": "u", "status": "completed", "file": {"id": "file-7", "status": "processed"}}
    io.on("uploads.complete", completed)
    request = upload_request(path, SHA)
    await multipart_upload.upload_in_parts(io, request, "t.jsonl", len(TEXT), find_nothing)
    [warning] = [record.getMessage() for record in caplog.records]
    assert "needs about 75 more minutes, but the service ends it in 60" in warning


@pytest.mark.parametrize(
    ("base", "dated"),
    [
        ("https://r.openai.azure.com/openai", "https://r.openai.azure.com/openai"),
        ("https://r.services.ai.azure.com/openai", "https://r.openai.azure.com/openai"),
        (
            "https://r.services.ai.azure.com/api/projects/p1/openai",
            "https://r.openai.azure.com/openai",
        ),
        ("http://127.0.0.1:8765/openai", "http://127.0.0.1:8765/openai"),
    ],
)
def test_dated_base_url_of_resources_and_projects(base: str, dated: str) -> None:
    io = FakePort("foundry")
    io.scope.base_urls = {"foundry": base}
    assert dated_base_url(io) == dated


async def test_list_follows_pages() -> None:
    io = Resource()
    pages = [
        {"data": [{"id": "file-1", "filename": "a.jsonl"}], "has_more": True, "last_id": "file-1"},
        {"data": [{"id": "file-2", "filename": "b.jsonl"}], "has_more": False},
    ]
    io.on("files.list", *pages)
    assert [d.id for d in await collect(files.list_all(io))] == ["file-1", "file-2"]
    assert [s.query.get("after") for s in io.asked("files.list")] == [None, "file-1"]


async def test_file_is_found_by_name_and_deleted(path: Path) -> None:
    io = Resource()
    await files.upload(io, upload_request(path, SHA))
    assert (await files.get(io, "tickets")).id == "file-0"
    io.on("files.delete", {"deleted": True})
    await files.delete(io, "tickets")
    assert io.asked("files.delete")[0].path == {"file": "file-0"}
    with pytest.raises(NotFoundError):
        await files.get(io, "nothing")
