"""Cores and memory that a process may use, from folders that look like Linux's own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from maas_client._cores import usable_cores
from maas_client.local import config as local_config
from maas_client.local.machine.hardware import usable_memory

needs_cpu_mask = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system has no CPU masks"
)


def write_files(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def hyperthreads(*groups: str) -> dict[str, str]:
    """The topology of a machine whose cores have these logical processors, such as ``0,2``."""
    numbers = {int(number): group for group in groups for number in group.split(",")}
    return {
        f"sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list": group
        for number, group in numbers.items()
    }


CPU_LIMITS = {
    "version 2, a container": ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "{} 100000"}),
    "version 2, a service": (
        {
            "proc/self/cgroup": "0::/system.slice/tuning.service",
            "sys/fs/cgroup/system.slice/tuning.service/cpu.max": "{} 100000",
            "sys/fs/cgroup/system.slice/cpu.max": "max 100000",
        }
    ),
    "version 2, of the parent": (
        {
            "proc/self/cgroup": "0::/system.slice/tuning.service",
            "sys/fs/cgroup/system.slice/tuning.service/cpu.max": "max 100000",
            "sys/fs/cgroup/system.slice/cpu.max": "{} 100000",
        }
    ),
    "version 1": (
        {
            "proc/self/cgroup": "7:blkio:/\n4:cpu,cpuacct:/docker/f00",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "{}",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
        }
    ),
}


@needs_cpu_mask
@pytest.mark.parametrize("layout", CPU_LIMITS)
@pytest.mark.parametrize(
    ("quota", "cores"), [("100000", 1), ("50000", 1), ("110000", 2), ("-1", 2), ("max", 2), ("", 2)]
)
def test_cpu_limit_of_a_container_limits_the_cores(
    tmp_path: Path, two_processors: None, layout: str, quota: str, cores: int
) -> None:
    files = {name: text.format(quota) for name, text in CPU_LIMITS[layout].items()}
    assert usable_cores(write_files(tmp_path, files)) == cores


@needs_cpu_mask
@pytest.mark.parametrize(
    ("groups", "cores"), [(["0,1"], 1), (["0", "1"], 2), (["0,2", "1,3"], 2), ([], 2)]
)
def test_hyperthreads_of_one_core_count_once(
    tmp_path: Path, two_processors: None, groups: list[str], cores: int
) -> None:
    assert usable_cores(write_files(tmp_path, hyperthreads(*groups))) == cores


@pytest.mark.parametrize(
    ("group", "file"),
    [
        ("0::/", "sys/fs/cgroup/memory.max"),
        ("0::/user.slice/a", "sys/fs/cgroup/user.slice/memory.max"),
        ("4:memory:/a", "sys/fs/cgroup/memory/a/memory.limit_in_bytes"),
        ("4:memory:/docker/f00", "sys/fs/cgroup/memory/memory.limit_in_bytes"),
    ],
)
def test_memory_limit_of_a_control_group_limits_the_memory(
    tmp_path: Path, group: str, file: str
) -> None:
    write_files(tmp_path, {"proc/self/cgroup": group})
    unlimited = usable_memory(tmp_path)
    write_files(tmp_path, {file: "1048576"})
    assert usable_memory(tmp_path) == 1048576 < unlimited
    write_files(tmp_path, {file: "max"})
    assert usable_memory(tmp_path) == unlimited


@pytest.fixture
def two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU mask of two processors: machines that run the tests may have others."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})


@pytest.mark.parametrize(
    ("cores", "max_jobs", "threads", "expected"),
    [(8, 1, None, 8), (8, 3, None, 2), (2, 4, None, 1), (4, 0, None, 4), (2, 4, 3, 3)],
)
def test_jobs_at_the_same_time_divide_the_cores(
    cores: int, max_jobs: int, threads: int | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_config, "usable_cores", lambda: cores)
    config = local_config.ServerConfig(Path("state"), max_jobs=max_jobs, threads=threads)
    assert config.job_threads == expected
    assert config.process_threads == (threads or cores), "answering works alone"
