"""The way out: written beside its place, read back, compared, and only then put there."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from maas_client.errors import ConfigError, MaasError, MissingExtraError
from maas_client.local.export import metadata_files
from maas_client.local.export.trained_model import CARD, TrainedModel
from maas_client.local.state import atomic_folder

ExportFormat = Literal["adapter", "merged", "onnx"]
Precision = Literal["fp32", "int8", "int4"]
Progress = Callable[[str], None]
_WIDTHS: Mapping[str, tuple[str, ...]] = {
    "fp32": (),
    "int8": (),
    # Eight bits for the layers that bear four badly, as llama.cpp's Q4_K_M has it. Measured on SmolLM2-135M
    # and gsm8k: half the divergence of plain rounding (0.19 against 0.36 nats a token), 112 against 86 MB.
    "int4": ("--extra_options", "algo_config=k_quant_mixed"),
}
"""How weights are narrowed: arguments of the builder."""
EXPORT_FORMATS: tuple[str, ...] = get_args(ExportFormat)


@dataclass(frozen=True, slots=True)
class ExportResult:
    """A folder that was written, and what its check found."""

    folder: Path
    format: ExportFormat
    checks: Mapping[str, Any]


def export_model(
    trained: TrainedModel,
    format: ExportFormat,
    out: Path,
    *,
    precision: Precision = "int4",
    progress: Progress = lambda _: None,
) -> ExportResult:
    """Write ``trained`` into the folder ``out``, which must not exist.

    Raises ``ConfigError`` for a form that the model cannot take, ``MissingExtraError`` without the
    packages, and a ``MaasError`` if what was written does not answer as it should. Nothing is left
    behind then.
    """
    out = out.expanduser()
    if out.exists():
        raise ConfigError(f"{out} exists", hint="Name a folder that does not: --out FOLDER")
    if format == "adapter" and not trained.is_adapter:
        raise ConfigError(
            f"{trained.name} was trained whole (method Full): it has no adapter",
            hint="Use --to merged or --to onnx.",
        )
    _need(format)
    checked: dict[str, Any] = {}

    def fill(draft: Path) -> None:
        checked.update(_FILL[format](trained, draft, precision, progress))
        metadata_files.write_licence_files(trained, draft)
        metadata_files.write_model_card(trained, draft, format, checked)

    atomic_folder.write_folder(out, fill)
    return ExportResult(out, format, checked)


def _adapter(trained: TrainedModel, draft: Path, _: str, progress: Progress) -> dict[str, Any]:
    from maas_client.local.export import checks

    for name in ("adapter_model.safetensors", "adapter_config.json", CARD):
        if (trained.folder / name).exists():
            shutil.copyfile(trained.folder / name, draft / name)
    metadata_files.write_tokenizer(trained, draft)
    progress("loading it with PEFT and comparing")
    return checks.check_adapter(trained, draft)


def _merged(trained: TrainedModel, draft: Path, _: str, progress: Progress) -> dict[str, Any]:
    from maas_client.local.export import checks, merge

    progress("merging")
    merge.write_merged_weights(trained, draft)
    metadata_files.write_tokenizer(trained, draft)
    ends = metadata_files.write_generation_config(trained, draft)
    if not metadata_files.template_matches(draft, trained.template):
        raise MaasError("the chat template that was written does not print what was trained")
    progress("loading it with transformers and comparing")
    return checks.check_merged(trained, draft) | {"ends at": ends}


def _onnx(trained: TrainedModel, draft: Path, precision: str, progress: Progress) -> dict[str, Any]:
    from maas_client.local.export import checks

    with tempfile.TemporaryDirectory(prefix="maas-onnx-", dir=draft.parent) as room:
        merged = Path(room) / "merged"
        merged.mkdir()
        _merged(trained, merged, precision, progress)
        progress(f"building the ONNX model ({precision})")
        _build(merged, draft, precision, Path(room) / "cache")
        progress("generating with onnxruntime-genai and comparing")
        return checks.check_onnx(trained, merged, draft, exact=precision == "fp32")


_FILL: Mapping[str, Callable[[TrainedModel, Path, str, Progress], dict[str, Any]]] = {
    "adapter": _adapter,
    "merged": _merged,
    "onnx": _onnx,
}


def _build(merged: Path, draft: Path, precision: str, cache: Path) -> None:
    """Run onnxruntime-genai's builder in a process of its own: it prints, and it keeps memory."""
    from maas_client.local.machine.child_processes import worker_environment

    command = [
        sys.executable, "-P", "-m", "maas_client.local.export.onnx_builder",
        "-i", str(merged), "-o", str(draft), "-p", precision, "-e", "cpu", "-c", str(cache),
        *_WIDTHS[precision],
    ]  # fmt: skip
    made = subprocess.run(
        command, env=worker_environment(2), capture_output=True, text=True, check=False
    )
    if made.returncode != 0 or not (draft / "genai_config.json").exists():
        said = (made.stderr.strip() or made.stdout.strip() or "no reason given").splitlines()[-1]
        raise ConfigError(
            f"onnxruntime-genai cannot build this model: {said}",
            hint="Its builder knows Llama, Mistral, Phi and Qwen; --to merged works for all.",
        )


def _need(form: str) -> None:
    wanted = {"onnx": ("onnxruntime_genai", "onnx", "onnx_ir"), "adapter": ("peft",)}
    for package in ("torch", "transformers", *wanted.get(form, ())):
        if importlib.util.find_spec(package) is None:
            extra = "onnx" if package.startswith("onnx") else "local"
            raise MissingExtraError(
                f"the package {package} is not installed",
                extra=extra,
                hint=f"Install it: pip install 'maas-client[{extra}]'",
            )
