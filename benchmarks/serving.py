"""Measure the local server: a thousand keep-alive connections polling once a second, and whole jobs."""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from _table import Row, main

import maas_client as maas

ROW = (
    '{"messages": [{"role": "user", "content": "What is box %d?"}, '
    '{"role": "assistant", "content": "Box %d is the %dth of fifty."}]}\n'
)


@contextmanager
def server(folder: Path, *options: str) -> Iterator[dict[str, Any]]:
    """Run ``maas-client serve`` and yield the content of its ready file."""
    ready = folder / "ready.json"
    command = [sys.executable, "-m", "maas_client", "serve", "--port", "0", "--state-dir"]
    child = subprocess.Popen(
        [*command, str(folder / "state"), "--ready-file", str(ready), *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not ready.exists():
            if child.poll() is not None:
                raise SystemExit("the server did not start")
            time.sleep(0.01)
        yield json.loads(ready.read_text())
    finally:
        child.terminate()
        child.wait(30)


def job(client: maas.Client, path: Path, name: str) -> float:
    """Return seconds from file to answer."""
    start = time.perf_counter()
    result = client.fine_tune(path, model="Phi-3-mini", deploy=name, force_new=True)
    assert result.deployment is not None
    client.chat.complete(result.deployment, [{"role": "user", "content": "hi"}], max_tokens=8)
    seconds = time.perf_counter() - start
    client.deployments.delete(name)
    return seconds


def whole_jobs(runs: int) -> dict[str, float]:
    """Return median times: cold (first job including server start), warm (second job), instant engine."""
    cold, warm, instant = [], [], []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as text:
            folder = Path(text)
            path = folder / "train.jsonl"
            path.write_text("".join(ROW % (i, i, i) for i in range(50)))
            start = time.perf_counter()
            with (
                server(folder, "--base", "tiny") as ready,
                maas.Client.local(url=ready["url"]) as client,
            ):
                job(client, path, "cold")
                cold.append(time.perf_counter() - start)
                warm.append(job(client, path, "warm"))
        with (
            tempfile.TemporaryDirectory() as text,
            server(Path(text), "--engine", "instant") as ready,
            maas.Client.local(url=ready["url"]) as client,
        ):
            path = Path(text) / "train.jsonl"
            path.write_text("".join(ROW % (i, i, i) for i in range(50)))
            instant.append(job(client, path, "instant"))
    named = {"tiny_cold_s": cold, "tiny_warm_s": warm, "instant_s": instant}
    return {key: round(statistics.median(times), 2) for key, times in named.items()}


async def poll(url: str, path: str, delay: float, seconds: int, latencies: list[float]) -> int:
    """Poll once a second over one connection; return the number of responses other than 200."""
    host, _, port = url.removeprefix("http://").partition(":")
    await asyncio.sleep(delay)
    reader, writer = await asyncio.open_connection(host, int(port))
    request = (
        f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer x\r\n\r\n".encode()
    )
    errors = 0
    for _ in range(seconds):
        start = time.perf_counter()
        try:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line[15:])
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length:")
            )
            await reader.readexactly(length)
            errors += not head.startswith(b"HTTP/1.1 200")
        except (OSError, asyncio.IncompleteReadError, StopIteration):
            errors += 1
        spent = time.perf_counter() - start
        latencies.append(spent)
        await asyncio.sleep(max(0.0, 1.0 - spent))
    writer.close()
    return errors


def pollers(count: int, seconds: int) -> dict[str, float]:
    """Return p99 in seconds, errors, and the server's resident memory in MB at the end."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        with server(folder, "--engine", "instant") as ready:
            path = folder / "train.jsonl"
            path.write_text("".join(ROW % (i, i, i) for i in range(50)))
            with maas.Client.local(url=ready["url"]) as client:
                result = client.fine_tune(path, model="Phi-3-mini")
            target = f"{result.job.id}?api-version=2024-10-01-preview"
            latencies: list[float] = []

            async def all_of_them() -> int:
                each = (
                    poll(ready["url"], target, i / count, seconds, latencies) for i in range(count)
                )
                return sum(await asyncio.gather(*each))

            errors = asyncio.run(all_of_them())
            status = Path(f"/proc/{ready['pid']}/status")
            rss = next(
                (
                    int(line.split()[1])
                    for line in status.read_text().splitlines()
                    if line.startswith("VmRSS")
                ),
                0,
            )
    latencies.sort()
    return {
        "p99_s": round(latencies[int(len(latencies) * 0.99)], 4),
        "errors": errors,
        "rss_mb": round(rss / 1024, 1),
    }


def measure(args: argparse.Namespace) -> tuple[dict[str, Any], list[Row]]:
    figures: dict[str, Any] = {}
    if not args.jobs_only:
        figures |= pollers(args.pollers, args.seconds)
    if not args.pollers_only:
        figures |= whole_jobs(args.runs)
    return figures, [("what", "measured"), *((key, str(value)) for key, value in figures.items())]


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pollers", type=int, default=1000, help="default 1000")
    parser.add_argument("--seconds", type=int, default=10, help="polls of each, default 10")
    parser.add_argument("--runs", type=int, default=3, help="whole jobs of each kind, default 3")
    parser.add_argument("--jobs-only", action="store_true")
    parser.add_argument("--pollers-only", action="store_true")


if __name__ == "__main__":
    main(__doc__ or "", measure, options)
