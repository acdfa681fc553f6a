"""Uploads through a proxy that damages, stalls and interrupts them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest

import maas_client as maas
from maas_client.flows.azureml import blob_upload
from maas_client.flows.datasets import INTERRUPTED_UPLOAD
from maas_client.flows.foundry import multipart_upload
from maas_client.local.embedded_server import LocalServer
from tests.contract.server.conftest import PLAIN_HTTP
from tests.faults import Fault, FaultPlan, FaultProxy

Dialect = Literal["azureml", "foundry"]
MIB = 2**20
LENIENT = ("QUALITY_*", "SERVICE_*")
SMALL_PART_BYTES = 64 * 1024


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Send files from 64 KiB in blocks and parts of 64 KiB."""
    monkeypatch.setattr(blob_upload, "BLOCK_BYTES", SMALL_PART_BYTES)
    monkeypatch.setattr(multipart_upload, "PART_BYTES", SMALL_PART_BYTES)
    lower_threshold(monkeypatch, tmp_path, SMALL_PART_BYTES)


def lower_threshold(monkeypatch: pytest.MonkeyPatch, folder: Path, size: int) -> Path:
    limits = {"foundry": {"upload_threshold_bytes": size}}
    catalog = folder / "catalog.json"
    catalog.write_text(json.dumps({"source": "this test", "as_of": "2026-11-24", "limits": limits}))
    monkeypatch.setenv("MAAS_CATALOG", str(catalog))
    return catalog


