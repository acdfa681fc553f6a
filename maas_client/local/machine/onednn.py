"""Matrix products through oneDNN, which torch has on board and asks on an x86 CPU for few of them.

torch multiplies float32 matrices with MKL. On AMD processors that is less than half of what oneDNN
makes of the same cores (EPYC, 2 threads, 1024 × 576 × 1536: 215 against 480 GFLOP/s), elsewhere the
two are alike. The operations are the ones Inductor compiles to; they are not part of torch's public
interface, so they are tried once, and done without where they fail or are wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch  # noqa: TID253 - imported by the training and the answering process only
from torch.nn import functional as f  # noqa: TID253 - see above

Matmul = Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]
"""``(x, bias) -> x Wᵀ + bias``."""
_LARGE = 1 << 26
"""Multiplications from which a product is large: some 0.3 ms."""


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Return ``x Wᵀ + bias`` for ``weight`` as ``out × in``; gives autograd nothing to go by.

    Small products stay with torch: they gain nothing, and small models keep torch's own rounding.
    """
    if x.numel() * weight.shape[0] >= _LARGE and _takes(x) and _takes(weight):
        return _linear(x, weight, bias)
    return f.linear(x, weight, bias)


def matmul(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return ``left @ right`` of two matrices; gives autograd nothing to go by."""
    return linear(left, right.T)


def prepacked_linear(weight: torch.Tensor) -> Matmul:
    """Return the product with a weight that stays as it is, in oneDNN's own order where it has one.

    Reads the weight 2 to 4 times as fast for the few rows of a decoding step (29 against 11 GB/s at
    8 rows).
    """
    if not _takes(weight):
        return lambda x, bias: f.linear(x, weight, bias)
    return _packed(weight)


def _takes(one: torch.Tensor) -> bool:
    """Tell whether oneDNN can read a matrix: numbers on the CPU, none of them read twice."""
    return (
        one.device.type == "cpu"
        and one.numel() > 0
        and 0 not in one.stride()
        and is_supported(one.dtype)
    )


def _linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out


def _packed(weight: torch.Tensor) -> Matmul:
    own = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), 1)
    return lambda x, bias: _linear(x, own, bias)


@lru_cache
def is_supported(dtype: torch.dtype) -> bool:
    """Tell whether this build of torch multiplies numbers of a format this way, and rightly."""
    if dtype not in (torch.float32, torch.bfloat16):
        return False
    weight = torch.arange(-24, 24).reshape(6, 8).to(dtype) / 16
    x, bias = torch.arange(16).reshape(2, 8).to(dtype) / 8, torch.arange(6).to(dtype)
    turned = weight.T.contiguous().T
    try:
        ways = (_packed(weight), lambda x, bias: _linear(x, turned, bias))
        want = f.linear(x, weight, bias)
        return all(torch.allclose(way(x, bias), want, rtol=1e-2) for way in ways)
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
