"""Plan a job: which methods fit into a machine's memory, and how long an epoch takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from maas_client._cores import usable_cores
from maas_client.catalog import Architecture
from maas_client.local.machine.hardware import Hardware
from maas_client.local.machine.memory import MemoryEstimate, estimate_memory
from maas_client.local.machine.model_architecture import count_parameters
from maas_client.local.planning.measure import Measurement, RowStats, measure

METHODS = {
    "LoRA": "trains small matrices beside frozen weights; the method of the serverless service",
    "DoRA": "LoRA with separate direction and magnitude; a little better and slower",
    "QLoRA": "LoRA over 4-bit weights; needs the least memory",
    "Full": "trains every weight; needs the most memory; for large data sets",
    "rsLoRA": "LoRA scaled for high ranks; the same cost as LoRA",
}
COMPARED_METHODS = tuple(method for method in METHODS if method != "rsLoRA")
USABLE_MEMORY = 0.9
"""Fraction of a machine's memory that a job may use; the system needs the rest."""
ASSUMED_UTILIZATION = 0.3
"""The assumed fraction of a GPU's published rate. It is an assumption: no GPU of the catalog was measured."""
ASSUMED_SCALING = 0.9
"""The assumed efficiency of several GPUs, which exchange gradients."""


@dataclass(frozen=True, slots=True)
class MethodEstimate:
    """The estimate of one method on one machine."""

    method: str
    fits: bool
    memory: MemoryEstimate
    """Memory by formula, in parts."""
    peak_bytes: int
    """Measured if ``measured`` is true, otherwise the formula's total."""
    epoch_s: float | None
    """Seconds per epoch: measured, or estimated from the GPU's published rate; None if neither is known, or if
    the method does not fit."""
    measured: bool
    checkpoint_activations: bool
    why: str

    def as_dict(self) -> dict[str, Any]:
        """Return the estimate as JSON-ready data."""
        return {**asdict(self), "memory": self.memory.as_dict()}


