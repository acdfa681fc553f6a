"""``maas-client doctor``: what is here, what is missing, before anything is paid for."""

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
    from maas_client import Client
    from maas_client.wire.azureml_models import Workspace

_SIGNS = {"ok": "ok", "warning": "!!", "missing": "--"}


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--model", help="say whether this model can be tuned there")
    _connection.add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Print a line per finding; exit code 1 when something is missing for this backend."""
    where = _connection.resolve_backend(args)
    looks: dict[str, Callable[[argparse.Namespace], Iterator[CheckResult]]] = {
        "local": _local,
        "azureml": _azureml,
        "foundry": _foundry,
    }
    found = [*check_machine(Settings.load().cache_path(), Settings.load().state_path())]
    try:
        found += looks[where](args)
    except MaasError as error:
        found.append(failure("client", error_message(error), error_hint(error)))
    missing = [one for one in found if one.state == "missing"]
    if args.json:
        print_json(
            {"ok": not missing, "backend": where, "findings": [one.to_json() for one in found]}
        )
    else:
        print(align_columns([(_SIGNS[one.state], one.name, one.message) for one in found]))
        for one in found:
            if one.hint:
                print_note(f"{one.name}: {one.hint}")
    return 1 if missing else 0


def _local(args: argparse.Namespace) -> Iterator[CheckResult]:
    with _connection.connect(args) as client:
        url = args.url or Settings.load().require("url")
        try:
            next(iter(client.jobs.list()), None)
        except MaasError as error:
            silent = isinstance(error, TransportError)
            said = f"none answers at {url}" if silent else f"{url} refuses: {error_summary(error)}"
            yield failure("server", said, error_hint(error))
            return
        yield ok("server", f"answers at {url}")
    yield from _model(args, "local", None)


def _azureml(args: argparse.Namespace) -> Iterator[CheckResult]:
    with _connection.connect(args) as client:
        who = list(_identity(client))
        yield from who
        if who[0].state == "missing":
            return
        try:
            here = _workspace(client)
        except MaasError as error:
            yield failure("workspace", error_summary(error), error_hint(error))
            return
        yield ok("workspace", f"{here.name} ({here.kind or 'Default'}) in {here.location}")
        yield from _storage(client)
        yield from _doctor_access.check_workspace_roles(client._io)
        yield from _doctor_access.check_workspace_quota(client._io, here.location)
        yield from _model(args, "azureml", here.location)


def _identity(client: Client) -> Iterator[CheckResult]:
    """Say who the token is for; never the token."""
    from maas_client._transport import run_sync as drive
    from maas_client._transport.auth import credential_attempts
    from maas_client.wire.op import Plane

    to = client._io._connection
    try:
        token = drive(to.tokens.get(to.cloud.scopes[Plane.ARM], client._io.call))
    except MaasError as error:
        yield failure("identity", error_message(error), error_hint(error))
        for tried, said in credential_attempts(error.__cause__ or error):
            yield warning("tried", f"{tried}: {said.partition('. ')[0]}")
        return
    claims = decode_claims(token)
    who = next(
        (str(claims[n]) for n in ("upn", "unique_name", "app_displayname", "appid", "oid") if n in claims),
        "a token that does not say whose it is",
    )  # fmt: skip
    yield ok("identity", f"{who}, tenant {claims.get('tid', 'unknown')}, cloud {to.cloud.name}")


def decode_claims(token: str) -> dict[str, object]:
    """Return what a JSON web token says about its owner; nothing for a token of another kind."""
    import base64
    import json

    try:
        body = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (IndexError, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _workspace(client: Client) -> Workspace:
    from maas_client._transport import run_sync as drive
    from maas_client.flows.azureml.workspace import get_workspace

    return drive(get_workspace(client._io))


def _storage(client: Client) -> Iterator[CheckResult]:
    """Say whether a training file could be put there, without putting one."""
    from maas_client._transport import run_sync as drive
    from maas_client.flows.azureml.workspace import (
        authorized_container_url,
        data_plane_url,
        get_datastore,
    )

    try:
        store = drive(get_datastore(client._io))
        drive(authorized_container_url(client._io))
        kind = store.properties.credentials.credentials_type
        opened = "your own identity" if kind.lower() == "none" else kind
        yield ok("storage", f"{store.properties.account_name}, opened by {opened}")
        yield ok("run history", drive(data_plane_url(client._io)))
    except MaasError as error:
        yield failure("storage", error_summary(error), error_hint(error))


def _foundry(args: argparse.Namespace) -> Iterator[CheckResult]:
    with _connection.connect(args) as client:
        try:
            next(iter(client.jobs.list()), None)
        except MaasError as error:
            yield failure("resource", error_summary(error), error_hint(error))
            return
        settings = Settings.load(foundry_endpoint=args.endpoint, foundry_account_id=args.account_id)
        yield ok("resource", f"answers at {settings.foundry_endpoint}")
        if not settings.foundry_account_id:
            yield warning("account", "no account id is given: deployments cannot be made",
                       "Pass --account-id or set MAAS_FOUNDRY_ACCOUNT_ID.")  # fmt: skip
        else:
            yield from _account(args, client)
    yield from _model(args, "foundry", None)


def _account(args: argparse.Namespace, client: Client) -> Iterator[CheckResult]:
    """Say what the identity may do on ARM, where deployments are made: a resource's key is nothing there."""
    if client._io._connection.tokens is not None:
        who = list(_identity(client))
        yield from who
        if who[0].state == "missing":
            return
    by_key = client._io._connection.api_key is not None
    yield from _doctor_access.check_account_roles(client._io, by_key=by_key)
    yield from _doctor_access.check_account_quota(client._io, args.model)


def _model(args: argparse.Namespace, where: str, region: str | None) -> Iterator[CheckResult]:
    """Say whether the model that is asked for can be tuned there, or which can in this region."""
    from datetime import UTC, datetime
    from pathlib import Path

    from maas_client import catalog

    override = Settings.load().catalog
    known = Path(override) if override else None
    if args.model is None:
        if region:
            names = [
                f.name
                for f in catalog.load_models(known).values()
                if where in f.tunable_on and catalog.is_offered_in(f, region) and not f.retired_on
            ]
            said = f"tuned in {region}: {', '.join(names) or 'none that the catalog knows'}"
            yield (ok if names else warning)("models", said)
        return
    try:
        facts = catalog.get_model(args.model, override=known)
        if where != "local":
            catalog.check_retirement(facts, where, datetime.now(UTC).date())  # type: ignore[arg-type]  # one of the two
        catalog.check_tunable(facts, where)  # type: ignore[arg-type]  # one of the three
        if region:
            catalog.check_region(facts, region)
    except MaasError as error:
        yield failure("model", error_message(error), error_hint(error))
        return
    yield ok("model", f"{facts.name} can be tuned {f'in {region}' if region else 'there'}")
