"""``maas-client fine-tune``: from a file to a model, and with ``--deploy`` to answers, in one command."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from maas_client.cli import _connection, _job_options
from maas_client.cli._follow import follow_job
from maas_client.cli._output import print_fields, print_note


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("file", metavar="FILE", help="chats, one JSON object a line")
    _job_options.add_options(parser)
    parser.add_argument("--deploy", metavar="NAME", help="deploy the tuned model under this name")
    parser.add_argument("--timeout", type=float, metavar="SECONDS",
                        help="stop waiting after this long; the job goes on")  # fmt: skip
    _connection.add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Check, upload, train, deploy. The same command again attaches to the same job."""
    again = f"deploys {args.deploy}" if args.deploy else ""
    with _connection.connect(args) as client, follow_job(args, next_step=again) as shown:
        result = client.fine_tune(
            args.file,
            deploy=args.deploy,
            timeout=args.timeout,
            on_job=shown.on_job,
            on_event=shown.on_event,
            **_job_options.job_arguments(args),
        )
    job, deployment = result.job, result.deployment
    if deployment:
        print_note(f"{deployment.name} answers: maas-client chat {deployment.name} 'Hello'")
    else:
        print_note(f"deploy it: maas-client deployments create NAME --job {job.name}")
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
    """Return what the local server says a job ran on; None where Azure ran it."""
    base = properties.get("maas_client.base")
    if base is None:
        return None
    if properties.get("simulated"):
        return f"{base} engine: simulated, nothing was trained"
    stand_in = properties.get("maas_client.stand_in") == "true"
    return f"{base}, standing in for the model" if stand_in else str(base)
