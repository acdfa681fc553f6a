"""``maas-client doctor``: check this machine and the backend before you spend money."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from maas_client._settings import Settings
from maas_client.cli import _connection, _doctor_access
from maas_client.cli._doctor_machine import CheckResult, check_machine, failure, ok, warning
from maas_client.cli._messages import error_hint, error_message, error_summary
from maas_client.cli._output import align_columns, print_json, print_note
from maas_client.errors import MaasError, TransportError

if TYPE_CHECKING:
    from maas_client.flows._io import IO

_SYMBOLS = {"ok": "ok", "warning": "!!", "missing": "--"}


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--model", help="also check whether this model can be tuned there")
    _connection.add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Print one line per check; exit code 1 if a check failed."""
    backend = _connection.resolve_backend(args)
    checks: dict[str, Callable[[argparse.Namespace], Iterator[CheckResult]]] = {
        "local": _check_local,
        "azureml": _check_azureml,
        "foundry": _check_foundry,
    }
    settings = Settings.load()
    results = list(check_machine(settings.cache_path(), settings.state_path()))
    try:
        results += checks[backend](args)
    except MaasError as error:
        results.append(failure("client", error_message(error), error_hint(error)))
    has_failed = any(result.state == "missing" for result in results)
    if args.json:
        findings = [result.to_json() for result in results]
        print_json({"ok": not has_failed, "backend": backend, "findings": findings})
    else:
        print(align_columns([(_SYMBOLS[r.state], r.name, r.message) for r in results]))
        for result in results:
            if result.hint:
                print_note(f"{result.name}: {result.hint}")
    return 1 if has_failed else 0


def _check_local(args: argparse.Namespace) -> Iterator[CheckResult]:
    with _connection.connect(args) as client:
        url = args.url or Settings.load().require("url")
        try:
            next(iter(client.jobs.list()), None)
        except MaasError as error:
            is_down = isinstance(error, TransportError)
            message = f"no server at {url}" if is_down else f"{url}: {error_summary(error)}"
            yield failure("server", message, error_hint(error))
            return
        yield ok("server", f"answers at {url}")
    yield from _check_model(args, "local", None)


def _check_azureml(args: argparse.Namespace) -> Iterator[CheckResult]:
    from maas_client._transport import run_sync
    from maas_client.flows.azureml.workspace import get_workspace

    with _connection.connect(args) as client:
        io = client._io
        identity = list(_check_identity(io))
        yield from identity
        if identity[0].state == "missing":
            return
        try:
            workspace = run_sync(get_workspace(io))
        except MaasError as error:
            yield failure("workspace", error_summary(error), error_hint(error))
            return
        kind = workspace.kind or "Default"
        yield ok("workspace", f"{workspace.name} ({kind}) in {workspace.location}")
        yield from _check_storage(io)
        yield from _doctor_access.check_workspace_roles(io)
        yield from _doctor_access.check_workspace_quota(io, workspace.location)
        yield from _check_model(args, "azureml", workspace.location)


def _check_identity(io: IO) -> Iterator[CheckResult]:
    """Check the sign-in and report who is signed in; the token is not shown."""
    from maas_client._transport import run_sync
    from maas_client._transport.auth import credential_attempts
    from maas_client.flows.access import get_identity

    try:
        identity = run_sync(get_identity(io))
    except MaasError as error:
        yield failure("identity", error_message(error), error_hint(error))
        for credential, answer in credential_attempts(error.__cause__ or error):
            yield warning("tried", f"{credential}: {answer.partition('. ')[0]}")
        return
    if identity is None:
        yield ok("identity", "API key")
        return
    name = identity.name or "unknown (the token has no name)"
    tenant = identity.tenant or "unknown"
    yield ok("identity", f"{name}, tenant {tenant}, cloud {identity.cloud}")


def _check_storage(io: IO) -> Iterator[CheckResult]:
    """Check whether a training file could be uploaded, without uploading one."""
    from maas_client._transport import run_sync
    from maas_client.flows.azureml.workspace import (
        authorized_container_url,
        data_plane_url,
        get_datastore,
    )

    try:
        datastore = run_sync(get_datastore(io))
        run_sync(authorized_container_url(io))
        kind = datastore.properties.credentials.credentials_type
        credentials = "your own identity" if kind.lower() == "none" else kind
        yield ok("storage", f"{datastore.properties.account_name}, credentials: {credentials}")
        yield ok("run history", run_sync(data_plane_url(io)))
    except MaasError as error:
        yield failure("storage", error_summary(error), error_hint(error))


def _check_foundry(args: argparse.Namespace) -> Iterator[CheckResult]:
    with _connection.connect(args) as client:
        try:
            next(iter(client.jobs.list()), None)
        except MaasError as error:
            yield failure("resource", error_summary(error), error_hint(error))
            return
        settings = Settings.load(foundry_endpoint=args.endpoint, foundry_account_id=args.account_id)
        yield ok("resource", f"answers at {settings.foundry_endpoint}")
        if settings.foundry_account_id:
            yield from _check_account(client._io, args.model)
        else:
            yield warning("account", "no account id given: deployments cannot be created",
                          "Pass --account-id or set MAAS_FOUNDRY_ACCOUNT_ID.")  # fmt: skip
    yield from _check_model(args, "foundry", None)


def _check_account(io: IO, model: str | None) -> Iterator[CheckResult]:
    """Check what the identity may do in ARM, which creates deployments and does not accept API keys."""
    identity = list(_check_identity(io))
    yield from identity
    if identity[0].state == "missing":
        return
    yield from _doctor_access.check_account_roles(io, by_key=io.has_api_key)
    yield from _doctor_access.check_account_quota(io, model)


def _check_model(
    args: argparse.Namespace, backend: str, region: str | None
) -> Iterator[CheckResult]:
    """Check whether ``--model`` can be tuned there; without it, list the models tunable in the region."""
    from datetime import UTC, datetime

    from maas_client import catalog

    override = Settings.load().catalog_file()
    if args.model is None:
        if region:
            names = [
                model.name
                for model in catalog.load_models(override).values()
                if backend in model.tunable_on
                and catalog.is_offered_in(model, region)
                and not model.retired_on
            ]
            listed = ", ".join(names) or "none in the catalog"
            yield (ok if names else warning)("models", f"tunable in {region}: {listed}")
        return
    try:
        model = catalog.get_model(args.model, override=override)
        if backend != "local":
            catalog.check_retirement(model, backend, datetime.now(UTC).date())  # type: ignore[arg-type]  # one of the two
        catalog.check_tunable(model, backend)  # type: ignore[arg-type]  # one of the three
        if region:
            catalog.check_region(model, region)
    except MaasError as error:
        yield failure("model", error_message(error), error_hint(error))
        return
    yield ok("model", f"{model.name} can be tuned {f'in {region}' if region else f'on {backend}'}")
