"""What is printed when Ctrl-C ends a program whose work continues without it: one sentence, and no traceback.

An interrupt stays a ``KeyboardInterrupt``: a program may catch it, and an uncaught one ends the process as
usual.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

_NOTE = "_maas_note"
_cancelled: list[str] = []
"""What to print if an event loop that Ctrl-C has ended raises a ``KeyboardInterrupt`` of its own."""


@contextmanager
def explain_interrupt(describe: Callable[[], str]) -> Iterator[None]:
    """Print what ``describe`` returns, and no traceback, if Ctrl-C in this block ends the program.

    Args:
        describe: Returns what goes on and how to resume.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        note = describe()
        setattr(interrupt, _NOTE, note)
        # IPython and notebooks ask an exception for what to print.
        interrupt._render_traceback_ = lambda *_: [note]  # type: ignore[attr-defined]  # IPython's name
        _install_hook()
        raise
    except asyncio.CancelledError:
        _cancelled[:] = [describe()]
        _install_hook()
        raise
    else:
        _cancelled.clear()


def _install_hook() -> None:
    previous = sys.excepthook
    if getattr(previous, _NOTE, False):
        return

    def print_note(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        note = getattr(error, _NOTE, None)
        if note is None and _cancelled and kind is KeyboardInterrupt:
            note = _cancelled[0]
        if note is None or not issubclass(kind, KeyboardInterrupt):
            previous(kind, error, trace)
        else:
            print(note, file=sys.stderr)

    setattr(print_note, _NOTE, True)
    sys.excepthook = print_note
