"""A fine-tuning job as every platform needs it told."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from maas_client.catalog import ModelInfo
from maas_client.chat import ChatTemplate, get_template
from maas_client.errors import ConfigError, UnsupportedError
from maas_client.types import Hyperparameters
from maas_client.wire.hyperparameters import WIRE_NAMES

_FUSED = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
_SPLIT = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_TARGETS = {
    "phi3": _FUSED,
    "phi3small": ("query_key_value", "dense", "up_proj", "down_proj"),
    "phimoe": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "gpt_oss": ("q_proj", "k_proj", "v_proj", "o_proj"),
}
"""Linear layers by architecture (the model classes' own names); experts are left alone. Phi-3, Phi-3.5
and Phi-4 have no ``q_proj``: adapters that name it train a third of what they say
(users-and-peers.md section 3)."""
_NO_ARGUMENTS = ("max_seq_length", "lora_r", "lora_alpha", "lora_dropout", "target_modules")
"""Hyperparameters that ``transformers.TrainingArguments`` does not have; platforms place them."""
SERVERLESS_LORA_R, SERVERLESS_LORA_ALPHA = 8, 128
"""The recipe of the serverless service (users-and-peers.md section 0), the default everywhere."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where data comes from and results go, for platforms that cannot see this machine."""

    input_url: str | None = None
    input_pvc: str | None = None
    input_image: str | None = None
    output_image: str | None = None
    output_pvc: str | None = None
    push_secret: str | None = None
    """The Kubernetes secret with which the output image is pushed."""
    processes: int = 1
    """GPUs of one's own machine or cluster node."""


@dataclass(frozen=True, slots=True)
class ExportSpec:
    """``model`` is its name, ``facts`` what the catalog knows of it; data are paths or addresses."""

    name: str
    model: str
    training_data: str
    validation_data: str | None = None
    model_info: ModelInfo | None = None
    method: str | None = None
    hyperparameters: Hyperparameters = field(default_factory=Hyperparameters)
    compute: tuple[str, ...] = ()

    @property
    def explicit_hyperparameters(self) -> dict[str, Any]:
        """Return the hyperparameters that were given, in our names."""
        return self.hyperparameters.model_dump(exclude_none=True, exclude={"extra"})

    @property
    def hub_id(self) -> str:
        """Return the name under which the weights are on the Hugging Face hub."""
        known = self.model_info.huggingface_id if self.model_info else None
        if known:
            return known
        if self.model.count("/") == 1:
            return self.model
        raise ConfigError(
            f"where {self.model} is on the Hugging Face hub is not known",
            hint="Give the model as OWNER/NAME.",
        )

    @property
    def template(self) -> ChatTemplate:
        """Return the model's chat template."""
        return get_template(self.model_info.template if self.model_info else self.model)

    @property
    def slug(self) -> str:
        """Return the name as Kubernetes takes names: at most 63 of ``[a-z0-9-]``."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")[:63].strip("-") or "job"

    @property
    def lora_settings(self) -> tuple[int, int | float, float]:
        """Return rank, alpha (an int where it is whole) and dropout; the serverless recipe's where
        none was given."""
        h = self.hyperparameters
        alpha = h.lora_alpha or SERVERLESS_LORA_ALPHA
        whole = int(alpha) if alpha == int(alpha) else alpha
        return h.lora_r or SERVERLESS_LORA_R, whole, h.lora_dropout or 0.0

    def integer_alpha(self, platform: str) -> int:
        """Return alpha for a platform whose parser takes whole numbers only."""
        alpha = self.lora_settings[1]
        if not isinstance(alpha, int):
            raise UnsupportedError(f"{platform} takes a whole lora_alpha=", hint="Round it.")
        return alpha

    @property
    def target_modules(self) -> list[str]:
        """Return the linear layers to adapt, by the names this architecture has."""
        if self.hyperparameters.target_modules:
            return list(self.hyperparameters.target_modules)
        kind = (
            self.model_info.architecture.model_type
            if self.model_info and self.model_info.architecture
            else ""
        )
        otherwise = _FUSED if self.model.lower().rpartition("/")[2].startswith("phi") else _SPLIT
        return list(_TARGETS.get(kind, _SPLIT if kind else otherwise))

    def training_arguments(self) -> dict[str, Any]:
        """Return what was given, under the names of ``transformers.TrainingArguments``."""
        return {
            WIRE_NAMES[k]: v
            for k, v in self.explicit_hyperparameters.items()
            if k not in _NO_ARGUMENTS
        }

    def check_method(self, platform: str, methods: tuple[str, ...], instead: str) -> str:
        """Return the method, LoRA where none was given. Raises ``UnsupportedError`` for another."""
        method = self.method or "LoRA"
        if method not in methods:
            raise UnsupportedError(
                f"{platform} cannot run {method}; it runs {' and '.join(methods)}",
                hint=f"Use {instead}.",
            )
        if "learning_rate_multiplier" in self.explicit_hyperparameters:
            raise UnsupportedError(
                f"{platform} takes learning_rate=, not learning_rate_multiplier=",
                hint="Only the foundry service takes a multiplier.",
            )
        return method
