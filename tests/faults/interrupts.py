"""Interrupt ``fine-tune`` at random moments, run the command that resumes, and count what exists afterwards.

    python -m tests.faults.interrupts --count 100 --seed 1

Half of the runs are the command line, half a program that calls ``client.fine_tune``; on either API, with
SIGINT or SIGTERM. Each ends with one job and one data set per file, whatever was running when the signal came.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from maas_client._settings import child_environment
from maas_client.local.embedded_server import LocalServer, serve
from maas_client.testing import Fault, FaultPlan
from tests.faults.proxy import FaultProxy

BAD = ("wrong_code", "traceback", "not_resumed", "doubled", "missing")
_MODELS = {"azureml": "Phi-4-mini-instruct", "foundry": "Ministral-3B"}
_PROGRAM = """
import sys
import maas_client as maas
url, dialect, model, path = sys.argv[1:]
with maas.Client.local(url=url, dialect=dialect) as client:
    print(client.fine_tune(path, model).job.status)
"""
_WATCH = re.compile(r"Watch it: maas-client (.+?)\. Cancel it:")
_REQUESTS = 16
"""About as many requests as a run has that is not interrupted."""
_START_S = 0.6
"""About as long as a run takes before its first request."""
_DELAY_S = 0.2
"""How long the request waits during which the signal comes."""


class Run(NamedTuple):
    """One run that is interrupted."""

    is_command: bool
    dialect: str
    number: int
    """The signal."""
    request: int
    """During which request the signal is sent; 0: before the first one."""
    is_carried_out: bool
    """Whether the server has carried that request out when the signal comes."""
    moment: float
    """When the signal is sent, as a share of that time."""
    path: Path

    def arguments(self, url: str) -> list[str]:
        """Return the command."""
        model = _MODELS[self.dialect]
        if not self.is_command:
            return [sys.executable, "-c", _PROGRAM, url, self.dialect, model, str(self.path)]
        options = ["--model", model, "--url", url, "--dialect", self.dialect]
        return [sys.executable, "-m", "maas_client", "fine-tune", str(self.path), *options]

    def exit_codes(self) -> set[int]:
        """Return the exit codes that are right: of a run that had ended before, and of an interrupted one.

        Before Python has started, and after it has ended the program, it dies of the signal.
        """
        return {0, -self.number} | ({128 + self.number} if self.is_command else set())


def plan(count: int, seed: int, folder: Path) -> list[Run]:
    """Return the runs, each with a file of its own of two blocks."""
    rng = random.Random(seed)
    runs = []
    for number in range(count):
        path = folder / f"train-{number}.jsonl"
        question = {"role": "user", "content": f"{number} " + "x" * 700_000}
        row = {"messages": [question, {"role": "assistant", "content": "y"}]}
        path.write_text((json.dumps(row) + "\n") * 13)
        kind = signal.SIGTERM if number % 4 == 3 else signal.SIGINT
        dialect = "foundry" if number % 3 == 2 else "azureml"
        moment = (rng.randint(0, _REQUESTS), rng.random() < 0.5, rng.random())
        runs.append(Run(number % 2 == 0, dialect, kind, *moment, path))
    return runs


def run(count: int, seed: int, threads: int = 2) -> Counter[str]:
    """Interrupt and resume ``count`` runs, and return counts; those in ``BAD`` must be 0."""
    counts: Counter[str] = Counter()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a script
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as name, serve(engine="instant") as server:
        environment = {**child_environment({}), "HOME": name, "MAAS_STATE_DIR": f"{name}/state"}
        runs = plan(count, seed, Path(name))
        with ThreadPoolExecutor(threads) as pool:
            for result in pool.map(lambda each: _interrupt(each, server, environment), runs):
                counts.update(result)
        for dialect in _MODELS:
            with server.client(dialect=dialect) as client:  # type: ignore[arg-type]  # a literal
                wanted = sum(each.dialect == dialect for each in runs)
                for existing in (list(client.jobs.list()), list(client.datasets.list())):
                    counts["doubled"] += max(len(existing) - wanted, 0)
                    counts["missing"] += max(wanted - len(existing), 0)
    counts["runs"] = count
    return counts


def _interrupt(run: Run, server: LocalServer, environment: dict[str, str]) -> Counter[str]:
    counts: Counter[str] = Counter()
    wait = {"stall_s": _DELAY_S} if run.is_carried_out else {"delay_s": _DELAY_S}
    fault = Fault("", "", skip=max(run.request - 1, 0), **wait)  # type: ignore[arg-type]  # floats
    with FaultProxy(server.url, FaultPlan([fault] if run.request else [])) as proxy:
        arguments = run.arguments(proxy.url)
        process = subprocess.Popen(
            arguments, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        while run.request and not proxy.plan.count and process.poll() is None:
            time.sleep(0.005)
        with suppress(subprocess.TimeoutExpired):
            process.wait(run.moment * (_DELAY_S if run.request else _START_S))
        if process.poll() is None:
            counts["interrupted"] += 1
            process.send_signal(run.number)
            counts["ignored"] += process.wait(60) == 0
        _, stderr = process.communicate(timeout=60)
        # Python was still loading itself or the package, before the first line of the command.
        is_before_start = "Traceback" in stderr and not re.search(
            r"maas_client/(?!__init__\.py)", stderr
        )
        counts["before_start"] += is_before_start
        commands = [arguments]
        if watch := _WATCH.search(stderr):
            counts["job_was_running"] += 1
            commands.insert(0, [sys.executable, "-m", "maas_client", *shlex.split(watch[1])])
        if process.returncode not in run.exit_codes() and not is_before_start:
            counts["wrong_code"] += 1
            print(f"{run}: exit code {process.returncode}: {stderr}", file=sys.stderr)
        if run.is_command and "Traceback" in stderr and not is_before_start:
            counts["traceback"] += 1
            print(f"{run}: {stderr}", file=sys.stderr)
        for command in commands:
            done = subprocess.run(
                command, env=environment, text=True, capture_output=True, timeout=120
            )
            if done.returncode != 0:
                counts["not_resumed"] += 1
                print(f"{run}: {command[3:5]}: {done.returncode}: {done.stderr}", file=sys.stderr)
    return counts


def main() -> None:
    """Run with the numbers of the command line, and print the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    start = time.monotonic()
    counts = run(args.count, args.seed)
    figures = {**dict.fromkeys(BAD, 0), **counts, "seconds": round(time.monotonic() - start, 1)}
    print(json.dumps(figures))
    raise SystemExit(any(counts[name] for name in BAD))


if __name__ == "__main__":
    main()
