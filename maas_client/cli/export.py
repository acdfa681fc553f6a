"""``maas-client export``: take a model or a job elsewhere."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maas_client._settings import Settings
from maas_client.cli import _connection, _job_options
from maas_client.cli._output import print_fields, print_json, print_note
from maas_client.errors import ConfigError, UnsupportedError

if TYPE_CHECKING:
    from maas_client.catalog import ModelInfo

_MODELS = ("adapter", "merged", "onnx")
_JOBS = ("azureml", "kaito", "cluster", "olive", "aitoolkit")
_ALIASES = ("accelerate", "torchrun", "vllm", "ai-toolkit")
_PLACES = (
    ("--input-url", "URL", "kaito: a public address of the data"),
    ("--input-pvc", "NAME", "kaito: a volume claim that holds the data"),
    ("--input-image", "IMAGE", "kaito: an image that holds the data in /data"),
    ("--output-image", "IMAGE", "kaito: the image to push the adapter to"),
    ("--output-pvc", "NAME", "kaito: the volume claim to write the adapter to"),
    ("--push-secret", "NAME", "kaito: the secret with which the image is pushed"),
)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "target",
        metavar="TARGET",
        help="a model, its job or its folder (adapter, merged, onnx); a job, or a data file with "
        "--model (the others)",
    )
    parser.add_argument("--to", required=True, choices=(*_MODELS, *_JOBS, *_ALIASES), metavar="FORM",
                        help=f"a model to {', '.join(_MODELS)}; a job to {', '.join(_JOBS)}")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="FOLDER",
                        help="a folder that does not exist (default: stdout where one file "
                        "says it all, else NAME-FORM)")  # fmt: skip
    models = parser.add_argument_group("models")
    models.add_argument("--base", type=Path, metavar="FOLDER", help="where the base lies")
    models.add_argument(
        "--precision",
        choices=("fp32", "int8", "int4"),
        default="int4",
        help="of onnx: int8 answers nearly as fp32 does, int4 is smaller (default int4)",
    )
    jobs = parser.add_argument_group("jobs")
    jobs.add_argument("--data", metavar="PATH", help="the data as the platform sees it")
    jobs.add_argument("--no-validation", action="store_true", help="leave the validation file out")
    jobs.add_argument("--processes", type=int, default=1, metavar="N", help="cluster: GPUs")
    for option, metavar, text in _PLACES:
        jobs.add_argument(option, metavar=metavar, help=text)
    jobs.add_argument("--model", help="of a data file: Phi-4-mini-instruct, Phi-3-mini, ...")
    jobs.add_argument("--validation", metavar="FILE", help="of a data file: held-out chats")
    jobs.add_argument("--ignore", action="append", default=[], metavar="CODE",
                      help="of a data file: let problems of this code pass")  # fmt: skip
    jobs.add_argument("--name", help="of a data file: the job's name")
    jobs.add_argument(
        "--method", help="LoRA, QLoRA, DoRA or Full, where the platform lets one choose"
    )
    jobs.add_argument("--compute", action="append", metavar="NAME",
                      help="azureml, kaito: your own GPUs, by name or size (may be repeated)")  # fmt: skip
    _job_options.add_hyperparameters(parser)
    _connection.add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Export a model or a job."""
    return _model(args) if args.to in _MODELS else _job(args)


def _model(args: argparse.Namespace) -> int:
    if _connection.resolve_backend(args) != "local":
        raise UnsupportedError(
            "the weights of a serverless job stay with Azure: there is nothing to export",
            hint="Models trained here can be exported (--backend local).",
        )
    from maas_client.local.export import export_model, trained_model

    settings, folder = Settings.load(), Path(args.target).expanduser()
    if folder.is_file():
        raise ConfigError(
            f"{folder} is a file, and {args.to} is made of a model",
            hint="Name a model that was trained here: maas-client models list --mine",
        )
    if folder.is_dir():
        model = trained_model.load_trained_model(folder, settings.cache_path(), base=args.base)
    else:
        model = trained_model.find_trained_model(
            settings.state_path(), settings.cache_path(), args.target, args.base
        )
    out = args.out or Path(f"{model.name}-{args.to}")
    made = export_model.export_model(
        model, args.to, out, precision=args.precision, progress=print_note
    )
    checked = {name.replace(" ", "_"): value for name, value in made.checks.items()}
    fields = {"folder": str(made.folder), "form": made.format, **checked}
    print_fields(args, fields)
    return 0


