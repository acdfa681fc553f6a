"""Carry out a fault plan: the outermost middleware of a server that was started with one.

Nothing in a request can switch faults on: only the plan that the server was started with counts.
"""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import (  # noqa: TID253 - only the server imports this module
    ASGIApp,
    Message,
    Receive,
    Scope,
    Send,
)

from maas_client.local.fault_plan import Fault, FaultPlan, flip_one_bit

_UNCHANGED_HEADERS = frozenset({b"content-length", b"transfer-encoding"})


class FaultMiddleware:
    """ASGI middleware around the application."""

    def __init__(self, app: ASGIApp, plan: FaultPlan) -> None:
        self._app = app
        self._plan = plan

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fault = self._next_fault(scope) if scope["type"] == "http" else None
        if fault is None:
            await self._app(scope, receive, send)
            return
        answer = _Answer()
        if fault.forward:
            await asyncio.sleep(fault.delay_s)
            is_flipped = fault.flip_bit is not None
            request = await _read_flipped(receive, fault) if is_flipped else receive
            await self._app(scope, request, answer.add)
        await asyncio.sleep(fault.stall_s)
        if fault.disconnect:
            await _close(receive, send, abort=True)
            return
        status, headers, body = answer.status, answer.headers, bytes(answer.body)
        if fault.status is not None or fault.body is not None or not fault.forward:
            fault_headers = {name.lower().encode() for name in fault.headers}
            original_headers = [] if fault.status is not None else headers
            headers = [
                item
                for item in original_headers
                if item[0].lower() not in fault_headers | _UNCHANGED_HEADERS
            ]
            status = fault.status if fault.status is not None else status
            body = (fault.body or "").encode()
            headers.append((b"content-length", str(len(body)).encode()))
        headers += [(name.encode(), text.encode()) for name, text in fault.headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if fault.keep_bytes is None:
            await send({"type": "http.response.body", "body": body})
            return
        await send(
            {"type": "http.response.body", "body": body[: fault.keep_bytes], "more_body": True}
        )
        await _close(receive, send, abort=False)

    def _next_fault(self, scope: Scope) -> Fault | None:
        query = scope.get("query_string", b"").decode("latin-1")
        return self._plan.next_fault(
            scope["method"], scope["path"] + (f"?{query}" if query else "")
        )


class _Answer:
    """What the application sends, without a request that it saw: 503."""

    def __init__(self) -> None:
        self.status = 503
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = bytearray()

    async def add(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], list(message["headers"])
        else:
            self.body += message.get("body", b"")


async def _read_flipped(receive: Receive, fault: Fault) -> Receive:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    changed = {
        "type": "http.request",
        "body": flip_one_bit(bytes(body), fault.flip_bit),
        "more_body": False,
    }
    messages: list[Any] = [changed]

    async def receive_changed() -> Message:
        return messages.pop() if messages else await receive()

    return receive_changed


async def _close(receive: Receive, send: Send, *, abort: bool) -> None:
    """Close the connection of a request, and wait until uvicorn has noticed it."""
    transport = send.__self__.transport  # type: ignore[attr-defined]  # uvicorn's RequestResponseCycle
    if abort:
        transport.abort()
    else:
        transport.close()  # after what was written
    while (await receive())["type"] != "http.disconnect":
        pass
