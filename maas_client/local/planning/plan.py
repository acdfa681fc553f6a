"""Which method fits where, why, and how long it takes."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from maas_client.catalog import Architecture
from maas_client.local.machine.hardware import Hardware, usable_cores
from maas_client.local.machine.memory import MemoryEstimate, estimate_memory
from maas_client.local.machine.model_shape import count_parameters
from maas_client.local.planning.measure import Measurement, RowStats, measure

METHODS = {
    "LoRA": "small matrices beside frozen weights; the serverless service's own method",
    "DoRA": "LoRA with direction and magnitude apart; a little better and slower",
    "QLoRA": "LoRA over weights held in four bits; the least memory",
    "Full": "every weight is trained; the most memory, for large data sets",
    "rsLoRA": "LoRA with a scale for high ranks; it costs what LoRA costs",
}
COMPARED_METHODS = tuple(method for method in METHODS if method != "rsLoRA")
USABLE_MEMORY = 0.9
"""Of a machine's memory: the rest is the system's."""


@dataclass(frozen=True, slots=True)
class MethodEstimate:
    """One method on one machine."""

    method: str
    fits: bool
    memory: MemoryEstimate
    """By formula, part by part."""
    peak_bytes: int
    """Measured where ``measured`` is true, else the formula's total."""
    epoch_s: float | None
    """None where it was not measured."""
    measured: bool
    checkpoint_activations: bool
    why: str

    def as_dict(self) -> dict[str, Any]:
        """Return the row, JSON-ready."""
        return {**asdict(self), "memory": self.memory.as_dict()}


@dataclass(frozen=True, slots=True)
class Plan:
    """All methods of one model, one data set and one machine."""

    model: str
    parameters: int
    hardware: Hardware
    data: RowStats
    batch_size: int
    estimates: tuple[MethodEstimate, ...]
    choice: str | None
    """The method to take; None where none fits."""
    advice: str

    def as_dict(self) -> dict[str, Any]:
        """Return the plan, JSON-ready."""
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
) -> Plan:
    """Return what each method needs. ``probe`` measures a few blocks where the machine is this one, has
    no GPU, and the method fits by formula; everything else is an estimate and says so.
    Raises ``ConfigError`` for a shape that cannot be planned.
    """
    rows = tuple(
        _row(shape, method, data, hardware, batch_size, r, probe=probe) for method in methods
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


def _row(
    shape: Architecture,
    method: str,
    data: RowStats,
    hardware: Hardware,
    batch_size: int,
    r: int,
    *,
    probe: bool,
) -> MethodEstimate:
    tokens = max(8, round(batch_size * data.mean_length))
    room = int(hardware.memory_bytes * USABLE_MEMORY)
    memory, forgets = _estimated(shape, method, tokens, r, hardware.device, room)
    found: Measurement | None = None
    if (
        probe
        and hardware.here
        and hardware.device == "cpu"
        and memory.total <= room
        and not forgets
    ):
        found = measure(shape, method, data, batch_size=batch_size, r=r, threads=usable_cores())
    peak = found.peak_bytes if found else memory.total
    fits = peak <= room
    steps = math.ceil(data.rows / batch_size)
    return MethodEstimate(
        method=method,
        fits=fits,
        memory=memory,
        peak_bytes=peak,
        epoch_s=steps * found.step_s if found else None,
        measured=found is not None,
        checkpoint_activations=forgets,
        why=_why(method, memory, peak, room, fits=fits, forgets=forgets),
    )


def _estimated(
    shape: Architecture, method: str, tokens: int, r: int, device: str, room: int
) -> tuple[MemoryEstimate, bool]:
    """Return the formula's memory; activations are forgotten and computed again where only that fits."""
    memory = estimate_memory(shape, method, tokens=tokens, r=r, device=device)
    if memory.total <= room:
        return memory, False
    less = estimate_memory(
        shape, method, tokens=tokens, r=r, device=device, checkpoint_activations=True
    )
    return (less, True) if less.total <= room else (memory, False)


def _why(
    method: str, memory: MemoryEstimate, peak: int, room: int, *, fits: bool, forgets: bool
) -> str:
    if fits:
        extra = ", with activations computed twice" if forgets else ""
        return f"{METHODS[method]}{extra}"
    parts = memory.as_dict()
    parts.pop("total")
    name = max(parts, key=lambda part: parts[part])
    return (
        f"needs {format_bytes(peak)} of the {format_bytes(room)} that may be used; "
        f"{format_bytes(parts[name])} of it are {name}"
    )


def _advice(
    model: str, rows: tuple[MethodEstimate, ...], choice: str | None, hardware: Hardware
) -> str:
    if choice is not None:
        refused = [row.method for row in rows if not row.fits]
        other = f"; {', '.join(refused)} would not fit" if refused else ""
        return f"Take {choice}{other}."
    lowest = min(rows, key=lambda row: row.peak_bytes)
    tried = "" if lowest.method == "QLoRA" else " QLoRA needs the least: ask for it."
    more = (
        "DeepSpeed ZeRO-3 shares it among several machines, a smaller model needs less, and a stand-in "
        "(--base smollm2-135m) tries the road out here."
    )
    return (
        f"{model} does not fit on {hardware.name}: "
        f"even {lowest.method} needs {format_bytes(lowest.peak_bytes)}."
        f"{tried} {more}"
    )


def format_bytes(size: float) -> str:
    """Return bytes for people."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 / 10 else f"{size / 2**20:.0f} MiB"
