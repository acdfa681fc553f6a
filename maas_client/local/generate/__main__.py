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
    output = redirect_stdout()
    inbox: Inbox = queue.SimpleQueue()
    threading.Thread(target=read_messages, args=(sys.stdin.buffer, inbox), daemon=True).start()

    from maas_client.local.generate.engine import InferenceEngine
    from maas_client.local.generate.weights import import_architectures

    import_architectures()
    engine = InferenceEngine(idle_s=options.idle_s, max_rows=options.max_rows)
    write_lines(output, [{"ready": True}])
    while True:
        for message in _messages(inbox, wait=not engine.busy):
            write_lines(output, engine.handle(message))
        if engine.busy:
            write_lines(output, list(engine.step()))
        else:
            engine.unload_idle()


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="maas_client.local.generate")
    parser.add_argument("--idle-s", type=float, default=900.0)
    parser.add_argument("--max-rows", type=int, default=16)
    return parser.parse_args(argv)


def redirect_stdout() -> TextIO:
    """Return the real stdout, and send what libraries print to stderr."""
    stdout_copy = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(stdout_copy, "w", encoding="utf-8")


def read_messages(lines: Iterable[bytes], inbox: Inbox) -> None:
    """Put each line into the inbox, and end this process at the end of the lines."""
    for line in lines:
        try:
            message = json.loads(line)
        except ValueError:
            message = {}
        inbox.put(message if isinstance(message, dict) else {})
    os._exit(0)  # the server has ended, so nobody reads unfinished answers


def _messages(inbox: Inbox, *, wait: bool) -> Iterable[dict[str, Any]]:
    """Yield the received messages; ``wait`` up to some seconds for the first."""
    try:
        yield inbox.get(block=wait, timeout=_IDLE_CHECK_S if wait else None)
        while True:
            yield inbox.get_nowait()
    except queue.Empty:
        return


def write_lines(output: TextIO, lines: Iterable[dict[str, Any]]) -> None:
    """Write JSON lines."""
    text = "".join(json.dumps(line) + "\n" for line in lines)
    if text:
        output.write(text)
        output.flush()


if __name__ == "__main__":
    sys.exit(main())
