"""Matrix products with oneDNN, which torch contains but rarely uses on x86 CPUs.

torch multiplies float32 matrices with MKL. On AMD processors oneDNN is more than twice as fast (EPYC, 2
threads, 1024 × 576 × 1536: 480 against 215 GFLOP/s); elsewhere both are about equal. The operations are those
that Inductor compiles to. They are not part of torch's public API, so they are tested once, and torch's own
product is used where they fail or give wrong results.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch  # noqa: TID253 - imported by the training and the answering process only
from torch.nn import functional as f  # noqa: TID253 - see above

Matmul = Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]
"""``(x, bias) -> x Wᵀ + bias``."""
_LARGE = 1 << 26
"""Products with at least this many multiplications use oneDNN: about 0.3 ms."""


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Return ``x Wᵀ + bias`` for a ``weight`` of shape (out, in), without autograd.

    Small products use torch: they would gain nothing, and small models keep torch's own rounding.
    """
    if x.numel() * weight.shape[0] >= _LARGE and _can_use(x) and _can_use(weight):
        return _linear(x, weight, bias)
    return f.linear(x, weight, bias)


def matmul(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return ``left @ right`` of two matrices, without autograd."""
    return linear(left, right.T)


def prepacked_linear(weight: torch.Tensor) -> Matmul:
    """Return a function that multiplies with a constant weight, prepacked in oneDNN's layout if possible.

    For the few rows of a decoding step it reads the weight 2 to 4 times as fast (29 against 11 GB/s at 8 rows).
    """
    if not _can_use(weight):
        return lambda x, bias: f.linear(x, weight, bias)
    return _prepack(weight)


def _can_use(matrix: torch.Tensor) -> bool:
    """Return whether oneDNN can read a matrix: on the CPU, not empty, and not broadcast (stride 0)."""
    return (
        matrix.device.type == "cpu"
        and matrix.numel() > 0
        and 0 not in matrix.stride()
        and is_supported(matrix.dtype)
    )


def _linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out


def _prepack(weight: torch.Tensor) -> Matmul:
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), 1)
    return lambda x, bias: _linear(x, packed, bias)


@lru_cache
def is_supported(dtype: torch.dtype) -> bool:
    """Return whether this torch build has the oneDNN operations for a dtype and they are correct."""
    if dtype not in (torch.float32, torch.bfloat16):
        return False
    weight = torch.arange(-24, 24).reshape(6, 8).to(dtype) / 16
    x, bias = torch.arange(16).reshape(2, 8).to(dtype) / 8, torch.arange(6).to(dtype)
    transposed = weight.T.contiguous().T
    try:
        functions = (_prepack(weight), lambda x, bias: _linear(x, transposed, bias))
        expected = f.linear(x, weight, bias)
        return all(torch.allclose(function(x, bias), expected, rtol=1e-2) for function in functions)
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
