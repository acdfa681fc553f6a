"""Poll jobs over many keep-alive connections, each once in an interval.

    python -m tests.faults.pollers --connections 1000 --seconds 30

Prints the median and the 99th percentile of the response time, the errors, and the server's memory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.contract.server.conftest import ARM, WS, Azure, chats


async def _poll(
    port: int,
    name: str,
    end: float,
    interval: float,
    times: list[float],
    errors: list[str],
    wait: float,
) -> None:
    request = (
        f"GET {WS}/jobs/{name}?api-version={ARM} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        "Authorization: Bearer x\r\n\r\n"
    ).encode()
    await asyncio.sleep(wait)
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.monotonic() < end:
            start = time.monotonic()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            if not head.startswith(b"HTTP/1.1 200"):
                errors.append(head.split(b"\r\n")[0].decode())
            times.append(time.monotonic() - start)
            await asyncio.sleep(max(0.0, interval - (time.monotonic() - start)))
        writer.close()
    except (OSError, asyncio.IncompleteReadError) as error:
        errors.append(repr(error))


async def _poll_all(
    port: int, names: list[str], connections: int, seconds: float, interval: float
) -> dict[str, float]:
    rng, end = random.Random(0), time.monotonic() + seconds
    times: list[float] = []
    errors: list[str] = []
    async with asyncio.TaskGroup() as group:
        for number in range(connections):
            name, wait = names[number % len(names)], interval * rng.random()
            group.create_task(_poll(port, name, end, interval, times, errors, wait))
    times.sort()
    return {
        "connections": connections,
        "requests": len(times),
        "errors": len(errors),
        "p50_ms": round(times[len(times) // 2] * 1000, 1),
        "p99_ms": round(times[int(len(times) * 0.99)] * 1000, 1),
    }


def run(connections: int, seconds: float, interval: float = 1.0) -> dict[str, float]:
    """Start a server with some jobs, poll it, and return the figures."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    connections = min(connections, files - 200)
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder, "ready.json")
        command = [
            sys.executable,
            "-m",
            "maas_client",
            "serve",
            "--engine",
            "instant",
            "--port",
            "0",
        ]
        command += ["--state-dir", str(Path(folder, "state")), "--ready-file", str(ready)]
        child = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 60
            while not ready.exists():
                assert child.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
            url = json.loads(ready.read_text())["url"]
            azure = Azure(url)
            data, names = azure.upload(chats(), "t.jsonl"), [f"job{n}" for n in range(10)]
            for name in names:
                assert azure.submit(name, data).status_code == 201
            azure.http.close()
            port = int(url.rsplit(":", 1)[1])
            figures = asyncio.run(_poll_all(port, names, connections, seconds, interval))
            status = Path(f"/proc/{child.pid}/status")
            if status.exists():
                lines = status.read_text().splitlines()
                kilobytes = next(line.split()[1] for line in lines if line.startswith("VmHWM"))
                figures["server_mb"] = int(kilobytes) // 1024
                times = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
                cpu_s = (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")
                figures["server_ms_per_request"] = round(cpu_s / figures["requests"] * 1000, 2)
            return figures
        finally:
            child.terminate()
            child.wait(20)


def main() -> None:
    """Poll as the command line says, and print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--interval", type=float, default=1, help="seconds between two polls")
    args = parser.parse_args()
    print(json.dumps(run(args.connections, args.seconds, args.interval)))


if __name__ == "__main__":
    main()
