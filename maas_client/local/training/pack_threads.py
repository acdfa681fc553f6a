"""Compute the packs of a micro-batch at the same time, each in a thread with its part of the cores.

torch divides every operation among its threads. On few cores that is slow: each of the ten thousand operations
of a step wakes the other threads and waits for them, and Python between them runs on one core. Threads that
compute a pack each need neither (docs/explanation/performance.md has the figures).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

import torch  # noqa: TID253 - this module is imported by the training process only

from maas_client.local.training.strategies import Strategy

Pack = TypeVar("Pack")
Result = TypeVar("Result")


def add_gradients(
    run: Callable[[Pack], tuple[torch.Tensor, Result]],
    packs: Sequence[Pack],
    engine: Strategy,
    *,
    factor: float = 1.0,
) -> list[tuple[torch.Tensor, Result]]:
    """Add the gradients of the losses times ``factor``; return what ``run`` returns for each pack.

    ``run`` returns the loss, which is returned without gradient, and a result. Gradients are added in the order
    of the packs, so they do not depend on which pack ends first.
    """
    if len(packs) == 1:
        loss, result = run(packs[0])
        if loss.requires_grad:
            engine.backward(loss * factor)
        return [(loss.detach(), result)]
    weights = list(engine.weights.values())
    threads = torch.get_num_threads()

    def run_in_thread(pack: Pack) -> tuple[torch.Tensor, Result, Sequence[torch.Tensor | None]]:
        torch.set_num_threads(max(1, threads // len(packs)))
        loss, result = run(pack)
        gradients: Sequence[torch.Tensor | None] = ()
        if loss.requires_grad:
            gradients = torch.autograd.grad(loss * factor, weights, allow_unused=True)
        return loss.detach(), result, gradients

    try:
        futures = [_pool().submit(run_in_thread, pack) for pack in packs]
        wait(futures)  # also those after one that fails
        results = [future.result() for future in futures]
    finally:
        torch.set_num_threads(threads)
    for _, _, gradients in results:
        for weight, gradient in zip(weights, gradients, strict=False):  # no gradients at all: none
            if gradient is not None:
                weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
                weight.grad += gradient
    return [(loss, result) for loss, result, _ in results]


@cache
def _pool() -> ThreadPoolExecutor:
    """Return the threads of this process: they are kept, as torch has state for each."""
    return ThreadPoolExecutor(thread_name_prefix="pack")
