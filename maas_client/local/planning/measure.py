"""Measure two small probes and extrapolate step time and peak memory of the whole model."""

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
from maas_client.local.machine import model_architecture as shapes
from maas_client.local.machine.child_processes import worker_environment
from maas_client.local.machine.memory import NF4_BYTES_PER_WEIGHT, activation_values_per_token

_MAX_OPERATIONS = 4e11
"""Floating-point operations of a probe's step: takes seconds on two cores."""
_TIMEOUT_S = 600


@dataclass(frozen=True, slots=True)
class RowStats:
    """Size of a job's data. Lengths are in tokens."""

    rows: int
    mean_length: float
    learned_share: float

    @property
    def tokens(self) -> int:
        """Return the tokens of one epoch."""
        return round(self.rows * self.mean_length)


@dataclass(frozen=True, slots=True)
class Measurement:
    """Step time and peak memory of the whole model, extrapolated from probes."""

    step_s: float
    peak_bytes: int


def measure(
    shape: Architecture, method: str, data: RowStats, *, batch_size: int, r: int, threads: int
) -> Measurement:
    """Run two probes with different numbers of blocks in child processes, and extrapolate to all blocks.

    Large shapes are probed with fewer tokens: time and activations grow with tokens, weights do not.
    Raises ``ServiceError`` if a probe fails.
    """
    job_tokens = max(8, round(batch_size * data.mean_length))
    small_blocks, large_blocks = (1, 2) if shape.hidden_size >= 2048 else (2, 6)
    lengths = _lengths(shape, data, batch_size, large_blocks)
    request = {
        "shape": asdict(shape),
        "method": method,
        "r": r,
        "threads": threads,
        "lengths": lengths,
        "learned_share": data.learned_share,
        "steps": 4,
    }
    small, large = (
        _run_probe({**request, "blocks": blocks}) for blocks in (small_blocks, large_blocks)
    )
    scale = job_tokens / sum(lengths)
    block_s, other_s = split_step_time(
        shape, data, (small_blocks, small["step_s"]), (large_blocks, large["step_s"])
    )
    block_bytes = (large["peak_bytes"] - small["peak_bytes"]) / (large_blocks - small_blocks)
    other_bytes = small["peak_bytes"] - small_blocks * block_bytes
    fixed_bytes = _fixed_bytes(shape, method, r)
    # What the loading of a probe leaves in its peak is no activation, and must not grow with the job's tokens.
    activation_bytes = 4 * activation_values_per_token(shape, method) * sum(lengths)
    grown_bytes = min(max(0.0, block_bytes - fixed_bytes), 2 * activation_bytes)
    return Measurement(
        step_s=(shape.layers * block_s + other_s) * scale,
        peak_bytes=round(other_bytes + shape.layers * (fixed_bytes + grown_bytes * scale)),
    )


def split_step_time(
    shape: Architecture, data: RowStats, small: tuple[int, float], large: tuple[int, float]
) -> tuple[float, float]:
    """Return the seconds of one block and of everything else in a step.

    The time of a block is the difference of the two probes. Other programs disturb it, and an error counts as
    often as the model has blocks: so it is at least half and at most twice the block's share of the larger
    probe, by operations.

    Args:
        shape: The model's architecture.
        data: The job's data.
        small: The blocks and the seconds per step of the smaller probe.
        large: The same of the larger probe.
    """
    (small_blocks, small_s), (large_blocks, large_s) = small, large
    block, head = _operations_per_token(shape, data)
    expected_s = large_s * block / (large_blocks * block + head)
    block_s = (large_s - small_s) / (large_blocks - small_blocks)
    block_s = min(max(block_s, expected_s / 2), expected_s * 2, large_s / large_blocks)
    return block_s, max(0.0, large_s - large_blocks * block_s)


def _operations_per_token(shape: Architecture, data: RowStats) -> tuple[int, int]:
    """Return the multiplications of one block and of the output layer, per token."""
    block = sum(i * o for i, o in shapes.linear_layer_sizes(shape))
    return block, int((shape.vocab_size or 0) * shape.hidden_size * data.learned_share)


def _lengths(shape: Architecture, data: RowStats, batch_size: int, blocks: int) -> list[int]:
    """Return the document lengths of the probe's pack: those of the job, within the operation limit."""
    length = max(2, round(data.mean_length))
    block, head = _operations_per_token(shape, data)
    max_tokens = max(32, int(_MAX_OPERATIONS / (6 * (block * blocks + head))))
    if length >= max_tokens:
        return [max_tokens]
    return [length] * max(1, min(batch_size, max_tokens // length))


def _fixed_bytes(shape: Architecture, method: str, r: int) -> float:
    """Return the bytes of one block that do not grow with tokens: weights, gradients, optimiser state."""
    layers = shapes.linear_layer_sizes(shape)
    parameters = sum(i * o for i, o in layers)
    if method == "Full":
        return 16.0 * parameters
    weight_bytes = parameters * (NF4_BYTES_PER_WEIGHT if method == "QLoRA" else 4)
    return weight_bytes + 16.0 * r * sum(i + o for i, o in layers)


def _run_probe(request: dict[str, Any]) -> dict[str, Any]:
    if find_spec("torch") is None:
        raise MissingExtraError(
            "measuring blocks of the model needs torch, which is not installed",
            extra="local",
            hint="Install it: pip install 'maas-client[local]'. To estimate without measuring: --no-measure",
        )
    command = [sys.executable, "-P", "-m", "maas_client.local.planning.probe"]
    try:
        process = subprocess.run(
            command,
            input=json.dumps(request),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=True,
            env=worker_environment(int(request["threads"]), device="cpu"),
        )
        result: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    except (subprocess.SubprocessError, ValueError, IndexError, OSError) as error:
        output = getattr(error, "stderr", None) or str(error)
        reason = output.strip().splitlines()[-1] if output.strip() else type(error).__name__
        raise ServiceError(f"cannot measure the model's shape: {reason[:300]}") from error
    if not all(math.isfinite(result[key]) for key in ("step_s", "peak_bytes")):
        raise ServiceError("cannot measure the model's shape: the probe returned no numbers")
    return result
