"""What the process does with each line it is sent."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from maas_client.local.generate import protocol
from maas_client.local.generate.protocol import BaseWeights, GenerationError
from maas_client.local.generate.scheduler import BatchScheduler, Reply


class InferenceEngine:
    """The bases in memory. ``idle_s``: what nobody asked for so long is dropped; ``max_rows``: how
    many answers one base writes at once, the others wait."""

    def __init__(
        self, idle_s: float, max_rows: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._hosts: dict[BaseWeights, BatchScheduler] = {}
        self._idle_s = idle_s
        self._max_rows = max_rows
        self._clock = clock

    @property
    def busy(self) -> bool:
        """Tell whether ``step`` has something to do."""
        return any(host.busy for host in self._hosts.values())

    def handle(self, message: Mapping[str, Any]) -> Iterator[Reply]:
        """Do what a line says and yield the answers that are there at once."""
        name = message.get("id")
        try:
            yield from self._take(message)
        except GenerationError as refused:
            yield {"id": name, "error": {"code": refused.code, "message": refused.message}}
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            text = f"Answering failed ({type(error).__name__}): see the log."
            yield {"id": name, "error": {"code": "internal_error", "message": text}}

    def _take(self, message: Mapping[str, Any]) -> Iterator[Reply]:
        match message:
            case {"op": "chat", "id": str()}:
                chat = protocol.parse_chat(message)
                base, adapter = _where(message)
                self._host(base).submit(replace(chat, base=base, adapter=adapter))
            case {"op": "cancel", "id": str(name)}:
                for host in self._hosts.values():
                    host.cancel(name)
            case {"op": "load"}:
                started = self._clock()
                base, adapter = _where(message)
                host = self._host(base)
                host.load_adapter(adapter)
                yield {
                    "id": message.get("id"),
                    "loaded": True,
                    "seconds": round(self._clock() - started, 3),
                    "merged": adapter is not None and host.model.merged_adapter == adapter,
                }
            case {"op": "unload"}:
                self._unload(*_where(message))
            case _:
                raise GenerationError(
                    "invalid_request", "the line is no chat, cancel, load or unload"
                )

    def _host(self, base: BaseWeights) -> BatchScheduler:
        if base not in self._hosts:
            self._hosts[base] = BatchScheduler(base, self._max_rows, self._clock)
        return self._hosts[base]

    def _unload(self, base: BaseWeights, adapter: str | None) -> None:
        host = self._hosts.get(base)
        if host is not None:
            host.unload_adapter(adapter)
            if host.unload_idle(float("inf")):
                del self._hosts[base]

    def step(self) -> Iterator[Reply]:
        """Work a little for every base and yield what there is to say."""
        for host in list(self._hosts.values()):
            yield from host.step()

    def unload_idle(self) -> None:
        """Give memory back: adapters first, a base with its last one."""
        for base, host in list(self._hosts.items()):
            if host.unload_idle(self._idle_s):
                del self._hosts[base]


def _where(message: Mapping[str, Any]) -> tuple[BaseWeights, str | None]:
    """Return the base and the adapter meant. A folder with a whole model in it (method Full) is a
    base of its own."""
    base, adapter = protocol.parse_base(message.get("base")), protocol.parse_adapter(message)
    if adapter is not None:
        folder = Path(adapter)
        if (folder / "config.json").exists() and not (folder / "adapter_config.json").exists():
            return replace(base, folder=adapter), None
    return base, adapter
