"""A worker process that runs one job: ``python -m maas_client.local.worker [--warm]``.

The first line of stdin is the job (JSON). Later lines are signals: ``{"cancel": true}`` ends the job,
``{"pause": true}`` writes a checkpoint and ends the process, ``{"save": true}`` writes a checkpoint. The end of
stdin means that the server has ended; then this process ends at once. Events are JSON lines on stdout.
Everything that libraries print goes to the job's log.

A first line with ``op`` makes this the process of an interactive training session (``sessions/process.py``).

Job: ``{"engine", "job", "model", "base", "train", "validation", "hyperparameters", "out", "threads", "log",
"lock", "pace_s"}``, and ``"rank"`` in the additional processes (``ranks.py``). Events:
``started``, ``step``, ``eval``, ``message``, ``checkpoint``, ``paused``, ``done``, ``failed`` (``code``,
``message``). Each event is also written to the log as a readable line.
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
from itertools import islice
from typing import Any, TextIO

from maas_client._clock import utc_time
from maas_client.local import instant
from maas_client.local.resources.errors import describe_failure, too_few_examples_message
from maas_client.local.resources.job_states import SIGNAL_KEYS, JobSignal
from maas_client.local.resources.training_config import parse_hyperparameters
from maas_client.local.resources.validation_cache import check_file, read_valid_rows
from maas_client.local.training.trackers import report_metrics

_FORMAT_CODE_PREFIXES = ("FILE_", "JSON_", "CHAT_", "TOOL_")
_WARMUP_MODULES = (
    "maas_client.local.training.run",
    "maas_client.dataset.file_validator",
    "peft",
    "accelerate",
    "transformers.models.phi3.modeling_phi3",
    "transformers.models.llama.modeling_llama",
)
"""The modules that a warm worker imports: the engine, and the architectures of the stand-ins."""
_BLOCK_ROWS = 1000
"""Rows whose tokens are counted at once."""
Emit = Callable[[dict[str, Any]], None]


def main(argv: list[str]) -> int:
    """Wait for a job, run it, and return the exit code: 0 also when the job reported that it failed.

    A worker that has simulated a job waits for the next one.
    """
    out, log_of_server = _redirect_stdout(), os.dup(2)
    server = _ControlChannel(sys.stdin)
    if "--warm" in argv:
        _import_engine()
    emit = _make_emit(out)
    while True:
        job = server.job()
        _redirect_log(_open_log(job["log"]))
        if "op" in job:
            from maas_client.local.sessions import process

            process.run(job, server.job, out)
        if "rank" in job:
            return _run_worker_rank(job, emit)
        lock = _lock_run_folder(job["lock"])
        try:
            _run(job, _with_model_tokens(job, emit), server)
        except Exception as error:
            traceback.print_exc()
            emit({"event": "failed", "code": "ServiceError", "message": describe_failure(error)})
        if job["engine"] != "instant":
            return 0
        _redirect_log(os.dup(log_of_server))
        if lock is not None:
            os.close(lock)


def _run(job: dict[str, Any], emit: Emit, server: _ControlChannel) -> None:
    failure = _find_problems(job)
    if failure:
        emit({"event": "failed", **failure})
        return
    with report_metrics(job, emit) as report:
        if job["engine"] == "instant":
            instant.train(job, report, server.signals)
        else:
            from maas_client.local.training import load_base, processes, run

            count = processes.requested_processes(job)
            if count > 1:
                job = {**job, "matmul": load_base.choose_products_of_job(job).as_dict()}
            with processes.launch_peers(job, count, report) as job_with_peers:
                run.run(job_with_peers, report, server.signals)


def simulate(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Run a job with the instant engine in this process; return its events and write its log."""
    events: list[dict[str, Any]] = []

    def emit(event: dict[str, Any]) -> None:
        events.append(event)
        with open(job["log"], "a", encoding="utf-8") as log:
            print(_format_log_line(event), file=log)

    if failure := _find_problems(job):
        emit({"event": "failed", **failure})
    else:
        with report_metrics(job, _with_model_tokens(job, emit)) as report:
            instant.train(job, report)
    return events


def _with_model_tokens(job: dict[str, Any], emit: Emit) -> Emit:
    """Return ``emit`` that reports the tokens of the model's own tokenizer, also where another is trained.

    The rows and epochs decide what a job is billed, not the engine or the stand-in that runs it.
    """
    if not job["base"].get("is_stand_in"):
        return emit

    def emit_with_tokens(event: dict[str, Any]) -> None:
        if event["event"] == "done":
            event = {**event, "trained_tokens": round(_count_tokens(job) * event["passes"])}
        emit(event)

    return emit_with_tokens


def _count_tokens(job: dict[str, Any]) -> int:
    """Return the tokens of training and validation data, an estimate without the model's tokenizer."""
    from maas_client.dataset.scanners import message_texts
    from maas_client.dataset.scanners.token_counting import load_token_counter

    counter, total = load_token_counter(job["model"]), 0
    for path in filter(None, (job["train"], job.get("validation"))):
        rows = read_valid_rows(path, job["model"], job.get("checks"))
        while block := [row for _, row in islice(rows, _BLOCK_ROWS)]:
            total += sum(counter.sizes(block, message_texts(block)).totals)
    return total


def _run_worker_rank(job: dict[str, Any], emit: Emit) -> int:
    """Run a job as an additional process. The first process reports; this one only reports a failure."""
    from maas_client.local.training import processes

    processes.set_rank_environment(job["rank"])
    from maas_client.local.training import run

    failed = threading.Event()

    def report_failure(event: dict[str, Any]) -> None:
        if event["event"] == "failed":
            failed.set()
            emit(event)

    run.run(job, report_failure)
    return int(failed.is_set())


def _find_problems(job: dict[str, Any]) -> dict[str, Any] | None:
    """Check the job's files; return the failure if they cannot be trained on, or None.

    This is the only pass that validates the files: training reads the rows that it found valid. Secrets and
    quality are checked by the client, not here.
    """
    method = parse_hyperparameters(job.get("hyperparameters") or {}).task
    reports = {
        name: check_file(path, job["model"], job.get("checks"), method).report
        for name, path in (("training", job["train"]), ("validation", job.get("validation")))
        if path
    }
    problems = [
        (name, problem)
        for name, report in reports.items()
        for problem in report.problems
        if problem.severity == "error" and problem.code.startswith(_FORMAT_CODE_PREFIXES)
    ]
    if problems:
        return _invalid_data_error(problems)
    examples, minimum = reports["training"].examples, job.get("min_examples") or 0
    text = too_few_examples_message(examples, minimum)
    return {"code": "UserError", "message": text} if text else None


def _invalid_data_error(problems: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the error of invalid data: the first problem as the message, up to 20 as details."""
    details = [
        {
            "code": problem.code,
            "message": f"{name} data, line {problem.line}: {problem.message}",
            "target": problem.pointer,
        }
        for name, problem in problems[:20]
    ]
    count = f" ({len(problems)} problems were found)" if len(problems) > 1 else ""
    first = f"{details[0]['message']} [{details[0]['code']}]"
    message = f"Validation of the data failed: {first}{count}"
    return {"code": "UserError", "message": message, "details": details}


def _redirect_stdout() -> TextIO:
    """Keep the real stdout for events, and redirect what libraries print to the log."""
    events = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(events, "w", encoding="utf-8")


def _open_log(path: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    return os.open(path, flags, 0o600)


def _redirect_log(descriptor: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


class _ControlChannel:
    """The server at the other end of stdin.

    A thread reads stdin from the start, so that this process also ends with its server while torch is still
    being imported.
    """

    def __init__(self, stdin: TextIO) -> None:
        self._signals = JobSignal.NONE
        self._guard = threading.Lock()
        self._jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        threading.Thread(target=self._listen, args=(stdin,), daemon=True).start()

    def job(self) -> dict[str, Any]:
        """Wait for the job, or for the next request of a session."""
        return self._jobs.get()

    def signals(self) -> JobSignal:
        """Return the current signals. A checkpoint is requested once; the others stay until the end."""
        with self._guard:
            signals = self._signals
            self._signals &= ~JobSignal.CHECKPOINT
        return signals

    def _listen(self, stdin: TextIO) -> None:
        for line in stdin:
            message = json.loads(line)
            if "engine" in message or "op" in message:
                with self._guard:
                    self._signals = JobSignal.NONE  # those so far were for the job before
                self._jobs.put(message)
                continue
            with self._guard:
                for key, job_signal in SIGNAL_KEYS.items():
                    self._signals |= job_signal if message.get(key) else JobSignal.NONE
        if os.name == "posix" and os.getpgid(0) == os.getpid():  # end the other ranks too
            os.killpg(os.getpgid(0), signal.SIGKILL)
        os._exit(1)


def _lock_run_folder(path: str) -> int | None:
    """Wait until no worker of a killed server writes into this job's folder any more.

    Return the descriptor of the lock, which must stay open; None on Windows, which has no such lock.
    """
    try:
        import fcntl
    except ImportError:
        return None
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.set_inheritable(descriptor, False)
    return descriptor


def _make_emit(out: TextIO) -> Emit:
    guard = threading.Lock()

    def emit(event: dict[str, Any]) -> None:
        text = json.dumps(event, default=str)
        with guard:
            out.write(text + "\n")
            out.flush()
            with suppress(OSError):  # on a full disk the log line is lost, not the event
                print(_format_log_line(event), file=sys.stderr, flush=True)

    return emit


def _format_log_line(event: dict[str, Any]) -> str:
    """Return an event as a readable line."""
    stamp = utc_time().strftime("%Y-%m-%dT%H:%M:%SZ")
    values = " ".join(
        f"{k}={v:.6g}" if isinstance(v, float) else f"{k}={v}"
        for k, v in event.items()
        if k not in {"event", "message", "adapter"} and isinstance(v, str | int | float)
    )
    return " ".join(
        part for part in (stamp, event["event"], event.get("message", ""), values) if part
    )


def _import_engine() -> None:
    """Import the modules of a training job, so that the next job starts at once."""
    for name in _WARMUP_MODULES:
        try:
            __import__(name)
        except ImportError as error:
            print(f"cannot import {name}: {error}", file=sys.stderr)
            return


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # skip torch's cleanup, which takes most of a second