def _job(args: argparse.Namespace) -> int:
    from maas_client.platforms.exporters import MAIN_FILES

    files = _from_file(args) if Path(args.target).is_file() else _from_job(args)
    main = MAIN_FILES.get(args.to)
    folder = None
    if args.out or not (main or args.json):
        folder = write_folder(args.out or Path(f"{Path(args.target).stem}-{args.to}"), files)
    if args.json:
        told = str(folder) if folder else None
        print_json({"form": args.to, "folder": told, "files": dict(files)})
    elif folder:
        print("\n".join(str(folder / name) for name in sorted(files)))
    else:
        print(files[str(main)], end="")
    return 0


def _from_file(args: argparse.Namespace) -> Mapping[str, str]:
    """Return the files of a job that was never made: a data file, a model and a recipe."""
    from maas_client import catalog, platforms
    from maas_client.types import Hyperparameters

    if not args.model:
        raise ConfigError(
            f"{args.target} is a data file: which model shall it train?", hint="Add --model NAME."
        )
    _job_options.note_resolved_model(args.model)
    facts = catalog.find_model(args.model)
    if facts is None and not catalog.is_asset_uri(args.model) and args.model.count("/") != 1:
        facts = catalog.get_model(args.model)  # raises, naming the nearest
    _check(args, facts)
    spec = platforms.ExportSpec(
        name=args.name or f"{Path(args.target).stem}-{facts.name if facts else args.model}",
        model=facts.name if facts else args.model,
        model_info=facts,
        training_data=args.data or args.target,
        validation_data=None if args.no_validation else args.validation,
        method=args.method,
        hyperparameters=Hyperparameters.model_validate(_job_options.hyperparameters(args)),
        compute=tuple(args.compute or ()),
    )
    return platforms.export_job(spec, args.to, _places(args))


def _check(args: argparse.Namespace, facts: ModelInfo | None) -> None:
    """Refuse a data file that would fail there; say that Azure has retired the model."""
    from datetime import UTC, datetime

    from maas_client import catalog
    from maas_client.dataset import validate

    validate(
        args.target,
        model=facts.name if facts else None,
        target="azureml" if args.to == "azureml" else "local",
        validation=None if args.no_validation else args.validation,
        ignore=args.ignore,
    ).raise_if_invalid()
    today = datetime.now(UTC).date()
    if args.to == "azureml" and not args.compute and facts and catalog.is_retired(facts, today):
        print_note(
            f"{catalog.retirement_notice(facts, today)}: a serverless job of this file is refused there"
        )


def _from_job(args: argparse.Namespace) -> Mapping[str, str]:
    if args.model or args.validation or args.name or _job_options.hyperparameters(args):
        raise ConfigError(
            f"{args.target} is no file here, and a job has its model and its recipe already",
            hint="Name a data file to describe a new job.",
        )
    with _connection.connect(args) as client:
        return client.jobs.export(
            args.target,
            args.to,
            training_data=args.data,
            validation=not args.no_validation,
            method=args.method,
            compute=tuple(args.compute or ()),
            places=_places(args),
        )


def _places(args: argparse.Namespace) -> Any:
    from maas_client.platforms import Places

    named = {
        option.removeprefix("--").replace("-", "_"): getattr(
            args, option.removeprefix("--").replace("-", "_")
        )
        for option, _, _ in _PLACES
    }
    return Places(processes=args.processes, **named)


def write_folder(folder: Path, files: Mapping[str, str]) -> Path:
    """Write files into a new folder, all or none. Raises ``ConfigError`` if it exists."""
    if folder.exists():
        raise ConfigError(f"{folder} exists", hint="Name a folder that does not: --out FOLDER")
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for name, text in files.items():
            path = draft / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            if path.suffix == ".sh":
                path.chmod(0o755)
        draft.chmod(0o755)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder
