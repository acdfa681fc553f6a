"""Load a base from disk: safetensors only, no remote code, no download.

Child processes run with a malloc that keeps freed memory (``child_processes.worker_environment``). That suits
training, which allocates the same sizes in every step, but not loading: transformers quantizes several layers
to four bits at once, each through its full width, and later layers do not fit into the freed holes. Measured
for 0.8 billion parameters: 2.8 GB at the end of a load, of which 0.7 GB were in use. So a load runs in
``trim_heap``.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch  # noqa: TID253 - this module is imported by the training process only
from torch import nn  # noqa: TID253 - see above

from maas_client.chat import TEMPLATES, ChatTemplate, render, render_prompt
from maas_client.errors import ConfigError, MissingExtraError
from maas_client.local.bases import find_missing_base
from maas_client.local.machine import matmul_choice
from maas_client.local.machine.matmul_choice import MatmulChoice
from maas_client.local.resources.training_config import TrainingConfig
from maas_client.local.training import adapters, attention, processes
from maas_client.local.training.fused_modules import fuse_modules

_SAFE: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
_TRIM_INTERVAL_S = 0.2
_PROBE = (
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": "b"},
    {"role": "user", "content": "c"},
)


def resolve_device(device: str) -> str:
    """Return ``cpu``, ``cuda`` or ``mps``; ``auto`` selects a GPU if there is one."""
    if device != "auto":
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "cpu"


def select_gpu(rank: int, process_count: int) -> None:
    """Make GPU number ``rank`` this process's ``cuda``. Raises ``ConfigError`` if there are too few GPUs."""
    if (gpu_count := torch.cuda.device_count()) < process_count:
        raise ConfigError(
            f"The job asks for {process_count} processes, but this machine has {gpu_count} GPUs.",
            hint=f"Use processes={gpu_count}, or start the server with --device cpu.",
        )
    torch.cuda.set_device(rank)


def load_tokenizer(folder: str) -> Any:
    """Return the tokenizer of a base."""
    from transformers import AutoTokenizer

    _check_present(folder)
    return AutoTokenizer.from_pretrained(folder, **_SAFE)


def _check_present(folder: str) -> None:
    """Raise ``ConfigError`` for a folder that is gone: transformers takes its path for a hub id."""
    if message := find_missing_base(Path(folder)):
        raise ConfigError(message)


def load_model(folder: str, config: TrainingConfig, device: str) -> nn.Module:
    """Return the base in evaluation mode, frozen, with attention per document.

    On a CPU this chooses the matrix products of this process, by timing them when a base is loaded first. A job
    of several processes has chosen them before (``choose_products_of_job``).
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # a progress bar clutters the job's log
    dtype = weight_dtype(config, device)
    if device == "cuda" and dtype == torch.float32 and config.precision != "32":
        torch.set_float32_matmul_precision("high")  # TF32
    options: dict[str, Any] = {}
    if config.method == "QLoRA":
        options["quantization_config"] = _quantization_config(dtype)
        options["device_map"] = {"": device}
    with trim_heap():
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            attn_implementation=attention.register(),
            **_SAFE,
            **options,
        )
    model.requires_grad_(False)
    fuse_modules(model)
    if device == "cpu" and processes.world_size() == 1:
        choose_products(model, Path(folder)).apply()
    if config.method == "QLoRA":
        from maas_client.local.training.lora_linear_4bit import keep_trainable_layout

        keep_trainable_layout(model)
    loaded: nn.Module = model if config.method == "QLoRA" else model.to(device)
    return loaded


def choose_products(model: nn.Module, folder: Path | None) -> MatmulChoice:
    """Return the fastest matrix products for the model's layers."""
    layers: list[Any] = [model.get_submodule(name) for name in adapters.linear_layers(model)]
    return matmul_choice.choose(
        folder, [(layer.out_features, layer.in_features) for layer in layers]
    )


def choose_products_of_job(spec: Mapping[str, Any]) -> MatmulChoice:
    """Return the products for all processes of a job, before they start: they must agree."""
    from transformers import AutoConfig, AutoModelForCausalLM

    if resolve_device(str(spec.get("device") or "auto")) != "cpu":
        return MatmulChoice()
    folder = spec["base"]["folder"]
    _check_present(folder)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder, **_SAFE))
    return choose_products(model, Path(folder))


