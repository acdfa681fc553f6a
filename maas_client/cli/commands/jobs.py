"""``maas-client jobs``: create, follow and control fine-tuning jobs."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING

from maas_client._hyperparameter_table import read_epochs
from maas_client.cli import _connection, _job_options
from maas_client.cli._follow import follow_job
from maas_client.cli._messages import command, deploy_command
from maas_client.cli._output import (
    CONTINUE_UPLOAD,
    align_columns,
    print_confirmation,
    print_fields,
    print_json,
    print_note,
    print_on_interrupt,
    print_simulated_note,
    print_table,
    shorten,
    strip_control_chars,
)
from maas_client.cli._parser import add_subcommand, add_subcommands, positive_int, seconds
from maas_client.errors import ConfigError

if TYPE_CHECKING:
    from maas_client import Client
    from maas_client.types import Job

_CHECKPOINT_COLUMNS = ("id", "step", "fine_tuned_model", "metrics", "created_at")
_WIDE_COLUMNS = (
    "name",
    "status",
    "model",
    "data",
    "method",
    "epochs",
    "created_at",
    "fine_tuned_model",
)
_COLUMNS = ("name", "status", "model", "data", "method", "epochs", "age")
_SIMULATED = "simulated: the instant engine trained nothing in"
_MIN_WIDTHS = {"name": 14, "model": 10, "data": 8}
"""What the columns that can be shortened keep at least."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    group = add_subcommands(parser)
    create = add_subcommand(group, "create", "start a job and return immediately", _create)
    create.add_argument("data", metavar="DATA", help="a file, or the name or id of a data set")
    _job_options.add_options(create)
    listing = add_subcommand(group, "list", "list jobs", _list)
    listing.add_argument("--limit", type=positive_int, metavar="N",
                         help="list at most N jobs (default: all)")  # fmt: skip
    listing.add_argument("--wide", action="store_true",
                         help="complete names, times and models, whatever the terminal's width")  # fmt: skip
    show = add_subcommand(group, "show", "show one job", _show)
    text = "follow a job until it ends (--json: one event per line); exit code 4 if it fails"
    watch = add_subcommand(group, "watch", text, _watch)
    watch.add_argument("--timeout", type=seconds, metavar="SECONDS",
                       help="stop watching after this time; the job continues (default: no limit)")  # fmt: skip
    logs = add_subcommand(group, "logs", "print a job's log", _logs)
    text = "cancel a job; Azure bills for what was trained"
    cancel = add_subcommand(group, "cancel", text, _cancel)
    pause = add_subcommand(group, "pause", "pause a running job after its current step", _pause)
    resume = add_subcommand(group, "resume", "resume a paused job from its checkpoint", _resume)
    text = "write a checkpoint of a running job, which continues"
    save = add_subcommand(group, "save", text, _save)
    text = "list a job's checkpoints, newest first"
    checkpoints = add_subcommand(group, "checkpoints", text, _checkpoints)
    text = "delete a job's record, but not its model"
    delete = add_subcommand(group, "delete", text, _delete)
    on_one_job = (show, watch, logs, cancel, pause, resume, save, checkpoints, delete)
    for parser_ in on_one_job:
        parser_.add_argument("job", metavar="JOB", help="name or id of the job")
    for parser_ in (create, listing, *on_one_job):
        _connection.add_options(parser_)


def _create(args: argparse.Namespace) -> int:
    message = (
        "Before another call, look for the job: maas-client jobs list"
        if args.force_new
        else f"{CONTINUE_UPLOAD} A job that was created is returned."
    )
    with print_on_interrupt(message), _connection.connect(args) as client:
        job = client.jobs.create(training_data=args.data, **_job_options.job_arguments(args))
    if job.attached:
        print_note(f"the same job exists ({job.status}); use --force-new to start another")
    print_note(f"watch it: {command('jobs', 'watch', job.name)}")
    print_fields(args, _fields(job), job)
    print_simulated_note([job], _SIMULATED)
    return 0


