"""What is installed on this machine, found without importing it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from maas_client._version import __version__
from maas_client.cli._output import adapt_install_command

_CUDA_WHEELS = "https://download.pytorch.org/whl/cu126"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One thing that was looked at. ``mend`` says what to do about it."""

    name: str
    state: Literal["ok", "warning", "missing"]
    message: str
    hint: str = ""

    def to_json(self) -> dict[str, str]:
        """Return it JSON-ready."""
        return asdict(self)


def ok(name: str, said: str) -> CheckResult:
    """Return a finding that needs nothing."""
    return CheckResult(name, "ok", said)


def warning(name: str, said: str, mend: str = "") -> CheckResult:
    """Return a finding that one should know of."""
    return CheckResult(name, "warning", said, mend)


def failure(name: str, said: str, mend: str) -> CheckResult:
    """Return a finding that must be mended first."""
    return CheckResult(name, "missing", said, mend)


def check_machine(cache: Path, state: Path) -> Iterator[CheckResult]:
    """Look at Python, the extras, torch, the bases and the disk."""
    yield ok("maas-client", f"{__version__} in {Path(__file__).parents[1]}")
    cores = os.cpu_count() or 1
    yield ok("python", f"{platform.python_version()} at {sys.executable}, {platform.platform()}, "
               f"{cores} cores")  # fmt: skip
    yield from _extras()
    yield from _torch()
    yield from _bases(cache)
    yield _disk("state directory", state)


def _extras() -> Iterator[CheckResult]:
    """Say which extras are whole, by the package's own metadata."""
    try:
        needed = metadata.requires("maas-client") or []
    except metadata.PackageNotFoundError:
        yield warning("extras", "maas-client is not installed, it runs from a folder")
        return
    for extra in metadata.metadata("maas-client").get_all("Provides-Extra") or []:
        gone = sorted(_missing(extra, needed))
        if gone:
            yield warning(f"extra {extra}", f"not here: {', '.join(gone)}",
                       adapt_install_command(f"pip install 'maas-client[{extra}]'"))  # fmt: skip
        else:
            yield ok(f"extra {extra}", "installed")


def _missing(extra: str, needed: list[str]) -> set[str]:
    """Return the packages that ``extra`` asks for, through other extras too, and that are not here."""
    gone: set[str] = set()
    for line in needed:
        said = re.match(r"([A-Za-z0-9_.-]+)(?:\[([^\]]+)\])?.*extra == ['\"]([^'\"]+)['\"]", line)
        if not said or said[3] != extra:
            continue
        if said[1] == "maas-client":
            for inner in (said[2] or "").split(","):
                gone |= _missing(inner.strip(), needed)
            continue
        try:
            metadata.version(said[1])
        except metadata.PackageNotFoundError:
            gone.add(said[1])
    return gone


def _torch() -> Iterator[CheckResult]:
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        yield warning("torch", "not installed: only the instant engine runs here",
                   adapt_install_command("pip install 'maas-client[local]'"))  # fmt: skip
        return
    text = (Path(spec.origin).parent / "version.py").read_text("utf-8", "replace")
    version = _assigned(text, "__version__") or metadata.version("torch")
    build = next((f"{k} {v}" for k in ("cuda", "hip", "xpu") if (v := _assigned(text, k))), "CPU")
    gpus = nvidia_gpus()
    if gpus and build == "CPU":
        yield warning("torch", f"{version} is a CPU build beside {', '.join(gpus)}",
                   f"pip install --force-reinstall torch --index-url {_CUDA_WHEELS}")  # fmt: skip
        return
    yield ok(
        "torch",
        f"{version}, {build} build" + (f", {', '.join(gpus)}" if gpus else ", no NVIDIA GPU"),
    )


def _assigned(text: str, name: str) -> str | None:
    found = re.search(rf"^{name}\b[^=\n]*=\s*['\"]([^'\"]+)['\"]", text, re.MULTILINE)
    return found[1] if found else None


def nvidia_gpus() -> list[str]:
    """Return the names of the NVIDIA GPUs that the driver shows; none without a driver."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        done = subprocess.run(
            [tool, "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return []
    return (
        [line.strip() for line in done.stdout.splitlines() if line.strip()]
        if done.returncode == 0
        else []
    )


def _bases(cache: Path) -> Iterator[CheckResult]:
    from maas_client.local import bases

    held = bases.list_available(cache)
    said = f"{', '.join(held)} in {cache}"
    if bases.SMOLLM2 in held:
        yield ok("base weights", said)
    else:
        yield warning("base weights", f"{said}: answers will be noise",
                   "maas-client models pull smollm2-135m")  # fmt: skip


def _disk(name: str, folder: Path) -> CheckResult:
    there = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(there).free
    said = f"{folder}, {free / 2**30:.1f} GiB free"
    if not os.access(there, os.W_OK):
        return failure(name, f"{said}, not writable", "Set MAAS_STATE_DIR to a folder of yours.")
    return ok(name, said) if free > 2 << 30 else warning(name, said, "A job needs about 2 GiB.")
