"""``doctor``: Python, installed packages, torch, base weights and disk, without importing any of them."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from maas_client._version import __version__
from maas_client.cli._output import adapt_install_command

_CUDA_WHEELS = "https://download.pytorch.org/whl/cu126"
_REQUIREMENT = re.compile(r"([A-Za-z0-9_.-]+)(?:\[([^\]]+)\])?.*extra == ['\"]([^'\"]+)['\"]")
_JOB_BYTES = 2 << 30


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check: its state, what was found, and what to do about it."""

    name: str
    state: Literal["ok", "warning", "missing"]
    message: str
    hint: str = ""

    def to_json(self) -> dict[str, str]:
        """Return the result ready for JSON. Its keys are part of the command's output format."""
        return {"name": self.name, "state": self.state, "said": self.message, "mend": self.hint}


def ok(name: str, message: str) -> CheckResult:
    """Return the result of a check that passed."""
    return CheckResult(name, "ok", message)


def warning(name: str, message: str, hint: str = "") -> CheckResult:
    """Return the result of a check that found something worth knowing."""
    return CheckResult(name, "warning", message, hint)


def failure(name: str, message: str, hint: str) -> CheckResult:
    """Return the result of a check that found something to fix first."""
    return CheckResult(name, "missing", message, hint)


def check_machine(cache: Path, state: Path) -> Iterator[CheckResult]:
    """Check Python, the extras, torch, the base weights and the disk."""
    yield ok("maas-client", f"{__version__} in {Path(__file__).parents[1]}")
    cores = os.cpu_count() or 1
    yield ok("python", f"{platform.python_version()} at {sys.executable}, {platform.platform()}, "
             f"{cores} cores")  # fmt: skip
    yield from _check_extras()
    yield from _check_torch()
    yield from _check_bases(cache)
    yield _check_disk("state directory", state)


def _check_extras() -> Iterator[CheckResult]:
    """Check which extras are completely installed, according to the package's metadata."""
    try:
        requirements = metadata.requires("maas-client") or []
    except metadata.PackageNotFoundError:
        yield warning("extras", "maas-client is not installed; it runs from a folder")
        return
    for extra in metadata.metadata("maas-client").get_all("Provides-Extra") or []:
        missing = sorted(_missing_packages(extra, requirements))
        if missing:
            yield warning(f"extra {extra}", f"not installed: {', '.join(missing)}",
                          adapt_install_command(f"pip install 'maas-client[{extra}]'"))  # fmt: skip
        else:
            yield ok(f"extra {extra}", "installed")


def _missing_packages(extra: str, requirements: list[str]) -> set[str]:
    """Return the packages of ``extra``, and of the extras it includes, that are not installed."""
    missing: set[str] = set()
    for line in requirements:
        match = _REQUIREMENT.match(line)
        if not match or match[3] != extra:
            continue
        if match[1] == "maas-client":
            for included in (match[2] or "").split(","):
                missing |= _missing_packages(included.strip(), requirements)
            continue
        try:
            metadata.version(match[1])
        except metadata.PackageNotFoundError:
            missing.add(match[1])
    return missing


def _check_torch() -> Iterator[CheckResult]:
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        yield warning("torch", "not installed: only the instant engine runs here",
                      adapt_install_command("pip install 'maas-client[local]'"))  # fmt: skip
        return
    text = (Path(spec.origin).parent / "version.py").read_text("utf-8", "replace")
    version = _assigned_string(text, "__version__") or metadata.version("torch")
    builds = ((name, _assigned_string(text, name)) for name in ("cuda", "hip", "xpu"))
    build = next((f"{name} {number}" for name, number in builds if number), "CPU")
    gpus = nvidia_gpus()
    if gpus and build == "CPU":
        yield warning("torch", f"{version} is a CPU build, but this machine has {', '.join(gpus)}",
                      f"pip install --force-reinstall torch --index-url {_CUDA_WHEELS}")  # fmt: skip
        return
    yield ok("torch", f"{version}, {build} build, {', '.join(gpus) or 'no NVIDIA GPU'}")


def _assigned_string(source: str, name: str) -> str | None:
    """Return the string that Python source assigns to ``name``."""
    match = re.search(rf"^{name}\b[^=\n]*=\s*['\"]([^'\"]+)['\"]", source, re.MULTILINE)
    return match[1] if match else None


def nvidia_gpus() -> list[str]:
    """Return the names of the NVIDIA GPUs that the driver lists; none without a driver."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        process = subprocess.run(
            [tool, "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return []
    if process.returncode != 0:
        return []
    return [line.strip() for line in process.stdout.splitlines() if line.strip()]


def _check_bases(cache: Path) -> Iterator[CheckResult]:
    from maas_client.local import bases

    names = bases.list_available(cache)
    message = f"{', '.join(names)} in {cache}"
    if bases.SMOLLM2 in names:
        yield ok("base weights", message)
    else:
        yield warning("base weights", f"{message}: answers will be random text",
                      "maas-client models pull smollm2-135m")  # fmt: skip


def _check_disk(name: str, folder: Path) -> CheckResult:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    message = f"{folder}, {free / 2**30:.1f} GiB free"
    if not os.access(existing, os.W_OK):
        return failure(
            name, f"{message}, not writable", "Set MAAS_STATE_DIR to a folder you can write to."
        )
    return (
        ok(name, message)
        if free > _JOB_BYTES
        else warning(name, message, "A job needs about 2 GiB.")
    )
