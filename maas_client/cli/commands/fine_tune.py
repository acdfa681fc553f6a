"""``maas-client fine-tune``: validate, upload, train and deploy in one command."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from maas_client.cli import _connection, _job_options
from maas_client.cli._follow import follow_job
from maas_client.cli._messages import command, deploy_command
from maas_client.cli._output import print_fields, print_note, print_on_interrupt
from maas_client.cli._parser import seconds
from maas_client.wire.statuses import BASE_PROPERTY


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("file", metavar="FILE", help="chats, one JSON object per line")
    _job_options.add_options(parser)
    parser.add_argument("--deploy", metavar="NAME", help="deploy the tuned model under this name")
    _job_options.add_deployment_options(parser)
    parser.add_argument("--timeout", type=seconds, metavar="SECONDS",
                        help="stop waiting after this time; the job continues (default: no limit)")  # fmt: skip
    _connection.add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Validate, upload, train and deploy. The same command attaches to the same job when run again."""
    next_step = f"deploys {args.deploy}" if args.deploy else ""
    with (
        print_on_interrupt(),
        _connection.connect(args) as client,
        follow_job(args, next_step=next_step) as observer,
    ):
        result = client.fine_tune(
            args.file,
            deploy=args.deploy,
            sku=args.sku,
            capacity=args.capacity,
            timeout=args.timeout,
            on_job=observer.on_job,
            on_event=observer.on_event,
            **_job_options.job_arguments(args),
        )
    job, deployment = result.job, result.deployment
    if deployment:
        print_note(f"chat with it: {command('chat', deployment.name, 'Hello')}")
    else:
        print_note(f"deploy it: {deploy_command(job)}")
    fields = {
        "job": job.name,
        "status": job.status,
        "model": job.fine_tuned_model,
        "trained_tokens": job.trained_tokens,
        "ran_on": describe_base(job.properties),
        "deployment": deployment and deployment.name,
        "url": deployment and deployment.url,
    }
    print_fields(args, fields, result)
    return 0


def describe_base(properties: Mapping[str, Any]) -> str | None:
    """Return the base model that a local job ran on; None for a job on Azure."""
    base = properties.get(BASE_PROPERTY)
    if base is None:
        return None
    if properties.get("simulated"):
        return f"{base} engine: simulated, nothing was trained"
    is_stand_in = properties.get("maas_client.stand_in") == "true"
    return f"{base}, a stand-in for the model" if is_stand_in else str(base)
