"""Several processes for one job on this machine: the worker is rank 0 and starts the others.

Each rank runs the same job, and Accelerate finds its peers through the standard environment variables (gloo
between CPUs, nccl between GPUs). Only rank 0 reports and writes. The other ranks are in the worker's process
group and end with it, for any reason.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from maas_client.local.resources.training_config import parse_hyperparameters

_PEER_EXIT_WAIT_S = 5.0
"""Seconds to wait for a peer's exit after an error that the exit may have caused."""


def requested_processes(job: dict[str, Any]) -> int:
    """Return the number of processes of a job. Raises ``ConfigError`` for invalid hyperparameters."""
    return (
        1 if job["engine"] == "instant" else parse_hyperparameters(job["hyperparameters"]).processes
    )


def set_rank_environment(variables: dict[str, str]) -> None:
    """Set the environment variables of a rank, which Accelerate reads when it starts."""
    os.environ.update(variables)  # noqa: TID251 - set for Accelerate, in a worker process


def process_rank() -> int:
    """Return the rank of this process, 0 for a single one."""
    return int(os.environ.get("RANK", "0"))  # noqa: TID251 - set by ``set_rank_environment``


def world_size() -> int:
    """Return the number of processes of this job."""
    return int(os.environ.get("WORLD_SIZE", "1"))  # noqa: TID251 - set by ``set_rank_environment``


@contextmanager
def launch_peers(
    job: dict[str, Any], process_count: int, emit: Callable[[dict[str, Any]], None]
) -> Iterator[dict[str, Any]]:
    """Run ranks 1 to ``process_count`` - 1 as child processes, and yield the job as every rank gets it.

    If a rank fails, its failure event is emitted and this process ends, as it would wait for that rank forever.
    On exit from the block the other ranks are killed.
    """
    engine_variables = _engine_variables(job)
    if process_count == 1 and not engine_variables:
        yield job
        return
    threads = max(1, int(job["threads"]) // process_count)
    rank_job = {**job, "threads": threads, "base": dict(job["base"])}
    common = {
        "WORLD_SIZE": str(process_count),
        "LOCAL_WORLD_SIZE": str(process_count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        **engine_variables,
    }
    set_rank_environment({**common, "RANK": "0", "LOCAL_RANK": "0"})
    children = [
        _start({**rank_job, "rank": {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}})
        for rank in range(1, process_count)
    ]
    is_over = threading.Event()
    watchers = [
        threading.Thread(target=_watch, args=(child, is_over, emit), daemon=True)
        for child in children
    ]
    for watcher in watchers:
        watcher.start()
    try:
        yield rank_job
    except Exception:
        # The exit of a peer causes an error here too: let the watcher report the cause.
        for watcher in watchers:
            watcher.join(_PEER_EXIT_WAIT_S)
        raise
    finally:
        is_over.set()
        for child in children:
            child.kill()
            child.wait()


def _engine_variables(job: dict[str, Any]) -> dict[str, str]:
    """Return the environment variables that DeepSpeed reads on import; none for a job without it."""
    if (
        job["engine"] == "instant"
        or not parse_hyperparameters(job["hyperparameters"]).deepspeed_stage
    ):
        return {}
    from maas_client.local.training.load_base import resolve_device

    device = resolve_device(str(job.get("device") or "auto"))
    return {"DS_ACCELERATOR": "cpu" if device == "cpu" else device}


def _start(job: dict[str, Any]) -> subprocess.Popen[bytes]:
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "maas_client.local.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdin is not None
    child.stdin.write(json.dumps(job).encode() + b"\n")
    child.stdin.flush()  # and left open: when it closes, the rank knows that this process has ended
    return child


def _watch(
    child: subprocess.Popen[bytes],
    is_over: threading.Event,
    emit: Callable[[dict[str, Any]], None],
) -> None:
    """Wait for a rank to exit; if it failed, end this process too."""
    assert child.stdout is not None
    output = child.stdout.read()
    if child.wait() == 0 or is_over.is_set():
        return
    if output:
        emit(json.loads(output.splitlines()[0]))
        os._exit(0)  # the failure is reported; the other ranks see their stdin close
    # End as if killed: the server then runs the job again from its checkpoint.
    print(f"rank process {child.pid} died ({child.returncode}). Ending the run.", file=sys.stderr)
    sys.stderr.flush()
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
