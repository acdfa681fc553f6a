"""The losses of interactive training, from the log probabilities of the target tokens.

Each loss is a sum over tokens: ``sum(weights * loss of the token)``. With p the probability of a token now,
q the probability with which it was sampled, A its advantage and r = p / q:

    cross_entropy        -log p
    importance_sampling  -r A
    ppo                  -min(r A, clip(r, low, high) A)
    cispo                -clip(r, low, high) A log p, with no gradient through the clipped ratio
    sapo                 -4 / tau sigmoid(tau (r - 1)) A, with tau_pos where A > 0, else tau_neg

docs/azure-http.md section 4.7 says which of these the service documents.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch  # noqa: TID253 - this module is imported by the session's process only

from maas_client.local.sessions.loss_settings import LOSS_SETTINGS


class InvalidRequestError(Exception):
    """A request that cannot be carried out. It has changed nothing."""


def check_logprobs(logprobs: torch.Tensor) -> None:
    """Raise ``InvalidRequestError`` unless all log probabilities are finite numbers."""
    if not logprobs.isfinite().all():
        raise InvalidRequestError(
            "The model's log probabilities are not finite numbers: its weights have become too large. "
            "Create a session from an earlier checkpoint, and use a smaller learning_rate."
        )


class TokenInputs(NamedTuple):
    """What the losses need besides the log probabilities, one value per token."""

    weights: torch.Tensor
    advantages: torch.Tensor
    logprobs: torch.Tensor
    """The log probabilities with which the tokens were sampled."""


def loss_sum(
    name: str, logprobs: torch.Tensor, inputs: TokenInputs, settings: Mapping[str, float]
) -> torch.Tensor:
    """Return the weighted sum of a loss over tokens, differentiable in ``logprobs``.

    ``settings`` replaces defaults of ``LOSS_SETTINGS``.
    """
    return (inputs.weights * _token_losses(name, logprobs, inputs, settings)).sum()


def _token_losses(
    name: str, logprobs: torch.Tensor, inputs: TokenInputs, settings: Mapping[str, float]
) -> torch.Tensor:
    if name == "cross_entropy":
        return -logprobs
    values = {**LOSS_SETTINGS[name], **settings}
    ratio, advantages = (logprobs - inputs.logprobs).exp(), inputs.advantages
    if name == "importance_sampling":
        return -ratio * advantages
    if name == "sapo":
        tau = torch.where(advantages > 0, values["tau_pos"], values["tau_neg"])
        return -(4 / tau) * torch.sigmoid(tau * (ratio - 1)) * advantages
    clipped = ratio.clamp(values["clip_low_threshold"], values["clip_high_threshold"])
    if name == "ppo":
        return -torch.minimum(ratio * advantages, clipped * advantages)
    return -clipped.detach() * advantages * logprobs
