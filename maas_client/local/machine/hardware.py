"""The hardware of this machine (cores, memory, GPUs) and of Azure's GPU sizes. Torch-free."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from maas_client import catalog
from maas_client._cores import control_groups, read_text, usable_cores
from maas_client.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Hardware:
    """A machine that a job can run on."""

    name: str
    device: str
    """``cpu`` or ``gpu``."""
    memory_bytes: int
    """Memory of one GPU, or of the machine if it has none."""
    count: int
    """GPUs, or cores if there is none."""
    is_this_machine: bool
    """True: this machine."""
    tflops: float | None = None
    """The published rate of one GPU, in 10^12 operations a second; None if it is not known."""


def detect_hardware() -> Hardware:
    """Return this machine's hardware: its NVIDIA GPUs, or its CPU if there is none."""
    gpus = _gpus()
    if gpus:
        name, memory = gpus[0]
        rate = _published_rate(name, memory)
        return Hardware(
            f"this machine ({name})", "gpu", memory, len(gpus), is_this_machine=True, tflops=rate
        )
    return Hardware(
        "this machine (CPU)", "cpu", usable_memory(), usable_cores(), is_this_machine=True
    )


def azure_hardware(name: str) -> Hardware:
    """Return an Azure GPU size of the catalog. Raises ``ConfigError`` with the known names."""
    machine = catalog.find_machine(name)
    if machine is None:
        known = list(catalog.load_machines())
        word = name.strip().casefold()
        similar = (
            [size for size in known if word in size.casefold().split("_")]
            or [size for size in known if word in size.casefold()]
            or get_close_matches(name, known, n=1)
        )
        hint = (
            f"Did you mean {' or '.join(similar)}?"
            if similar
            else f"The known sizes are {', '.join(known)}."
        )
        raise ConfigError(f"unknown machine {name!r}", hint=hint)
    return Hardware(
        f"{machine.name} ({machine.gpus} x {machine.gpu})",
        "gpu",
        int(machine.gpu_memory_gib * 2**30),
        machine.gpus,
        is_this_machine=False,
        tflops=machine.tflops,
    )


def _published_rate(name: str, memory_bytes: int) -> float | None:
    """Return the rate of the catalog's GPU with this model and about this much memory."""
    words = name.replace("-", " ").split()
    for machine in catalog.load_machines().values():
        size = machine.gpu_memory_gib * 2**30
        if machine.gpu.split()[-1] in words and abs(memory_bytes - size) < 0.1 * size:
            return machine.tflops
    return None


def usable_memory(root: Path = Path("/")) -> int:
    """Return the bytes of memory that this process may use: the machine's, or its container's limit."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 8 * 2**30  # Windows has no sysconf: assume 8 GiB
    for folder in control_groups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with suppress(ValueError):  # "max": no limit
                total = min(total, int(read_text(folder / name)))
    return total


def _gpus() -> list[tuple[str, int]]:
    nvidia_smi = shutil.which("nvidia-smi")
    if nvidia_smi is None:
        return []
    command = [nvidia_smi, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        output = subprocess.run(
            command, capture_output=True, text=True, timeout=20, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = (line.rpartition(",") for line in output.splitlines() if line.strip())
    return [(name.strip(), int(float(size)) * 2**20) for name, _, size in rows]