def _list(args: argparse.Namespace) -> int:
    with _connection.connect(args) as client:
        jobs = list(islice(client.jobs.list(), args.limit))
        if args.json or not jobs:
            print_table(args, _COLUMNS, jobs, empty_message="there are no jobs")
            print_simulated_note(jobs, _SIMULATED)
            return 0
        data_names = _data_names(client, jobs)
    # The service's own recipe, and the local server's default; foundry does not say what it runs.
    method = "-" if _connection.resolve_backend(args) == "foundry" else "LoRA"
    rows = [_row(job, data_names, method) for job in jobs]
    if args.wide:
        print(
            align_columns(
                [_headers(_WIDE_COLUMNS), *([row[c] for c in _WIDE_COLUMNS] for row in rows)]
            )
        )
    elif sys.stdout.isatty():
        print(_fit_jobs(rows, shutil.get_terminal_size((80, 24)).columns))
    else:
        print(_format_jobs(rows))
    print_simulated_note(jobs, _SIMULATED)
    return 0


def _data_names(client: Client, jobs: Sequence[Job]) -> dict[str, str]:
    """Return the names of data sets that jobs refer to by an id, as on foundry."""
    if not any((job.training_data or "").startswith("file-") for job in jobs):
        return {}
    return {dataset.id: dataset.name for dataset in client.datasets.list()}


def _row(job: Job, data_names: Mapping[str, str], default_method: str) -> dict[str, str]:
    data = job.training_data or ""
    match = re.search(r"/data/([^/]+)", data)
    epochs = read_epochs(job.hyperparameters)
    created = job.created_at
    row = {
        "name": job.name,
        "status": job.status,
        "model": shorten(job.model or ""),
        "data": data_names.get(data) or (match[1] if match else data.rpartition("/")[2]),
        "method": str(job.hyperparameters.get("method") or default_method),
        "epochs": "-" if epochs is None else f"{epochs:g}",
        "age": _age(datetime.now(UTC) - created) if created else "-",
        "created_at": f"{created:%Y-%m-%d %H:%M:%S}Z" if created else "-",
        "fine_tuned_model": shorten(job.fine_tuned_model or ""),
    }
    return {
        name: "".join(c if c.isprintable() else " " for c in text) for name, text in row.items()
    }


def _age(age: timedelta) -> str:
    seconds = max(0, int(age.total_seconds()))
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def _headers(columns: Sequence[str]) -> list[str]:
    return [column.replace("_", " ").upper() for column in columns]


def _fit_jobs(rows: Sequence[dict[str, str]], width: int) -> str:
    """Return one line for each job. Common starts of names are left out before anything is cut."""
    for step in (_drop_version, _drop_common_prefix, _cut_names, _drop_suffix):
        if _table_width(rows) > width:
            step(rows, width)
    while (excess := _table_width(rows) - width) > 0:
        widths = {name: max(len(row[name]) for row in rows) for name in _MIN_WIDTHS}
        name = max(widths, key=lambda name: widths[name] - _MIN_WIDTHS[name])
        if widths[name] <= _MIN_WIDTHS[name]:
            break
        limit = max(_MIN_WIDTHS[name], widths[name] - min(excess, 4))
        for row in rows:
            row[name] = _cut(row[name], limit)
    return _format_jobs(rows)


def _format_jobs(rows: Sequence[dict[str, str]]) -> str:
    return align_columns([_headers(_COLUMNS), *([row[c] for c in _COLUMNS] for row in rows)])


def _drop_version(rows: Sequence[dict[str, str]], _: int) -> None:
    for row in rows:
        row["model"] = row["model"].partition(":")[0]


def _drop_suffix(rows: Sequence[dict[str, str]], _: int) -> None:
    for row in rows:
        row["model"] = row["model"].removesuffix("-instruct")


def _cut_names(rows: Sequence[dict[str, str]], width: int) -> None:
    longest = max(len(row["name"]) for row in rows)
    limit = max(_MIN_WIDTHS["name"], longest - (_table_width(rows) - width))
    for row in rows:
        row["name"] = _cut(row["name"], limit)


def _drop_common_prefix(rows: Sequence[dict[str, str]], _: int) -> None:
    """Replace the words with which several names start by an ellipsis."""
    groups: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        prefix, separator, rest = row["name"].rpartition("-")
        groups.setdefault(prefix if separator and rest else "", []).append(row)
    for prefix, members in groups.items():
        if prefix and len(members) > 1:
            for row in members:
                row["name"] = f"…{row['name'][len(prefix) + 1 :]}"


