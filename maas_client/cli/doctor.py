"""``maas-client doctor``: what is here, what is missing, before anything is paid for."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from maas_client._settings import Settings
from maas_client.cli import _connection, _rights
from maas_client.cli._machine import Finding, bad, fine, look, warn
from maas_client.cli._output import aligned, note, print_json
from maas_client.cli._spoken import hint, message, what
from maas_client.errors import MaasError, TransportError

if TYPE_CHECKING:
    from maas_client import Client
    from maas_client.wire.azureml_models import Workspace

_SIGNS = {"ok": "ok", "warning": "!!", "missing": "--"}


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--model", help="say whether this model can be tuned there")
    _connection.add(parser)


def run(args: argparse.Namespace) -> int:
    """Print a line per finding; exit code 1 when something is missing for this backend."""
    where = _connection.backend(args)
    looks: dict[str, Callable[[argparse.Namespace], Iterator[Finding]]] = {
        "local": _local,
        "azureml": _azureml,
        "foundry": _foundry,
    }
    found = [*look(Settings.load().cache_path(), Settings.load().state_path())]
    try:
        found += looks[where](args)
    except MaasError as error:
        found.append(bad("client", message(error), hint(error)))
    missing = [one for one in found if one.state == "missing"]
    if args.json:
        print_json({"ok": not missing, "backend": where, "findings": [one.told() for one in found]})
    else:
        print(aligned([(_SIGNS[one.state], one.name, one.said) for one in found]))
        for one in found:
            if one.mend:
                note(f"{one.name}: {one.mend}")
    return 1 if missing else 0


def _local(args: argparse.Namespace) -> Iterator[Finding]:
    with _connection.client(args) as client:
        url = args.url or Settings.load().need("url")
        try:
            next(iter(client.jobs.list()), None)
        except MaasError as error:
            silent = isinstance(error, TransportError)
            said = f"none answers at {url}" if silent else f"{url} refuses: {what(error)}"
            yield bad("server", said, hint(error))
            return
        yield fine("server", f"answers at {url}")
    yield from _model(args, "local", None)


def _azureml(args: argparse.Namespace) -> Iterator[Finding]:
    with _connection.client(args) as client:
        who = list(_identity(client))
        yield from who
        if who[0].state == "missing":
            return
        try:
            here = _workspace(client)
        except MaasError as error:
            yield bad("workspace", what(error), hint(error))
            return
        yield fine("workspace", f"{here.name} ({here.kind or 'Default'}) in {here.location}")
        yield from _storage(client)
        yield from _rights.workspace_roles(client._io)
        yield from _rights.workspace_quota(client._io, here.location)
        yield from _model(args, "azureml", here.location)


def _identity(client: Client) -> Iterator[Finding]:
    """Say who the token is for; never the token."""
    from maas_client._transport import run as drive
    from maas_client._transport.sign_in import attempts
    from maas_client.wire.op import Plane

    to = client._io._to
    try:
        token = drive(to.tokens.get(to.cloud.scopes[Plane.ARM], client._io.call))
    except MaasError as error:
        yield bad("identity", message(error), hint(error))
        for tried, said in attempts(error.__cause__ or error):
            yield warn("tried", f"{tried}: {said.partition('. ')[0]}")
        return
    claims = claims_of(token)
    who = next(
        (str(claims[n]) for n in ("upn", "unique_name", "app_displayname", "appid", "oid") if n in claims),
        "a token that does not say whose it is",
    )  # fmt: skip
    yield fine("identity", f"{who}, tenant {claims.get('tid', 'unknown')}, cloud {to.cloud.name}")


def claims_of(token: str) -> dict[str, object]:
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
    from maas_client._transport import run as drive
    from maas_client.flows.azureml.workspace import workspace

    return drive(workspace(client._io))


def _storage(client: Client) -> Iterator[Finding]:
    """Say whether a training file could be put there, without putting one."""
    from maas_client._transport import run as drive
    from maas_client.flows.azureml.workspace import container, data_plane, datastore

    try:
        store = drive(datastore(client._io))
        drive(container(client._io))
        kind = store.properties.credentials.credentials_type
        opened = "your own identity" if kind.lower() == "none" else kind
        yield fine("storage", f"{store.properties.account_name}, opened by {opened}")
        yield fine("run history", drive(data_plane(client._io)))
    except MaasError as error:
        yield bad("storage", what(error), hint(error))


def _foundry(args: argparse.Namespace) -> Iterator[Finding]:
    with _connection.client(args) as client:
        try:
            next(iter(client.jobs.list()), None)
        except MaasError as error:
            yield bad("resource", what(error), hint(error))
            return
        settings = Settings.load(foundry_endpoint=args.endpoint, foundry_account_id=args.account_id)
        yield fine("resource", f"answers at {settings.foundry_endpoint}")
        if not settings.foundry_account_id:
            yield warn("account", "no account id is given: deployments cannot be made",
                       "Pass --account-id or set MAAS_FOUNDRY_ACCOUNT_ID.")  # fmt: skip
        else:
            yield from _account(args, client)
    yield from _model(args, "foundry", None)


def _account(args: argparse.Namespace, client: Client) -> Iterator[Finding]:
    """Say what the identity may do on ARM, where deployments are made: a resource's key is nothing there."""
    if client._io._to.tokens is not None:
        who = list(_identity(client))
        yield from who
        if who[0].state == "missing":
            return
    by_key = client._io._to.api_key is not None
    yield from _rights.account_roles(client._io, by_key=by_key)
    yield from _rights.account_quota(client._io, args.model)


def _model(args: argparse.Namespace, where: str, region: str | None) -> Iterator[Finding]:
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
                for f in catalog.models(known).values()
                if where in f.tunable_on and catalog.is_offered_in(f, region) and not f.retired_on
            ]
            said = f"tuned in {region}: {', '.join(names) or 'none that the catalog knows'}"
            yield (fine if names else warn)("models", said)
        return
    try:
        facts = catalog.get(args.model, override=known)
        if where != "local":
            catalog.check_retirement(facts, where, datetime.now(UTC).date())  # type: ignore[arg-type]  # one of the two
        catalog.check_tunable(facts, where)  # type: ignore[arg-type]  # one of the three
        if region:
            catalog.check_region(facts, region)
    except MaasError as error:
        yield bad("model", message(error), hint(error))
        return
    yield fine("model", f"{facts.name} can be tuned {f'in {region}' if region else 'there'}")
