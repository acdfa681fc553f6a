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
from maas_client.local.generate.host import Host, Said
from maas_client.local.generate.protocol import AnswerError, Base


class Engine:
    """The bases in memory. ``idle_s``: what nobody asked for so long is dropped; ``max_rows``: how
    many answers one base writes at once, the others wait."""

    def __init__(
        self, idle_s: float, max_rows: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._hosts: dict[Base, Host] = {}
        self._idle_s = idle_s
        self._max_rows = max_rows
        self._clock = clock

    @property
    def busy(self) -> bool:
        """Tell whether ``step`` has something to do."""
        return any(host.busy for host in self._hosts.values())

    def take(self, message: Mapping[str, Any]) -> Iterator[Said]:
        """Do what a line says and yield the answers that are there at once."""
        name = message.get("id")
        try:
            yield from self._take(message)
        except AnswerError as refused:
            yield {"id": name, "error": {"code": refused.code, "message": refused.message}}
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            text = f"Answering failed ({type(error).__name__}): see the log."
            yield {"id": name, "error": {"code": "internal_error", "message": text}}

    def _take(self, message: Mapping[str, Any]) -> Iterator[Said]:
        match message:
            case {"op": "chat", "id": str()}:
                chat = protocol.chat_of(message)
                base, adapter = _where(message)
                self._host(base).ask(replace(chat, base=base, adapter=adapter))
            case {"op": "cancel", "id": str(name)}:
                for host in self._hosts.values():
                    host.cancel(name)
            case {"op": "load"}:
                started = self._clock()
                base, adapter = _where(message)
                host = self._host(base)
                host.prepare(adapter)
                yield {
                    "id": message.get("id"),
                    "loaded": True,
                    "seconds": round(self._clock() - started, 3),
                    "merged": adapter is not None and host.model.merged == adapter,
                }
            case {"op": "unload"}:
                self._unload(*_where(message))
            case _:
                raise AnswerError("invalid_request", "the line is no chat, cancel, load or unload")

    def _host(self, base: Base) -> Host:
        if base not in self._hosts:
            self._hosts[base] = Host(base, self._max_rows, self._clock)
        return self._hosts[base]

    def _unload(self, base: Base, adapter: str | None) -> None:
        host = self._hosts.get(base)
        if host is not None:
            host.forget(adapter)
            if host.forget_idle(float("inf")):
                del self._hosts[base]

    def step(self) -> Iterator[Said]:
        """Work a little for every base and yield what there is to say."""
        for host in list(self._hosts.values()):
            yield from host.step()

    def forget_idle(self) -> None:
        """Give memory back: adapters first, a base with its last one."""
        for base, host in list(self._hosts.items()):
            if host.forget_idle(self._idle_s):
                del self._hosts[base]


def _where(message: Mapping[str, Any]) -> tuple[Base, str | None]:
    """Return the base and the adapter meant. A folder with a whole model in it (method Full) is a
    base of its own."""
    base, adapter = protocol.base_of(message.get("base")), protocol.adapter_of(message)
    if adapter is not None:
        folder = Path(adapter)
        if (folder / "config.json").exists() and not (folder / "adapter_config.json").exists():
            return replace(base, folder=adapter), None
    return base, adapter
