"""The requests that a server for tests received."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, overload


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request that a server received.

    Attributes:
        operation: The name of its operation in docs/operations.md, such as ``jobs.create``; empty for an
            unknown path.
        method: The HTTP method.
        path: The path on the server, without the query.
        query: The query parameters; signatures are replaced by ``[redacted]``.
        headers: The headers, with names in lower case; credentials are replaced by ``[redacted]``.
        body: The first MiB of the body. The body of a sign-in is not recorded.
        at: When it arrived, on the server's clock.
    """

    operation: str
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    at: datetime

    @property
    def json(self) -> Any:
        """The body as JSON.

        Raises:
            ValueError: The body is not JSON.
        """
        return json.loads(self.body)

    def to_dict(self) -> dict[str, Any]:
        """Return the request as JSON values.

        Returns:
            The attributes by their names; ``body`` is an object if it is valid JSON, else text.
        """
        try:
            body = self.json
            json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, RecursionError):
            body = self.body.decode("utf-8", "replace")
        return {
            "operation": self.operation,
            "method": self.method,
            "path": self.path,
            "query": dict(self.query),
            "headers": dict(self.headers),
            "body": body,
            "at": self.at.isoformat(),
        }


class RecordedRequests(Sequence[RecordedRequest]):
    """The requests that a server received, oldest first.

    Example:
        >>> [request.json["properties"]["displayName"] for request in server.requests.of("jobs.create")]
        ['tickets']
    """

    def __init__(self, requests: Iterable[RecordedRequest] = ()) -> None:
        self._requests = tuple(requests)

    @overload
    def __getitem__(self, index: int) -> RecordedRequest: ...
    @overload
    def __getitem__(self, index: slice) -> RecordedRequests: ...
    def __getitem__(self, index: int | slice) -> RecordedRequest | RecordedRequests:
        if isinstance(index, slice):
            return RecordedRequests(self._requests[index])
        return self._requests[index]

    def __len__(self) -> int:
        return len(self._requests)

    def __repr__(self) -> str:
        lines = [f"{r.method} {r.path} ({r.operation or 'unknown'})" for r in self._requests]
        return "\n".join(lines) or "no requests"

    def of(self, operation: str) -> RecordedRequests:
        """Return the requests of one operation.

        Args:
            operation: The operation's name in docs/operations.md, such as ``jobs.create``.

        Returns:
            These requests, oldest first.
        """
        return RecordedRequests(r for r in self._requests if r.operation == operation)