@dataclass(frozen=True, slots=True)
class Plan:
    """The estimates of all methods for one model, data set and machine."""

    model: str
    parameters: int
    hardware: Hardware
    data: RowStats
    batch_size: int
    estimates: tuple[MethodEstimate, ...]
    choice: str | None
    """The recommended method; None if none fits."""
    advice: str

    def find(self, method: str | None) -> MethodEstimate:
        """Return the estimate of one of the methods."""
        return next(row for row in self.estimates if row.method == method)

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as JSON-ready data."""
        return {
            "model": self.model,
            "parameters": self.parameters,
            "machine": asdict(self.hardware),
            "data": {**asdict(self.data), "tokens": self.data.tokens},
            "batch_size": self.batch_size,
            "methods": [row.as_dict() for row in self.estimates],
            "choice": self.choice,
            "advice": self.advice,
        }


def plan(
    model: str,
    shape: Architecture,
    data: RowStats,
    hardware: Hardware,
    *,
    batch_size: int = 1,
    r: int = 8,
    methods: tuple[str, ...] = COMPARED_METHODS,
    probe: bool = True,
    progress: Callable[[str], None] = lambda method: None,
) -> Plan:
    """Estimate memory and time of each method.

    With ``probe``, a few blocks are measured if the machine is this one, has no GPU and the method fits by
    formula; everything else is an estimate and marked as such. ``progress`` is called with each method before
    it is measured. Raises ``ConfigError`` for an unsupported architecture.
    """
    rows = tuple(
        _estimate_method(
            shape, method, data, hardware, batch_size, r, probe=probe, progress=progress
        )
        for method in methods
    )
    choice = next((row.method for row in rows if row.fits), None)
    return Plan(
        model=model,
        parameters=count_parameters(shape).total,
        hardware=hardware,
        data=data,
        batch_size=batch_size,
        estimates=rows,
        choice=choice,
        advice=_advice(model, rows, choice, hardware),
    )


def _estimate_method(
    shape: Architecture,
    method: str,
    data: RowStats,
    hardware: Hardware,
    batch_size: int,
    r: int,
    *,
    probe: bool,
    progress: Callable[[str], None],
) -> MethodEstimate:
    tokens = max(8, round(batch_size * data.mean_length))
    usable_bytes = int(hardware.memory_bytes * USABLE_MEMORY)
    memory, recomputes = _estimate_with_fallback(
        shape, method, tokens, r, hardware.device, usable_bytes
    )
    measurement: Measurement | None = None
    if (
        probe
        and hardware.is_this_machine
        and hardware.device == "cpu"
        and memory.total <= usable_bytes
        and not recomputes
    ):
        progress(method)
        measurement = measure(
            shape, method, data, batch_size=batch_size, r=r, threads=usable_cores()
        )
    peak_bytes = measurement.peak_bytes if measurement else memory.total
    fits = peak_bytes <= usable_bytes
    steps = math.ceil(data.rows / batch_size)
    return MethodEstimate(
        method=method,
        fits=fits,
        memory=memory,
        peak_bytes=peak_bytes,
        epoch_s=None
        if not fits
        else steps * measurement.step_s
        if measurement
        else _estimate_epoch_s(shape, method, data, hardware, recomputes=recomputes),
        measured=measurement is not None,
        checkpoint_activations=recomputes,
        why=_explain(method, memory, peak_bytes, usable_bytes, fits=fits, recomputes=recomputes),
    )


def operations_per_token(
    shape: Architecture, method: str, data: RowStats, *, recomputes: bool = False
) -> float:
    """Return the operations of the matrix products for one token, forward and backward.

    A product with frozen weights is computed forward and once backward, one with trained weights twice
    backward. Adapters and the conversion of 4-bit weights are not counted.
    """
    forward_passes = 2 if recomputes else 1
    passes = forward_passes + (2 if method == "Full" else 1)
    linear = count_parameters(shape).linear
    head = int(shape.vocab_size or 0) * shape.hidden_size * data.learned_share
    attention = (
        shape.layers * shape.heads * shape.head_dim * data.mean_length
    )  # causal: half of all pairs
    return (
        2 * linear * passes
        + 2 * head * (passes - forward_passes + 1)
        + 2 * attention * (forward_passes + 2)
    )


def _estimate_epoch_s(
    shape: Architecture, method: str, data: RowStats, hardware: Hardware, *, recomputes: bool
) -> float | None:
    """Estimate an epoch from the published rate of the GPUs, one process on each; None without a rate."""
    if hardware.tflops is None:
        return None
    scaling = ASSUMED_SCALING if hardware.count > 1 else 1.0
    rate = hardware.tflops * 1e12 * ASSUMED_UTILIZATION * hardware.count * scaling
    return data.tokens * operations_per_token(shape, method, data, recomputes=recomputes) / rate


def recommend(plans: Sequence[Plan], epochs: int = 1) -> str:
    """Return a sentence that names the smallest machine on which a method fits, and the fastest."""
    fitting = [(each, each.find(each.choice)) for each in plans if each.choice]
    if not fitting:
        return plans[-1].advice if plans else ""
    preferred = list(METHODS)
    smallest, estimate = min(
        fitting,
        key=lambda pair: (
            preferred.index(pair[1].method),
            pair[0].hardware.count * pair[0].hardware.memory_bytes,
        ),
    )
    text = f"Smallest machine: {_describe(smallest, estimate, epochs)}."
    timed = [pair for pair in fitting if pair[1].epoch_s is not None]
    if timed:
        fastest, estimate = min(timed, key=lambda pair: pair[1].epoch_s or 0.0)
        if fastest is not smallest:
            text += f" Fastest: {_describe(fastest, estimate, epochs)}."
    return text


def _describe(plan: Plan, estimate: MethodEstimate, epochs: int) -> str:
    time = (
        "" if estimate.epoch_s is None else f", about {format_duration(estimate.epoch_s * epochs)}"
    )
    return (
        f"{estimate.method} on {plan.hardware.name}, {format_bytes(estimate.peak_bytes)} of "
        f"{format_bytes(plan.hardware.memory_bytes)}{time}"
    )


def _estimate_with_fallback(
    shape: Architecture, method: str, tokens: int, r: int, device: str, usable_bytes: int
) -> tuple[MemoryEstimate, bool]:
    """Return the memory by formula, and whether activations must be recomputed to fit."""
    memory = estimate_memory(shape, method, tokens=tokens, r=r, device=device)
    if memory.total <= usable_bytes:
        return memory, False
    reduced = estimate_memory(
        shape, method, tokens=tokens, r=r, device=device, checkpoint_activations=True
    )
    return (reduced, True) if reduced.total <= usable_bytes else (memory, False)


def _explain(
    method: str,
    memory: MemoryEstimate,
    peak_bytes: int,
    usable_bytes: int,
    *,
    fits: bool,
    recomputes: bool,
) -> str:
    if fits:
        extra = ", with activations computed twice" if recomputes else ""
        return f"{METHODS[method]}{extra}"
    if memory.total <= usable_bytes:  # only the measured blocks say that it does not fit
        return (
            f"needs {format_bytes(peak_bytes)} of the {format_bytes(usable_bytes)} that may be used, "
            f"extrapolated from measured blocks; {format_bytes(memory.total)} by formula"
        )
    parts = memory.as_dict()
    parts.pop("total")
    name = max(parts, key=lambda part: parts[part])
    return (
        f"needs {format_bytes(peak_bytes)} of the {format_bytes(usable_bytes)} that may be used; "
        f"{format_bytes(parts[name])} of it are {name}"
    )


def _advice(
    model: str, rows: tuple[MethodEstimate, ...], choice: str | None, hardware: Hardware
) -> str:
    if choice is not None:
        refused = [row.method for row in rows if not row.fits]
        refused_text = f"; {', '.join(refused)} would not fit" if refused else ""
        return f"Use {choice}{refused_text}."
    lowest = min(rows, key=lambda row: row.peak_bytes)
    qlora_hint = "" if lowest.method == "QLoRA" else " QLoRA needs the least: try --method QLoRA."
    alternatives = (
        "Alternatives: DeepSpeed ZeRO-3 over several machines, a smaller model, or a stand-in "
        "(--base smollm2-135m) to try the workflow here."
    )
    return (
        f"{model} does not fit on {hardware.name}: "
        f"even {lowest.method} needs {format_bytes(lowest.peak_bytes)}."
        f"{qlora_hint} {alternatives}"
    )


def format_duration(seconds: float) -> str:
    """Format a duration in its largest useful unit."""
    if seconds < 120:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def format_bytes(size: float) -> str:
    """Format a number of bytes."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 / 10 else f"{size / 2**20:.0f} MiB"
