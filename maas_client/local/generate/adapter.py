"""Read LoRA and DoRA adapters in PEFT's format, without importing PEFT (which takes seconds).

Safetensors only. Adapters with settings that are not supported exactly are refused, because applying only a
part of an adapter gives another model.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch  # noqa: TID253 - runs in the answering process, which loads torch

from maas_client.local.generate.protocol import GenerationError

_WEIGHTS = "adapter_model.safetensors"
_KEY = re.compile(
    r"^base_model\.model\.(?P<module>.+)\.(?P<part>lora_A|lora_B|lora_magnitude_vector)"
    r"(\.default)?(\.weight)?$"
)
_MAX_PATTERN_CHARS = 500
_REPEATED_GROUP = re.compile(r"\)[*+{?]|[*+}?][*+{]")


@dataclass(frozen=True, slots=True)
class LoraDelta:
    """The change an adapter makes to one linear layer with weight (out, in)."""

    a: torch.Tensor
    """(rank, in)"""
    b: torch.Tensor
    """(out, rank), already scaled"""
    magnitude: torch.Tensor | None = None
    """(out,), DoRA only: the norm of each row of the updated weight"""

    def apply_to(self, weight: torch.Tensor) -> torch.Tensor:
        """Return ``weight`` with the adapter merged into it."""
        updated_weight: torch.Tensor = torch.addmm(
            weight, self.b.to(weight.dtype), self.a.to(weight.dtype)
        )
        return (
            updated_weight
            if self.magnitude is None
            else updated_weight * self.dora_scale(updated_weight)[:, None]
        )

    def dora_scale(self, updated_weight: torch.Tensor) -> torch.Tensor:
        """Return DoRA's factor per output (out,) for the updated weight."""
        assert self.magnitude is not None
        norm: torch.Tensor = updated_weight.float().norm(dim=1)
        return (self.magnitude / norm).to(updated_weight.dtype)


def load_adapter(folder: str) -> dict[str, LoraDelta]:
    """Return the deltas by module name (``model.layers.0.self_attn.q_proj``).

    Raises ``GenerationError`` (``model_unusable``) for a folder that is not a complete LoRA or DoRA adapter in
    safetensors.
    """
    config = _config(Path(folder))
    parts = _tensors(Path(folder) / _WEIGHTS)
    deltas = {}
    for module, tensors_by_part in parts.items():
        if "lora_A" not in tensors_by_part or "lora_B" not in tensors_by_part:
            raise _unusable_adapter(folder, f"{module} lacks lora_A or lora_B")
        a, b = tensors_by_part["lora_A"], tensors_by_part["lora_B"]
        if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
            raise _unusable_adapter(
                folder, f"the shapes of lora_A and lora_B of {module} do not match"
            )
        if bool(config.get("use_dora")) != ("lora_magnitude_vector" in tensors_by_part):
            raise _unusable_adapter(
                folder, f"{module} and use_dora in adapter_config.json disagree"
            )
        try:
            scale = _scale(config, module, a.shape[0])
        except (TypeError, ValueError, AttributeError, ZeroDivisionError, re.error):
            raise _unusable_adapter(
                folder, "lora_alpha, alpha_pattern or the rank is not valid"
            ) from None
        deltas[module] = LoraDelta(a, b * scale, tensors_by_part.get("lora_magnitude_vector"))
    return deltas


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "adapter_config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        raise _unusable_adapter(
            folder, "adapter_config.json is missing or is not valid JSON"
        ) from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise _unusable_adapter(folder, "only LoRA and DoRA adapters are supported")
    for name, allowed_values in _SUPPORTED_VALUES.items():
        if config.get(name) not in allowed_values:
            raise _unusable_adapter(folder, f"{name} = {config[name]!r} is not supported")
    return config


_SUPPORTED_VALUES: Mapping[str, tuple[Any, ...]] = {
    "bias": (None, "none"),
    "lora_bias": (None, False),
    "fan_in_fan_out": (None, False),
    "modules_to_save": (None, []),
    "trainable_token_indices": (None, [], {}),
    "layer_replication": (None, []),
    "alora_invocation_tokens": (None, []),
    "target_parameters": (None, []),
    "use_qalora": (None, False),
}


def _tensors(path: Path) -> dict[str, dict[str, torch.Tensor]]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except FileNotFoundError:
        raise _unusable_adapter(
            path.parent, f"{_WEIGHTS} is missing (pickled weights are refused)"
        ) from None
    except (OSError, SafetensorError) as error:
        raise _unusable_adapter(path.parent, f"{_WEIGHTS} cannot be read: {error}") from None
    tensors_by_part: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        match = _KEY.match(key)
        if match is None:
            raise _unusable_adapter(path.parent, f"{key} is not a LoRA weight of a linear layer")
        tensors_by_part.setdefault(match["module"], {})[match["part"]] = tensor.float()
    if not tensors_by_part:
        raise _unusable_adapter(path.parent, "it contains no weights")
    return tensors_by_part


def _scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    alpha = config.get("lora_alpha", rank)
    for pattern, pattern_alpha in (config.get("alpha_pattern") or {}).items():
        if len(pattern) > _MAX_PATTERN_CHARS or _REPEATED_GROUP.search(pattern):
            raise ValueError("an alpha_pattern that may take exponential time to match")
        if re.match(rf"(.*\.)?({pattern})$", module):
            alpha = pattern_alpha
            break
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _unusable_adapter(folder: Path | str, reason: str) -> GenerationError:
    return GenerationError(
        "model_unusable", f"The adapter in {Path(folder).name} cannot be used: {reason}."
    )
