"""Two probes, and from them the whole model: time of a step and memory at the peak."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

from maas_client.catalog import Architecture
from maas_client.errors import MissingExtraError, ServiceError
from maas_client.local.machine import model_shape as shapes
from maas_client.local.machine.child_processes import worker_environment

_WORK = 4e11
"""Floating-point operations that a probe's step may take: seconds on two cores."""
_LIMIT_S = 600


@dataclass(frozen=True, slots=True)
class RowStats:
    """The rows of a job, as far as a plan needs them. Lengths are in tokens."""

    rows: int
    mean_length: float
    learned_share: float

    @property
    def tokens(self) -> int:
        """Of one epoch."""
        return round(self.rows * self.mean_length)


@dataclass(frozen=True, slots=True)
class Measurement:
    """What the probes say of the whole model."""

    step_s: float
    peak_bytes: int


def measure(
    shape: Architecture, method: str, data: RowStats, *, batch_size: int, r: int, threads: int
) -> Measurement:
    """Run two probes in processes of their own and extend them to all blocks.

    Large shapes are probed with fewer tokens: time and activations grow with tokens, weights do not.
    Raises ``ServiceError`` when a probe fails.
    """
    wanted = max(8, round(batch_size * data.mean_length))
    few, many = (1, 2) if shape.hidden_size >= 2048 else (2, 6)
    lengths = _lengths(shape, data, batch_size, many)
    asked = {
        "shape": asdict(shape),
        "method": method,
        "r": r,
        "threads": threads,
        "lengths": lengths,
        "learned_share": data.learned_share,
        "steps": 4,
    }
    one, two = (_probe({**asked, "blocks": blocks}) for blocks in (few, many))
    scale = wanted / sum(lengths)
    block_s = max(0.0, two["step_s"] - one["step_s"]) / (many - few)
    rest_s = max(0.0, one["step_s"] - few * block_s)
    block_bytes = (two["peak_bytes"] - one["peak_bytes"]) / (many - few)
    fixed = _fixed_bytes(shape, method, r)
    block_bytes = fixed + max(0.0, block_bytes - fixed) * scale
    rest_bytes = one["peak_bytes"] - few * (two["peak_bytes"] - one["peak_bytes"]) / (many - few)
    return Measurement(
        step_s=(shape.layers * block_s + rest_s) * scale,
        peak_bytes=round(rest_bytes + shape.layers * block_bytes),
    )


def _lengths(shape: Architecture, data: RowStats, batch_size: int, blocks: int) -> list[int]:
    """Return the documents of the probe's pack: a job's own, as far as the work allows."""
    length = max(2, round(data.mean_length))
    each = sum(i * o for i, o in shapes.linear_layer_sizes(shape)) * blocks
    each += int((shape.vocab_size or 0) * shape.hidden_size * data.learned_share)
    most = max(32, int(_WORK / (6 * each)))
    if length >= most:
        return [most]
    return [length] * max(1, min(batch_size, most // length))


def _fixed_bytes(shape: Architecture, method: str, r: int) -> float:
    """Return the bytes of one block that do not grow with tokens: weights and what trains them."""
    from maas_client.local.machine.memory import NF4_BYTES_PER_WEIGHT

    layers = shapes.linear_layer_sizes(shape)
    numbers = sum(i * o for i, o in layers)
    if method == "Full":
        return 16.0 * numbers
    held = numbers * (NF4_BYTES_PER_WEIGHT if method == "QLoRA" else 4)
    return held + 16.0 * r * sum(i + o for i, o in layers)


def _probe(asked: dict[str, Any]) -> dict[str, Any]:
    if find_spec("torch") is None:
        raise MissingExtraError(
            "a few blocks of the model are measured with torch, which is not installed",
            extra="local",
            hint="Install it: pip install 'maas-client[local]'. Or estimate alone: --no-measure",
        )
    command = [sys.executable, "-P", "-m", "maas_client.local.planning.probe"]
    try:
        ran = subprocess.run(
            command,
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=True,
            env=worker_environment(int(asked["threads"]), device="cpu"),
        )
        found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    except (subprocess.SubprocessError, ValueError, IndexError, OSError) as bad:
        said = getattr(bad, "stderr", None) or str(bad)
        last = said.strip().splitlines()[-1] if said.strip() else type(bad).__name__
        raise ServiceError(f"the model's shape could not be measured: {last[:300]}") from bad
    if not all(math.isfinite(found[key]) for key in ("step_s", "peak_bytes")):
        raise ServiceError("the model's shape could not be measured: no number came back")
    return found
