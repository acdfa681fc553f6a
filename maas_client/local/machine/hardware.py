"""What this machine has: cores, memory, graphics cards. Asked of the system, torch is not loaded."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from maas_client import catalog
from maas_client.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Hardware:
    """A place where a job may run. Memory is of one GPU, or the machine's where there is none."""

    name: str
    device: str
    """``cpu`` or ``gpu``."""
    memory_bytes: int
    count: int
    """GPUs, or cores."""
    here: bool


def detect_hardware() -> Hardware:
    """Return this machine: its first NVIDIA GPU if there is one, else its processor."""
    gpus = _gpus()
    if gpus:
        name, memory = gpus[0]
        return Hardware(f"this machine ({name})", "gpu", memory, len(gpus), here=True)
    return Hardware("this machine (CPU)", "cpu", _memory(), usable_cores(), here=True)


def usable_cores() -> int:
    """Return how many cores this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)  # Linux alone has it
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def azure_hardware(name: str) -> Hardware:
    """Return an Azure GPU size of the catalog. Raises ``ConfigError`` naming those that are known."""
    found = catalog.find_machine(name)
    if found is None:
        raise ConfigError(
            f"no machine is called {name!r}",
            hint=f"Known are {', '.join(catalog.load_machines())}.",
        )
    size = int(found.gpu_memory_gib * 2**30)
    return Hardware(
        f"{found.name} ({found.gpus} x {found.gpu})", "gpu", size, found.gpus, here=False
    )


def _memory() -> int:
    """Return the memory that may be used: the machine's, or a container's limit if that is less."""
    try:
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 8 * 2**30  # Windows has no sysconf; a plan that says so beats none
    for place in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limit = int(Path(place).read_text("ascii"))
        except (OSError, ValueError):
            continue
        whole = min(whole, limit)
    return whole


def _gpus() -> list[tuple[str, int]]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    ask = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(ask, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = (line.rpartition(",") for line in said.splitlines() if line.strip())
    return [(name.strip(), int(float(size)) * 2**20) for name, _, size in rows]
