"""Loss masks of other tools in a message, which say as ``weight`` does whether it is trained on."""

from __future__ import annotations

from typing import Any

TRAINED_KEYS = frozenset(
    ("loss", "train", "trainable", "training", "train_on_turn", "loss_weight", "loss_mask", "learn")
)
"""Keys of a message with a value that is true or 1 if the message is trained on."""
MASKED_KEYS = frozenset(("mask", "masked", "is_masked", "no_loss", "ignore_loss"))
"""Keys of a message with a value that is true if the message is not trained on."""
_WEIGHTS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}


def normalize(key: str) -> str:
    """Return a key in the spelling of the tables."""
    return key.strip().casefold().replace("-", "_").replace(" ", "_")


def is_mask_key(key: str) -> bool:
    """Return whether other tools mask a message with this key."""
    return normalize(key) in TRAINED_KEYS | MASKED_KEYS


def weight_for(key: str, value: Any) -> int | None:
    """Return the weight that says the same as another tool's mask; None if that is not certain.

    A ``mask`` of 0 or 1 is not certain: with some tools 1 masks the message, with others 0 does.
    """
    name = normalize(key)
    weight = _WEIGHTS.get(str(value).strip().casefold())
    if weight is None or name in TRAINED_KEYS or name == "weight":
        return weight
    is_word = str(value).strip().casefold() in ("true", "false")
    return 1 - weight if is_word or name != "mask" else None
