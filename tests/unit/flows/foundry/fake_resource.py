"""A Foundry resource in memory: files and jobs behind the scripted port."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maas_client.errors import NotFoundError
from maas_client.flows._requests import JobRequest, UploadRequest
from maas_client.types import Dataset, Hyperparameters
from tests.unit.fake_port import FakePort, Sent


class Resource(FakePort):
    """Responds for files and jobs from lists; tests script the rest with ``on``."""

    def __init__(self, *, local: bool = False) -> None:
        super().__init__("foundry", local=local)
        self.files: list[dict[str, Any]] = []
        self.jobs: list[dict[str, Any]] = []
        self.contents: dict[str, bytes] = {}
        self.on(
            "files.content",
            lambda sent: self.contents.get(sent.path["file"], NotFoundError("none", status=404)),
        )
        self.on("files.list", lambda sent: {"object": "list", "data": list(self.files)})
        self.on("files.create", self.create_file)
        self.on("files.get", lambda sent: _by_id(self.files, sent.path["file"]))
        self.on("fine_tuning.list", lambda sent: {"data": list(reversed(self.jobs))})
        self.on("fine_tuning.get", lambda sent: _by_id(self.jobs, sent.path["job"]))
        self.on("fine_tuning.create", self.create_job)
        self.on("fine_tuning.cancel", self.cancel_job)
        self.on("accounts.get", {"location": "swedencentral"})

    def create_file(self, sent: Sent) -> dict[str, Any]:
        form = dict(sent.body)
        name, content, _ = form["file"]
        data = b"".join(content)
        item = {
            "id": f"file-{len(self.files)}",
            "object": "file",
            "bytes": len(data),
            "filename": name,
            "purpose": form["purpose"][1],
            "status": "processed",
            "created_at": 1_764_000_000 + len(self.files),
        }
        self.files.append(item)
        self.contents[item["id"]] = data
        return item

    def create_job(self, sent: Sent) -> dict[str, Any]:
        item = {
            "object": "fine_tuning.job",
            "id": f"ftjob-{len(self.jobs)}",
            "status": "pending",
            "created_at": 1_764_000_000 + len(self.jobs),
            "organization_id": None,
            "result_files": None,
            "error": None,
            **sent.body,
        }
        self.jobs.append(item)
        return item

    def cancel_job(self, sent: Sent) -> dict[str, Any]:
        item = _by_id(self.jobs, sent.path["job"])
        item["status"] = "cancelled"
        return item


def _by_id(items: list[dict[str, Any]], name: str) -> dict[str, Any]:
    for item in items:
        if item["id"] == name:
            return item
    raise NotFoundError("no such thing", status=404, code="notFound")


def upload_request(path: Path, sha256: str, **options: Any) -> UploadRequest:
    return UploadRequest(path, sha256, "tickets", **options)


def job_request(**changes: Any) -> JobRequest:
    fields: dict[str, Any] = {
        "model": "Ministral-3B",
        "model_name": "Ministral-3B",
        "training": Dataset(id="file-0", name="tickets", sha256="ab" * 32),
        "validation": None,
        "hyperparameters": Hyperparameters(epochs=2),
        "method": None,
        "name": None,
        "compute": (),
        "force_new": False,
        **changes,
    }
    return JobRequest(**fields)
