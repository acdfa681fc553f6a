"""A job's states, as data (words: azure-api.md section 1.5)."""

from __future__ import annotations

TERMINAL = frozenset({"Completed", "Failed", "Canceled"})

NEXT: dict[str, frozenset[str]] = {
    "NotStarted": frozenset({"Queued", "Starting", "Failed", "Canceled"}),
    "Queued": frozenset({"Starting", "Failed", "Canceled"}),
    "Starting": frozenset({"Preparing", "Queued", "Failed", "CancelRequested"}),
    "Preparing": frozenset({"Running", "Queued", "Failed", "CancelRequested"}),
    "Running": frozenset({"Finalizing", "Queued", "Failed", "CancelRequested"}),
    "Finalizing": frozenset({"Completed", "Queued", "Failed"}),
    "CancelRequested": frozenset({"Canceled"}),
    "Completed": frozenset(),
    "Failed": frozenset(),
    "Canceled": frozenset(),
}
"""From each state to those that may follow. Back to ``Queued``: the worker died, or the server did,
and the job is run again."""

WAITING = ("NotStarted", "Queued")
ALIVE = tuple(state for state, after in NEXT.items() if after)


def may(before: str, after: str) -> bool:
    """Tell whether a job may go from one state to another."""
    return after in NEXT[before]
