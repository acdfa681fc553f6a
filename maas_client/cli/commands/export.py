"""``maas-client export``: export a model or a job for another platform."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maas_client._settings import Settings
from maas_client.cli import _connection
from maas_client.cli._job_options import (
    add_hyperparameters,
    hyperparameters,
    note_resolved_model,
)
from maas_client.cli._output import print_fields, print_json, print_note
from maas_client.cli._parser import group_options, positive_int, refuse_unused
from maas_client.errors import ConfigError, NotFoundError, UnsupportedError
from maas_client.local.state import atomic_folder

if TYPE_CHECKING:
    from maas_client._client import Client
    from maas_client.catalog import ModelInfo
    from maas_client.local.export.trained_model import TrainedModel
    from maas_client.platforms import Places
    from maas_client.types import Job

_MODEL_FORMATS = ("adapter", "merged", "onnx", "gguf", "ollama")
_PRECISIONS = ("int4", "int8", "fp32", "f16", "f32", "q8_0")
_JOB_FORMATS = ("azureml", "kaito", "cluster", "olive", "aitoolkit")
_ALIASES = ("accelerate", "torchrun", "vllm", "ai-toolkit")
_LABELS = {
    "form": "format",
    "divergence_nats": "divergence in nats per token",
    "largest_difference": "largest difference of a logit",
    "loaded by": "loaded with",
    "compared by": "compared with",
    "ends at": "stop tokens",
}
"""Keys of an export's result in JSON, and what they are called in a terminal."""
_PLACES = (
    ("--input-url", "URL", "kaito: public URL of the data"),
    ("--input-pvc", "NAME", "kaito: volume claim with the data"),
    ("--input-image", "IMAGE", "kaito: image with the data in /data"),
    ("--output-image", "IMAGE", "kaito: image to push the adapter to"),
    ("--output-pvc", "NAME", "kaito: volume claim to write the adapter to"),
    ("--push-secret", "NAME", "kaito: secret for pushing the image"),
)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "target",
        metavar="TARGET",
        help="a model, its job or its deployment; formats of a model: also a folder; formats of a job: also a "
        "data file with --model",
    )
    models, jobs = ", ".join(_MODEL_FORMATS), ", ".join(_JOB_FORMATS)
    parser.add_argument("--to", required=True, metavar="FORMAT",
                        choices=(*_MODEL_FORMATS, *_JOB_FORMATS, *_ALIASES),
                        help=f"format of a model: {models}; format of a job: {jobs}")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="FOLDER",
                        help="folder to create (default: NAME-FORMAT, or stdout for one file)")  # fmt: skip
    model_group = parser.add_argument_group("models")
    model_group.add_argument(
        "--base", type=Path, metavar="FOLDER", help="folder with the base weights"
    )
    model_group.add_argument(
        "--precision",
        choices=_PRECISIONS,
        help="onnx: int4 (default), int8 or fp32; gguf and ollama: f16 (default), q8_0 or f32",
    )
    model_group.add_argument(
        "--push-to", metavar="OWNER/NAME",
        help="upload to this repository of the Hugging Face hub (token: HF_TOKEN); creates it, private, or "
        "updates it. Without --out, no folder is left on this machine",
    )  # fmt: skip
    model_group.add_argument(
        "--public", action="store_true", help="--push-to: create the repository as a public one"
    )
    model_group.add_argument(
        "--include-base-weights", action="store_true",
        help="--push-to: also upload formats that contain the weights of the base (all but adapter)",
    )  # fmt: skip
    job_group = parser.add_argument_group("jobs")
    job_group.add_argument("--data", metavar="PATH", help="path of the data on the platform")
    job_group.add_argument(
        "--no-validation", action="store_true", help="export without the validation file"
    )
    job_group.add_argument(
        "--processes",
        type=positive_int,
        default=1,
        metavar="N",
        help="cluster: number of GPUs (default 1)",
    )
    for option, metavar, text in _PLACES:
        job_group.add_argument(option, metavar=metavar, help=text)
    job_group.add_argument(
        "--model", help="for a data file: base model, such as Phi-4-mini-instruct"
    )
    job_group.add_argument("--validation", metavar="FILE", help="for a data file: held-out chats")
    job_group.add_argument("--ignore", action="append", default=[], metavar="CODE",
                      help="for a data file: skip checks with this code (repeatable)")  # fmt: skip
    job_group.add_argument("--name", help="for a data file: the job's name")
    job_group.add_argument(
        "--method", help="LoRA, QLoRA, DoRA or Full, where the platform has a choice"
    )
    job_group.add_argument("--compute", action="append", metavar="NAME",
                      help="azureml, kaito: your own GPUs, by name or size (repeatable)")  # fmt: skip
    add_hyperparameters(parser)
    _connection.add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Export a model or a job."""
    if not args.target.strip():
        raise ConfigError("TARGET is empty", hint="Name a model, a job, a folder or a data file.")
    if not args.push_to:
        hint = "Add --push-to OWNER/NAME, or leave out {}."
        refuse_unused(args, "without --push-to", ["public", "include_base_weights"], hint)
    if args.to in _MODEL_FORMATS:
        return _export_model(args)
    reason = f"with --to {args.to}, which exports a job"
    hint = f"Leave out {{}}, or export a model: --to {', '.join(_MODEL_FORMATS)}."
    refuse_unused(args, reason, group_options(args, "models"), hint)
    if args.no_validation:
        refuse_unused(
            args, "with --no-validation", ["validation"], "Leave out {} or --no-validation."
        )
    return _export_job(args)


def _export_model(args: argparse.Namespace) -> int:
    if _connection.resolve_backend(args) != "local":
        raise UnsupportedError(
            "the weights of a serverless job stay on Azure and cannot be exported",
            hint="Export a model that was trained on this machine: --backend local",
        )
    from maas_client.local.export import export_model, trained_model

    settings, folder = Settings.load(), Path(args.target).expanduser()
    if folder.is_file():
        raise ConfigError(
            f"{folder} is a file, but --to {args.to} exports a model",
            hint="Pass the name of a model trained on this machine: maas-client models list --mine",
        )
    reason = f"with --to {args.to}, which exports a model"
    refuse_unused(args, reason, group_options(args, "jobs", "training"), "Leave out {}.")
    reason = f"with --to {args.to}, which reads the files of this machine"
    _connection.refuse_options(args, reason, allowed=("backend",))
    if folder.is_dir():
        model = trained_model.load_trained_model(folder, settings.cache_path(), base=args.base)
    else:
        model = trained_model.find_trained_model(
            settings.state_path(), settings.cache_path(), args.target, args.base
        )
    out = args.out or Path(f"{model.name}-{args.to}")
    if args.push_to:
        fields = _push(args, model)
    else:
        result = export_model.export_model(
            model, args.to, out, precision=args.precision, progress=print_note
        )
        fields = {"folder": str(result.folder), "form": result.format, **result.checks}
    print_fields(
        args,
        {_LABELS.get(name, name): _round(value) for name, value in fields.items()},
        {name.replace(" ", "_"): value for name, value in fields.items()},
    )
    if "folder" in fields:
        print_note(f"how to load it: {Path(fields['folder']) / 'README.md'}")
    return 0


def _round(value: Any) -> Any:
    return f"{value:.2g}" if isinstance(value, float) else value


def _push(args: argparse.Namespace, model: TrainedModel) -> dict[str, Any]:
    """Export into ``--out`` or a temporary folder, upload it, and return the fields to print."""
    from maas_client.local.export import export_model, hub_upload

    repository = hub_upload.check_upload(
        args.push_to, model, args.to, include_base_weights=args.include_base_weights
    )
    with tempfile.TemporaryDirectory(prefix="maas-export-") as temp_folder:
        result = export_model.export_model(
            model, args.to, args.out or Path(temp_folder) / "out",
            precision=args.precision, progress=print_note, repository=repository.name,
        )  # fmt: skip
        print_note(f"uploading to {repository.name}")
        address = hub_upload.upload_folder(
            repository, result.folder, result.format, public=args.public
        )
    folder = {"folder": str(result.folder)} if args.out else {}
    return {"repository": address, **folder, "form": result.format, **result.checks}


def _export_job(args: argparse.Namespace) -> int:
    from maas_client.platforms import MAIN_FILES

    files = _from_file(args) if Path(args.target).is_file() else _from_job(args)
    main_file = MAIN_FILES.get(args.to)
    folder = None
    if args.out or not (main_file or args.json):
        folder = write_folder(args.out or Path(f"{Path(args.target).stem}-{args.to}"), files)
    if args.json:
        path = str(folder) if folder else None
        print_json({"form": args.to, "folder": path, "files": dict(files)})
    elif folder:
        print("\n".join(str(folder / name) for name in sorted(files)))
    else:
        print(files[str(main_file)], end="")
    return 0


def _from_file(args: argparse.Namespace) -> Mapping[str, str]:
    """Return the files of a new job, which a data file, a model and the options describe."""
    from maas_client import catalog, platforms
    from maas_client.flows._requests import canonical_method, check_hyperparameters
    from maas_client.types import Hyperparameters

    _connection.refuse_options(args, f"with {args.target}, a data file")
    if not args.model:
        raise ConfigError(
            f"{args.target} is a data file, and no model is given", hint="Add --model NAME."
        )
    note_resolved_model(args.model)
    model = catalog.find_model(args.model)
    if model is None and not catalog.is_asset_uri(args.model) and args.model.count("/") != 1:
        model = catalog.get_model(args.model)  # raises, with the nearest name
    _validate(args, model)
    name = model.name if model else args.model
    values = Hyperparameters.model_validate(hyperparameters(args))
    method = canonical_method(args.method)
    check_hyperparameters(values, method)
    spec = platforms.ExportSpec(
        name=args.name or f"{Path(args.target).stem}-{name}",
        model=name,
        model_info=model,
        training_data=args.data or args.target,
        validation_data=None if args.no_validation else args.validation,
        method=method,
        hyperparameters=values,
        compute=tuple(args.compute or ()),
    )
    return platforms.export_job(spec, args.to, _places(args))


def _validate(args: argparse.Namespace, model: ModelInfo | None) -> None:
    """Raise ``DatasetError`` for an invalid file; print a note if Azure has retired the model."""
    from datetime import UTC, datetime

    from maas_client import catalog
    from maas_client.dataset import validate

    validate(
        args.target,
        model=model.name if model else None,
        target="azureml" if args.to == "azureml" else "local",
        validation=None if args.no_validation else args.validation,
        ignore=args.ignore,
    ).raise_if_invalid()
    today = datetime.now(UTC).date()
    if args.to == "azureml" and not args.compute and model and catalog.is_retired(model, today):
        notice = catalog.retirement_notice(model, today)
        print_note(f"{notice}: Azure rejects a serverless job with this file")


def _from_job(args: argparse.Namespace) -> Mapping[str, str]:
    """Return the files of an existing job."""
    if args.model or args.validation or args.name or args.ignore or hyperparameters(args):
        raise ConfigError(
            f"there is no file {args.target}, and an existing job has its own model and settings",
            hint="Pass a data file to describe a new job, or leave out the options of the job.",
        )
    with _connection.connect(args) as client:
        return client.jobs.export(
            _find_job(client, args.target),
            args.to,
            training_data=args.data,
            validation=not args.no_validation,
            method=args.method,
            compute=tuple(args.compute or ()),
            places=_places(args),
        )


def _find_job(client: Client, name: str) -> Job | str:
    """Return the job with a name, or the one whose model or deployment it is; else the name."""
    with suppress(NotFoundError):
        return client.jobs.get(name)
    model_id = name
    with suppress(NotFoundError, ConfigError):
        model_id = client.deployments.get(name).model or name
    with suppress(NotFoundError, ConfigError):
        model_id = client.models.get(model_id).id
    job = next((job for job in client.jobs.list() if job.fine_tuned_model == model_id), None)
    if job:
        print_note(f"{name} comes from the job {job.name}")
    return job or name


def _places(args: argparse.Namespace) -> Places:
    from maas_client.platforms import Places

    names = (option.removeprefix("--").replace("-", "_") for option, _, _ in _PLACES)
    return Places(processes=args.processes, **{name: getattr(args, name) for name in names})


def write_folder(folder: Path, files: Mapping[str, str]) -> Path:
    """Write all files into a new folder, or none. Raises ``ConfigError`` if the folder cannot be made."""
    atomic_folder.check_new(folder)
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
