"""LoRA and DoRA adapters in PEFT's files, read without PEFT (whose import takes seconds).

Safetensors only. What this reader does not apply exactly it refuses, by name: a silent half of an
adapter would answer like another model.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch  # noqa: TID253 - this room lives in the answering process, where torch is loaded

from maas_client.local.generate.protocol import GenerationError

_WEIGHTS = "adapter_model.safetensors"
_KEY = re.compile(
    r"^base_model\.model\.(?P<module>.+)\.(?P<part>lora_A|lora_B|lora_magnitude_vector)"
    r"(\.default)?(\.weight)?$"
)


@dataclass(frozen=True, slots=True)
class LoraDelta:
    """What an adapter does to one linear layer of weight (out, in)."""

    a: torch.Tensor
    """(rank, in)"""
    b: torch.Tensor
    """(out, rank), scaled already"""
    magnitude: torch.Tensor | None = None
    """(out,), DoRA's: the norm that every row of the changed weight is given"""

    def apply_to(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the weight that answers like layer and adapter together."""
        changed: torch.Tensor = torch.addmm(
            weight, self.b.to(weight.dtype), self.a.to(weight.dtype)
        )
        return changed if self.magnitude is None else changed * self.dora_scale(changed)[:, None]

    def dora_scale(self, changed: torch.Tensor) -> torch.Tensor:
        """Return DoRA's factor per output (out,), given the changed weight before it."""
        assert self.magnitude is not None
        norm: torch.Tensor = changed.float().norm(dim=1)
        return (self.magnitude / norm).to(changed.dtype)


def load_adapter(folder: str) -> dict[str, LoraDelta]:
    """Return the changes by module name (``model.layers.0.self_attn.q_proj``).

    Raises ``GenerationError`` (``model_unusable``) with one sentence for a folder that is not a whole LoRA
    or DoRA adapter in safetensors.
    """
    config = _config(Path(folder))
    parts = _tensors(Path(folder) / _WEIGHTS)
    changes = {}
    for module, found in parts.items():
        if "lora_A" not in found or "lora_B" not in found:
            raise _unusable(folder, f"{module} has only half of its LoRA weights")
        a, b = found["lora_A"], found["lora_B"]
        if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
            raise _unusable(folder, f"the LoRA weights of {module} do not fit together")
        if bool(config.get("use_dora")) != ("lora_magnitude_vector" in found):
            raise _unusable(folder, f"{module} and use_dora in adapter_config.json disagree")
        scale = _scale(config, module, a.shape[0])
        changes[module] = LoraDelta(a, b * scale, found.get("lora_magnitude_vector"))
    return changes


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "adapter_config.json").read_bytes())
    except (OSError, ValueError):
        raise _unusable(folder, "adapter_config.json is missing or no JSON") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise _unusable(folder, "only LoRA and DoRA adapters can be answered from")
    for name, harmless in _HARMLESS.items():
        if config.get(name) not in harmless:
            raise _unusable(folder, f"{name} = {config[name]!r} is not supported")
    return config


_HARMLESS: Mapping[str, tuple[Any, ...]] = {
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
        raise _unusable(
            path.parent, f"{_WEIGHTS} is missing (pickled weights are refused)"
        ) from None
    except (OSError, SafetensorError) as error:
        raise _unusable(path.parent, f"{_WEIGHTS} cannot be read: {error}") from None
    found: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        match = _KEY.match(key)
        if match is None:
            raise _unusable(path.parent, f"{key} is no LoRA weight of a linear layer")
        found.setdefault(match["module"], {})[match["part"]] = tensor.float()
    if not found:
        raise _unusable(path.parent, "it holds no weights")
    return found


def _scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    alpha = config.get("lora_alpha", rank)
    for pattern, other in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            alpha = other
            break
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _unusable(folder: Path | str, why: str) -> GenerationError:
    return GenerationError(
        "model_unusable", f"the adapter in {Path(folder).name} cannot be used: {why}"
    )
