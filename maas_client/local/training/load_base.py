"""A base from disk: safetensors only, no remote code, nothing fetched."""

from __future__ import annotations

from typing import Any

import torch  # noqa: TID253 - this module is imported by the training process only
from torch import nn  # noqa: TID253 - see above

from maas_client.chat import TEMPLATES, ChatTemplate, render, render_prompt
from maas_client.errors import ConfigError, MissingExtraError
from maas_client.local.machine import heap
from maas_client.local.resources.training_config import TrainingConfig
from maas_client.local.training import attention
from maas_client.local.training.fused_modules import fuse_modules

_SAFE: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
_PROBE = (
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": "b"},
    {"role": "user", "content": "c"},
)


def resolve_device(device: str) -> str:
    """Return ``cpu``, ``cuda`` or ``mps`` for a wish that may be ``auto``."""
    if device != "auto":
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "cpu"


def select_gpu(rank: int, process_count: int) -> None:
    """Make a GPU of its own this process's ``cuda``. Raises ``ConfigError`` where there are too few."""
    if (found := torch.cuda.device_count()) < process_count:
        raise ConfigError(
            f"{process_count} processes were asked for, and this machine has {found} GPUs for them",
            hint=f"Use processes={found}, or start the server with --device cpu.",
        )
    torch.cuda.set_device(rank)


def load_tokenizer(folder: str) -> Any:
    """Return the tokenizer of a base."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, **_SAFE)


def load_model(folder: str, config: TrainingConfig, device: str) -> nn.Module:
    """Return the base in evaluation mode, frozen, with attention per document."""
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # a job's log is read as text
    dtype = weight_dtype(config, device)
    if device == "cuda" and dtype == torch.float32 and config.precision != "32":
        torch.set_float32_matmul_precision("high")  # TF32
    extra: dict[str, Any] = {}
    if config.method == "QLoRA":
        extra["quantization_config"] = _four_bits(dtype)
        extra["device_map"] = {"": device}
    with heap.trim_heap():
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            attn_implementation=attention.register(),
            **_SAFE,
            **extra,
        )
    model.requires_grad_(False)
    fuse_modules(model)
    if config.method == "QLoRA":
        from maas_client.local.training.lora_linear_4bit import keep_trainable_layout

        keep_trainable_layout(model)
    loaded: nn.Module = model if config.method == "QLoRA" else model.to(device)
    return loaded


def context_length(model: nn.Module) -> int:
    """Return how many tokens the base can read."""
    config: Any = model.config
    return int(getattr(config, "max_position_embeddings", 0) or 1 << 20)


def longrope_threshold(model: nn.Module) -> int | None:
    """Return the length from which the base uses its other rotary frequencies, if it has two sets."""
    config: Any = model.config
    kind = (getattr(config, "rope_parameters", None) or {}).get("rope_type")
    if kind != "longrope":
        return None
    own = config.rope_parameters.get("original_max_position_embeddings")
    return int(own or config.original_max_position_embeddings)


def enable_activation_checkpointing(model: nn.Module, config: TrainingConfig) -> None:
    """Let the blocks forget their activations and compute them again, where that was asked for."""
    if not config.checkpoint_activations:
        return
    anything: Any = model
    # transformers 5.20 or so gave it another name, and warns of this one.
    name = "activation_checkpointing_enable"
    enable = getattr(anything, name, None) or anything.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    anything.enable_input_require_grads()


def weight_dtype(config: TrainingConfig, device: str) -> torch.dtype:
    """Return what the base's weights are held in.

    bfloat16 has 8 bits: a weight of 0.02 does not change by a step of 2e-5. So weights that are trained
    themselves stay in float32, whose products a GPU may make in TF32; DeepSpeed keeps its own beside.
    """
    if config.precision == "32" or device == "cpu":
        return torch.float32
    if config.method == "Full" and not config.deepspeed_stage:
        return torch.float32
    return torch.bfloat16


def _four_bits(dtype: torch.dtype) -> Any:
    try:
        import bitsandbytes  # noqa: F401 - transformers' own message names no extra of ours
    except ImportError:
        raise MissingExtraError(
            "QLoRA needs bitsandbytes",
            extra="qlora",
            hint="Install it: pip install 'maas-client[qlora]'",
        ) from None
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def detect_template(tokenizer: Any, expected: ChatTemplate) -> tuple[ChatTemplate, str]:
    """Return the template that the weights were made with, and a warning or an empty string.

    The tokenizer's own chat template is printed for a short talk; if ``wanted`` prints something
    else, the known template that prints the same is taken. A tokenizer without one says nothing.
    """
    if not getattr(tokenizer, "chat_template", None):
        return expected, ""
    said = (_own(tokenizer, answer_wanted=False), _own(tokenizer, answer_wanted=True))
    for template in (expected, *TEMPLATES.values()):
        if said == _ours(template):
            other = f"These weights talk in the template {template.name}, not {expected.name}."
            return template, "" if template is expected else other
    raise ConfigError(
        "these weights have a chat template that is not known here",
        hint=f"Expected was {expected.name}: {expected.revision}.",
    )


def _own(tokenizer: Any, *, answer_wanted: bool) -> str:
    talk = list(_PROBE) if answer_wanted else list(_PROBE[:2])
    text: str = tokenizer.apply_chat_template(
        talk, tokenize=False, add_generation_prompt=answer_wanted
    )
    return text


def _ours(template: ChatTemplate) -> tuple[str, str]:
    whole = "".join(segment.text for segment in render(_PROBE[:2], None, template))
    return whole, render_prompt(_PROBE, None, template)
