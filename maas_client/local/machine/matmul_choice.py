"""Choose the matrix products of a base by timing them on this machine.

For each kind of product (``KINDS``) at the shapes of the base, torch's own and oneDNN's are timed in
turn, and oneDNN is used where it is faster by more than noise. The result is kept in the base's folder, with
what it depends on: the processor, the cores and instructions that may be used, torch, and the shapes.
A run that resumes keeps the choice that it began with (its checkpoint has it), so that its bytes stay the same.
"""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from maas_client._cores import usable_cores
from maas_client.local.state.files import write_private_file

FILE = ".matmul.json"
KINDS = ("forward", "backward", "adapter", "adapter backward")
"""Kinds of products: with a weight as it is stored or transposed, of wide matrices or with a low rank."""
_VERSION = 3
MOST_PACKS_AT_ONCE = 4
"""Packs of a step that are computed at the same time, each with its part of the threads."""
_REPEATS = 6
_OPERATIONS = 1.5e9
"""Operations of one pass over the products of a kind: a hundredth of a second at 150 GFLOP/s."""
_MIN_TOKENS, _MAX_TOKENS = 96, 512
_ADAPTER_RANK = 8
_NOISE = 0.03
"""Differences of less are noise: torch's own product is used. With AVX2, no timing found 3 % for all kinds."""
_LEAST_S = 0.1
"""A small model, whose products in all layers take less, gains nothing: torch's own product is used."""
_ISA_VARIABLES = (
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "MKL_ENABLE_INSTRUCTIONS",
    "ATEN_CPU_CAPABILITY",
)

Shape = tuple[int, int]
"""Outputs and inputs of a linear layer."""


@dataclass(frozen=True, slots=True)
class MatmulChoice:
    """Which kinds of products use oneDNN, and what that gains."""

    onednn: tuple[str, ...] = ()
    """Of ``KINDS``; all others use torch's own product."""
    gain: float | None = None
    """Share of the time of all products that this saves, compared with torch's own; None: not timed."""

    def describe(self) -> str:
        """Return the choice as a sentence."""
        if self.gain is None:
            return (
                "Matrix products: torch's own; the model is too small to gain from oneDNN's, "
                "or this torch has none."
            )
        if not self.onednn:
            return (
                "Matrix products: torch's own; oneDNN's saved less than "
                f"{100 * _NOISE:.0f} % when both were timed."
            )
        return (
            f"Matrix products: oneDNN for {', '.join(self.onednn)}, "
            f"which took {100 * self.gain:.0f} % less time than torch's own when both were timed."
        )

    def apply(self) -> None:
        """Use this choice in this process."""
        from maas_client.local.machine import onednn

        onednn.select(self.onednn)
        global _current
        _current = self

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, JSON-ready."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> MatmulChoice:
        """Return the choice of ``as_dict``. Raises ``ValueError``, ``TypeError`` or ``KeyError`` for others."""
        kinds = tuple(fields["onednn"])
        if not set(kinds) <= set(KINDS):
            raise ValueError(f"unknown kinds of products: {kinds}")
        gain = None if fields["gain"] is None else float(fields["gain"])
        if not math.isfinite(gain or 0):
            raise ValueError(f"the gain is {gain}")
        return cls(kinds, gain)


_current = MatmulChoice()


def current() -> MatmulChoice:
    """Return the choice that this process uses."""
    return _current


def choose(folder: Path | None, shapes: Iterable[Shape]) -> MatmulChoice:
    """Return the choice for a base, from its folder or by timing; a choice of another machine is replaced.

    Without a folder none is stored.
    """
    counts = Counter(shapes)
    fingerprint = _fingerprint(counts)
    stored = load(folder, fingerprint) if folder is not None else None
    if stored is None:
        stored = measure_products(counts)
        if folder is None:
            return stored
        with suppress(OSError):  # a folder that cannot be written: time again next time
            content = {"fingerprint": fingerprint, "choice": stored.as_dict()}
            write_private_file(folder / FILE, json.dumps(content))
    return stored


def load(folder: Path, fingerprint: Mapping[str, Any] | None = None) -> MatmulChoice | None:
    """Return the stored choice; None if there is none, it is damaged, or it has another fingerprint."""
    with suppress(OSError, ValueError, TypeError, KeyError, RecursionError, OverflowError):
        content = json.loads((folder / FILE).read_bytes())
        if fingerprint is None or content["fingerprint"] == fingerprint:
            return MatmulChoice.from_dict(content["choice"])
    return None


def _fingerprint(shapes: Counter[Shape]) -> dict[str, Any]:
    """Return what the fastest products depend on, JSON-ready."""
    return {
        "version": _VERSION,
        **_processor(),
        "cores": usable_cores(),
        "instructions": {name: os.environ.get(name, "") for name in _ISA_VARIABLES},  # noqa: TID251 - of libraries
        "torch": metadata.version("torch"),
        "shapes": sorted([*shape, count] for shape, count in shapes.items()),
    }


