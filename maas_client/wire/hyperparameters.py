"""Hyperparameters on the wire: the names and the texts of Microsoft's ``chat_completion_pipeline``.

Names: azureml-assets ``chat_completion_pipeline`` spec; those of ``transformers.TrainingArguments``
wherever it has the same.
"""

from __future__ import annotations

from typing import Any

WIRE_NAMES = {
    "epochs": "num_train_epochs",
    "batch_size": "per_device_train_batch_size",
    "learning_rate": "learning_rate",
    "seed": "seed",
    "max_steps": "max_steps",
    "warmup_steps": "warmup_steps",
    "warmup_ratio": "warmup_ratio",
    "lr_scheduler": "lr_scheduler_type",
    "weight_decay": "weight_decay",
    "gradient_accumulation_steps": "gradient_accumulation_steps",
    "max_seq_length": "max_seq_length",
    "lora_r": "lora_r",
    "lora_alpha": "lora_alpha",
    "lora_dropout": "lora_dropout",
    "target_modules": "target_modules",
}
"""Our names to the service's."""
SERVERLESS_HYPERPARAMETERS = frozenset({"epochs", "batch_size", "learning_rate"})
"""What every Microsoft sample of the serverless service sends (docs/azure-http.md section 1.4)."""


def to_wire_value(value: Any) -> str:
    """Return a value as the service wants it: all are text, numbers without an exponent."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return format(value, ".10f").rstrip("0").rstrip(".") if value >= 1e-9 else repr(value)
    if isinstance(value, list | tuple):
        return ",".join(str(v) for v in value)
    return str(value)
