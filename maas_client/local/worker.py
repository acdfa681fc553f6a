"""One job in one process: ``python -m maas_client.local.worker [--warm]``.

The first line of stdin is the job (JSON). A later ``{"cancel": true}`` asks for its end,
``{"pause": true}`` for a checkpoint and then its end, ``{"save": true}`` for a checkpoint. The end of
stdin means that the server is gone: then this process goes too, whatever it is doing. Events are JSON
lines on stdout; everything that libraries print goes to the job's log.

Job: ``{"engine", "job", "model", "base", "train", "validation", "recipe", "out", "threads", "log",
"lock", "pace_s"}``, and ``"rank"`` in the processes beside the first (``ranks.py``). Events:
``started``, ``step``, ``eval``, ``message``, ``checkpoint``, ``paused``, ``done``, ``failed`` (``code``,
``message``); each also goes into the log as a line for people.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TextIO

from maas_client.local.machine import torch_extensions
from maas_client.local.resources.checked_files import check_file
from maas_client.local.resources.errors import describe_failure
from maas_client.local.resources.job_states import SIGNAL_KEYS, JobSignal
from maas_client.local.resources.training_config import parse_hyperparameters

_FORMAT = ("FILE_", "JSON_", "CHAT_", "TOOL_")
_ENGINE = (
    "maas_client.local.training.run",
    "maas_client.dataset.file_check",
    "peft",
    "accelerate",
    "transformers.models.phi3.modeling_phi3",
    "transformers.models.llama.modeling_llama",
)
"""What a warm worker has imported: the engine, and the architectures of the stand-ins."""
Emit = Callable[[dict[str, Any]], None]


def main(argv: list[str]) -> int:
    """Wait for a job, run it, and return the exit code: 0 also for a job that failed cleanly."""
    out = _take_stdout()
    server = _Server(sys.stdin)
    if "--warm" in argv:
        _import_engine()
    job = server.job()
    _redirect_log(job["log"])
    if "rank" in job:
        return _run_beside(job, _emitter(out))
    _lock(job["lock"])
    emit = _emitter(out)
    try:
        _run(job, emit, server)
    except Exception as error:
        traceback.print_exc()
        emit({"event": "failed", "code": "ServiceError", "message": describe_failure(error)})
    out.flush()
    return 0


def _run(job: dict[str, Any], emit: Emit, server: _Server) -> None:
    failure = _find_problems(job)
    if failure:
        emit({"event": "failed", **failure})
        return
    if job["engine"] == "instant":
        from maas_client.local import instant

        instant.train(job, emit, server.wishes)
    else:
        from maas_client.local.training import processes, run

        _take_builds(job, emit)
        with processes.launch_peers(job, processes.requested_processes(job), emit) as told:
            run.run(told, emit, server.wishes)


def _take_builds(job: dict[str, Any], emit: Emit) -> None:
    """Prepare for what DeepSpeed compiles, and say so where that takes its time now."""
    if not parse_hyperparameters(job["recipe"]).deepspeed_stage:
        return
    root = torch_extensions.build_folder()
    globals()["_builds"] = torch_extensions.lock_builds(root)  # until this process ends
    if not torch_extensions.has_builds(root):
        text = "DeepSpeed is compiled for this machine, once: the first step may be a minute away."
        emit({"event": "message", "level": "info", "message": text})


def _run_beside(job: dict[str, Any], emit: Emit) -> int:
    """Run a job as one of several processes. The first one reports; this one says only why it fails."""
    from maas_client.local.training import processes

    processes.set_rank_environment(job["rank"])
    from maas_client.local.training import run

    failed = threading.Event()

    def say(event: dict[str, Any]) -> None:
        if event["event"] == "failed":
            failed.set()
            emit(event)

    run.run(job, say)
    return int(failed.is_set())


def _find_problems(job: dict[str, Any]) -> dict[str, Any] | None:
    """Check the job's files and return the failure if they cannot be trained on; None if they can.

    This is the only pass over the files that validates them: training reads the rows that it found valid.
    Policy rules (secrets, too few rows for Azure, quality) stop a client before the upload, not a job here.
    """
    problems = [
        (name, problem)
        for name, path in (("training", job["train"]), ("validation", job.get("validation")))
        if path
        for problem in check_file(path, job["model"], job.get("checks")).report.problems
        if problem.severity == "error" and problem.code.startswith(_FORMAT)
    ]
    return _told(problems) if problems else None


def _told(bad: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the refusal: the first problem in the message, more of them as details."""
    details = [
        {
            "code": problem.code,
            "message": f"{name} data, line {problem.line}: {problem.message}",
            "target": problem.pointer,
        }
        for name, problem in bad[:20]
    ]
    more = f" ({len(bad)} problems were found)" if len(bad) > 1 else ""
    first = f"{details[0]['message']} [{details[0]['code']}]"
    message = f"Validation of the data failed: {first}{more}"
    return {"code": "UserError", "message": message, "details": details}


def _take_stdout() -> TextIO:
    """Keep the real stdout for events, and send what libraries print to the log."""
    own = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(own, "w", encoding="utf-8")


def _redirect_log(path: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags, 0o600)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


class _Server:
    """The other end of stdin. It is listened to from the first moment on: a server that goes while
    torch is still being imported takes this process along too."""

    def __init__(self, stdin: TextIO) -> None:
        self._wishes = JobSignal.NONE
        self._guard = threading.Lock()
        self._jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        threading.Thread(target=self._listen, args=(stdin,), daemon=True).start()

    def job(self) -> dict[str, Any]:
        """Wait for the job."""
        return self._jobs.get()

    def wishes(self) -> JobSignal:
        """Return what is asked of the job now. A checkpoint is asked for once, the rest until the end."""
        with self._guard:
            asked = self._wishes
            self._wishes &= ~JobSignal.CHECKPOINT
        return asked

    def _listen(self, stdin: TextIO) -> None:
        for line in stdin:
            message = json.loads(line)
            if "engine" in message:
                self._jobs.put(message)
                continue
            with self._guard:
                for word, wish in SIGNAL_KEYS.items():
                    self._wishes |= wish if message.get(word) else JobSignal.NONE
        if os.name == "posix" and os.getpgid(0) == os.getpid():  # other ranks go along
            os.killpg(os.getpgid(0), signal.SIGKILL)
        os._exit(1)


def _lock(path: str) -> None:
    """Wait until no worker of a killed server still writes into this job's folder."""
    try:
        import fcntl
    except ImportError:
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.set_inheritable(descriptor, False)
    globals()["_held"] = descriptor


def _emitter(out: TextIO) -> Emit:
    guard = threading.Lock()

    def emit(event: dict[str, Any]) -> None:
        text = json.dumps(event, default=str)
        with guard:
            out.write(text + "\n")
            out.flush()
            with suppress(OSError):  # a full disk takes the log's lines first; the event is told
                print(_line(event), file=sys.stderr, flush=True)

    return emit


def _line(event: dict[str, Any]) -> str:
    """Return an event as a line for people."""
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    told = " ".join(
        f"{k}={v:.6g}" if isinstance(v, float) else f"{k}={v}"
        for k, v in event.items()
        if k not in {"event", "message", "adapter"} and isinstance(v, str | int | float)
    )
    return " ".join(
        part for part in (stamp, event["event"], event.get("message", ""), told) if part
    )


def _import_engine() -> None:
    """Import what a training job needs, so that the next one starts at once."""
    for name in _ENGINE:
        try:
            __import__(name)
        except ImportError as error:
            print(f"cannot import {name}: {error}", file=sys.stderr)
            return


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # torch takes most of a second to take itself apart, for nobody