def write(path: Path, name: str, size: int) -> Path:
    with path.open("w") as file:
        for number in range(-(-size // 2100)):
            question = {"role": "user", "content": f"{name} {number} {'x' * 2000}"}
            row = [question, {"role": "assistant", "content": f"Answer {number}."}]
            file.write(json.dumps({"messages": row}) + "\n")
    return path


@pytest.fixture
def data(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return write(tmp_path / "train.jsonl", request.node.name, 600_000)


def stored_bytes(server: LocalServer, dialect: Dialect, dataset: maas.Dataset) -> bytes:
    key = {"api-key": "k", "authorization": "Bearer k"}
    if dialect == "foundry":
        url = f"{server.url}/openai/v1/files/{dataset.id}/content"
    else:
        with server.client() as client:
            from maas_client._client import run_sync
            from maas_client.flows.azureml.workspace import authorized_container_url

            base = run_sync(authorized_container_url(client._io))
        path = (dataset.uri or "").partition("/paths/")[2]
        base, _, query = base.partition("?")
        url = f"{base}/{path}?{query}"
        key = {}
    return httpx.get(url, headers=key, **PLAIN_HTTP).content


BODIES: list[tuple[Dialect, str, str]] = [
    ("azureml", "PUT", "comp=block&"),
    ("azureml", "PUT", "comp=blocklist"),
    ("foundry", "POST", "/parts"),
]


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize(("dialect", "method", "path"), BODIES)
def test_damaged_body_is_sent_again(
    server: LocalServer, proxy: FaultProxy, data: Path, dialect: Dialect, method: str, path: str
) -> None:
    proxy.plan = FaultPlan([Fault(method, path, flip_bit=0.5)])
    with maas.Client.local(url=proxy.url, dialect=dialect) as client:
        dataset = client.datasets.upload(data, ignore=LENIENT)
    assert proxy.plan.count == 1
    assert stored_bytes(server, dialect, dataset) == data.read_bytes()


@pytest.mark.parametrize(
    ("dialect", "method", "path"),
    [("azureml", "PUT", "data.jsonl"), ("foundry", "POST", "/files$")],
)
def test_damaged_small_file_is_sent_again(
    server: LocalServer, proxy: FaultProxy, data: Path, dialect: Dialect, method: str, path: str
) -> None:
    proxy.plan = FaultPlan([Fault(method, path, flip_bit=0.5)])
    with maas.Client.local(url=proxy.url, dialect=dialect) as client:
        dataset = client.datasets.upload(data, ignore=LENIENT)
        ids = [each.id for each in client.datasets.list()]
    assert proxy.plan.count == 1
    assert stored_bytes(server, dialect, dataset) == data.read_bytes()
    assert dataset.id in ids


@pytest.mark.parametrize("dialect", ["azureml", "foundry"])
def test_file_that_always_arrives_damaged_is_an_error(
    proxy: FaultProxy, data: Path, dialect: Dialect
) -> None:
    proxy.plan = FaultPlan([Fault("P", times=None), Fault("PUT", "jsonl", times=None, flip_bit=0.5),
                            Fault("POST", "/files$", times=None, flip_bit=0.5)])  # fmt: skip
    with (
        maas.Client.local(url=proxy.url, dialect=dialect) as client,
        pytest.raises(maas.StatusError, match=r"MD5|other bytes"),
    ):
        client.datasets.upload(data, ignore=LENIENT)
    assert proxy.plan.count == 3


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("dialect", ["azureml", "foundry"])
def test_source_that_is_deleted_during_the_upload_is_a_dataset_error(
    server: LocalServer, data: Path, dialect: Dialect
) -> None:
    with (
        server.client(dialect=dialect) as client,
        pytest.raises(maas.DatasetError, match=re.escape(str(data))),
    ):
        client.datasets.upload(
            data, ignore=LENIENT, progress=lambda sent, total: data.unlink(missing_ok=True)
        )


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("acted", [True, False])
def test_blocks_that_another_upload_has_removed_are_looked_into(
    server: LocalServer, proxy: FaultProxy, data: Path, acted: bool
) -> None:
    body = '<?xml version="1.0"?><Error><Code>InvalidBlockList</Code></Error>'
    headers = {"x-ms-error-code": "InvalidBlockList", "Content-Type": "application/xml"}
    fault = Fault("PUT", "comp=blocklist", forward=acted, status=400, headers=headers, body=body)
    proxy.plan = FaultPlan([fault])
    with maas.Client.local(url=proxy.url) as client:
        dataset = client.datasets.upload(data, ignore=LENIENT)
    assert proxy.plan.count == 1
    assert stored_bytes(server, "azureml", dataset) == data.read_bytes()


def test_processes_with_one_large_file_store_it_once(server: LocalServer, tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl", "processes", 9 * MIB)
    ids = set()
    processes = [upload_process(server.url, "azureml", path) for _ in range(4)]
    for process in processes:
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        ids.add(output.strip())
    assert len(ids) == 1


@pytest.mark.parametrize("dialect", ["azureml", "foundry"])
def test_equal_bytes_are_one_dataset_whatever_the_file_is_called(
    server: LocalServer, data: Path, dialect: Dialect
) -> None:
    names = [
        "train.json",
        "train.b.jsonl",
        "Trainingsdaten für März.jsonl",
        "訓練.jsonl",
        "a b.txt",
    ]
    copies = [data, *(data.with_name(name) for name in names)]
    undecodable = data.with_name(os.fsdecode(b"caf\xe9.jsonl"))
    with server.client(dialect=dialect) as client:
        ids = set()
        for path in [*copies, undecodable]:
            if path != data:
                path.write_bytes(data.read_bytes())
            dataset = client.datasets.upload(path, ignore=LENIENT)
            assert dataset.sha256 == hashlib.sha256(data.read_bytes()).hexdigest()
            ids.add(dataset.id)
        assert len(ids) == 1


def test_equal_bytes_under_a_given_name_are_one_version(server: LocalServer, data: Path) -> None:
    copy = data.with_name("copy.jsonl")
    copy.write_bytes(data.read_bytes())
    with server.client() as client:
        first = client.datasets.upload(data, name="mine", ignore=LENIENT)
        second = client.datasets.upload(copy, name="mine", ignore=LENIENT)
        assert (first.id, first.name, second.attached) == (second.id, "mine", True)
        assert client.datasets.get("mine").filename == data.name


def test_version_of_an_earlier_release_is_found(server: LocalServer, data: Path) -> None:
    """Before 0.3 the blob's path ended with the file's name."""
    sha256 = hashlib.sha256(data.read_bytes()).hexdigest()
    with server.client() as client:
        from maas_client._client import run_sync
        from maas_client.flows._requests import UploadRequest
        from maas_client.flows.azureml import datasets

        request = UploadRequest(data, sha256, "train")
        path = f"LocalUpload/{sha256}/train.jsonl"
        run_sync(blob_upload.upload_file(client._io, request, blob_path=path))
        size = data.stat().st_size
        run_sync(datasets._register(client._io, request, path, size, sha256[:16]))
        dataset = client.datasets.upload(data.rename(data.with_name("train.json")), ignore=LENIENT)
        assert dataset.attached
        assert (dataset.uri or "").endswith(path)


# Interruptions, in a process of their own.

PROGRAM = """
import sys, time, maas_client as maas
url, dialect, path = sys.argv[1:]
try:
    with maas.Client.local(url=url, dialect=dialect) as client:
        print(client.datasets.upload(path, ignore=("QUALITY_*", "SERVICE_*")).id)
except KeyboardInterrupt:
    print("returned at", time.monotonic())
    raise
"""
ASYNC_PROGRAM = """
import asyncio, sys, time, maas_client as maas
url, dialect, path = sys.argv[1:]
async def main():
    async with maas.AsyncClient.local(url=url, dialect=dialect) as client:
        await client.datasets.upload(path, ignore=("QUALITY_*", "SERVICE_*"))
try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("returned at", time.monotonic())
    raise
"""
SMALL_PARTS_PROGRAM = f"""
from maas_client.flows.azureml import blob_upload
from maas_client.flows.foundry import multipart_upload
blob_upload.BLOCK_BYTES = multipart_upload.PART_BYTES = {SMALL_PART_BYTES}
{PROGRAM}
"""


def upload_process(
    url: str, dialect: Dialect, path: Path, program: str = PROGRAM
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, url, dialect, str(path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_until(condition: Any, timeout_s: float = 120.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


LARGE: dict[Dialect, tuple[str, str]] = {
    "azureml": ("PUT", "comp=block&"),
    "foundry": ("POST", "/parts"),
}


@pytest.mark.skipif(sys.platform != "linux", reason="compares the clocks of two processes")
@pytest.mark.parametrize("program", [PROGRAM, ASYNC_PROGRAM], ids=["sync", "async"])
@pytest.mark.parametrize("dialect", ["azureml", "foundry"])
def test_ctrl_c_during_a_stall_returns_within_a_second(
    proxy: FaultProxy,
    tmp_path: Path,
    dialect: Dialect,
    program: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lower_threshold(monkeypatch, tmp_path, MIB)
    size = {"azureml": 17 * MIB, "foundry": 33 * MIB}[dialect]  # three parts
    path = write(tmp_path / "train.jsonl", f"{dialect} {len(program)}", size)
    method, pattern = LARGE[dialect]
    proxy.plan = FaultPlan([Fault(method, pattern, times=None, stall_s=600)])
    process = upload_process(proxy.url, dialect, path, program)
    wait_until(lambda: proxy.plan.count >= 2 or process.poll() is not None)
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert float(output.rpartition(" ")[2]) - start < 1.0
    assert errors.strip() == INTERRUPTED_UPLOAD
    assert "Exception ignored" not in errors


def test_sigterm_of_the_command_prints_how_to_continue(proxy: FaultProxy, tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl", "sigterm", 9 * MIB)
    proxy.plan = FaultPlan([Fault("PUT", "comp=block&", times=None, stall_s=600)])
    command = ["-m", "maas_client", "datasets", "upload", str(path), "--url", proxy.url]
    ignored = ["--ignore", "QUALITY_*", "--ignore", "SERVICE_*"]
    process = subprocess.Popen(
        [sys.executable, *command, *ignored], stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: proxy.plan.count >= 1 or process.poll() is not None)
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "Run the same command again" in errors
    assert "Traceback" not in errors


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("dialect", ["azureml", "foundry"])
def test_killed_upload_is_continued_within_the_parts_in_flight(
    server: LocalServer, proxy: FaultProxy, tmp_path: Path, dialect: Dialect
) -> None:
    path = write(tmp_path / "train.jsonl", dialect, 7 * SMALL_PART_BYTES - 5000)
    method, pattern = LARGE[dialect]
    proxy.plan = FaultPlan([Fault(method, pattern, skip=5, times=None, stall_s=600)])
    process = upload_process(proxy.url, dialect, path, SMALL_PARTS_PROGRAM)
    wait_until(lambda: proxy.plan.count >= 1 or process.poll() is not None)
    process.kill()
    process.communicate(timeout=60)
    proxy.plan = FaultPlan([Fault(method, pattern, times=None)])  # counts the parts
    with maas.Client.local(url=proxy.url, dialect=dialect) as client:
        dataset = client.datasets.upload(path, ignore=LENIENT)
    assert proxy.plan.count <= 2 + 4, "of 7 parts, 5 were stored but for those in flight"
    assert proxy.plan.count < 7
    assert stored_bytes(server, dialect, dataset) == path.read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("dialect", ["azureml", "foundry"])
@pytest.mark.parametrize("in_parts", [True, False])
def test_memory_of_an_upload_does_not_grow_with_the_file(
    server: LocalServer,
    tmp_path: Path,
    dialect: Dialect,
    in_parts: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lower_threshold(monkeypatch, tmp_path, MIB if in_parts else 200 * MIB)
    path = write(tmp_path / "train.jsonl", f"{dialect} {in_parts}", 48 * MIB)
    program = (
        "import sys, hashlib, pathlib, maas_client as maas\n"
        "from maas_client._client import run_sync\n"
        "from maas_client.flows import _requests, datasets\n"
        "url, dialect, path = sys.argv[1:]\n"
        "file = open(path, 'rb')\n"
        "digest = hashlib.file_digest(file, 'sha256').hexdigest()\n"
        "client = maas.Client.local(url=url, dialect=dialect)\n"
        "list(client.jobs.list())\n"
        "def peak():\n"
        "    lines = open('/proc/self/status').read().splitlines()\n"
        "    return next(int(l.split()[1]) for l in lines if l.startswith('VmHWM')) * 1024\n"
        "open('/proc/self/clear_refs', 'w').write('5')\n"
        "before = peak()\n"
        "request = _requests.UploadRequest(pathlib.Path(path), digest, 'large')\n"
        "run_sync(datasets._backend(client._io).upload(client._io, request))\n"
        "print(peak() - before)\n"
    )
    output = subprocess.run(
        [sys.executable, "-c", program, server.url, dialect, str(path)],
        stdout=subprocess.PIPE, text=True, check=True,
    ).stdout  # fmt: skip
    assert int(output) < 32 * MIB
