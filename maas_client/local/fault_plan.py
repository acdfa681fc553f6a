"""Fault plans as data: which requests of a local server fail, and how.

A plan is a list of faults, in Python or as JSON::

    [{"method": "POST", "path": "/fine_tuning/jobs$", "status": 503, "headers": {"Retry-After": "0"}}]

``maas_client.local.serve(faults=…)`` and ``maas-client serve --faults PLAN`` carry it out.
"""

from __future__ import annotations

import json
import math
import random
import re
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from maas_client._files.small_file import read_small_file
from maas_client.errors import ConfigError

_PLAN_HINT = 'Write a list such as [{"path": "/chat/completions", "status": 503}].'
_MAX_WAIT_S, _MAX_S = 3600.0, 1e10
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


@dataclass(frozen=True)
class Fault:
    """What happens to the requests that match.

    Attributes:
        method: The method of the requests, in any case; empty: any.
        path: A regular expression that is searched for in path and query; empty: any.
        skip: How many matching requests pass before the first fault.
        times: How many requests fail; None: all.
        probability: The share of the matching requests that fail, by the plan's seed.
        forward: Whether the server carries the request out. False: it never sees it.
        status: The status to answer with instead of the server's.
        headers: Headers of that answer.
        body: The body to answer with instead of the server's.
        keep_bytes: Close the connection after this many bytes of the answer's body.
        disconnect: Close the connection without an answer.
        stall_s: Seconds to wait before the answer.
        delay_s: Seconds to wait before the request is carried out.
        flip_bit: Flip one bit of the request's body, at this share of its length (0 to 1).
        operation: The name of the requests' operation in docs/operations.md, such as ``jobs.get``; empty: any.
        error: The message of an error in the service's own format, instead of ``body``. Needs ``status``.
        after_s: Seconds after the start of the server until the fault can apply, on the server's clock.
        duration_s: Seconds for which it can apply; None: without end.

    Raises:
        ConfigError: A value is of another type or out of bounds.

    Example:
        >>> Fault("POST", "/fine_tuning/jobs$", status=503, headers={"Retry-After": "0"}).times
        1
    """

    method: str = ""
    path: str = ""
    skip: int = 0
    times: int | None = 1
    probability: float = 1.0
    forward: bool = True
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None
    keep_bytes: int | None = None
    disconnect: bool = False
    stall_s: float = 0.0
    delay_s: float = 0.0
    flip_bit: float | None = None
    operation: str = ""
    error: str | None = None
    after_s: float = 0.0
    duration_s: float | None = None

    def __post_init__(self) -> None:
        for name, is_valid, expected in (
            ("method", isinstance(self.method, str), "a text"),
            ("path", _is_pattern(self.path), "a regular expression"),
            ("skip", _is_number(self.skip, 0, math.inf, whole=True), "a whole number from 0"),
            ("times", self.times is None or _is_number(self.times, 0, math.inf, whole=True),
             "a whole number from 0, or null for all"),
            ("probability", _is_number(self.probability, 0, 1), "a number from 0 to 1"),
            ("forward", isinstance(self.forward, bool), "true or false"),
            ("status", self.status is None or _is_number(self.status, 200, 599, whole=True),
             "a status from 200 to 599"),
            ("headers", _are_headers(self.headers), "an object of header names and texts"),
            ("body", self.body is None or _is_text(self.body), "a text"),
            ("keep_bytes",
             self.keep_bytes is None or _is_number(self.keep_bytes, 0, math.inf, whole=True),
             "a whole number from 0"),
            ("disconnect", isinstance(self.disconnect, bool), "true or false"),
            ("stall_s", _is_number(self.stall_s, 0, _MAX_WAIT_S), "seconds from 0 to 3600"),
            ("delay_s", _is_number(self.delay_s, 0, _MAX_WAIT_S), "seconds from 0 to 3600"),
            ("flip_bit", self.flip_bit is None or _is_number(self.flip_bit, 0, 1),
             "a number from 0 to 1"),
            ("operation", isinstance(self.operation, str), "a text"),
            ("error", self.error is None or _is_text(self.error), "a text"),
            ("after_s", _is_number(self.after_s, 0, _MAX_S), "seconds from 0"),
            ("duration_s", self.duration_s is None or _is_number(self.duration_s, 0, _MAX_S),
             "seconds from 0"),
        ):  # fmt: skip
            if not is_valid:
                raise ConfigError(f"{name} of a fault must be {expected}")
        if self.body and self.status in (204, 304):
            raise ConfigError(
                f"body of a fault must be left out with status {self.status}, which has none"
            )

        if self.error is not None and (self.body is not None or (self.status or 0) < 400):
            raise ConfigError(
                "error of a fault needs a status from 400 to 599, and no body beside it"
            )

    def matches(
        self, method: str, path: str, operation: str = "", elapsed_s: float = math.inf
    ) -> bool:
        """Return whether the fault is about a request.

        Args:
            method: The request's method.
            path: Its path and query.
            operation: The name of its operation.
            elapsed_s: The seconds since the start of the server.

        Returns:
            True if method, path, operation and time match.
        """
        if self.duration_s is not None and elapsed_s >= self.after_s + self.duration_s:
            return False
        return (
            elapsed_s >= self.after_s
            and (not self.method or method == self.method.upper())
            and (not self.operation or operation == self.operation)
            and bool(re.search(self.path, path))
        )


