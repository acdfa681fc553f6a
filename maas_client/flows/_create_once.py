"""Create something exactly once, although responses get lost and services fail after they have acted.

A create is never sent again before the service was searched for the result, whatever its status, its headers
or the connection say. A status alone does not tell whether the service acted: gateways answer 408, 502 or 503
for a request that was carried out, and an HTML page with status 200 for one that never arrived.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import chain, islice
from pathlib import Path
from typing import ClassVar, TypeVar

from maas_client._files.file_lock import try_lock
from maas_client._messages import Call, Text
from maas_client.errors import (
    AuthError,
    ConflictError,
    MaasError,
    RateLimitError,
    ServiceError,
    StatusError,
    TransportError,
)
from maas_client.flows._arm import poll_intervals
from maas_client.flows._io import IO

T = TypeVar("T")

MAX_ATTEMPTS = 4
"""How often a create is sent of which nothing is found."""
LOOKUPS_PER_ATTEMPT = 4
_MAX_RETRY_AFTER_S = 60.0
_LOCK_POLL_S = 0.05
_UNCLEAR_CLIENT_ERRORS = frozenset({408, 425, 499})
"""Statuses below 500 that gateways also answer for a request that the service has carried out."""


class NameInUseError(ConflictError):
    """Another resource has the name."""


async def create_once(
    io: IO,
    create: Callable[[], Awaitable[T]],
    find: Callable[[], Awaitable[T | None]],
    *,
    operation: str,
    hint: str | Callable[[], str],
) -> T:
    """Create something and return it; after any failure, look for it before ``create`` is called again.

    Args:
        io: The connection.
        create: Sends the request once.
        find: Looks for the result; None if the service does not have it. ``NameInUseError`` ends the
            attempts.
        operation: The operation, for the error.
        hint: How the caller finds out whether it was created, if that stays unknown; a function makes it
            only then.

    Returns:
        What ``create`` or ``find`` returned.

    Raises:
        TransportError: The outcome is unknown: the request may have been carried out, and the lookups found
            nothing or failed.
        MaasError: The service refused the request, or nothing was sent.
    """
    may_have_acted = False
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            return await create()
        except MaasError as create_error:
            if not may_have_acted and not _reached_network(create_error, connected=io.scope.local):
                raise
            error = create_error
        is_unclear = is_ambiguous(error)
        may_have_acted = may_have_acted or is_unclear
        try:
            existing = await _find_existing(io, error, find)
        except NameInUseError:
            raise
        except MaasError as lookup_error:
            if not may_have_acted and not isinstance(error, ConflictError):
                raise error from lookup_error
            raise _unknown_outcome(operation, error, hint, lookup_error) from error
        if existing is not None:
            return existing
        is_timeout = isinstance(error, TransportError) and error.timed_out
        if attempt == MAX_ATTEMPTS or is_timeout or not _is_retryable(error):
            if is_unclear or (may_have_acted and _is_retryable(error)):
                raise _unknown_outcome(operation, error, hint) from error
            raise error
    raise AssertionError("the last attempt returns or raises")


async def _find_existing(
    io: IO, error: MaasError, find: Callable[[], Awaitable[T | None]]
) -> T | None:
    """Look several times where the result may appear late, and last just before the next attempt."""
    existing = await find()
    if existing is not None:
        return existing
    for wait in _waits(io, error):
        await io.sleep(wait)
        existing = await find()
        if existing is not None:
            return existing
    return None


def _waits(io: IO, error: MaasError) -> list[float]:
    if not is_ambiguous(error) and not isinstance(error, ConflictError | RateLimitError):
        return [next(poll_intervals(io))] if _is_retryable(error) else []
    retry_after = error.retry_after if isinstance(error, StatusError) else None
    waits = poll_intervals(io)
    if retry_after is not None:
        waits = chain([min(retry_after, _MAX_RETRY_AFTER_S)], waits)
    return list(islice(waits, LOOKUPS_PER_ATTEMPT - 1))


def _reached_network(error: MaasError, *, connected: bool) -> bool:
    """Return whether the request was at least tried to be sent; with ``connected``, whether it was sent.

    It was not if the credential has used up its time.
    """
    if isinstance(error, TransportError):
        return error.was_sent or not (connected or error.timed_out)
    if isinstance(error, AuthError):
        return error.status is not None  # without one, no token could be obtained
    return isinstance(error, StatusError)


def is_ambiguous(error: MaasError) -> bool:
    """Return whether the service may have carried the request out in spite of the error."""
    if isinstance(error, TransportError):
        return error.was_sent
    if not isinstance(error, StatusError):
        return False
    if error.status in _UNCLEAR_CLIENT_ERRORS:
        return True
    is_redirect = error.status is not None and 300 <= error.status < 400
    return isinstance(error, ServiceError) and not is_redirect


def _is_retryable(error: MaasError) -> bool:
    """Return whether another attempt may succeed. After a 401 the lookup has obtained another token."""
    return is_ambiguous(error) or isinstance(error, TransportError | RateLimitError | AuthError)


def _unknown_outcome(
    operation: str,
    error: MaasError,
    hint: str | Callable[[], str],
    lookup_error: MaasError | None = None,
) -> TransportError:
    reason: str = error.message
    if lookup_error is not None:
        reason = Text(reason, f"; looking for the result failed too: {lookup_error.message}")
    return TransportError(
        Text(f"{operation}: the outcome is unknown (", reason, ")"),
        url=getattr(error, "url", None),
        hint=hint if isinstance(hint, str) else hint(),
    )


def name_conflict(name: str, hint: str | None = None) -> NameInUseError:
    """Return the error for a deployment name that is in use for another model."""
    return NameInUseError(
        f"deployment {name!r} exists with another model",
        operation="deployments.create",
        hint=hint
        or Text.format(
            "Choose another name, or delete it first: {}", Call("deployments.delete", repr(name))
        ),
    )


def unknown_deployment_hint(name: str) -> Text:
    """Return what to do if it is unknown whether a deployment was created: it costs by the hour."""
    return Text.format(
        "Run the same call again, which returns the deployment if it exists, or delete it: {}.",
        Call("deployments.delete", repr(name)),
    )


# Locks: two calls with the same inputs on one machine run one after the other.


class _MachineLock:
    """A lock between threads, tasks and processes of this machine, which its holder's death releases.

    Without a folder that can be written to, it only holds between the threads and tasks of this process.
    """

    _held_names: ClassVar[set[str]] = set()
    _guard: ClassVar = threading.Lock()

    def __init__(self, folder: str | None, name: str) -> None:
        self._name = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        self._path = Path(folder, "locks", f"{self._name}.lock") if folder else None
        self._descriptor: int | None = None
        self._is_held = False

    def try_acquire(self) -> bool:
        with self._guard:
            if self._name in self._held_names:
                return False
            if not self._lock_file():
                return False
            self._held_names.add(self._name)
            self._is_held = True
            return True

    def _lock_file(self) -> bool:
        """Lock the file and return True; also True where files cannot be locked."""
        if self._path is None:
            return True
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._path, flags, 0o600)
        except OSError:
            return True
        is_current = False
        with suppress(OSError):
            # The last holder deletes the file: a lock on a deleted one excludes no other call.
            is_current = try_lock(descriptor) and os.path.samestat(
                os.fstat(descriptor), os.stat(self._path)
            )
        if not is_current:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        with self._guard:
            if not self._is_held:
                return
            self._is_held = False
            self._held_names.discard(self._name)
            if self._descriptor is not None:
                with suppress(OSError):  # Windows deletes no open file; an empty one stays
                    os.unlink(str(self._path))
                os.close(self._descriptor)
                self._descriptor = None


@asynccontextmanager
async def machine_lock(io: IO, name: str, *, timeout_s: float) -> AsyncGenerator[None, None]:
    """Wait until no other call on this machine is in this context with the same name and resource.

    After ``timeout_s`` it is entered anyway: the holder may have been stopped, and the lookups before and
    after a create still find what it made.
    """
    resource = repr(sorted(io.scope.base_urls.items())) + repr(sorted(io.scope.values.items()))
    lock = _MachineLock(io.scope.client_dir, f"{resource} {name}")
    end = io.elapsed() + timeout_s
    try:
        while not lock.try_acquire() and io.elapsed() < end:
            await io.sleep(_LOCK_POLL_S)
        yield
    finally:
        lock.release()
