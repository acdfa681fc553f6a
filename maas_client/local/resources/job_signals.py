"""What can be asked of a job while it runs; torch-free."""

from __future__ import annotations

import enum


class JobSignal(enum.IntFlag):
    """What is asked of a running job, to be done between two steps."""

    NONE = 0
    CANCEL = 1
    """Cancelled: nothing is written any more."""
    PAUSE = 2
    """Paused: a checkpoint, and then its end until it is resumed."""
    CHECKPOINT = 4
    """A checkpoint now."""


SIGNAL_KEYS = {"cancel": JobSignal.CANCEL, "pause": JobSignal.PAUSE, "save": JobSignal.CHECKPOINT}
"""How a worker is told: ``{"cancel": true}``."""


def no_signal() -> JobSignal:
    """Ask for nothing."""
    return JobSignal.NONE
