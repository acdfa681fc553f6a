"""A scripted ``IO``: responses by operation, without socket, clock or thread.

``port.on("jobs.get", response, response, ...)``: each is a value, an exception, or a function of ``Sent``;
the last one repeats. ``port.sent`` lists the requests. Time passes only by ``sleep``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import TypeAdapter

from maas_client.wire.operation import Dialect, Operation, Response, Scope

T = TypeVar("T")
A = TypeVar("A")


@dataclass
class Sent:
    """A request of a flow."""

    op: str
    body: Any
    path: Mapping[str, str]
    at: str | None = None
    url: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None


class FakePort:
    """Implements ``IO``."""

    def __init__(self, dialect: Dialect = "azureml", *, local: bool = False) -> None:
        self.scope = Scope(
            dialect,
            local,
            {"subscription": "sub", "resource_group": "rg", "workspace": "ws", "account": "acct"},
            {"arm": "https://management.azure.com", "foundry": "https://r.openai.azure.com/openai"},
        )
        self.sent: list[Sent] = []
        self.slept: list[float] = []
        self._answers: dict[str, list[Any]] = {}

    def on(self, op: str, *answers: Any) -> None:
        self._answers[op] = list(answers)

    def asked(self, op: str) -> list[Sent]:
        return [sent for sent in self.sent if sent.op == op]

    def _next(self, sent: Sent) -> Any:
        self.sent.append(sent)
        values = self._answers.get(sent.op)
        assert values, f"the flow sent {sent.op}, which this test does not expect"
        value = values.pop(0) if len(values) > 1 else values[0]
        value = value(sent) if callable(value) else value
        if isinstance(value, BaseException):
            raise value
        return value

    async def send(
        self,
        op: Operation[T],
        body: Any = None,
        *,
        base_url: str | None = None,
        url: str | None = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        key: str | None = None,
        deadline_s: float | None = None,
        **path: str,
    ) -> Response[T]:
        value = self._next(
            Sent(op.name, body, path, base_url, url, headers or {}, query or {}, key)
        )
        if isinstance(value, Response):
            return Response(_typed(op, value.value), value.status, value.headers)
        return Response(_typed(op, value), op.ok[0])

    async def lines(
        self,
        op: Operation[Any],
        body: Any = None,
        *,
        base_url: str | None = None,
        headers: Mapping[str, str] | None = None,
        key: str | None = None,
        **path: str,
    ) -> AsyncGenerator[str, None]:
        for line in self._next(Sent(op.name, body, path, base_url, None, headers or {}, {}, key)):
            yield line

    async def download(
        self, op: Operation[bytes], *, base_url: str | None = None, **path: str
    ) -> AsyncGenerator[bytes, None]:
        yield self._next(Sent(op.name, None, path, base_url))

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def elapsed(self) -> float:
        return sum(self.slept)

    async def call(self, fn: Callable[[], T]) -> T:
        return fn()

    async def parallel(
        self, step: Callable[[A], Coroutine[Any, Any, T]], over: Sequence[A], limit: int
    ) -> list[T]:
        return [await step(item) for item in over]


def _typed(op: Operation[T], value: Any) -> T:
    kind: Any = op.returns
    if kind is type(None) or kind is bytes or not isinstance(value, dict):
        return value  # type: ignore[no-any-return]  # as scripted
    return TypeAdapter(kind).validate_python(value)  # type: ignore[no-any-return]  # as promised


async def collect(series: AsyncGenerator[T, None]) -> list[T]:
    return [item async for item in series]
