"""Export a job as Olive's run configuration: fine-tune, then convert to ONNX Runtime with ``ModelBuilder``.

Tested with ``RunConfig`` of olive-ai 0.13. Olive reads chat rows itself (``chat_template``), so the data file
is used as it is.
"""

from __future__ import annotations

import json
from typing import Any

from maas_client.platforms.spec import ExportSpec, Places


def build_files(spec: ExportSpec, places: Places) -> dict[str, str]:
    """Return ``olive.json``."""
    return {"olive.json": json.dumps(build_config(spec), indent=2, ensure_ascii=False) + "\n"}


def build_config(spec: ExportSpec, model_path: str | None = None) -> dict[str, Any]:
    """Return the configuration.

    Args:
        spec: The job.
        model_path: The folder of the weights; None to load them from the Hugging Face Hub.
    """
    method = spec.check_method("Olive", ("LoRA", "QLoRA", "DoRA"), "cluster or the local server")
    data = [_data_config("train", spec.training_data, spec)]
    if spec.validation_data:
        data.append(_data_config("validation", spec.validation_data, spec))
    return {
        "workflow_id": spec.slug,
        "input_model": {"type": "HfModel", "model_path": model_path or spec.hub_id},
        "systems": {
            "gpu": {
                "type": "LocalSystem",
                "accelerators": [
                    {"device": "gpu", "execution_providers": ["CUDAExecutionProvider"]}
                ],
            }
        },
        "data_configs": data,
        "passes": {"tune": _tuning_pass(spec, method), "onnx": {"type": "ModelBuilder", "precision": "int4"}},
        "host": "gpu",
        "target": "gpu",
        "evaluate_input_model": False,
        "output_dir": f"models/{spec.slug}",
    }  # fmt: skip


def _data_config(name: str, path: str, spec: ExportSpec) -> dict[str, Any]:
    return {
        "name": name,
        "type": "HuggingfaceContainer",
        "load_dataset_config": {"data_name": "json", "data_files": path, "split": "train"},
        "pre_process_data_config": {
            "type": "text_generation_huggingface_pre_process",
            "chat_template": True,
            "message_col": "messages",
            "strategy": "line-by-line",
            "max_seq_len": spec.hyperparameters.max_seq_length or 1024,
            "pad_to_max_len": False,
        },
    }


def _tuning_pass(spec: ExportSpec, method: str) -> dict[str, Any]:
    rank, alpha, dropout = spec.lora_settings
    config: dict[str, Any] = {
        "type": method,
        "r": rank,
        "alpha": alpha,
        "lora_dropout": dropout,
        "target_modules": spec.target_modules,
        "torch_dtype": "bfloat16",
        "train_data_config": "train",
        "training_args": {
            "gradient_checkpointing": True,
            **spec.training_arguments(),
            **spec.hyperparameters.extra,
        },
    }
    if spec.validation_data:
        config["eval_data_config"] = "validation"
    if method == "QLoRA":
        config |= {"quant_type": "nf4", "double_quant": True, "compute_dtype": "bfloat16"}
    return config
