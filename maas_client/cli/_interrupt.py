"""What a command prints when it is stopped by Ctrl-C or SIGTERM and can be continued."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from maas_client.cli._output import print_note

CONTINUE_UPLOAD = "Run the same command again: parts that were sent are not sent again."


class Terminated(KeyboardInterrupt):
    """SIGTERM has arrived."""


@contextmanager
def on_interrupt(message: str = "") -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C while the block runs, and print ``message`` after either of them."""
    is_default = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    try:
        if is_default:
            signal.signal(signal.SIGTERM, _terminate)
    except ValueError:  # only the main thread may set handlers
        is_default = False
    try:
        yield
    except KeyboardInterrupt:
        if message:
            print_note(message)
        raise
    finally:
        if is_default:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated
