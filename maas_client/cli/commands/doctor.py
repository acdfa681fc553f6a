"""``maas-client doctor``: check this machine and the backend before you spend money.

The machine is checked without importing any of the packages it reports.

An error while permissions or quota are read is a warning: an identity that may not read its own permissions
may still be allowed to work.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from maas_client._settings import Settings
from maas_client._version import __version__
from maas_client.cli import _connection
from maas_client.cli._messages import error_hint, error_message, error_summary
from maas_client.cli._output import adapt_install_command, align_columns, print_json, print_note
from maas_client.errors import MaasError, TransportError

if TYPE_CHECKING:
    from maas_client.flows._io import IO
    from maas_client.wire.permissions import Usage

_HUB_ROLE = "tuning and deploying require Azure AI Developer on the resource group"
_ACCOUNT_ROLE = (
    "tuning requires Foundry User, deploying requires Foundry Owner "
    "(formerly Azure AI User and Azure AI Owner)"
)
_QUOTA_ROLE = "reading the quota requires Cognitive Services Usages Reader"
_MAX_LISTED = 4
_CUDA_WHEELS = "https://download.pytorch.org/whl/cu126"
_REQUIREMENT = re.compile(r"([A-Za-z0-9_.-]+)(?:\[([^\]]+)\])?.*extra == ['\"]([^'\"]+)['\"]")
_JOB_BYTES = 2 << 30
_SYMBOLS = {"ok": "ok", "warning": "note", "missing": "FAIL"}


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check: its state, what was found, and what to do about it."""

    name: str
    state: Literal["ok", "warning", "missing"]
    message: str
    hint: str = ""

    def to_json(self) -> dict[str, str]:
        """Return the result, ready for JSON. ``said`` and ``mend`` are the older names of the last two keys."""
        fields = {
            "name": self.name,
            "state": self.state,
            "message": self.message,
            "hint": self.hint,
        }
        return fields | {"said": self.message, "mend": self.hint}


def ok(name: str, message: str) -> CheckResult:
    """Return the result of a check that passed."""
    return CheckResult(name, "ok", message)


def warning(name: str, message: str, hint: str = "") -> CheckResult:
    """Return the result of a check that found something worth knowing."""
    return CheckResult(name, "warning", message, hint)


def failure(name: str, message: str, hint: str) -> CheckResult:
    """Return the result of a check that found something to fix first."""
    return CheckResult(name, "missing", message, hint)


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
        results = _combine_extras(results)
        print(align_columns([(_SYMBOLS[r.state], r.name, r.message) for r in results]))
        for result in results:
            if result.hint:
                print_note(f"{result.name}: {result.hint}")
    return 1 if has_failed else 0


def _check_local(args: argparse.Namespace) -> Iterator[CheckResult]:
    from maas_client._local_server.probe import find_default_server
    from maas_client._local_server.process import LocalServer
    from maas_client._local_server.record import find_key

    settings = Settings.load(url=args.url)
    url = settings.require("url")
    running = find_key(settings)
    if settings.origin("url") == "default" and not settings.is_disabled("start_server"):
        running = LocalServer(settings).find() or find_default_server(settings.api_key)
        if running is None:
            yield ok("server", "none runs; commands that need one start it")
            yield from _check_model(args, "local", None)
            return
        url = running.url
    with _connection.connect(args) as client:
        try:
            next(iter(client.jobs.list()), None)
        except MaasError as error:
            is_down = isinstance(error, TransportError)
            message = f"no server at {url}" if is_down else f"{url}: {error_summary(error)}"
            yield failure("server", message, error_hint(error))
            return
        is_int8 = running is not None and running.precision == "int8"
        yield ok("server", f"answers at {url}{' with int8 weights' if is_int8 else ''}")
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
        yield from check_workspace_roles(io)
        yield from check_workspace_quota(io, workspace.location)
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
    from maas_client._transport import run_sync
    from maas_client.flows.foundry.tiers import find_location

    location = None
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
            location = run_sync(find_location(client._io))
        else:
            yield warning("account", "no account id given: deployments cannot be created",
                          "Pass --account-id or set MAAS_FOUNDRY_ACCOUNT_ID.")  # fmt: skip
    yield from _check_model(args, "foundry", location)


def _check_account(io: IO, model: str | None) -> Iterator[CheckResult]:
    """Check what the identity may do in ARM, which creates deployments and does not accept API keys."""
    identity = list(_check_identity(io))
    yield from identity
    if identity[0].state == "missing":
        return
    yield from check_account_roles(io, by_key=io.has_api_key)
    yield from check_account_quota(io, model)


def _check_model(
    args: argparse.Namespace, backend: str, region: str | None
) -> Iterator[CheckResult]:
    """Check whether ``--model`` can be tuned there; without it, list the models tunable in the region."""
    from datetime import UTC, datetime

    from maas_client import catalog

    override = Settings.load().catalog_file()
    kind: catalog.RegionKind = "global_train" if backend == "foundry" else "train"
    if args.model is None:
        if region:
            today = datetime.now(UTC).date()
            names = [
                model.name
                for model in catalog.load_models(override).values()
                if backend in model.tunable_on
                and catalog.is_offered_in(model, region, kind)
                and not catalog.is_retired(model, today)
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
            catalog.check_region(model, region, kind)
    except MaasError as error:
        yield failure("model", error_message(error), error_hint(error))
        return
    yield ok("model", f"{model.name} can be tuned {f'in {region}' if region else f'on {backend}'}")


def check_workspace_roles(io: IO) -> Iterator[CheckResult]:
    """Check whether the identity may upload, tune, deploy and read keys in the workspace."""
    from maas_client._transport import run_sync
    from maas_client.flows import access
    from maas_client.wire.permissions import WORKSPACE_ACTIONS, missing_actions

    try:
        granted = run_sync(access.list_permissions(io))
    except MaasError as error:
        yield _unknown("roles", error, _HUB_ROLE)
        return
    yield _roles(WORKSPACE_ACTIONS, missing_actions(granted, WORKSPACE_ACTIONS), _HUB_ROLE)


def check_account_roles(io: IO, *, by_key: bool) -> Iterator[CheckResult]:
    """Check whether the identity may deploy in the account and, without an API key, start jobs."""
    from maas_client._transport import run_sync
    from maas_client.flows import access
    from maas_client.wire.permissions import ACCOUNT_ACTIONS, ACCOUNT_DATA_ACTIONS, missing_actions

    try:
        granted = run_sync(access.list_permissions(io))
    except MaasError as error:
        yield _unknown("roles", error, _ACCOUNT_ROLE)
        return
    data_actions = {} if by_key else ACCOUNT_DATA_ACTIONS
    missing = missing_actions(granted, data_actions, data_actions=True)
    missing |= missing_actions(granted, ACCOUNT_ACTIONS)
    yield _roles(data_actions | ACCOUNT_ACTIONS, missing, _ACCOUNT_ROLE)


def _roles(tasks: Iterable[str], missing: dict[str, str], role: str) -> CheckResult:
    if not missing:
        return ok("roles", f"may {', '.join(tasks)}")
    listed = ", ".join(f"{task} ({action})" for task, action in missing.items())
    hint = f"Ask the owner of the resource group: {role}."
    return failure("roles", f"may not {listed}", hint)


def check_workspace_quota(io: IO, location: str) -> Iterator[CheckResult]:
    """Check how many dedicated cores are left in the region. Only ``--compute`` uses them."""
    from maas_client._transport import run_sync
    from maas_client.flows import access

    try:
        usages = run_sync(access.core_quota(io, location))
    except MaasError as error:
        yield _unknown("quota", error, "only --compute uses cores, serverless jobs do not")
        return
    usages = sorted((u for u in usages if u.limit > 0), key=lambda u: u.available, reverse=True)
    if not usages:
        yield warning("quota", f"no dedicated cores in {location}: --compute cannot run; "
                      "serverless jobs need none")  # fmt: skip
        return
    listed = "; ".join(_describe(usage) for usage in usages[:_MAX_LISTED])
    unlisted = f" and {len(usages) - _MAX_LISTED} more" if len(usages) > _MAX_LISTED else ""
    message = f"cores used in {location}, for --compute only: {listed}{unlisted}"
    yield ok("quota", message) if usages[0].available > 0 else warning("quota", message)


def check_account_quota(io: IO, model: str | None) -> Iterator[CheckResult]:
    """Check whether the region has quota left for a deployment, of ``model`` if given."""
    from maas_client._transport import run_sync
    from maas_client.flows import access

    try:
        location = run_sync(access.account_location(io))
        usages = run_sync(access.capacity_quota(io, location))
        names = run_sync(access.quota_names(io, model)) if model else set()
    except MaasError as error:
        yield _unknown("quota", error, _QUOTA_ROLE)
        return
    if model is None:
        exhausted = [_name(u) for u in usages if u.limit > 0 and u.available <= 0]
        count = f"{len(usages)} limits in {location}"
        yield (warning("quota", f"{count}, used up: {', '.join(exhausted[:6])}") if exhausted
               else ok("quota", f"{count}, none used up"))  # fmt: skip
        return
    folded = {name.casefold() for name in names}
    usages = [usage for usage in usages if _name(usage).casefold() in folded]
    if not usages:
        yield warning("quota", f"ARM lists no quota for {model} in {location}")
        return
    listed = "; ".join(_describe(usage) for usage in usages)
    if any(usage.available > 0 for usage in usages):
        yield ok("quota", f"used in {location}: {listed}")
    else:
        yield failure("quota", f"used up in {location}: {listed}",
                      "Delete a deployment, or request more in the portal (Management, Quota).")  # fmt: skip


def _name(usage: Usage) -> str:
    return str(usage.name.get("value") or usage.name.get("localizedValue") or "unnamed")


def _describe(usage: Usage) -> str:
    name = str(usage.name.get("localizedValue") or usage.name.get("value") or "unnamed")
    return f"{name} {usage.current_value:g} of {usage.limit:g}"


def _unknown(name: str, error: MaasError, rule: str) -> CheckResult:
    return warning(name, f"unknown: {error_summary(error)}; {rule}")


def check_machine(cache: Path, state: Path) -> Iterator[CheckResult]:
    """Check Python, the extras, torch, the base weights and the disk."""
    from maas_client._cores import usable_cores

    yield ok("maas-client", f"{__version__} in {Path(__file__).parents[2]}")
    yield ok("python", f"{platform.python_version()} at {sys.executable}, {platform.platform()}, "
             f"{usable_cores()} usable cores")  # fmt: skip
    yield from _check_extras()
    yield from _check_torch()
    yield from _check_bases(cache)
    yield from _check_products(cache)
    yield _check_disk("state directory", state)


def _check_extras() -> Iterator[CheckResult]:
    """Check which extras are completely installed, according to the package's metadata."""
    try:
        requirements = metadata.requires("maas-client") or []
    except metadata.PackageNotFoundError:
        yield warning("extras", "maas-client is not installed; it runs from a folder")
        return
    for extra in metadata.metadata("maas-client").get_all("Provides-Extra") or []:
        missing = sorted(_missing_packages(extra, requirements))
        if missing:
            yield warning(f"extra {extra}", f"not installed: {', '.join(missing)}",
                          adapt_install_command(f"pip install 'maas-client[{extra}]'"))  # fmt: skip
        else:
            yield ok(f"extra {extra}", "installed")


def _combine_extras(results: list[CheckResult]) -> list[CheckResult]:
    """Return the results with one for all extras that are installed, and one for the others."""
    extras = [result for result in results if result.name.startswith("extra ")]
    if not extras:
        return results
    combined = []
    for state, text in (
        ("ok", "installed"),
        ("warning", "not installed, needed only if you use them"),
    ):
        group = [result for result in extras if result.state == state]
        names = ", ".join(result.name.removeprefix("extra ") for result in group)
        if group:
            hint = f"install one with: {group[0].hint}" if state == "warning" else ""
            combined.append(CheckResult("extras", group[0].state, f"{text}: {names}", hint))
    first = results.index(extras[0])
    others = [result for result in results if result not in extras]
    return [*others[:first], *combined, *others[first:]]


def _missing_packages(extra: str, requirements: list[str]) -> set[str]:
    """Return the packages of ``extra`` that are not installed, and the incomplete extras it includes."""
    missing: set[str] = set()
    for line in requirements:
        match = _REQUIREMENT.match(line)
        if not match or match[3] != extra:
            continue
        if match[1] == "maas-client":
            for included in (match[2] or "").split(","):
                if _missing_packages(included.strip(), requirements):
                    missing.add(f"extra {included.strip()}")
            continue
        try:
            metadata.version(match[1])
        except metadata.PackageNotFoundError:
            missing.add(match[1])
    return missing


def _check_torch() -> Iterator[CheckResult]:
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        yield warning("torch", "not installed: only the instant engine runs here",
                      adapt_install_command("pip install 'maas-client[local]'"))  # fmt: skip
        return
    text = (Path(spec.origin).parent / "version.py").read_text("utf-8", "replace")
    version = _assigned_string(text, "__version__") or metadata.version("torch")
    builds = ((name, _assigned_string(text, name)) for name in ("cuda", "hip", "xpu"))
    build = next((f"{name} {number}" for name, number in builds if number), "CPU")
    gpus = nvidia_gpus()
    if gpus and build == "CPU":
        yield warning("torch", f"{version} is a CPU build, but this machine has {', '.join(gpus)}",
                      f"pip install --force-reinstall torch --index-url {_CUDA_WHEELS}")  # fmt: skip
        return
    yield ok("torch", f"{version}, {build} build, {', '.join(gpus) or 'no NVIDIA GPU'}")


def _assigned_string(source: str, name: str) -> str | None:
    """Return the string that Python source assigns to ``name``."""
    match = re.search(rf"^{name}\b[^=\n]*=\s*['\"]([^'\"]+)['\"]", source, re.MULTILINE)
    return match[1] if match else None


def nvidia_gpus() -> list[str]:
    """Return the names of the NVIDIA GPUs that the driver lists; none without a driver."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        process = subprocess.run(
            [tool, "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return []
    if process.returncode != 0:
        return []
    return [line.strip() for line in process.stdout.splitlines() if line.strip()]


def _check_bases(cache: Path) -> Iterator[CheckResult]:
    from maas_client.local import bases

    names = bases.list_available(cache)
    message = f"{', '.join(names)} in {cache}"
    if bases.SMOLLM2 in names:
        yield ok("base weights", message)
    else:
        yield warning("base weights", f"{message}: answers will be random text",
                      "maas-client models pull smollm2-135m")  # fmt: skip


def _check_products(cache: Path) -> Iterator[CheckResult]:
    """Report the matrix products that were chosen for each base that was trained here."""
    from maas_client.local.machine import matmul_choice

    for path in sorted(cache.glob(f"*/{matmul_choice.FILE}")):
        if choice := matmul_choice.load(path.parent):
            name = path.parent.name.replace("--", "/", 1)
            text = choice.describe().removeprefix("Matrix products: ")
            yield ok("matrix products", f"{name}: {text}")


def _check_disk(name: str, folder: Path) -> CheckResult:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    message = f"{folder}, {free / 2**30:.1f} GiB free"
    if not os.access(existing, os.W_OK):
        return failure(
            name, f"{message}, not writable", "Set MAAS_STATE_DIR to a folder you can write to."
        )
    return (
        ok(name, message)
        if free > _JOB_BYTES
        else warning(name, message, "A job needs about 2 GiB.")
    )
