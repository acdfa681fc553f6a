"""Kill the server at its n-th state-changing system call, restart it, and look for what was acknowledged.

    python -m tests.faults.crash_points --every 1        # all points; minutes
    python -m tests.faults.crash_points --every 20 --seed 3

strace injects SIGKILL when the server enters the call: while it starts, takes a file, takes jobs, records a
job's progress and publishes its model. Workers are not traced. Prints counts: jobs acknowledged, lost or
run twice, and files that are torn.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from tests.contract.server.conftest import Azure, chats

CALLS = ("pwrite64", "write", "fsync", "fdatasync", "rename", "ftruncate", "unlink", "mkdir")
"""The system calls that change the state: of SQLite, of files and of folders. ``write`` also counts pipes."""
JOBS = 3
_SERVE = """
import sys
from pathlib import Path
from maas_client.local.config import ServerConfig
from maas_client.local.server import Server
Server(ServerConfig(state_dir=Path(sys.argv[1]), ready_file=Path(sys.argv[2]), engine="instant",
                    base="tiny", threads=1, durable=len(sys.argv) < 4)).run()
"""
_START_S = 60.0


def is_available() -> bool:
    """Return whether strace can trace a child here."""
    strace = shutil.which("strace")
    return (
        bool(strace)
        and subprocess.run([str(strace), "-qq", "true"], capture_output=True).returncode == 0
    )


class ServerProcess:
    """A server with its state in ``folder / "state"``, whose command ``options`` begin.

    ``durable``: whether it waits for the disk.
    """

    def __init__(self, folder: Path, *options: str, durable: bool = True) -> None:
        self.ready = folder / "ready.json"
        self.ready.unlink(missing_ok=True)
        command = [sys.executable, "-c", _SERVE, str(folder / "state"), str(self.ready)]
        command += [] if durable else ["not durable"]
        self.child = subprocess.Popen([*options, *command], stderr=subprocess.DEVNULL)

    def wait(self) -> Azure | None:
        """Return a client once the server answers; None if it ended before."""
        deadline = time.monotonic() + _START_S
        while not self.ready.exists():
            if self.child.poll() is not None:
                return None
            if time.monotonic() > deadline:
                raise TimeoutError("the server did not start")
            time.sleep(0.01)
        with suppress(httpx.HTTPError, OSError):
            return Azure(json.loads(self.ready.read_text())["url"])
        return None

    def stop(self) -> None:
        with suppress(ValueError, OSError):
            pid = json.loads(self.ready.read_text())["pid"]
            os.kill(pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.child.wait(20)
        self.child.kill()
        self.child.wait()


def _work(azure: Azure, acknowledged: dict[str, Any]) -> None:
    """Upload a file, create jobs and wait for their models; note what the server acknowledged."""
    data = chats(12)
    with suppress(httpx.HTTPError, AssertionError, ValueError, KeyError):
        uri = azure.upload(data, "train.jsonl")
        acknowledged["file"] = hashlib.sha256(data).hexdigest()
        for number in range(JOBS):
            if azure.submit(f"job{number}", uri).status_code == 201:
                acknowledged.setdefault("jobs", []).append(f"job{number}")
        for number in range(JOBS):
            if azure.wait(f"job{number}", seconds=_START_S) == "Completed":
                acknowledged.setdefault("completed", []).append(f"job{number}")


def check_point(folder: Path, call: str, number: int) -> Counter[str]:
    """Kill a server at one point, start another on its state, and return counts."""
    trace = ["strace", "-f", "-b", "execve", "-qq", "-o", "/dev/null", "-e", f"trace={call}"]
    first = ServerProcess(folder, *trace, "-e", f"inject={call}:signal=KILL:when={number}")
    acknowledged: dict[str, Any] = {}
    if (azure := first.wait()) is not None:
        _work(azure, acknowledged)
        azure.http.close()
    was_killed = first.child.poll() is not None
    first.stop()
    counts = Counter(points=1, killed=was_killed, acknowledged=len(acknowledged.get("jobs", ())))
    second = ServerProcess(folder)
    azure = second.wait()
    if azure is None:
        counts["unusable"] += 1
        return counts
    for name in acknowledged.get("jobs", ()):
        if azure.arm("GET", f"/jobs/{name}").status_code != 200:
            counts["lost"] += 1
            continue
        counts["failed"] += azure.wait(name, seconds=_START_S) != "Completed"
    if "file" in acknowledged:
        content = azure.blob("GET", "train.jsonl").content
        counts["torn"] += hashlib.sha256(content).hexdigest() != acknowledged["file"]
    azure.http.close()
    second.stop()
    counts += _check_files(folder / "state", acknowledged.get("jobs", ()))
    return counts


def _check_files(state: Path, jobs: Sequence[str]) -> Counter[str]:
    database = sqlite3.connect(state / "facts.db")
    (verdict,) = database.execute("PRAGMA integrity_check").fetchone()
    held = {name for (name,) in database.execute("SELECT content FROM holds")}
    models = [json.loads(body)["job"]
              for (body,) in database.execute("SELECT body FROM facts WHERE kind='model'")]  # fmt: skip
    database.close()
    leftovers = [path for path in (state / "contents").iterdir() if path.name not in held]
    return Counter(
        torn=verdict != "ok",
        leftovers=len(leftovers),
        run_twice=sum(models.count(job) > 1 for job in jobs),
        unpublished=sum(job not in models for job in jobs),
    )


def count_points(folder: Path) -> list[tuple[str, int]]:
    """Run without a kill, and return every point: a call, and how often a thread enters it at most."""
    log = folder / "trace.txt"
    trace = [
        "strace",
        "-f",
        "-b",
        "execve",
        "-qq",
        "-o",
        str(log),
        "-e",
        f"trace={','.join(CALLS)}",
    ]
    server = ServerProcess(folder, *trace)
    azure = server.wait()
    assert azure is not None
    acknowledged: dict[str, Any] = {}
    _work(azure, acknowledged)
    assert len(acknowledged["completed"]) == JOBS, "without a kill all jobs complete"
    azure.http.close()
    server.stop()
    per_thread: Counter[tuple[str, str]] = Counter()
    for line in log.read_text("utf-8", "replace").splitlines():
        thread, _, rest = line.partition(" ")
        call = rest.strip().partition("(")[0]
        if call in CALLS:
            per_thread[thread, call] += 1
    most = {call: max(n for (_, c), n in per_thread.items() if c == call)
            for call in {call for _, call in per_thread}}  # fmt: skip
    return [(call, number) for call in CALLS if call in most for number in range(1, most[call] + 1)]


def run(every: int = 1, seed: int = 0, limit: int | None = None) -> Counter[str]:
    """Check every n-th point, and return the counts."""
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as root:
        base = Path(root, "count")
        base.mkdir()
        points = count_points(base)
        counts["all_points"] = len(points)
        chosen = random.Random(seed).sample(points, max(1, len(points) // every))
        for index, (call, number) in enumerate(chosen[:limit]):
            folder = Path(root, str(index))
            folder.mkdir()
            counts += check_point(folder, call, number)
            shutil.rmtree(folder)
    return counts


BAD = ("lost", "failed", "run_twice", "unpublished", "torn", "leftovers", "unusable")
"""Counts that must be zero."""


def main() -> None:
    """Check the points of the command line, and print the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int)
    args = parser.parse_args()
    start = time.monotonic()
    counts = run(args.every, args.seed, args.limit)
    print(json.dumps({**counts, "seconds": round(time.monotonic() - start, 1)}))
    raise SystemExit(any(counts[name] for name in BAD))


if __name__ == "__main__":
    main()
