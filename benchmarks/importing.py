"""Measure the import time over a bare interpreter, and list the third-party modules an import loads."""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from typing import Any

from _table import Row, main

PEERS = ("openai", "azure.ai.ml")
LISTING = """
import sys, json
before = set(sys.modules)
import maas_client
top = {name.partition(".")[0] for name in set(sys.modules) - before}
print(json.dumps(sorted(t for t in top if t not in sys.stdlib_module_names and t != "maas_client")))
"""


def seconds(code: str, runs: int) -> float:
    """Return the median wall time of an interpreter that runs ``code``."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure(args: argparse.Namespace) -> tuple[dict[str, Any], list[Row]]:
    # Alternate bare and importing interpreters, so that a busy machine slows both alike.
    differences = [seconds("import maas_client", 1) - seconds("pass", 1) for _ in range(args.runs)]
    over_bare_ms = statistics.median(differences) * 1000
    listed = subprocess.run([sys.executable, "-c", LISTING], check=True, capture_output=True)
    modules = json.loads(listed.stdout)
    rows: list[Row] = [
        ("import", "ms over a bare interpreter"),
        ("maas_client", f"{over_bare_ms:.1f}"),
    ]
    figures: dict[str, Any] = {
        "over_bare_ms": round(over_bare_ms, 1),
        "third_party_modules": modules,
    }
    bare = seconds("pass", 3)
    for peer in PEERS:
        try:
            is_installed = importlib.util.find_spec(peer) is not None
        except ModuleNotFoundError:
            is_installed = False
        if is_installed:
            ms = (seconds(f"import {peer}", 3) - bare) * 1000
            figures[f"{peer.replace('.', '_')}_ms"] = round(ms, 1)
            rows.append((peer, f"{ms:.0f}"))
    return figures, rows


if __name__ == "__main__":
    main(
        __doc__ or "",
        measure,
        lambda parser: parser.add_argument("--runs", type=int, default=15, help="default 15"),
    )
