"""Child processes for training and text generation: start them, exchange JSON lines, end them.

A child is ``sys.executable -m maas_client.local...``. Its stdin carries messages, and its end means that the
server has ended; its stdout carries events; its stderr is a log. Only children load torch. The environment
of children makes idle OpenMP threads sleep (``OMP_WAIT_POLICY``; without that, two torch processes on two
cores are many times slower), and makes malloc keep freed memory (returning it costs a tenth of the training
time) and ask for huge pages (glibc 2.35: a training step has hundreds of page faults instead of 60,000).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import maas_client
from maas_client._settings import Settings, child_environment

_MAX_LINE_BYTES = 16 << 20
"""The longest line a child may write, in bytes."""


def worker_environment(threads: int, *, device: str = "auto") -> dict[str, str]:
    """Return a child's environment: no secrets, no network, idle threads sleep."""
    cuda = {"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}
    settings = Settings.load()
    hf_home, catalog = settings.hf_home, settings.catalog_file()
    return child_environment(
        {
            "OMP_WAIT_POLICY": "PASSIVE",
            "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads),
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
            "MALLOC_MMAP_MAX_": "0",
            "MALLOC_TOP_PAD_": str(64 << 20),
            # threads that compute packs of their own reuse what others have freed
            "MALLOC_ARENA_MAX": "1",
            "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
            # oneDNN caches a kernel of about a megabyte for each matrix size, 1,024 of them by default.
            # Every pack and every prompt has another size.
            "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "32",
            "LRU_CACHE_CAPACITY": "32",
            # bitsandbytes, which peft imports, uses torch.compile in its modules: importing the compiler would
            # take a fifth of the start of a worker. Nothing here runs compiled code.
            "TORCHDYNAMO_DISABLE": "1",
            "PYTHONPATH": str(Path(maas_client.__file__).parent.parent),
            **({"HF_HOME": hf_home} if hf_home else {}),
            **({"MAAS_CATALOG": str(catalog.absolute())} if catalog else {}),
            **cuda,
        }
    )


def answering_environment() -> dict[str, str]:
    """Return the variables that only the answering process has.

    Its idle threads wait some microseconds for the next of the many small products of a token before they
    sleep, as waking them takes longer than a product.
    """
    return {"GOMP_SPINCOUNT": "10000"}


class ChildProcess:
    """A running child process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, module: str, *args: str, env: dict[str, str], log: Path) -> ChildProcess:
        """Start ``python -m module args``; its stderr is appended to ``log`` (mode 0600)."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(log, flags, 0o600)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # do not import modules from the current folder
                "-m",
                module,
                *args,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=descriptor,
                env=env,
                limit=_MAX_LINE_BYTES,
                start_new_session=os.name == "posix",
            )
        finally:
            os.close(descriptor)
        return cls(process)

    @property
    def pid(self) -> int:
        """Return the process id, which is also the id of its process group."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Return whether the process runs."""
        return self._process.returncode is None

    async def send(self, message: dict[str, Any]) -> None:
        """Send a message. Do nothing if the child has ended: ``read_event`` and ``wait`` report that."""
        assert self._process.stdin is not None
        with suppress(ConnectionError, RuntimeError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            await self._process.stdin.drain()

    async def read_event(self) -> dict[str, Any] | None:
        """Return the next event, or None when the child has closed its stdout.

        Lines that are not a JSON object are skipped.
        """
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            with suppress(ValueError):
                value = json.loads(line)
                if isinstance(value, dict):
                    return value
        return None

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """Yield events until the child closes its stdout."""
        while (event := await self.read_event()) is not None:
            yield event

    async def wait(self) -> str | None:
        """Wait until the child ends; return None after exit code 0, else a description of how it ended."""
        code = await self._process.wait()
        if code == 0:
            return None
        if code < 0:
            with suppress(ValueError):
                return f"signal {signal.Signals(-code).name}" + _memory_note(-code)
        return f"exit code {code}"

    async def stop(self, grace_s: float) -> None:
        """Stop the child: close its stdin, wait ``grace_s`` seconds, then kill its process group."""
        if self._process.stdin is not None:
            with suppress(ConnectionError, RuntimeError):
                self._process.stdin.close()
        try:
            async with asyncio.timeout(grace_s):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()

    def kill(self) -> None:
        """Kill the child and the processes it started."""
        with suppress(ProcessLookupError, PermissionError):
            if os.name == "posix":
                os.killpg(self.pid, signal.SIGKILL)
            else:
                self._process.kill()


def _memory_note(number: int) -> str:
    if number != getattr(signal, "SIGKILL", 9):
        return ""
    return ", which the kernel also sends when memory runs out"


class ProcessPool:
    """Starts child processes, and keeps one warm worker ready, because torch takes seconds to import."""

    def __init__(self, root: Path, threads: int, device: str, *, warm: bool) -> None:
        self._root = root
        self._env = worker_environment(threads, device=device)
        self._warm = warm
        self._warm_worker: ChildProcess | None = None
        self._warming = asyncio.Lock()
        self._children: set[ChildProcess] = set()

    async def take_worker(self) -> ChildProcess:
        """Return a worker process that waits for a job; the warm one if there is one."""
        worker, self._warm_worker = self._warm_worker, None
        if worker is not None and worker.is_running:
            return worker
        return await self._start()

    async def give_back(self, worker: ChildProcess) -> None:
        """Keep a worker that waits for another job as the warm one, or stop it if there is one."""
        if self._warm_worker is None or not self._warm_worker.is_running:
            self._warm_worker = worker
        else:
            await worker.stop(grace_s=2.0)

    async def warm_up(self, delay_s: float = 0.0) -> None:
        """Start the warm worker, after some seconds, unless there is one or this server keeps none."""
        await asyncio.sleep(delay_s)
        async with self._warming:
            if self._warm and (self._warm_worker is None or not self._warm_worker.is_running):
                self._warm_worker = await self._start("--warm")

    async def start_generator(self, *args: str) -> ChildProcess:
        """Start the text generation process."""
        return await self._launch("maas_client.local.generate", *args, env=answering_environment())

    async def _start(self, *args: str) -> ChildProcess:
        return await self._launch("maas_client.local.worker", *args)

    async def _launch(
        self, module: str, *args: str, env: Mapping[str, str] | None = None
    ) -> ChildProcess:
        child = await ChildProcess.start(
            module, *args, env=self._env | dict(env or {}), log=self._root / "children.log"
        )
        self._children = {c for c in self._children if c.is_running} | {child}
        return child

    async def close(self, grace_s: float = 2.0) -> None:
        """Stop all children."""
        worker, self._warm_worker = self._warm_worker, None
        if worker is not None:
            worker.kill()
        async with asyncio.TaskGroup() as group:
            for child in self._children:
                group.create_task(child.stop(grace_s))