def context_length(model: nn.Module) -> int:
    """Return the maximum number of tokens of the base."""
    config: Any = model.config
    return int(getattr(config, "max_position_embeddings", 0) or 1 << 20)


def pack_threads(model: nn.Module, device: str) -> int:
    """Return how many threads may run the model at the same time: 1 on a GPU, or if a run changes its state.

    Dropout draws random numbers in one order, and dynamic rotary frequencies depend on the longest sequence
    so far.
    """
    config: Any = model.config
    rope_type = (getattr(config, "rope_parameters", None) or {}).get("rope_type") or ""
    has_dropout = getattr(config, "attention_dropout", 0) or any(
        isinstance(module, nn.Dropout) and module.p for module in model.modules()
    )
    return (
        1 if device != "cpu" or has_dropout or "dynamic" in rope_type else torch.get_num_threads()
    )


def longrope_threshold(model: nn.Module) -> int | None:
    """Return the length above which the base uses its second set of rotary frequencies (LongRoPE), or None."""
    config: Any = model.config
    rope_type = (getattr(config, "rope_parameters", None) or {}).get("rope_type")
    if rope_type != "longrope":
        return None
    original_length = config.rope_parameters.get("original_max_position_embeddings")
    return int(original_length or config.original_max_position_embeddings)


def enable_activation_checkpointing(model: nn.Module, config: TrainingConfig) -> None:
    """Turn on gradient checkpointing (activations are recomputed) if configured."""
    if not config.gradient_checkpointing:
        return
    peft_model: Any = model
    # transformers renamed the method around 5.20, and warns about the old name.
    name = "activation_checkpointing_enable"
    enable = getattr(peft_model, name, None) or peft_model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    peft_model.enable_input_require_grads()


def weight_dtype(config: TrainingConfig, device: str) -> torch.dtype:
    """Return the dtype of the base's weights.

    bfloat16 has 8 bits of precision: a step of 2e-5 does not change a weight of 0.02. So weights that are
    trained directly stay in float32 (multiplied in TF32 on a GPU), unless DeepSpeed keeps a float32 copy.
    """
    if config.precision == "32" or device == "cpu":
        return torch.float32
    if config.method == "Full" and not config.deepspeed_stage:
        return torch.float32
    return torch.bfloat16


def _quantization_config(dtype: torch.dtype) -> Any:
    try:
        import bitsandbytes  # noqa: F401 - our error names the extra to install
    except ImportError:
        raise MissingExtraError(
            "QLoRA needs the package bitsandbytes.",
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
    """Return the template the weights were trained with, and a warning or an empty string.

    The tokenizer's own chat template renders a short conversation. If ``expected`` renders something else, the
    known template with the same output is used. Without a chat template in the tokenizer, ``expected`` is used.
    """
    if not getattr(tokenizer, "chat_template", None):
        return expected, ""
    tokenizer_output = tuple(
        _render_with_tokenizer(tokenizer, add_generation_prompt=with_prompt)
        for with_prompt in (False, True)
    )
    for template in (expected, *TEMPLATES.values()):
        if tokenizer_output == _render_with_template(template):
            warning = f"These weights use the chat template {template.name}, not {expected.name}."
            return template, "" if template is expected else warning
    raise ConfigError(
        "The chat template of these weights is not supported.",
        hint=f"Use weights with the template {expected.name} ({expected.revision}).",
    )


def _render_with_tokenizer(tokenizer: Any, *, add_generation_prompt: bool) -> str:
    messages = list(_PROBE) if add_generation_prompt else list(_PROBE[:2])
    text: str = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=add_generation_prompt
    )
    return text


def _render_with_template(template: ChatTemplate) -> tuple[str, str]:
    conversation = "".join(segment.text for segment in render(_PROBE[:2], None, template))
    return conversation, render_prompt(_PROBE, None, template)


@contextmanager
def trim_heap() -> Iterator[None]:
    """Return freed memory to the system while the block runs and at its end (glibc only)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if hasattr(ctypes, "CDLL") else None
    if trim is None:
        yield
        return
    stop = threading.Event()

    def trim_repeatedly() -> None:
        while not stop.wait(_TRIM_INTERVAL_S):
            trim(0)

    thread = threading.Thread(target=trim_repeatedly, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        trim(0)
