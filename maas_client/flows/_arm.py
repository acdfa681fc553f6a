"""How long to wait between two looks, and how to see a long-running ARM operation through."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from maas_client.errors import (
    MaasError,
    RateLimitError,
    ServiceError,
    StatusError,
    TransportError,
)
from maas_client.flows._io import IO
from maas_client.wire import azureml as ops
from maas_client.wire.op import Response

MAX_POLL_INTERVAL_S = 15.0
MAX_OUTAGE_S = 1800.0
"""A watched job may be out of sight for this long before watching ends: it is paid for, and goes on."""


def poll_intervals(io: IO) -> Iterator[float]:
    """Yield seconds to wait: 50 ms on loopback and 1 s elsewhere, times 1.6, up to 15 s."""
    pause = 0.05 if io.scope.local else 1.0
    while True:
        yield pause
        pause = min(pause * 1.6, MAX_POLL_INTERVAL_S if not io.scope.local else 1.0)


def is_transient(error: MaasError) -> bool:
    """True for what an outage looks like: no answer, throttling, 5xx."""
    if isinstance(error, TransportError | RateLimitError):
        return True
    return isinstance(error, ServiceError) and (error.status or 0) >= 500


def retry_after_s(answer: Response[Any]) -> float | None:
    """Return the answer's Retry-After in seconds, if it has a plain one."""
    text = answer.headers.get("retry-after", "")
    return min(float(text), 60.0) if re.fullmatch(r"\d{1,4}(\.\d+)?", text) else None


async def wait_for_operation(
    io: IO, answer: Response[Any], *, operation: str, timeout_s: float = 3600.0
) -> None:
    """Wait until the long-running operation behind ``answer`` has ended (docs/azure-http.md section 7.3).

    ``Azure-AsyncOperation`` is looked at first, then ``Location``; without either there is nothing to
    wait for. Raises ``ServiceError`` with the service's reason when the operation failed, and when it
    has not ended after ``timeout_s`` seconds.
    """
    status_url = answer.headers.get("azure-asyncoperation")
    result_url = answer.headers.get("location") if answer.status in (201, 202) else None
    if not status_url and not result_url:
        return
    end = io.elapsed() + timeout_s
    asked = retry_after_s(answer)
    for pause in poll_intervals(io):
        await io.sleep(pause if asked is None or io.scope.local else asked)
        if status_url:
            seen = await io.send(ops.OPERATION_STATUS, url=status_url)
            asked, word = retry_after_s(seen), seen.value.status.lower()
            if word == "succeeded":
                return
            if word in ("failed", "canceled"):
                raise _failed(operation, seen.value.error or {}, word)
        else:
            done = await io.send(ops.OPERATION_RESULT, url=result_url)
            asked = retry_after_s(done)
            if done.status != 202:
                return
        if io.elapsed() > end:
            raise ServiceError(
                f"{operation} had not ended after {timeout_s:.0f} s", operation=operation
            )


def _failed(what: str, error: dict[str, Any], word: str) -> StatusError:
    return ServiceError(
        error.get("message") or f"{what} ended as {word}",
        code=error.get("code"),
        operation=what,
    )
