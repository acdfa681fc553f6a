"""Fault plans as data: which requests fail, and how. A plan can be read from JSON.

[{"method": "POST", "path": "/fine_tuning/jobs$", "times": 1, "status": 503,
  "headers": {"Retry-After": "0"}}]
"""

from __future__ import annotations

import json
import random
import re
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Fault:
    """What happens to the requests that match.

    Attributes:
        method: The method of the requests; empty: any.
        path: A regular expression that is searched for in path and query; empty: any.
        skip: How many matching requests pass before the first fault.
        times: How many requests fail; None: all.
        probability: The share of the matching requests that fail, by the plan's seed.
        forward: Whether the service sees the request. False: it never arrives.
        status: The status to answer with instead of the service's.
        headers: Headers of that answer.
        body: The body to answer with instead of the service's.
        keep_bytes: Close the connection after this many bytes of the answer's body.
        disconnect: Close the connection without an answer.
        stall_s: Wait this long before the answer.
        delay_s: Wait this long before the request is forwarded.
        flip_bit: Flip one bit of the request's body, at this share of its length (0 to 1).
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

    def matches(self, method: str, path: str) -> bool:
        return (not self.method or method == self.method) and bool(re.search(self.path, path))


class FaultPlan:
    """The faults of a test, and how often each was carried out.

    Args:
        faults: The faults. The first that matches a request and is not used up applies.
        seed: Decides which requests fail where a fault has a probability.
    """

    def __init__(self, faults: Iterable[Fault] = (), *, seed: int = 0) -> None:
        self.faults = tuple(faults)
        self.applied: Counter[int] = Counter()
        self._seen: Counter[int] = Counter()
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    @classmethod
    def from_json(cls, text: str, *, seed: int = 0) -> FaultPlan:
        """Read a plan: a list of objects with the fields of ``Fault``."""
        rows: list[dict[str, Any]] = json.loads(text)
        return cls([Fault(**row) for row in rows], seed=seed)

    def to_json(self) -> str:
        """Return the plan as JSON."""
        return json.dumps([asdict(fault) for fault in self.faults])

    @property
    def count(self) -> int:
        """How many faults were carried out."""
        return sum(self.applied.values())

    def next_fault(self, method: str, path: str) -> Fault | None:
        """Return the fault for a request, and count it."""
        with self._lock:
            for index, fault in enumerate(self.faults):
                if not fault.matches(method, path):
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
