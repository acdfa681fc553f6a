"""A job's states, as data (words: docs/azure-http.md section 1.5)."""

from __future__ import annotations

import enum

TERMINAL_STATES = frozenset({"Completed", "Failed", "Canceled"})

TRANSITIONS: dict[str, frozenset[str]] = {
    "NotStarted": frozenset({"Queued", "Starting", "Failed", "Canceled"}),
    "Queued": frozenset({"Starting", "Failed", "Canceled"}),
    "Starting": frozenset({"Preparing", "Queued", "Failed", "CancelRequested"}),
    "Preparing": frozenset({"Running", "Queued", "Failed", "CancelRequested"}),
    "Running": frozenset({"Finalizing", "Queued", "Failed", "CancelRequested", "PauseRequested"}),
    "PauseRequested": frozenset({"Paused", "Finalizing", "Failed", "CancelRequested"}),
    "Paused": frozenset({"Queued", "Canceled"}),
    "Finalizing": frozenset({"Completed", "Queued", "Failed"}),
    "CancelRequested": frozenset({"Canceled"}),
    "Completed": frozenset(),
    "Failed": frozenset(),
    "Canceled": frozenset(),
}
"""From each state to those that may follow. Back to ``Queued``: the worker died, or the server did,
and the job is run again, or it was paused and is to go on."""

QUEUED_STATES = ("NotStarted", "Queued")
STATES_WITHOUT_WORKER = (*QUEUED_STATES, "Paused")
"""Without a worker: ended at once when asked."""
ACTIVE_STATES = tuple(state for state, after in TRANSITIONS.items() if after)

_SHOWN = {"PauseRequested": "Running"}


def visible_state(state: str) -> str:
    """Return a state in a word of Azure's: a job that is to be paused still runs."""
    return _SHOWN.get(state, state)


def can_transition(old: str, new: str) -> bool:
    """Tell whether a job may go from one state to another."""
    return new in TRANSITIONS[old]


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
