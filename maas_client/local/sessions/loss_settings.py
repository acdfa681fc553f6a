"""The settings of each loss and their defaults here; the service does not document its own. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping

LOSS_SETTINGS: Mapping[str, Mapping[str, float]] = {
    "cross_entropy": {},
    "importance_sampling": {},
    "ppo": {"clip_low_threshold": 0.8, "clip_high_threshold": 1.2},
    "cispo": {"clip_low_threshold": 0.8, "clip_high_threshold": 1.2},
    "sapo": {"tau_pos": 1.0, "tau_neg": 1.05},
}
"""The thresholds bound the ratio of probabilities itself, not its distance from 1."""

NORMALISED_LOSSES = frozenset({"ppo", "cispo", "sapo"})
"""Losses that the service normalises, by tokens or sequences (it does not document how); here they are sums."""
