"""The sizes of a base, read from its ``config.json``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maas_client.local.bases import find_missing_base
from maas_client.local.generate.protocol import GenerationError

ARCHITECTURES = ("llama", "mistral", "phi3", "qwen2", "qwen3")
"""Decoders with the same causal attention in all layers, tested or built like a tested one."""
_ACTIVATIONS = ("silu", "swish", "gelu", "relu")
_ROPE_TYPES = ("default", "linear", "llama3", "longrope", "yarn")
_MAX_SIZES = {
    "num_hidden_layers": 512,
    "hidden_size": 1 << 17,
    "intermediate_size": 1 << 20,
    "vocab_size": 1 << 22,
    "num_attention_heads": 4096,
    "num_key_value_heads": 4096,
    "head_dim": 1 << 14,
    "max_position_embeddings": 1 << 28,
}
"""Bounds far above any released model: building a network of the sizes in a hostile file takes minutes."""
_STATED = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "vocab_size", "max_position_embeddings",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Architecture:
    """The sizes and switches of a decoder."""

    layers: int
    hidden_size: int
    intermediate_size: int
    heads: int
    kv_heads: int
    head_width: int
    vocab_size: int
    context_length: int
    norm_epsilon: float
    activation: str
    window: int | None
    """The sliding window in tokens; None: every token sees all earlier ones."""
    tied: bool
    """True: the output layer has the embedding's weights."""
    is_fused: bool
    """True: queries, keys and values are one layer in the file, as are gate and up."""
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool
    has_head_norms: bool
    """True: the queries and keys of each head are normalised."""
    dtype: str
    """The dtype of the file's weights."""
    rope_theta: float
    rotary_width: int
    """The leading part of each head that the position encoding rotates."""
    scaled_rope: Any
    """transformers' configuration of a base whose position encoding is scaled; None: it is not."""
    longrope_threshold: int | None
    """The token count above which LongRoPE switches its position encoding; None: it has one encoding."""


def load_architecture(folder: Path) -> Architecture:
    """Return the architecture of a base's folder. Raises ``GenerationError``."""
    values = _read_config(folder)
    config = None
    if not _is_complete(
        values
    ):  # transformers knows the defaults and the scaled position encodings
        config = _load_with_transformers(folder)
        values = config.to_dict()
    rope = values.get("rope_parameters") or {}
    rope_type = rope.get("rope_type", "default")
    if rope_type not in _ROPE_TYPES:
        raise unusable_base(folder, f"its position encoding is not one of {', '.join(_ROPE_TYPES)}")
    if len(set(values.get("layer_types") or ["full_attention"])) > 1:
        raise unusable_base(folder, "its layers use different kinds of attention")
    if values["hidden_act"] not in _ACTIVATIONS:
        raise unusable_base(
            folder,
            f"its activation {values['hidden_act']!r} is not one of {', '.join(_ACTIVATIONS)}",
        )
    kind, heads = values["model_type"], values["num_attention_heads"]
    width = values.get("head_dim") or values["hidden_size"] // heads
    theta: Any = rope.get("rope_theta") or values.get("rope_theta")
    window = values.get("sliding_window") if _has_window(values) else None
    factor: Any = rope.get("partial_rotary_factor") or 1.0
    rotary_width = int(width * factor) if _is_positive(factor) else 0
    checks = {
        "num_attention_heads is not a multiple of num_key_value_heads": heads
        % values["num_key_value_heads"]
        == 0,
        "rope_theta is not a positive number": _is_positive(theta),
        "rms_norm_eps is not a positive number": _is_positive(values["rms_norm_eps"]),
        "sliding_window is not a positive number": window is None or _is_positive(window),
        "the rotated part of a head is not an even number of values within it": rotary_width % 2
        == 0
        and 0 < rotary_width <= width,
    }
    if problem := next((text for text, holds in checks.items() if not holds), None):
        raise unusable_base(folder, problem)
    has_biases = bool(values.get("attention_bias")) and kind in ("llama", "qwen3")
    dtype = values.get("dtype") or values.get("torch_dtype")
    return Architecture(
        layers=values["num_hidden_layers"],
        hidden_size=values["hidden_size"],
        intermediate_size=values["intermediate_size"],
        heads=heads,
        kv_heads=values["num_key_value_heads"],
        head_width=width,
        vocab_size=values["vocab_size"],
        context_length=values["max_position_embeddings"],
        norm_epsilon=float(values["rms_norm_eps"]),
        activation=values["hidden_act"],
        window=window,
        tied=bool(values.get("tie_word_embeddings")),
        is_fused=kind == "phi3",
        qkv_bias=has_biases or kind == "qwen2",
        output_bias=has_biases,
        mlp_bias=bool(values.get("mlp_bias")) and kind == "llama",
        has_head_norms=kind == "qwen3",
        dtype=dtype if isinstance(dtype, str) else "float32",
        rope_theta=float(theta),
        rotary_width=rotary_width,
        scaled_rope=config if rope_type != "default" else None,
        longrope_threshold=int(rope["original_max_position_embeddings"])
        if rope_type == "longrope"
        else None,
    )


def _read_config(folder: Path) -> dict[str, Any]:
    if message := find_missing_base(folder):
        raise GenerationError("model_unusable", message)
    try:
        values = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        raise unusable_base(folder, "config.json is not valid JSON") from None
    if not isinstance(values, dict):
        raise unusable_base(folder, "config.json is not a JSON object")
    for name, maximum in _MAX_SIZES.items():
        value = values.get(name)
        if value is not None and not (type(value) is int and 0 < value <= maximum):
            raise unusable_base(folder, f"{name} is not a whole number from 1 to {maximum}")
    model_type = values.get("model_type")
    if model_type not in ARCHITECTURES or "auto_map" in values:
        supported = ", ".join(ARCHITECTURES)
        raise unusable_base(
            folder,
            f"its architecture {model_type!r} is not one of {supported}, or needs its own code",
        )
    if values.get("quantization_config"):
        raise unusable_base(folder, "its weights are quantised. Use the unquantised base")
    return values


def _is_positive(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < math.inf


def _has_window(values: Mapping[str, Any]) -> bool:
    if values["model_type"] in ("qwen2", "qwen3"):
        return set(values.get("layer_types") or ()) == {"sliding_attention"}
    return values["model_type"] in ("mistral", "phi3")


def _is_complete(values: Mapping[str, Any]) -> bool:
    """Return whether a configuration states everything, with an ordinary position encoding."""
    rope = values.get("rope_parameters") or {}
    if not isinstance(rope, dict) or rope.get("rope_type", "default") != "default":
        return False
    if set(rope) - {"rope_type", "rope_theta"} or values.get("rope_scaling"):
        return False
    numbers: tuple[Any, ...] = (
        values.get("rms_norm_eps"),
        rope.get("rope_theta", values.get("rope_theta")),
    )
    return (
        all(values.get(name) is not None for name in _STATED)
        and values["hidden_size"] % values["num_attention_heads"] == 0
        and values["num_attention_heads"] % values["num_key_value_heads"] == 0
        and all(type(number) in (int, float) and number > 0 for number in numbers)
        and isinstance(values.get("hidden_act"), str)
        and not {"partial_rotary_factor", "layer_types"} & set(values)
        and not values.get("use_sliding_window")
        and (values["model_type"] != "mistral" or "sliding_window" in values)
        and (values["model_type"] != "qwen3" or values.get("head_dim") is not None)
        and type(values.get("sliding_window")) in (int, type(None))
    )


def _load_with_transformers(folder: Path) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # each configuration class raises its own exceptions
        reason = str(error).splitlines()[-1].strip() if str(error) else type(error).__name__
        raise unusable_base(folder, f"transformers rejects its config.json: {reason}") from None


def unusable_base(folder: Path, reason: str) -> GenerationError:
    """Return the error for a base folder that cannot be used."""
    return GenerationError("model_unusable", f"The base in {folder.name} cannot be used: {reason}.")
