"""Main loop of the answering process: reads JSON lines, steps the engine, writes JSON lines."""

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
_IDLE_CHECK_S = 5.0


def main(argv: list[str] | None = None) -> int:
    """Answer requests until stdin closes."""
    options = _options(argv)
    output = _redirect_stdout()
    inbox: Inbox = queue.SimpleQueue()
    threading.Thread(target=_read, args=(sys.stdin.buffer, inbox), daemon=True).start()

    from maas_client.local.generate.engine import InferenceEngine

    engine = InferenceEngine(idle_s=options.idle_s, max_rows=options.max_rows)
    _write(output, [{"ready": True}])
    while True:
        for message in _messages(inbox, wait=not engine.busy):
            _write(output, engine.handle(message))
        if engine.busy:
            _write(output, engine.step())
        else:
            engine.unload_idle()


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="maas_client.local.generate")
    parser.add_argument("--idle-s", type=float, default=900.0)
    parser.add_argument("--max-rows", type=int, default=16)
    return parser.parse_args(argv)


def _redirect_stdout() -> TextIO:
    """Return the real stdout, and send what libraries print to stderr."""
    stdout_copy = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(stdout_copy, "w", encoding="utf-8")


def _read(lines: Iterable[bytes], inbox: Inbox) -> None:
    for line in lines:
        try:
            message = json.loads(line)
        except ValueError:
            message = {}
        inbox.put(message if isinstance(message, dict) else {})
    os._exit(0)  # the server has ended, and no client reads unfinished answers


def _messages(inbox: Inbox, *, wait: bool) -> Iterable[dict[str, Any]]:
    """Yield the received messages; ``wait`` up to some seconds for the first."""
    try:
        yield inbox.get(block=wait, timeout=_IDLE_CHECK_S if wait else None)
        while True:
            yield inbox.get_nowait()
    except queue.Empty:
        return


def _write(output: TextIO, lines: Iterable[dict[str, Any]]) -> None:
    """Write each line when it comes, as the next may take long to compute."""
    for line in lines:
        output.write(json.dumps(line) + "\n")
        output.flush()


if __name__ == "__main__":
    sys.exit(main())
