"""Where the time of a training step goes, from torch's profiler: each operation counts once, for one part."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

PRODUCTS = re.compile(r"aten::(mm|addmm_?|bmm|matmul|linear)$|mkldnn::_linear_pointwise")
LOW_RANK, VOCABULARY = 64, 16_384
"""A product with an axis of at most so many is one of an adapter; with one of at least so many, the head's."""
PARTS = (
    ("attention", re.compile(r"scaled_dot_product|flash_attention")),
    ("head and loss", re.compile(r"CrossEntropy|_softmax|nll_loss")),
    ("optimiser", re.compile(r"Optimizer\.|_foreach_|_fused_adam")),
    ("rotary", re.compile(r"_Rotate|rotary", re.IGNORECASE)),
    ("dequantising", re.compile(r"dequantize|bitsandbytes")),
)
"""Parts by the name of an operation or of one that contains it; the first match counts."""
OTHER_OPERATIONS = "norms, activations, sums, copies"
PYTHON = "Python, autograd, waiting"


def seconds_by_part(steps: Callable[[], Iterator[Any]], threads: int) -> dict[str, float]:
    """Return the seconds of each part of the steps that ``steps()`` takes, after its first.

    They are summed over the ``threads`` that compute packs of their own.
    """
    from torch.profiler import ProfilerActivity, _ExperimentalConfig, profile

    iterator = steps()
    next(iterator)
    started_at = time.perf_counter()
    with profile(
        activities=[ProfilerActivity.CPU],
        record_shapes=True,
        experimental_config=_ExperimentalConfig(profile_all_threads=True),
    ) as profiler:
        count = sum(1 for _ in iterator)
        seconds = time.perf_counter() - started_at
    parts: dict[str, float] = defaultdict(float)
    for event in profiler.events():
        parts[_part(event)] += event.self_cpu_time_total / 1e6
    parts[PYTHON] += threads * seconds - sum(parts.values())
    return {part: value / count for part, value in parts.items()}


def _part(event: Any) -> str:
    if PRODUCTS.match(event.name) and (sizes := _axes(event)):
        if max(sizes) >= VOCABULARY:
            return "head and loss"
        return "low-rank products" if min(sizes) <= LOW_RANK else "products"
    ancestor = event
    while ancestor is not None:
        for part, pattern in PARTS:
            if pattern.search(ancestor.name):
                return part
        ancestor = ancestor.cpu_parent
    return OTHER_OPERATIONS if event.name.startswith(("aten::", "mkldnn::")) else PYTHON


def _axes(event: Any) -> list[int]:
    """Return the sizes of the axes of a product's two matrices."""
    matrices = [shape for shape in event.input_shapes or () if len(shape) >= 2]
    return [size for shape in matrices[-2:] for size in shape[-2:]]
