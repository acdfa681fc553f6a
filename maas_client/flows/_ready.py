"""From a deployment that was asked for to one that answers: what both dialects have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from maas_client.errors import (
    ConflictError,
    MaasError,
    ServiceError,
    StatusError,
    TransportError,
)
from maas_client.flows._arm import is_transient, poll_intervals
from maas_client.flows._io import IO, Coro

READY_TIMEOUT_S = 1800.0
"""How long a deployment may take to be made, and then again to answer (reliability.md R13)."""


def name_conflict(name: str) -> ConflictError:
    """Return the error for a name that holds another model."""
    return ConflictError(
        f"deployment {name!r} exists and holds another model",
        operation="deployments.create",
        hint=f"Choose another name, or delete it first: maas-client deployments delete {name}",
    )


async def wait_until_provisioned(
    io: IO,
    name: str,
    get_state: Callable[[], Coro[tuple[str, str | None]]],
    timeout_s: float = READY_TIMEOUT_S,
) -> None:
    """Wait until ARM calls the deployment Succeeded. ``look`` gives its word and a code.

    Raises ``ServiceError`` when it ended otherwise, or has not ended after ``within_s``.
    """
    end = io.elapsed() + timeout_s
    for pause in poll_intervals(io):
        state, code = await get_state()
        if state.lower() == "succeeded":
            return
        late = io.elapsed() > end
        if late or state.lower() in ("failed", "canceled", "disabled"):
            raise ServiceError(
                f"deployment {name!r} {'is still' if late else 'ended as'} {state}",
                code=code,
                operation="deployments.create",
                hint=f"Delete it and try again: maas-client deployments delete {name}",
            )
        await io.sleep(pause)


async def wait_until_ready(
    io: IO,
    probe: Callable[[], Coro[Any]],
    is_not_ready: Callable[[StatusError], bool] = lambda error: False,
    timeout_s: float = READY_TIMEOUT_S,
) -> None:
    """Ask until an answer comes: Succeeded does not mean ready.

    What looks like an outage, or like a route that is not there yet, is waited for up to ``within_s``;
    ``comes`` names what else is.
    """
    end = io.elapsed() + timeout_s
    for pause in poll_intervals(io):
        try:
            await probe()
        except MaasError as not_yet:
            if io.elapsed() > end or not _waits(io, not_yet, is_not_ready):
                raise
            await io.sleep(pause)
        else:
            return


def _waits(io: IO, error: MaasError, comes: Callable[[StatusError], bool]) -> bool:
    if isinstance(error, TransportError):
        return not io.scope.local  # on this machine nobody will come back by himself
    if not isinstance(error, StatusError):
        return False
    return is_transient(error) or error.status in (404, 408, 424) or comes(error)
