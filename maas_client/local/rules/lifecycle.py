"""A job's states, as data (words: azure-api.md section 1.5)."""

from __future__ import annotations

TERMINAL = frozenset({"Completed", "Failed", "Canceled"})

NEXT: dict[str, frozenset[str]] = {
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

WAITING = ("NotStarted", "Queued")
IDLE = (*WAITING, "Paused")
"""Without a worker: ended at once when asked."""
ALIVE = tuple(state for state, after in NEXT.items() if after)

_SHOWN = {"PauseRequested": "Running"}


def shown(state: str) -> str:
    """Return a state in a word of Azure's: a job that is to be paused still runs."""
    return _SHOWN.get(state, state)


def may(before: str, after: str) -> bool:
    """Tell whether a job may go from one state to another."""
    return after in NEXT[before]
