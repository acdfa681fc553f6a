"""The one owner of the machine: starts child processes, talks to them in JSON lines, ends them.

A child is ``sys.executable -m maas_client.local...``: its stdin says what to do and, by closing, that
the parent is gone; its stdout is events; its stderr is a log. Torch lives in children only. Two torch
processes on two cores collapse unless idle OpenMP threads sleep (``OMP_WAIT_POLICY``), and a malloc
that gives memory back costs a tenth of the training time: both are set here, once.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import maas_client
from maas_client._settings import Settings, child_environment
from maas_client.local.machine import torch_extensions

_LINE = 16 << 20
"""The longest line a child may write, in bytes."""


def worker_environment(threads: int, *, device: str = "auto") -> dict[str, str]:
    """Return a child's environment: no secrets, no network, threads that sleep when idle."""
    cuda = {"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}
    settings = Settings.load()
    home, catalog = settings.hf_home, settings.catalog_file()
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
            # oneDNN keeps a program for each size of product, a megabyte or so: by its own count 1,024, and
            # every pack and every prompt has another size.
            "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "32",
            "LRU_CACHE_CAPACITY": "32",
            "TORCH_EXTENSIONS_DIR": str(torch_extensions.build_folder()),
            "PYTHONPATH": str(Path(maas_client.__file__).parent.parent),
            **({"HF_HOME": home} if home else {}),
            **({"MAAS_CATALOG": str(catalog.absolute())} if catalog else {}),
            **cuda,
        }
    )


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
                "-P",  # no module of the folder we happen to stand in
                "-m",
                module,
                *args,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=descriptor,
                env=env,
                limit=_LINE,
                start_new_session=os.name == "posix",
            )
        finally:
            os.close(descriptor)
        return cls(process)

    @property
    def pid(self) -> int:
        """Return the process id, which is also its group's."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Tell whether it still runs."""
        return self._process.returncode is None

    async def send(self, message: dict[str, Any]) -> None:
        """Write one line to it; a child that is gone is noticed elsewhere."""
        assert self._process.stdin is not None
        with suppress(ConnectionError, RuntimeError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            await self._process.stdin.drain()

    async def read_event(self) -> dict[str, Any] | None:
        """Return its next event, or None when it has closed its stdout. Lines that are no JSON
        object are left out: what they say is in the log."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            with suppress(ValueError):
                value = json.loads(line)
                if isinstance(value, dict):
                    return value
        return None

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """Yield events until it closes its stdout."""
        while (event := await self.read_event()) is not None:
            yield event

    async def wait(self) -> str | None:
        """Wait for its end; return None after a clean one, else how it died."""
        code = await self._process.wait()
        if code == 0:
            return None
        if code < 0:
            with suppress(ValueError):
                return f"signal {signal.Signals(-code).name}" + _memory_note(-code)
        return f"exit code {code}"

    async def stop(self, grace_s: float) -> None:
        """End it: close its stdin, wait ``grace_s`` seconds, then kill its whole group."""
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
        """Kill it and whatever it has started, at once."""
        with suppress(ProcessLookupError, PermissionError):
            if os.name == "posix":
                os.killpg(self.pid, signal.SIGKILL)
            else:
                self._process.kill()


def _memory_note(number: int) -> str:
    if number != getattr(signal, "SIGKILL", 9):
        return ""
    return ", which is also what the kernel does when memory runs out"


class ProcessPool:
    """Hands out worker processes and keeps one warm: torch takes seconds to import."""

    def __init__(self, root: Path, threads: int, device: str, *, warm: bool) -> None:
        self._root = root
        self._env = worker_environment(threads, device=device)
        self._warm = warm
        self._spare: ChildProcess | None = None
        self._warming = asyncio.Lock()
        self._children: set[ChildProcess] = set()

    async def take_worker(self) -> ChildProcess:
        """Return a worker process that waits for a job, warm if there is one."""
        spare, self._spare = self._spare, None
        if spare is not None and spare.is_running:
            return spare
        return await self._start()

    async def warm_up(self) -> None:
        """Start the spare worker, if this server keeps one and has none."""
        async with self._warming:
            if self._warm and (self._spare is None or not self._spare.is_running):
                self._spare = await self._start("--warm")

    async def start_generator(self, *args: str) -> ChildProcess:
        """Start the answering process."""
        return await self._launch("maas_client.local.generate", *args)

    async def _start(self, *args: str) -> ChildProcess:
        return await self._launch("maas_client.local.worker", *args)

    async def _launch(self, module: str, *args: str) -> ChildProcess:
        child = await ChildProcess.start(
            module, *args, env=self._env, log=self._root / "children.log"
        )
        self._children = {c for c in self._children if c.is_running} | {child}
        return child

    async def close(self, grace_s: float = 2.0) -> None:
        """End every child; the spare has nothing to finish."""
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.kill()
        async with asyncio.TaskGroup() as group:
            for child in self._children:
                group.create_task(child.stop(grace_s))
