"""Export a job for your own GPUs: TRL's configuration, accelerate or torchrun to run it, vLLM to serve it.

Tested with TRL's own argument parser. The chat template marks the assistant's text, so that only that text
counts in the loss.
"""

from __future__ import annotations

import shlex
from pathlib import PurePath
from typing import Any

from maas_client._messages import Argument, Text
from maas_client.chat.templates import to_jinja
from maas_client.errors import ConfigError, UnsupportedError
from maas_client.platforms import yaml
from maas_client.platforms.spec import ExportSpec, Places

_TRL_MODULE = "trl.scripts.sft"
_BOOLEANS = {True: True, "true": True, "True": True, False: False, "false": False, "False": False}
_PIPELINE_ALTERNATIVES = {
    "apply_lora": "method",
    "precision": "bf16",
    "merge_lora_weights": "maas-client export MODEL --to merged, afterwards",
    "processes": "--processes",
    "number_of_gpu_to_use_finetuning": "--processes",
    "num_nodes_finetune": "accelerate config",
    "evaluation_strategy": "eval_strategy",
    "evaluation_steps_interval": "eval_steps",
    "apply_early_stopping": "maas-client evaluate, afterwards",
    "early_stopping_patience": "maas-client evaluate, afterwards",
    "early_stopping_threshold": "maas-client evaluate, afterwards",
}
"""Names of Microsoft's pipeline that TRL's parser does not know, and what to use instead."""


def build_files(spec: ExportSpec, places: Places) -> dict[str, str]:
    """Return ``sft.yaml``, ``chat_template.jinja``, ``train.sh`` and ``serve.sh``."""
    method = spec.check_method("a cluster", ("LoRA", "QLoRA", "DoRA", "Full"), "the service")
    return {
        "sft.yaml": yaml.dump(_config(spec, method)),
        "chat_template.jinja": to_jinja(spec.template, generation_tags=True),
        "train.sh": _train_script(spec, places),
        "serve.sh": _serve_script(spec, method),
    }


def _config(spec: ExportSpec, method: str) -> dict[str, Any]:
    config: dict[str, Any] = {
        "model_name_or_path": spec.hub_id,
        "dtype": "bfloat16",
        "datasets": [{"path": "json", "data_files": _data_file(spec), "split": "train"}],
        "chat_template_path": "chat_template.jinja",
        "assistant_only_loss": True,
        "output_dir": f"./{spec.slug}",
        "run_name": spec.slug,
        "report_to": "none",
        "bf16": True,
        "gradient_checkpointing": True,
    }
    if method != "Full":
        rank, _, dropout = spec.lora_settings
        config |= {
            "use_peft": True,
            "lora_r": rank,
            "lora_alpha": spec.integer_alpha("TRL"),
            "lora_dropout": dropout,
            "lora_target_modules": spec.target_modules,
        }
    if method == "QLoRA":
        config |= {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "use_bnb_nested_quant": True}
    if method == "DoRA":
        config["use_dora"] = True
    if spec.hyperparameters.max_seq_length:
        config["max_length"] = spec.hyperparameters.max_seq_length
    return config | spec.training_arguments() | _extra(spec)


def _extra(spec: ExportSpec) -> dict[str, Any]:
    """Return the extra hyperparameters for TRL. DeepSpeed is configured through accelerate."""
    extra = dict(spec.hyperparameters.extra)
    for name, alternative in _PIPELINE_ALTERNATIVES.items():
        if name in extra:
            raise UnsupportedError(
                f"TRL's script has no {name}", hint=f"Use this instead: {alternative}"
            )
    return {
        name: extra[name] for name in extra if name not in ("apply_deepspeed", "deepspeed_stage")
    }


def _zero_stage(spec: ExportSpec) -> int | None:
    """Return DeepSpeed's ZeRO stage (default 2, as in Microsoft's pipeline), or None without DeepSpeed."""
    extra = dict(spec.hyperparameters.extra)
    enabled, stage = extra.get("apply_deepspeed", False), extra.get("deepspeed_stage", 2)
    if enabled not in _BOOLEANS:
        raise ConfigError(f"apply_deepspeed must be true or false, not {enabled!r}")
    if str(stage) not in ("1", "2", "3"):
        raise ConfigError(f"deepspeed_stage must be 1, 2 or 3, not {stage!r}")
    return int(stage) if _BOOLEANS[enabled] else None


def _data_file(spec: ExportSpec) -> str:
    if spec.validation_data:
        raise UnsupportedError(
            "TRL's script does not support a validation file next to the training file",
            hint=Text.format(
                "Leave it out ({}), and evaluate afterwards: maas-client evaluate",
                Argument("validation", False),
            ),
        )
    return spec.training_data


def _train_script(spec: ExportSpec, places: Places) -> str:
    count, stage = places.processes, _zero_stage(spec)
    program = f"--module {_TRL_MODULE} --config sft.yaml"
    zero = f"--use_deepspeed --zero_stage {stage} " if stage else ""
    torchrun = f"""
# The same without accelerate:
#   torchrun --nproc_per_node {count} {program}
"""
    return f"""#!/bin/sh
# {spec.name}: pip install 'trl>=1.16' peft accelerate bitsandbytes{" deepspeed" if stage else ""}
set -eu
cd "$(dirname "$0")"
export TOKENIZERS_PARALLELISM=false

# One machine. For several, `accelerate config` asks for their addresses.
accelerate launch {zero}--num_processes {count} --mixed_precision bf16 {program}
{"" if stage else torchrun}"""


def _serve_script(spec: ExportSpec, method: str) -> str:
    name = shlex.quote(spec.slug)
    if method == "Full":
        command = f"vllm serve ./{name} --served-model-name {name}"
    else:
        rank = next(
            (r for r in (8, 16, 32, 64, 128, 256, 320, 512) if r >= spec.lora_settings[0]), None
        )
        if rank is None or method == "DoRA":
            merged = PurePath(spec.slug + "-merged")
            command = (
                f"maas-client export ./{name} --to merged --base MODEL-FOLDER --out {merged}\n"
                f"vllm serve ./{merged} --served-model-name {name}  # vLLM cannot serve such an adapter"
            )
        else:
            command = (
                f"vllm serve {shlex.quote(spec.hub_id)} --enable-lora --max-lora-rank {rank} "
                f"--lora-modules {name}=./{name}"
            )
    return f'#!/bin/sh\nset -eu\ncd "$(dirname "$0")"\n{command}\n'