def _is_number(value: object, low: float, high: float, *, whole: bool = False) -> bool:
    is_number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    return is_number and low <= value <= high  # type: ignore[operator]  # a number


def _is_text(value: object) -> bool:
    """Return whether a value can be sent as text: no lone surrogates."""
    return isinstance(value, str) and value == value.encode("utf-8", "replace").decode()


def _is_pattern(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(re.compile(value))
    except re.error:
        return False


def _are_headers(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(name, str)
        and _TOKEN.fullmatch(name)
        and isinstance(text, str)
        and text.isprintable()
        and text.isascii()
        for name, text in value.items()
    )


class FaultPlan:
    """The faults of a server, and how often each was carried out. Thread-safe.

    Args:
        faults: The faults. The first that matches a request and is not used up applies.
        seed: Decides which requests fail where a fault has a probability.

    Attributes:
        faults: The faults.
        applied: How often each was carried out, by its position.

    Example:
        >>> plan = FaultPlan([Fault("PUT", "/jobs/", disconnect=True)])
        >>> with maas_client.local.serve(engine="instant", faults=plan) as server:
        ...     job = server.client().jobs.create(model="Phi-3-mini", training_data="train.jsonl")
        >>> plan.count
        1
    """

    def __init__(self, faults: Iterable[Fault] = (), *, seed: int = 0) -> None:
        self.faults = tuple(faults)
        self.applied: Counter[int] = Counter()
        self._seen: Counter[int] = Counter()
        self._random = random.Random(seed)  # noqa: S311 - repeatable, not a secret
        self._lock = threading.Lock()

    @classmethod
    def from_json(cls, text: str, *, seed: int = 0) -> FaultPlan:
        """Read a plan: a list of objects with the fields of ``Fault``.

        Args:
            text: The JSON.
            seed: The plan's seed.

        Returns:
            The plan.

        Raises:
            ConfigError: The text is not such a list. The message names the fault and the field.
        """
        try:
            rows = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"the fault plan is not JSON: {error}", hint=_PLAN_HINT) from None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ConfigError("the fault plan is not a list of objects", hint=_PLAN_HINT)
        names = [each.name for each in fields(Fault)]
        faults = []
        for number, row in enumerate(rows, 1):
            unknown = sorted(set(row) - set(names))
            if unknown:
                raise ConfigError(
                    f"fault {number} of the plan has the unknown field {unknown[0][:40]!r}",
                    hint=f"Use: {', '.join(names)}.",
                )
            try:
                faults.append(Fault(**row))
            except ConfigError as error:
                raise ConfigError(f"fault {number} of the plan: {error.message}") from None
        return cls(faults, seed=seed)

    @classmethod
    def from_file(cls, path: str | Path, *, seed: int = 0) -> FaultPlan:
        """Read a plan from a JSON file.

        Args:
            path: The file.
            seed: The plan's seed.

        Returns:
            The plan.

        Raises:
            ConfigError: The file cannot be read, or has no valid plan.
        """
        try:
            text = read_small_file(Path(path)).decode()
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise ConfigError(
                f"the fault plan {path} cannot be read: {reason}", hint="Check the path."
            ) from error
        return cls.from_json(text, seed=seed)

    def to_json(self) -> str:
        """Return the plan as JSON.

        Returns:
            A list of objects, which ``from_json`` reads.
        """
        return json.dumps([asdict(fault) for fault in self.faults])

    @property
    def count(self) -> int:
        """How many faults were carried out."""
        return sum(self.applied.values())

    def add(self, *faults: Fault) -> None:
        """Add faults to the end of the plan.

        Args:
            *faults: The faults.
        """
        self.faults += faults

    def clear(self) -> None:
        """Remove all faults and their counts."""
        with self._lock:
            self.faults = ()
            self.applied.clear()
            self._seen.clear()

    def next_fault(
        self, method: str, path: str, operation: str = "", elapsed_s: float = 0.0
    ) -> Fault | None:
        """Return the fault for a request, and count it.

        Args:
            method: The request's method.
            path: Its path and query.
            operation: The name of its operation in docs/operations.md.
            elapsed_s: The seconds since the start of the server, on its clock.

        Returns:
            The fault, or None: the request is answered as usual.
        """
        with self._lock:
            for index, fault in enumerate(self.faults):
                if not fault.matches(method, path, operation, elapsed_s):
                    continue
                self._seen[index] += 1
                if self._seen[index] <= fault.skip:
                    continue
                if fault.times is not None and self.applied[index] >= fault.times:
                    continue
                if fault.probability < 1 and self._random.random() >= fault.probability:
                    continue
                self.applied[index] += 1
                return fault
        return None


def flip_one_bit(body: bytes, share: float | None) -> bytes:
    """Return a body with one bit flipped, at this share of its length; unchanged without a share."""
    if share is None or not body:
        return body
    changed = bytearray(body)
    changed[min(int(share * len(body)), len(body) - 1)] ^= 1
    return bytes(changed)
