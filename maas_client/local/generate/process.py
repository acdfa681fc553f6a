"""The answering process: JSON lines in and out, and a loop that joins requests between steps."""

from __future__ import annotations

import argparse
import json
import os
import queue
import sys
import threading
from collections.abc import Iterable
from typing import Any, TextIO

Inbox = queue.SimpleQueue[dict[str, Any]]
_IDLE_LOOK_S = 5.0


def main(argv: list[str] | None = None) -> int:
    """Answer until stdin ends."""
    options = _options(argv)
    out = _take_stdout()
    inbox: Inbox = queue.SimpleQueue()
    threading.Thread(target=_read, args=(sys.stdin.buffer, inbox), daemon=True).start()

    from maas_client.local.generate.engine import InferenceEngine
    from maas_client.local.generate.weights import import_architectures

    import_architectures()
    engine = InferenceEngine(idle_s=options.idle_s, max_rows=options.max_rows)
    _write(out, [{"ready": True}])
    while True:
        for message in _messages(inbox, wait=not engine.busy):
            _write(out, engine.handle(message))
        if engine.busy:
            _write(out, list(engine.step()))
        else:
            engine.unload_idle()


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="maas_client.local.generate")
    parser.add_argument("--idle-s", type=float, default=900.0)
    parser.add_argument("--max-rows", type=int, default=16)
    return parser.parse_args(argv)


def _take_stdout() -> TextIO:
    """Keep the real stdout for ourselves; what libraries print goes to stderr."""
    own = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(own, "w", encoding="utf-8")


def _read(lines: Iterable[bytes], inbox: Inbox) -> None:
    for line in lines:
        try:
            message = json.loads(line)
        except ValueError:
            message = {}
        inbox.put(message if isinstance(message, dict) else {})
    os._exit(0)  # the server is gone: nobody reads what is half done


def _messages(inbox: Inbox, *, wait: bool) -> Iterable[dict[str, Any]]:
    """Yield what has come in; ``wait`` a while for the first one."""
    try:
        yield inbox.get(block=wait, timeout=_IDLE_LOOK_S if wait else None)
        while True:
            yield inbox.get_nowait()
    except queue.Empty:
        return


def _write(out: TextIO, lines: Iterable[dict[str, Any]]) -> None:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    if text:
        out.write(text)
        out.flush()
