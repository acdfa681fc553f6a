"""The hardware of this machine (cores, memory, GPUs) and of Azure's GPU sizes. Torch-free."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from maas_client import catalog
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


def usable_cores(root: Path = Path("/")) -> int:
    """Return the number of cores that this process may use: in its CPU mask, within its container's limit.

    Hyperthreads of one core count once: they share its arithmetic units, and torch's own number of threads
    is that of cores as well.

    Args:
        root: The folder in which Linux describes itself (``sys/...``, ``proc/...``).
    """
    allowed = getattr(os, "sched_getaffinity", None)  # Linux alone has it
    if not allowed:
        return os.cpu_count() or 1
    topology = root / "sys/devices/system/cpu"
    cores = {
        _read_text(topology / f"cpu{number}/topology/thread_siblings_list") or str(number)
        for number in allowed(0)
    }
    return max(1, min([len(cores), *map(math.ceil, _cpu_limits(root))]))


def _cpu_limits(root: Path) -> Iterator[float]:
    """Yield the CPU seconds per second that this process's control groups allow it."""
    for folder in _control_groups(root, "cpu"):
        quota, _, period = _read_text(folder / "cpu.max").partition(" ")
        if not quota:
            quota = _read_text(folder / "cpu.cfs_quota_us")
            period = _read_text(folder / "cpu.cfs_period_us")
        with suppress(ValueError, ZeroDivisionError):  # "max": no limit
            if int(quota) > 0:
                yield int(quota) / int(period)


def _control_groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of the control groups that this process is in, with their parents, in both versions."""
    mounts = root / "sys/fs/cgroup"
    for line in _read_text(root / "proc/self/cgroup").splitlines():
        number, _, path = line.partition(":")
        controllers, _, path = path.partition(":")
        if number == "0" and not controllers:
            mount = mounts
        elif controller in controllers.split(","):
            mount = mounts / controller
        else:
            continue
        # a container sees its own group as the mount's root, whatever the path is
        group = Path(path.strip("/"))
        yield from (mount / folder for folder in (group, *group.parents))


def _read_text(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except (OSError, ValueError):
        return ""


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
    for folder in _control_groups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with suppress(ValueError):  # "max": no limit
                total = min(total, int(_read_text(folder / name)))
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
