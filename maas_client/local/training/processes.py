"""Several processes for one job, on this machine: the worker is rank 0 and starts the others.

No distributed code of our own: each rank runs the same job, and Accelerate finds its peers by the usual
variables (gloo between CPUs, nccl between GPUs). Only rank 0 reports and writes. The others live in the
worker's process group and end with it, whatever ends it.
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

_GRACE_S = 5.0
"""How long the error of a peer's death may come before the death itself is seen, in seconds."""


def requested_processes(job: dict[str, Any]) -> int:
    """Return how many processes a job's recipe asks for. Raises ``ConfigError`` for a bad recipe."""
    return 1 if job["engine"] == "instant" else parse_hyperparameters(job["recipe"]).processes


def set_rank_environment(variables: dict[str, str]) -> None:
    """Make this process one of several: Accelerate reads these variables when it starts."""
    os.environ.update(variables)  # noqa: TID251 - set for Accelerate, in a process that is ours alone


def process_rank() -> int:
    """Return this process's number."""
    return int(os.environ.get("RANK", "0"))  # noqa: TID251 - set by ``join``


def world_size() -> int:
    """Return how many processes run one job."""
    return int(os.environ.get("WORLD_SIZE", "1"))  # noqa: TID251 - set by ``join``


@contextmanager
def launch_peers(
    job: dict[str, Any], process_count: int, emit: Callable[[dict[str, Any]], None]
) -> Iterator[dict[str, Any]]:
    """Run ranks 1 to ``count`` - 1 beside this process, and yield the job as every rank gets it.

    A rank that ends badly ends this process too, which would wait for it for ever: after its last word,
    if it has one to ``emit``. At the end, however it comes, they are killed.
    """
    asked = _engine_variables(job)
    if process_count == 1 and not asked:
        yield job
        return
    share = max(1, int(job["threads"]) // process_count)
    told = {**job, "threads": share, "base": dict(job["base"])}
    common = {
        "WORLD_SIZE": str(process_count),
        "LOCAL_WORLD_SIZE": str(process_count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        **asked,
    }
    set_rank_environment({**common, "RANK": "0", "LOCAL_RANK": "0"})
    children = [
        _start({**told, "rank": {**common, "RANK": str(n), "LOCAL_RANK": str(n)}})
        for n in range(1, process_count)
    ]
    over = threading.Event()
    minders = [
        threading.Thread(target=_mind, args=(child, over, emit), daemon=True) for child in children
    ]
    for minder in minders:
        minder.start()
    try:
        yield told
    except Exception:
        # The death of a peer is an error here too: let it be told as what it is.
        for minder in minders:
            minder.join(_GRACE_S)
        raise
    finally:
        over.set()
        for child in children:
            child.kill()
            child.wait()


def _engine_variables(job: dict[str, Any]) -> dict[str, str]:
    """Return what DeepSpeed reads when it is imported; nothing for a job without it."""
    if job["engine"] == "instant" or not parse_hyperparameters(job["recipe"]).deepspeed_stage:
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
    child.stdin.flush()  # and left open: its end tells the rank that this process is gone
    return child


def _mind(
    child: subprocess.Popen[bytes],
    over: threading.Event,
    emit: Callable[[dict[str, Any]], None],
) -> None:
    """Wait for a rank's end, and end this process with it if that is a bad one."""
    assert child.stdout is not None
    said = child.stdout.read()
    if child.wait() == 0 or over.is_set():
        return
    if said:
        emit(json.loads(said.splitlines()[0]))
        os._exit(0)  # the job's end is told; the other ranks see their stdin close
    # As if this process had been killed: the server runs the job again, from its checkpoint.
    print(f"rank process {child.pid} died ({child.returncode}); the run ends", file=sys.stderr)
    sys.stderr.flush()
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
