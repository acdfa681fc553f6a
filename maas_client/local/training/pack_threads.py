"""Compute the packs of a micro-batch at the same time, each in a thread with its part of the cores.

torch divides every operation among its threads. On few cores that is slow: each of the ten thousand operations
of a step wakes the other threads and waits for them, and Python between them runs on one core. Threads that
compute a pack each need neither (two on two cores: 1.3 times as fast, with 15 % less CPU time).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch  # noqa: TID253 - this module is imported by the training process only
from torch import nn  # noqa: TID253 - see above

from maas_client.local.training.packing import Pack, PreferencePack
from maas_client.local.training.strategies import Strategy

Result = tuple[torch.Tensor, torch.Tensor]
"""Loss without gradient, and the statistics of ``ModelWithLoss`` or ``ModelWithPreferenceLoss``."""


def run_packs(
    model: nn.Module, packs: Sequence[Pack | PreferencePack], factor: float, engine: Strategy
) -> list[Result]:
    """Add the gradients of the losses times ``factor``, and return the result of each pack.

    Gradients are added in the order of the packs, so they do not depend on which pack ends first.
    """
    if len(packs) == 1:
        loss, statistics = model(*packs[0].to(engine.device))
        engine.backward(loss * factor)
        return [(loss.detach(), statistics)]
    weights = list(engine.weights.values())
    threads = torch.get_num_threads()

    def run(pack: Pack | PreferencePack) -> tuple[Result, Sequence[torch.Tensor | None]]:
        torch.set_num_threads(max(1, threads // len(packs)))
        loss, statistics = model(*pack)
        gradients = torch.autograd.grad(loss * factor, weights, allow_unused=True)
        return (loss.detach(), statistics), gradients

    try:
        results = list(_pool().map(run, packs))
    finally:
        torch.set_num_threads(threads)
    for _, gradients in results:
        for weight, gradient in zip(weights, gradients, strict=True):
            if gradient is not None:
                weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
                weight.grad += gradient
    return [result for result, _ in results]


@cache
def _pool() -> ThreadPoolExecutor:
    """Return the threads of this process: they are kept, as torch has state for each."""
    return ThreadPoolExecutor(thread_name_prefix="pack")
