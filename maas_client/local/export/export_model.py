"""Export a trained model: write a draft, load and compare it, then move it into place."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from maas_client.errors import ConfigError, MaasError, MissingExtraError
from maas_client.local.export import metadata_files, model_card
from maas_client.local.export.trained_model import CARD, TrainedModel
from maas_client.local.state import atomic_folder

ExportFormat = Literal["adapter", "merged", "onnx", "gguf", "ollama"]
Precision = Literal["fp32", "int8", "int4", "f32", "f16", "q8_0"]
Progress = Callable[[str], None]
_BUILDER_ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "fp32": (),
    "int8": (),
    # Eight bits for layers that lose most at four bits, as in llama.cpp's Q4_K_M. Measured on SmolLM2-135M and
    # gsm8k: half the divergence of plain rounding (0.19 instead of 0.36 nats per token), 112 instead of 86 MB.
    "int4": ("--extra_options", "algo_config=k_quant_mixed"),
}
"""Arguments of the ONNX builder for each precision."""
PRECISIONS: Mapping[str, tuple[str, ...]] = {
    "onnx": ("int4", "int8", "fp32"),
    "gguf": ("f16", "f32", "q8_0"),
    "ollama": ("f16", "f32", "q8_0"),
}
"""The precisions of each format that has a choice. The first is the default."""


@dataclass(frozen=True, slots=True)
class ExportResult:
    """An exported folder and the result of its check."""

    folder: Path
    format: ExportFormat
    checks: Mapping[str, Any]


def export_model(
    trained: TrainedModel,
    format: ExportFormat,
    out: Path,
    *,
    precision: Precision | None = None,
    progress: Progress = lambda _: None,
    repository: str | None = None,
) -> ExportResult:
    """Write ``trained`` into the folder ``out``, which must not exist. ``precision`` is one of ``PRECISIONS``.

    ``repository`` is the hub repository to which the folder will be uploaded. Its files have no local path.

    Raises ``ConfigError`` for a format the model does not support, ``MissingExtraError`` for missing packages,
    and ``MaasError`` if the export answers differently. Nothing is written then.
    """
    out = out.expanduser()
    atomic_folder.check_new(out)
    if format == "adapter" and not trained.is_adapter:
        raise ConfigError(
            f"{trained.name} was trained with method Full and has no adapter",
            hint="Use --to merged, onnx or gguf.",
        )
    chosen = _precision(format, precision)
    _check_packages(format)
    if format in ("gguf", "ollama"):
        from maas_client.local.export.gguf import writer

        writer.check_architecture(trained.base if trained.is_adapter else trained.folder)
    checks_result: dict[str, Any] = {}

    def fill(draft: Path) -> None:
        checks_result.update(_WRITERS[format](trained, draft, chosen, progress))
        if format == "adapter":
            metadata_files.write_adapter_config(trained, draft, shared=repository is not None)
        metadata_files.write_licence_files(trained, draft)
        model_card.write_model_card(
            trained, draft, format, checks_result, out.as_posix(), repository
        )

    atomic_folder.write_folder(out, fill)
    return ExportResult(out, format, checks_result)


def _precision(format: str, precision: str | None) -> str:
    choices = PRECISIONS.get(format)
    if precision and precision not in (choices or ()):
        hint = f"Choose one of {', '.join(choices)}." if choices else "Leave out --precision."
        raise ConfigError(f"--to {format} has no precision {precision}", hint=hint)
    return precision or (choices[0] if choices else "")


def _adapter(trained: TrainedModel, draft: Path, _: str, progress: Progress) -> dict[str, Any]:
    from maas_client.local.export import checks

    for name in ("adapter_model.safetensors", "adapter_config.json", CARD):
        if (trained.folder / name).exists():
            shutil.copyfile(trained.folder / name, draft / name)
    metadata_files.write_tokenizer(trained, draft)
    progress("loading the adapter with PEFT and comparing")
    return checks.check_adapter(trained, draft)


def _merged(trained: TrainedModel, draft: Path, _: str, progress: Progress) -> dict[str, Any]:
    from maas_client.local.export import checks, merge

    progress("merging")
    merge.write_merged_weights(trained, draft)
    metadata_files.write_tokenizer(trained, draft)
    end_ids = metadata_files.write_generation_config(trained, draft)
    if not metadata_files.template_matches(draft, trained.template):
        raise MaasError(
            "the exported chat template renders other text than the template used in training",
            hint="Nothing was written. Please report this as a bug of the export.",
        )
    progress("loading the model with transformers and comparing")
    return checks.check_merged(trained, draft) | {"ends at": end_ids}


def _onnx(trained: TrainedModel, draft: Path, precision: str, progress: Progress) -> dict[str, Any]:
    from maas_client.local.export import checks

    with tempfile.TemporaryDirectory(prefix="maas-onnx-", dir=draft.parent) as temp_folder:
        merged = Path(temp_folder) / "merged"
        merged.mkdir()
        _merged(trained, merged, precision, progress)
        progress(f"building the ONNX model ({precision})")
        _build(merged, draft, precision, Path(temp_folder) / "cache")
        metadata_files.write_foundry_local_file(trained, draft)
        progress("generating with onnxruntime-genai and comparing")
        return checks.check_onnx(trained, merged, draft, exact=precision == "fp32")


def _gguf(trained: TrainedModel, draft: Path, precision: str, progress: Progress) -> dict[str, Any]:
    from maas_client.local.export import checks
    from maas_client.local.export.gguf import writer

    path = draft / f"{trained.name}-{precision}.gguf"
    with tempfile.TemporaryDirectory(prefix="maas-gguf-", dir=draft.parent) as temp_folder:
        merged = Path(temp_folder)
        _merged(trained, merged, precision, progress)
        progress(f"writing and comparing {path.name}")
        result = writer.write_gguf(trained, merged, path, precision)
        if importlib.util.find_spec("llama_cpp"):
            progress("answering with llama.cpp and comparing")
        return result | checks.check_gguf(trained, merged, path, precision)


def _ollama(
    trained: TrainedModel, draft: Path, precision: str, progress: Progress
) -> dict[str, Any]:
    from maas_client.local.export.gguf import modelfile

    result = _gguf(trained, draft, precision, progress)
    modelfile.write_modelfile(draft, next(draft.glob("*.gguf")).name, trained.template)
    return result


_WRITERS: Mapping[str, Callable[[TrainedModel, Path, str, Progress], dict[str, Any]]] = {
    "adapter": _adapter,
    "merged": _merged,
    "onnx": _onnx,
    "gguf": _gguf,
    "ollama": _ollama,
}


def _build(merged: Path, draft: Path, precision: str, cache: Path) -> None:
    """Run onnxruntime-genai's builder in a child process, as it prints and does not free memory."""
    from maas_client.local.machine.child_processes import worker_environment

    command = [
        sys.executable, "-P", "-m", "maas_client.local.export.onnx_builder",
        "-i", str(merged), "-o", str(draft), "-p", precision, "-e", "cpu", "-c", str(cache),
        *_BUILDER_ARGUMENTS[precision],
    ]  # fmt: skip
    build = subprocess.run(
        command, env=worker_environment(2), capture_output=True, text=True, check=False
    )
    if build.returncode != 0 or not (draft / "genai_config.json").exists():
        reason = (build.stderr.strip() or build.stdout.strip() or "no reason given").splitlines()[
            -1
        ]
        raise ConfigError(
            f"onnxruntime-genai cannot build this model: {reason}",
            hint="Its builder supports Llama, Mistral, Phi and Qwen. Use --to merged for other models.",
        )


def _check_packages(form: str) -> None:
    packages = {
        "onnx": ("onnxruntime_genai", "onnx", "onnx_ir"),
        "adapter": ("peft",),
        "gguf": ("gguf",),
        "ollama": ("gguf",),
    }
    for package in ("torch", "transformers", *packages.get(form, ())):
        if importlib.util.find_spec(package) is None:
            extra = "onnx" if package.startswith("onnx") else "local"
            raise MissingExtraError(
                f"the package {package} is not installed",
                extra=extra,
                hint=f"Install it: pip install 'maas-client[{extra}]'",
            )
