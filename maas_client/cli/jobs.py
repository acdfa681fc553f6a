"""``maas-client jobs``: fine-tuning jobs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING

from maas_client.cli import _connection, _job_options
from maas_client.cli._follow import follow_job
from maas_client.cli._output import (
    print_confirmation,
    print_fields,
    print_json,
    print_note,
    print_table,
    strip_control_chars,
)
from maas_client.cli._parser import add_subcommand, add_subcommands, positive_int

if TYPE_CHECKING:
    from maas_client import Client
    from maas_client.types import Job

_KEPT = ("id", "step", "fine_tuned_model", "metrics", "created_at")
_COLUMNS = ("name", "status", "model", "fine_tuned_model", "created_at")


def add(parser: argparse.ArgumentParser) -> None:
    """Add the actions."""
    group = add_subcommands(parser)
    create = add_subcommand(group, "create", "start a job and return at once", _create)
    create.add_argument("data", metavar="DATA", help="a file, or a data set's name or id")
    _job_options.add_options(create)
    listing = add_subcommand(
        group, "list", "list the jobs, newest first where the service does so", _list
    )
    listing.add_argument("--limit", type=positive_int, metavar="N", help="no more than this many")
    show = add_subcommand(group, "show", "show one job", _show)
    watch = add_subcommand(
        group,
        "watch",
        "follow a job to its end (with --json an event a line); exit code 4 if it fails",
        _watch,
    )
    watch.add_argument("--timeout", type=float, metavar="SECONDS",
                       help="stop watching after this long; the job goes on")  # fmt: skip
    logs = add_subcommand(group, "logs", "print a job's log", _logs)
    cancel = add_subcommand(
        group, "cancel", "ask for a job's end; what was trained is billed", _cancel
    )
    pause = add_subcommand(group, "pause", "let a running job rest once its step is done", _pause)
    resume = add_subcommand(group, "resume", "let a paused job go on from where it was", _resume)
    save = add_subcommand(group, "save", "have a running job write a checkpoint and go on", _save)
    kept = add_subcommand(
        group, "checkpoints", "list the checkpoints of a job, newest first", _checkpoints
    )
    gone = add_subcommand(group, "delete", "delete a job's record; a model it made stays", _delete)
    for one in (show, watch, logs, cancel, pause, resume, save, kept, gone):
        one.add_argument("job", metavar="JOB", help="its name or id")
    for one in (create, listing, show, watch, logs, cancel, pause, resume, save, kept, gone):
        _connection.add_options(one)


def _create(args: argparse.Namespace) -> int:
    with _connection.connect(args) as client:
        job = client.jobs.create(training_data=args.data, **_job_options.job_arguments(args))
    if job.attached:
        print_note(f"the same job exists already and is {job.status}; --force-new starts another")
    print_note(f"watch it: maas-client jobs watch {job.name}")
    print_fields(args, _fields(job), job)
    return 0


def _list(args: argparse.Namespace) -> int:
    with _connection.connect(args) as client:
        found = islice(client.jobs.list(), args.limit)
        print_table(args, _COLUMNS, found, empty_message="there are no jobs")
    return 0


def _show(args: argparse.Namespace) -> int:
    with _connection.connect(args) as client:
        job = client.jobs.get(args.job)
    print_fields(args, _fields(job), job)
    return 0


def _watch(args: argparse.Namespace) -> int:
    with _connection.connect(args) as client, follow_job(args, events_to_stdout=True) as shown:
        shown.on_job(client.jobs.get(args.job))
        job = client.jobs.wait(args.job, timeout=args.timeout, on_event=shown.on_event)
    if not args.json:
        print_note(f"deploy it: maas-client deployments create NAME --job {job.name}")
    return 0


def _logs(args: argparse.Namespace) -> int:
    with _connection.connect(args) as client:
        text = client.jobs.logs(args.job)
    if args.json:
        print_json({"job": args.job, "log": text})
    else:
        shown = strip_control_chars(text) if sys.stdout.isatty() else text
        print(shown, end="" if shown.endswith("\n") or not shown else "\n")
    return 0


def _cancel(args: argparse.Namespace) -> int:
    return _ask(args, lambda client: client.jobs.cancel(args.job), "{name} is {status}")


def _pause(args: argparse.Namespace) -> int:
    said = (
        "{name} is {status}; a step that is under way is done first. "
        "Go on with: maas-client jobs resume {name}"
    )
    return _ask(args, lambda client: client.jobs.pause(args.job), said)


def _resume(args: argparse.Namespace) -> int:
    said = "{name} is {status}; watch it: maas-client jobs watch {name}"
    return _ask(args, lambda client: client.jobs.resume(args.job), said)


def _save(args: argparse.Namespace) -> int:
    said = "{name} writes a checkpoint once its step is done, and goes on"
    return _ask(args, lambda client: client.jobs.save_checkpoint(args.job), said)


def _checkpoints(args: argparse.Namespace) -> int:
    with _connection.connect(args) as client:
        print_table(
            args, _KEPT, client.jobs.checkpoints(args.job), empty_message="no checkpoint is kept"
        )
    return 0


def _delete(args: argparse.Namespace) -> int:
    with _connection.connect(args) as client:
        client.jobs.delete(args.job)
    print_confirmation(args, "deleted", args.job)
    return 0


def _ask(args: argparse.Namespace, what: Callable[[Client], Job], said: str) -> int:
    """Ask the service for a change of a job, and say how it is then."""
    with _connection.connect(args) as client:
        job = what(client)
    print_note(said.format(name=job.name, status=job.status))
    if args.json:
        print_json(job)
    return 0


def _fields(job: Job) -> dict[str, object]:
    return {
        "name": job.name,
        "status": job.status,
        "error": job.error and job.error.message,
        "model": job.model,
        "fine_tuned_model": job.fine_tuned_model,
        "training_data": job.training_data,
        "validation_data": job.validation_data,
        "hyperparameters": job.hyperparameters,
        "created_at": job.created_at,
        "finished_at": job.finished_at,
        "trained_tokens": job.trained_tokens,
        "properties": job.properties,
        "studio_url": job.studio_url,
        "id": job.id,
    }
