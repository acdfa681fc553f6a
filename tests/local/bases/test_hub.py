"""Downloading weights from a fake hub on loopback that also breaks connections."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("huggingface_hub")

from maas_client.errors import ConfigError, TransportError, UnsupportedError
from maas_client.local.bases import hub
from maas_client.local.state import atomic_folder

COMMIT = "a" * 40
FILES = {
    "config.json": b'{"model_type": "phi3"}',
    "model.safetensors": bytes(range(256)) * 4096,
    "LICENSE": b"MIT",
    "modeling_evil.py": b"raise SystemExit",
    "pytorch_model.bin": b"pickle",
}


class Hub(BaseHTTPRequestHandler):
    files: dict[str, bytes] = FILES
    failures = 0
    requests: list[tuple[str, str, str | None]] = []

    def log_message(self, *_: Any) -> None:
        return

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.requests.append((self.command, path, self.headers.get("Range")))
        if path == "/api/models/o/m":
            siblings = [{"rfilename": n, "size": len(d)} for n, d in self.files.items()]
            body = {"id": "o/m", "sha": COMMIT, "siblings": siblings, "tags": ["license:mit"]}
            return self._send(200, json.dumps(body).encode(), {"content-type": "application/json"})
        name = path.removeprefix(f"/o/m/resolve/{COMMIT}/")
        if name not in self.files:
            return self._send(404, b"", {"x-error-code": "RepoNotFound"})
        data, start = self.files[name], 0
        if range_header := self.headers.get("Range"):
            start = int(range_header.removeprefix("bytes=").partition("-")[0])
        etag = {"etag": f'"{hashlib.sha256(data).hexdigest()}"', "x-repo-commit": COMMIT}
        if self.command == "GET" and name.endswith("safetensors") and Hub.failures:
            Hub.failures -= 1
            self.send_response(200)
            for key, value in {**etag, "content-length": str(len(data))}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
            return None
        return self._send(206 if start else 200, data[start:], etag)

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    Hub.requests, Hub.failures, Hub.files = [], 0, FILES
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_size_and_licence_are_known_before_the_download_and_no_code_is_downloaded(
    endpoint: str, tmp_path: Path
) -> None:
    model = hub.inspect_model("o/m", endpoint)
    assert model.licence == "mit"
    assert model.size_bytes == sum(
        len(FILES[n]) for n in ("config.json", "model.safetensors", "LICENSE")
    )
    assert [a for a in Hub.requests if "resolve" in a[1]] == []
    folder = hub.pull(model, tmp_path, lambda _: None, endpoint)
    assert atomic_folder.is_complete(folder)
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert {p.name for p in folder.iterdir()} == {
        "config.json",
        "model.safetensors",
        "LICENSE",
        "manifest.json",
    }
    Hub.requests.clear()
    assert hub.pull(model, tmp_path, lambda _: None, endpoint) == folder
    assert Hub.requests == []


def test_interrupted_pull_is_incomplete_and_can_be_resumed(endpoint: str, tmp_path: Path) -> None:
    model = hub.inspect_model("o/m", endpoint)
    Hub.failures = 100
    with pytest.raises(TransportError, match=r"cannot download.*serve --base FOLDER"):
        hub.pull(model, tmp_path, lambda _: None, endpoint)
    assert not atomic_folder.is_complete(tmp_path / "o--m")
    Hub.failures = 0
    folder = hub.pull(model, tmp_path, lambda _: None, endpoint)
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_errors_of_pull_and_inspect_model(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="no model o/other"):
        hub.inspect_model("o/other", endpoint)
    Hub.files = {"pytorch_model.bin": b"x", "config.json": b"{}"}
    with pytest.raises(UnsupportedError, match="no safetensors"):
        hub.inspect_model("o/m", endpoint)
    Hub.files = FILES
    model = hub.inspect_model("o/m", endpoint)
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ConfigError, match="MAAS_CACHE_DIR"):
        hub.pull(model, tmp_path, lambda _: None, endpoint)


def test_unreachable_hub_is_a_transport_error(tmp_path: Path) -> None:
    with pytest.raises(TransportError, match="cannot download"):
        hub.inspect_model("o/m", "http://127.0.0.1:9")