def _cut(text: str, width: int) -> str:
    """Return a text of at most ``width`` characters, with an ellipsis in the middle; its end often differs."""
    if len(text) <= width:
        return text
    end = (width - 1) // 2
    return f"{text[: width - 1 - end]}…{text[-end:]}"


def _full_name(client: Client, name: str) -> str:
    """Return the name of the one job that ``jobs list`` shortens to ``name``; a complete name as it is."""
    if "…" not in name:
        return name
    pattern = re.compile(".*".join(map(re.escape, name.split("…"))))
    matches = [job.name for job in client.jobs.list() if pattern.fullmatch(job.name)]
    if len(matches) == 1:
        return matches[0]
    raise ConfigError(
        f"{len(matches) or 'no'} jobs have a name like {name}",
        hint="Use a complete name. List the complete names: maas-client jobs list --wide",
    )


def _table_width(rows: Sequence[dict[str, str]]) -> int:
    return sum(max(len(c), *(len(row[c]) for row in rows)) + 2 for c in _COLUMNS) - 2


def _show(args: argparse.Namespace) -> int:
    with _connection.connect(args) as client:
        job = client.jobs.get(_full_name(client, args.job))
    print_fields(args, _fields(job), job)
    print_simulated_note([job], _SIMULATED)
    return 0


def _watch(args: argparse.Namespace) -> int:
    with _connection.connect(args) as client, follow_job(args, events_to_stdout=True) as observer:
        job = client.jobs.get(_full_name(client, args.job))
        observer.on_job(job)
        is_queued = job.status.lower() in ("notstarted", "queued", "pending")
        if is_queued and _connection.resolve_backend(args) != "local":
            print_note(
                "the service has not started the job yet, and reports neither why nor its position"
            )
        job = client.jobs.wait(job, timeout=args.timeout, on_event=observer.on_event)
    if not args.json:
        print_note(f"deploy it: {deploy_command(job)}")
    print_simulated_note([job], _SIMULATED)
    return 0


def _logs(args: argparse.Namespace) -> int:
    with _connection.connect(args) as client:
        name = _full_name(client, args.job)
        text = client.jobs.logs(name)
    if args.json:
        print_json({"job": name, "log": text})
    else:
        text = strip_control_chars(text) if sys.stdout.isatty() else text
        print(text, end="" if text.endswith("\n") or not text else "\n")
    return 0


def _cancel(args: argparse.Namespace) -> int:
    return _change(
        args, lambda client: client.jobs.cancel(_full_name(client, args.job)), "{name} is {status}"
    )


def _pause(args: argparse.Namespace) -> int:
    message = (
        "{name} is {status}; it pauses after its current step. "
        "Resume it: maas-client jobs resume {word}"
    )
    return _change(args, lambda client: client.jobs.pause(_full_name(client, args.job)), message)


def _resume(args: argparse.Namespace) -> int:
    message = "{name} is {status}; watch it: maas-client jobs watch {word}"
    return _change(args, lambda client: client.jobs.resume(_full_name(client, args.job)), message)


def _save(args: argparse.Namespace) -> int:
    message = "{name} writes a checkpoint after its current step and continues"
    return _change(
        args, lambda client: client.jobs.save_checkpoint(_full_name(client, args.job)), message
    )


def _checkpoints(args: argparse.Namespace) -> int:
    with _connection.connect(args) as client:
        checkpoints = client.jobs.checkpoints(_full_name(client, args.job))
        empty = "the job has no checkpoints"
        print_table(args, _CHECKPOINT_COLUMNS, checkpoints, empty_message=empty)
    return 0


def _delete(args: argparse.Namespace) -> int:
    with _connection.connect(args) as client:
        name = _full_name(client, args.job)
        client.jobs.delete(name)
    print_confirmation(args, "deleted", name)
    return 0


def _change(args: argparse.Namespace, request: Callable[[Client], Job], message: str) -> int:
    """Send a request that changes a job, and print the job's new state."""
    with _connection.connect(args) as client:
        job = request(client)
    print_note(message.format(name=job.name, status=job.status, word=shlex.quote(job.name)))
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
