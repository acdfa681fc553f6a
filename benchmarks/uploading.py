"""Compare the upload rate with azure-storage-blob, to the same local server, both with MD5 per request."""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from _table import Row, main

from maas_client._transport import run_sync
from maas_client.flows._requests import UploadRequest
from maas_client.flows.azureml import blob_upload
from maas_client.flows.azureml.workspace import authorized_container_url
from maas_client.local import serve

PARALLEL = 4


def upload_with_client(client: Any, path: Path) -> float:
    """Return seconds for one upload: hashing, comparing, sending, committing, as the client does it."""
    sha = hashlib.sha256(path.read_bytes()).hexdigest()  # known from validation before an upload
    start = time.perf_counter()
    run_sync(blob_upload.upload_file(client._io, UploadRequest(path, sha, "bench")))
    return time.perf_counter() - start


def upload_with_azure(url: str, path: Path) -> float:
    """Return seconds for azure-storage-blob's upload_blob with validate_content (MD5 per block)."""
    from azure.storage.blob import BlobClient

    blob = BlobClient.from_blob_url(url, max_single_put_size=8 * 2**20, max_block_size=8 * 2**20)
    start = time.perf_counter()
    with path.open("rb") as file:
        blob.upload_blob(file, validate_content=True, max_concurrency=PARALLEL, overwrite=True)
    return time.perf_counter() - start


def measure(args: argparse.Namespace) -> tuple[dict[str, Any], list[Row]]:
    logging.getLogger("azure").setLevel(logging.ERROR)
    client_times, azure_times = [], []
    with tempfile.TemporaryDirectory() as folder, serve(engine="instant") as server:
        client = server.client()
        base, _, sas = run_sync(authorized_container_url(client._io)).partition("?")
        for number in range(args.runs):
            path = Path(folder) / f"{number}.bin"
            path.write_bytes(os.urandom(args.megabytes * 2**20))  # a new file
            client_times.append(upload_with_client(client, path))
            azure_times.append(upload_with_azure(f"{base}/theirs/{number}.bin?{sas}", path))
            path.unlink()
    ratio = statistics.median(o / m for o, m in zip(azure_times, client_times, strict=True))
    rate = [args.megabytes / statistics.median(took) for took in (client_times, azure_times)]
    figures = {
        "vs_azure_storage_blob_ratio": round(ratio, 3),
        "ours_mb_per_s": round(rate[0], 1),
        "azure_storage_blob_mb_per_s": round(rate[1], 1),
        "megabytes": args.megabytes,
    }
    rows: list[Row] = [
        ("uploader", "MB/s"),
        ("maas_client (hash, compare, MD5, resume)", f"{rate[0]:.0f}"),
        ("azure-storage-blob (MD5)", f"{rate[1]:.0f}"),
        ("ratio", f"{ratio:.2f}"),
    ]
    return figures, rows


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--megabytes", type=int, default=128, help="per upload, default 128")
    parser.add_argument("--runs", type=int, default=5, help="default 5")


if __name__ == "__main__":
    main(__doc__ or "", measure, options)
