"""What can be asked of a job while it runs; torch-free."""

from __future__ import annotations

import enum


class Wish(enum.IntFlag):
    """What is asked of a running job, to be done between two steps."""

    NOTHING = 0
    END = 1
    """Cancelled: nothing is written any more."""
    REST = 2
    """Paused: a checkpoint, and then its end until it is resumed."""
    SAVE = 4
    """A checkpoint now."""


WORDS = {"cancel": Wish.END, "pause": Wish.REST, "save": Wish.SAVE}
"""How a worker is told: ``{"cancel": true}``."""


def nothing() -> Wish:
    """Ask for nothing."""
    return Wish.NOTHING
