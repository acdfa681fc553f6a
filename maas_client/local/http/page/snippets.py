"""The code that gives what a view shows: Python, the command line and curl.

The key is never part of it. The paths are those of the operation tables.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from maas_client.local.config import ServerConfig
from maas_client.local.resources.arm_resources import DEFAULT_SUBSCRIPTION
from maas_client.wire import azureml, foundry, sessions
from maas_client.wire.chat import CHAT_COMPLETE
from maas_client.wire.operation import Operation, build_url

_OWN_WORKSPACE = {
    "subscription": DEFAULT_SUBSCRIPTION,
    "resource_group": "local",
    "workspace": "local",
}
"""The workspace of this library's own clients; they reach no other workspace of a local server."""
_OWN_PROJECT = "local"
"""The Foundry project of this library's own clients on a local server."""
CHAT_OPTIONS = ("temperature", "max_tokens")
"""The parameters of a chat that the playground sets."""


@dataclass(frozen=True, slots=True)
class Snippet:
    """Code for one language."""

    title: str
    code: str


@dataclass(frozen=True, slots=True)
class Connection:
    """How code reaches this server and the resources of one dialect and workspace."""

    url: str
    config: ServerConfig
    dialect: str = "azureml"
    workspace: Mapping[str, str] | None = None
    """The values of ``subscription``, ``resource_group`` and ``name``; None: the clients' own."""

    @property
    def is_foundry(self) -> bool:
        return self.dialect == "foundry"

    def snippets(self, python: str, command: Sequence[str], *requests: str) -> list[Snippet]:
        """Return the snippets; ``python`` is the body of the block with the client."""
        curl = Snippet("curl", self._with_key_note("\n\n".join(requests)))
        if not self.is_foundry and self._path_values() != _OWN_WORKSPACE:
            return [curl]
        return [
            Snippet("Python", self._python(python)),
            Snippet("Command line", self._with_key_note(self._command(command))),
            curl,
        ]

    def _python(self, body: str) -> str:
        arguments = [f"url={_literal(self.url)}"]
        arguments += ['dialect="foundry"'] if self.is_foundry else []
        arguments += ['api_key=os.environ["MAAS_API_KEY"]'] if self.config.api_key else []
        arguments += [f"ca_file={_literal(self._ca_file)}"] if self.config.tls else []
        imports = "import os\n\n" if self.config.api_key else ""
        call = f"maas.Client.local({', '.join(arguments)})"
        block = "\n".join(f"    {line}" if line else "" for line in body.splitlines())
        return f"{imports}import maas_client as maas\n\nwith {call} as client:\n{block}\n"

    @property
    def _ca_file(self) -> str:
        return str(self.config.state_dir / "ca.pem")

    def _command(self, words: Sequence[str]) -> str:
        dialect = ["--dialect", "foundry"] if self.is_foundry else []
        prefix = f"SSL_CERT_FILE={shlex.quote(self._ca_file)} " if self.config.tls else ""
        return prefix + shlex.join(["maas-client", *words, "--url", self.url, *dialect])

    def _with_key_note(self, code: str) -> str:
        if not self.config.api_key:
            return f"{code}\n"
        return f"# MAAS_API_KEY is the key that the server was started with (--api-key)\n{code}\n"

    def _path_values(self) -> dict[str, str]:
        if self.workspace is None:
            return _OWN_WORKSPACE
        names = {
            "subscription": "subscription",
            "resource_group": "resource_group",
            "workspace": "name",
        }
        return {field: self.workspace[name] for field, name in names.items()}

    def curl(
        self,
        op: Operation[Any],
        body: dict[str, Any] | None = None,
        *,
        prefix: str = "",
        headers: Mapping[str, str] | None = None,
        **values: str,
    ) -> str:
        """Return a curl command for an operation. ``prefix`` is what its path follows on this server."""
        base = f"{self.url}{prefix}"
        url = build_url(op, base, {**self._path_values(), **values})
        key = (
            '"Authorization: Bearer $MAAS_API_KEY"'
            if self.config.api_key
            else '"Authorization: Bearer local"'
        )
        words = ["curl -sS"]
        words += [f"--cacert {shlex.quote(self._ca_file)}"] if self.config.tls else []
        words += ["-N"] if body and body.get("stream") else []
        words += [f"-X {op.method}"] if op.method != "GET" and body is None else []
        lines = [f"{' '.join(words)} {shlex.quote(url)}", f"  -H {key}"]
        lines += [
            f"  -H {shlex.quote(f'{name}: {value}')}" for name, value in (headers or {}).items()
        ]
        if body is not None:
            text = json.dumps(body, indent=2, ensure_ascii=False)
            lines += ["  -H 'Content-Type: application/json'", f"  -d {shlex.quote(text)}"]
        return " \\\n".join(lines)


def jobs_code(to: Connection) -> list[Snippet]:
    """Return the code that lists the jobs."""
    return to.snippets(
        "for job in client.jobs.list():\n    print(job.name, job.status, job.model)",
        ["jobs", "list"],
        to.curl(azureml.JOB_LIST),
    )


def job_code(to: Connection, name: str) -> list[Snippet]:
    """Return the code that follows a job and reads its metrics."""
    python = (
        f"job = client.jobs.get({_literal(name)})\n"
        "print(job.status, job.fine_tuned_model)\n"
        "for event in client.jobs.events(job, follow=True):\n"
        "    print(event.step, event.metrics, event.message)"
    )
    if to.is_foundry:
        requests = [
            to.curl(foundry.JOB_GET, prefix="/openai", job=name),
            to.curl(foundry.JOB_EVENTS, prefix="/openai", job=name),
        ]
    else:
        requests = [
            to.curl(azureml.JOB_GET, job=name),
            to.curl(azureml.METRIC_VALUES, {"metricName": "loss"}, run=name),
        ]
    return to.snippets(python, ["jobs", "watch", name], *requests)


def sessions_code(to: Connection) -> list[Snippet]:
    """Return the code that lists the training sessions."""
    return to.snippets(
        "for session in client.sessions.list():\n    print(session.id, session.status, session.base_model)",
        ["sessions", "list"],
        _session_curl(to, sessions.SESSION_LIST, _OWN_PROJECT),
    )


def session_code(to: Connection, project: str, name: str) -> list[Snippet]:
    """Return the code that shows a training session and its checkpoints."""
    snippets = to.snippets(
        f"session = client.sessions.get({_literal(name)})\n"
        "print(session.status, session.base_model)\n"
        "for checkpoint in client.sessions.checkpoints(session):\n    print(checkpoint)",
        ["sessions", "show", name],
        _session_curl(to, sessions.SESSION_GET, project, session=name),
        _session_curl(to, sessions.CHECKPOINT_LIST, project, session=name),
    )
    return snippets if project == _OWN_PROJECT else snippets[-1:]


def _session_curl(to: Connection, op: Operation[Any], project: str, **values: str) -> str:
    prefix = f"/api/projects/{quote(project, safe='')}"
    headers = dict([sessions.PREVIEW_HEADER])
    return to.curl(op, None, prefix=prefix, headers=headers, **values)


def data_sets_code(to: Connection) -> list[Snippet]:
    """Return the code that lists the data sets."""
    return to.snippets(
        "for dataset in client.datasets.list():\n    print(dataset.name, dataset.id)",
        ["datasets", "list"],
        to.curl(azureml.DATA_LIST),
    )


def data_set_code(to: Connection, name: str, version: str) -> list[Snippet]:
    """Return the code that reads what the server knows of a data set."""
    identifier = version if to.is_foundry else f"{name}:{version}"
    python = (
        f"dataset = client.datasets.get({_literal(identifier)})\nprint(dataset.name, dataset.id)"
    )
    if to.is_foundry:
        request = to.curl(foundry.FILE_GET, prefix="/openai", file=version)
    else:
        request = to.curl(azureml.DATA_VERSION_GET, name=name, version=version)
    return to.snippets(python, ["datasets", "show", identifier], request)


def models_code(to: Connection) -> list[Snippet]:
    """Return the code that lists the models."""
    return to.snippets(
        "for model in client.models.list():\n    print(model.name, model.version, model.id)",
        ["models", "list", "--mine"],
        to.curl(azureml.MODEL_LIST),
    )


def deployments_code(to: Connection) -> list[Snippet]:
    """Return the code that lists the deployments."""
    return to.snippets(
        "for deployment in client.deployments.list():\n"
        "    print(deployment.name, deployment.status, deployment.model)",
        ["deployments", "list"],
        to.curl(azureml.ENDPOINT_LIST),
    )


def chat_code(
    to: Connection, deployment: Mapping[str, Any], body: Mapping[str, Any]
) -> list[Snippet]:
    """Return the code that sends a chat and prints the answer as it is generated."""
    messages, name = list(body["messages"]), str(deployment["name"])
    options = {key: body[key] for key in CHAT_OPTIONS if body.get(key) is not None}
    rows = "".join(f"    {_literal(message)},\n" for message in messages)
    arguments = "".join(f", {key}={value!r}" for key, value in options.items())
    python = (
        f"messages = [\n{rows}]\n"
        f"for chunk in client.chat.stream({_literal(name)}, messages{arguments}):\n"
        '    print(chunk.choices[0].delta.content or "", end="", flush=True)\n'
        "print()"
    )
    by_role = {str(m["role"]): str(m["content"]) for m in messages}
    words = ["chat", name, by_role.get("user", "Hello")]
    words += ["--system", by_role["system"]] if by_role.get("system") else []
    for key, value in options.items():
        words += [f"--{key.replace('_', '-')}", str(value)]
    content = {"messages": messages, **options, "stream": True}
    if to.is_foundry:
        request = to.curl(foundry.CHAT, {"model": name, **content}, prefix="/openai")
    else:
        request = to.curl(CHAT_COMPLETE, content, prefix=f"/serverless/{deployment['label']}")
    return to.snippets(python, words, request)


def _literal(value: Any) -> str:
    """Return texts, and objects of texts, as Python and JSON both write them."""
    return json.dumps(value, ensure_ascii=False)
