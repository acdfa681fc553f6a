"""The local server's configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

from maas_client._cores import usable_cores
from maas_client._messages import Argument, Text
from maas_client.catalog import load_limits
from maas_client.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from maas_client.local.fault_plan import FaultPlan
    from maas_client.wire.operation import Dialect

Engine = Literal["peft", "instant"]
Precision = Literal["auto", "int8"]

TENANT_ID = "00000000-0000-0000-0000-000000000000"
"""The one Entra tenant."""
STORAGE_ACCOUNT = "maaslocal"
"""The only storage account. On the plain port its name is the first part of the path, as with Azurite."""


def check_extra_installed(engine: Engine) -> None:
    """Raise ``MissingExtraError`` if a package that the engine needs is not installed."""
    if engine not in get_args(Engine):
        raise ConfigError(f"unknown engine {engine!r}", hint="Use one of: peft, instant.")
    if engine == "peft" and (find_spec("torch") is None or find_spec("peft") is None):
        raise MissingExtraError(
            "training needs the packages torch and peft",
            extra="local",
            hint="Install them with: pip install 'maas-client[local]'. To simulate training without them, "
            "use the engine instant.",
        )
    for name in ("starlette", "uvicorn", "jinja2"):
        if find_spec(name) is None:
            raise MissingExtraError(
                f"the local server needs the package {name}",
                extra="server",
                hint="Install it with: pip install 'maas-client[server]'",
            )


def check_precision(precision: str, engine: str, device: str) -> Precision:
    """Return the precision. Raises ``ConfigError`` for an unknown one, or int8 where it is not possible."""
    if precision not in get_args(Precision):
        raise ConfigError(
            f"unknown precision {precision!r}",
            hint=f"Use one of: {', '.join(get_args(Precision))}.",
        )
    if precision == "int8" and engine == "instant":
        raise ConfigError(
            "the precision int8 has no effect with the engine instant, which loads no weights",
            hint=Text.format("Leave out {}.", Argument("precision")),
        )
    if precision == "int8" and device in ("cuda", "mps"):
        raise ConfigError(
            f"the precision int8 is for answers on a CPU, and the device is {device}",
            hint=Text.format("Leave out {}, or use the device cpu.", Argument("precision")),
        )
    return cast("Precision", precision)


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """All settings of a local server. Paths are absolute."""

    state_dir: Path
    host: str = "127.0.0.1"
    """The address to listen on."""
    port: int = 0
    """0 picks a free port."""
    base: str = "auto"
    """``auto``, ``tiny``, ``smollm2-135m``, a folder or a hub id: the weights that model names run on."""
    engine: Engine = "peft"
    """``peft`` trains with torch; ``instant`` simulates."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``mps``."""
    precision: Precision = "auto"
    """``auto`` answers with unquantised weights, ``int8`` with linear layers in eight bits (CPU only)."""
    api_key: str | None = field(default=None, repr=False)
    """None: every non-empty credential is accepted (loopback only)."""
    threads: int | None = None
    """CPU threads of each training process; None: one per core, which jobs at the same time divide."""
    max_jobs: int = 1
    """Jobs that run at the same time."""
    retention_days: float | None = None
    """Jobs that ended longer ago are deleted; None keeps them."""
    ready_file: Path | None = None
    """Written once requests are answered: the URL and the process id as JSON."""
    idle_timeout_s: float | None = None
    """The server stops after this time without jobs and requests; None: it does not."""
    is_embedded: bool = False
    """True: the server runs inside another program."""
    faults: FaultPlan | None = None
    """Which requests fail, and how; None: none."""
    region: str = "eastus2"
    """The Azure region that the server reports: a real one, so that region checks pass."""
    cache_dir: Path | None = None
    """The folder with pulled base weights; None is the user's cache folder."""
    tls: bool = False
    """True: serve HTTPS with a certificate of the state directory's own CA."""
    proxy: bool = False
    """True: also run a CONNECT proxy that directs Azure's host names to this server."""
    realistic: bool = False
    """True: enforce the limits and delays that Azure documents (``resources/azure_limits.py``)."""
    min_examples: int | None = None
    """A job with fewer training examples is refused; None: the minimum that Azure documents."""
    reset: bool = False
    """True: delete the contents of the state directory first."""
    control: bool = False
    """True: jobs and deployments follow a timetable on a virtual clock, and tests control it."""
    durable: bool = True
    """False: the state is temporary, so writes do not wait for the disk."""
    step_delay_s: float = 0.0
    """Seconds the instant engine sleeps in each step, so that tests can act during a job."""
    max_attempts: int = 3
    """A job fails after this many crashes of its worker."""
    spare_worker_delay_s: float = 0.0
    """Seconds after the start or the end of a job until a worker for the next job is started."""
    session_idle_s: float = 600.0
    """An interactive training session expires after this time without requests and heartbeats."""
    cancel_grace_s: float = 3.0
    """Seconds a worker gets to stop after its job was cancelled; then it is killed."""

    @property
    def process_threads(self) -> int:
        """Return the CPU threads of a process that works alone."""
        return usable_cores() if self.threads is None else self.threads

    @property
    def job_threads(self) -> int:
        """Return the CPU threads of each job, if as many jobs run as may run at the same time."""
        if self.threads is not None:
            return self.threads
        return max(1, usable_cores() // max(1, self.max_jobs))

    def required_examples(self, dialect: Dialect) -> int:
        """Return how many training examples a job needs."""
        if self.min_examples is not None:
            return self.min_examples
        return load_limits(dialect).get_int("rows_min") or 0

    def __post_init__(self) -> None:
        for name, value, least in (
            ("threads", 1 if self.threads is None else self.threads, 1),
            ("max_jobs", self.max_jobs, 0),  # with 0, jobs stay queued
            ("min_examples", self.min_examples or 0, 0),
        ):
            if value < least:
                raise ConfigError(
                    Text.format("{} must be at least {}, not {}", Argument(name), least, value)
                )
