"""The processor cores that this process may use."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


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
        read_text(topology / f"cpu{number}/topology/thread_siblings_list") or str(number)
        for number in allowed(0)
    }
    return max(1, min([len(cores), *map(math.ceil, _cpu_limits(root))]))


def _cpu_limits(root: Path) -> Iterator[float]:
    """Yield the CPU seconds per second that this process's control groups allow it."""
    for folder in control_groups(root, "cpu"):
        quota, _, period = read_text(folder / "cpu.max").partition(" ")
        if not quota:
            quota = read_text(folder / "cpu.cfs_quota_us")
            period = read_text(folder / "cpu.cfs_period_us")
        with suppress(ValueError, ZeroDivisionError):  # "max": no limit
            if int(quota) > 0:
                yield int(quota) / int(period)


def control_groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of the control groups that this process is in, with their parents, in both versions."""
    mounts = root / "sys/fs/cgroup"
    for line in read_text(root / "proc/self/cgroup").splitlines():
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


def read_text(path: Path) -> str:
    """Return the text of one of Linux's files about itself; empty if there is none."""
    try:
        return path.read_text("ascii").strip()
    except (OSError, ValueError):
        return ""
