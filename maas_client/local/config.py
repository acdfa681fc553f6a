"""What a local server is told when it starts."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

from maas_client.errors import ConfigError, MissingExtraError

Engine = Literal["peft", "instant"]

STORAGE_ACCOUNT = "maaslocal"
"""The name of the one storage account; on the plain port it stands in the path, as Azurite has it."""


def default_threads() -> int:
    """Return how many threads one training process gets unless told otherwise."""
    return max(
        1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )


def check_extra_installed(engine: Engine) -> None:
    """Raise ``MissingExtraError`` when what the server needs is not installed."""
    if engine not in get_args(Engine):
        raise ConfigError(f"there is no engine {engine!r}", hint="Engines are peft and instant.")
    for name in ("starlette", "uvicorn"):
        if find_spec(name) is None:
            raise MissingExtraError(
                f"the local server needs {name}",
                extra="server",
                hint="Install it: pip install 'maas-client[server]'",
            )
    if engine == "peft" and (find_spec("torch") is None or find_spec("peft") is None):
        raise MissingExtraError(
            "training needs torch and peft",
            extra="local",
            hint="Install them: pip install 'maas-client[local]'. Or simulate: engine instant.",
        )


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Everything that decides how the server behaves. Paths are absolute."""

    state_dir: Path
    host: str = "127.0.0.1"
    port: int = 0
    """0 picks one."""
    base: str = "auto"
    """``auto``, ``tiny``, ``smollm2-135m``, a folder or a hub id: what a model name runs on."""
    engine: Engine = "peft"
    device: str = "auto"
    api_key: str | None = field(default=None, repr=False)
    """None: any non-empty credential passes, on loopback."""
    threads: int = field(default_factory=default_threads)
    max_jobs: int = 1
    retention_days: float | None = None
    """Finished jobs older than this are forgotten; None keeps them."""
    ready_file: Path | None = None
    region: str = "eastus2"
    """The Azure region whose names it answers under: a real one, so that region checks pass."""
    cache_dir: Path | None = None
    """Where pulled base weights lie; None is the user's usual place."""
    tls: bool = False
    """True: HTTPS on the port, under a certificate of the state directory's own CA."""
    proxy: bool = False
    """True: a CONNECT proxy beside it that takes Azure's host names to this server."""
    realistic: bool = False
    """True: the limits and lags that Azure documents are kept (``rules/realism.py``)."""
    reset: bool = False
    """True: what the state directory holds is deleted first."""
    durable: bool = True
    """False: nothing is kept beyond this process, so the disk is not waited for."""
    step_delay_s: float = 0.0
    """Seconds the instant engine waits at each step; for tests of what happens meanwhile."""
    max_attempts: int = 3
    """A job whose worker died this often fails."""
    cancel_grace_s: float = 3.0
    """How long a worker may take to stop by itself when its job is cancelled."""
