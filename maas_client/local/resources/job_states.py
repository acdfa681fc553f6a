"""The states of a job and the signals to a running one (words: docs/azure-http.md 1.5)."""

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
    "Failed": frozenset({"Queued"}),
    "Canceled": frozenset(),
}
"""The states that may follow each state. A job goes back to ``Queued`` when its worker or the server
crashed, or when it is resumed: after a pause, or after a failure of this machine (``ServiceError``)."""

QUEUED_STATES = ("NotStarted", "Queued")
STATES_WITHOUT_WORKER = (*QUEUED_STATES, "Paused")
"""In these states a job is cancelled at once."""
ACTIVE_STATES = tuple(state for state in TRANSITIONS if state not in TERMINAL_STATES)

_VISIBLE_STATES = {"PauseRequested": "Running"}


class JobSignal(enum.IntFlag):
    """A request to a running job, which it handles between two steps."""

    NONE = 0
    CANCEL = 1
    """End without writing anything."""
    PAUSE = 2
    """Write a checkpoint and end until the job is resumed."""
    CHECKPOINT = 4
    """Write a checkpoint and go on."""


SIGNAL_KEYS = {"cancel": JobSignal.CANCEL, "pause": JobSignal.PAUSE, "save": JobSignal.CHECKPOINT}
"""The keys of the messages to a worker, such as ``{"cancel": true}``."""


def visible_state(state: str) -> str:
    """Return the state as clients see it, in Azure's words: a job that is about to pause is running."""
    return _VISIBLE_STATES.get(state, state)


def can_transition(old: str, new: str) -> bool:
    """Return whether a job may go from one state to another."""
    return new in TRANSITIONS[old]


def no_signal() -> JobSignal:
    """Return that nothing is requested."""
    return JobSignal.NONE