def _processor() -> dict[str, str]:
    """Return the processor's name, and the vector instructions that a virtual machine lets it have."""
    with suppress(OSError, UnicodeDecodeError):
        lines = Path("/proc/cpuinfo").read_text("utf-8").split("\n\n")[0].splitlines()
        fields = dict(line.split(":", 1) for line in lines if ":" in line)
        named = {key.strip(): value.strip() for key, value in fields.items()}
        parts = (named[key] for key in ("model name", "cpu family", "model") if key in named)
        flags = named.get("flags", "").split()
        vectors = sorted(flag for flag in flags if flag.startswith(("avx", "amx", "fma")))
        return {"processor": " ".join(parts), "flags": " ".join(vectors)}
    return {"processor": platform.processor() or platform.machine(), "flags": ""}


def measure_products(shapes: Counter[Shape]) -> MatmulChoice:
    """Time each kind of product with both implementations, with as many threads as compute a pack of a step."""
    import torch

    from maas_client.local.machine import onednn

    if not shapes or not onednn.is_supported(torch.float32):
        return MatmulChoice()
    weights = sum(outputs * inputs for outputs, inputs in shapes)
    tokens = min(_MAX_TOKENS, max(_MIN_TOKENS, int(_OPERATIONS / (2 * weights))))
    seconds: dict[str, tuple[float, float]] = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // MOST_PACKS_AT_ONCE))
    try:
        with torch.no_grad():
            for kind in KINDS:
                products = [
                    (_product(kind, shape, tokens), count)
                    for shape, count in sorted(shapes.items())
                ]
                seconds[kind] = _time(kind, products)
    finally:
        torch.set_num_threads(threads)
    chosen = tuple(
        kind for kind, (torch_s, onednn_s) in seconds.items() if onednn_s < (1 - _NOISE) * torch_s
    )
    torch_s = sum(torch_s for torch_s, _ in seconds.values())
    gain = 1 - sum(pair[kind in chosen] for kind, pair in seconds.items()) / torch_s
    if torch_s < _LEAST_S:
        return MatmulChoice()
    if gain < _NOISE:
        return MatmulChoice(gain=0.0)
    return MatmulChoice(chosen, round(gain, 3))


def _time(kind: str, products: list[tuple[Callable[[], Any], int]]) -> tuple[float, float]:
    """Return the seconds of a kind's products in all layers: with torch's own, and with oneDNN.

    The first product of a size, for which a kernel may be compiled, counts once.
    """
    from maas_client.local.machine import onednn

    totals = []
    alternatives: tuple[tuple[str, ...], ...] = ((), (kind,))
    for kinds in alternatives:  # libraries start their threads with their first product
        onednn.select(kinds)
        products[0][0]()
    for product, count in products:
        first: list[float] = []
        best = [float("inf"), float("inf")]
        for number in range(1 + _REPEATS):
            for index, kinds in enumerate(alternatives):
                onednn.select(kinds)
                started_at = _clock()
                product()
                took = _clock() - started_at
                if number == 0:
                    first.append(took)
                else:
                    best[index] = min(best[index], took)
        totals.append([f + b * (count - 1) for f, b in zip(first, best, strict=True)])
    onednn.select(())
    with_torch, with_onednn = (sum(total) for total in zip(*totals, strict=True))
    return with_torch, with_onednn


def _clock() -> float:
    """Return CPU seconds, which other programs do not lengthen, or seconds where those are too coarse."""
    is_fine = time.get_clock_info("process_time").resolution < 1e-4
    return time.process_time() if is_fine else time.perf_counter()


def _product(kind: str, shape: Shape, tokens: int) -> Callable[[], Any]:
    """Return a product of a kind, as training multiplies it for a layer of this shape."""
    from torch import ones

    from maas_client.local.machine import onednn

    outputs, inputs = shape
    # the values do not matter, and random ones would change the random state
    x, grad, weight = ones(tokens, inputs), ones(tokens, outputs), ones(outputs, inputs)
    a, b, low = (
        ones(_ADAPTER_RANK, inputs),
        ones(outputs, _ADAPTER_RANK),
        ones(_ADAPTER_RANK, tokens),
    )
    products: dict[str, Callable[[], Any]] = {
        "forward": lambda: onednn.linear(x, weight),
        "backward": lambda: onednn.matmul(grad, weight),
        "adapter": lambda: (onednn.matmul(a, x.T), onednn.matmul(b.T, grad.T)),
        "adapter backward": lambda: (onednn.matmul(low, grad), onednn.matmul(low, x)),
    }
    return products[kind]
