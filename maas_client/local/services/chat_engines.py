"""Who answers a chat: the instant engine in this process, or the answering process next door.

Both give the same stream of pieces; routes make whole answers and SSE frames of them.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from maas_client.local.instant import SIMULATED, AnswerIndex, content_text, split_words
from maas_client.local.machine.child_processes import ChildProcess, ProcessPool
from maas_client.local.resources.deployments import ServedModel
from maas_client.local.resources.errors import ApiError
from maas_client.local.state.files import FileStore, new_id

_LOG = logging.getLogger(__name__)
_MAX_PENDING_CHATS = 64
"""Chats in flight; one more is told to come back (429)."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat that has passed the routes' checks. ``params`` holds what was given only."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChatChunk:
    """A part of an answer; the last one has a ``finish_reason``."""

    text: str = ""
    tool_calls: list[dict[str, Any]] | None = None
    finish_reason: str | None = None
    usage: dict[str, int] | None = None


class ChatEngine(Protocol):
    """What the server needs of an engine to answer."""

    system_fingerprint: str | None
    """Stands in ``system_fingerprint``; says so when answers are simulated."""

    async def warm_up(self) -> None:
        """Start what takes long to start, before anyone asks."""
        ...

    def stream(self, target: ServedModel, chat: ChatRequest) -> AsyncGenerator[ChatChunk, None]:
        """Yield the answer's pieces; closing the generator ends the work."""
        ...

    async def load(self, target: ServedModel) -> None:
        """Get ready to answer. Raises ``ApiError`` when that cannot be."""
        ...

    async def unload(self, target: ServedModel) -> None:
        """Let go of what only this target needs."""
        ...

    async def close(self) -> None:
        """Let go of everything."""
        ...


class InstantChatEngine:
    """Answers from what the instant engine learned by heart. Every answer says ``simulated``."""

    system_fingerprint: str | None = SIMULATED

    def __init__(self, files: FileStore) -> None:
        self._files = files
        self._memories: dict[str, AnswerIndex] = {}

    async def warm_up(self) -> None:
        """Nothing takes long."""

    async def load(self, target: ServedModel) -> None:
        """Read what the run learned."""
        if target.folder and target.folder not in self._memories:
            out = self._files.run_folder(target.folder) / "out"
            try:
                memory = await asyncio.to_thread(AnswerIndex.load, out)
            except (OSError, ValueError, TypeError) as error:
                raise ApiError(
                    500, "ServiceError",
                    f"The model {target.model} was not made by the instant engine; start the server"
                    " with the engine that trained it.",
                ) from error  # fmt: skip
            self._memories[target.folder] = memory

    async def unload(self, target: ServedModel) -> None:
        """Forget it."""
        self._memories.pop(target.folder or "", None)

    async def close(self) -> None:
        """Nothing runs."""

    async def stream(
        self, target: ServedModel, chat: ChatRequest
    ) -> AsyncGenerator[ChatChunk, None]:
        """Yield the remembered answer word by word."""
        await self.load(target)
        message = self._answer(target, chat)
        limit = chat.params.get("max_tokens")
        tokens = _split_words(content_text(message.get("content")))
        words_until_stop = _apply_stop(tokens, chat.params.get("stop"))
        emitted = words_until_stop if limit is None else words_until_stop[:limit]
        for token in emitted:
            yield ChatChunk(text=token)
        calls = message.get("tool_calls") if chat.tools else None
        reason = (
            "tool_calls" if calls else "length" if len(emitted) < len(words_until_stop) else "stop"
        )
        prompt_tokens = sum(len(split_words(content_text(m.get("content")))) for m in chat.messages)
        usage = {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": len(emitted),
            "total_tokens": prompt_tokens + len(emitted),
        }
        yield ChatChunk(tool_calls=_with_ids(calls), finish_reason=reason, usage=usage)

    def _answer(self, target: ServedModel, chat: ChatRequest) -> dict[str, Any]:
        question = next(
            (
                content_text(m.get("content"))
                for m in reversed(chat.messages)
                if m.get("role") == "user"
            ),
            "",
        )
        if target.folder:
            return self._memories[target.folder].answer(question)
        return {"content": f"This is a simulated answer: {target.model} has not been tuned here."}


def _split_words(text: str) -> list[str]:
    """Split a text into words that keep the space before them; joined they are the text."""
    parts = text.split(" ")
    return [part if i == 0 else f" {part}" for i, part in enumerate(parts)] if text else []


def _apply_stop(tokens: list[str], stop: Any) -> list[str]:
    stop_strings = [stop] if isinstance(stop, str) else list(stop or [])
    text = "".join(tokens)
    positions = [
        text.index(stop_string)
        for stop_string in stop_strings
        if stop_string and stop_string in text
    ]
    return _split_words(text[: min(positions)]) if positions else tokens


def _with_ids(calls: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
    return (
        [{**call, "id": call.get("id") or f"call_{new_id()[:24]}"} for call in calls]
        if calls
        else None
    )


class ProcessChatEngine:
    """Answers from the process ``python -m maas_client.local.generate``, started when first needed.

    Its protocol: ``generate/protocol.py``. A process that dies ends its chats with an error, and
    the next chat starts another.
    """

    system_fingerprint: str | None = None

    def __init__(self, compute: ProcessPool, files: FileStore) -> None:
        self._compute = compute
        self._files = files
        self._child: ChildProcess | None = None
        self._start_lock = asyncio.Lock()
        self._queues: dict[str, asyncio.Queue[dict[str, Any]]] = {}
        self._reader: asyncio.Task[None] | None = None

    async def warm_up(self) -> None:
        """Start the process; a failure is told to whoever asks first."""
        with suppress(ApiError):
            await self._ensure_started()

    async def load(self, target: ServedModel) -> None:
        """Have the process load base and adapter."""
        events = self._request("load", target)
        async for event in events:
            if event.get("loaded"):
                break
        await events.aclose()

    async def unload(self, target: ServedModel) -> None:
        """Have the process drop the adapter, if it runs."""
        if self._child is not None and self._child.is_running:
            await self._child.send({"op": "unload", **self._model_paths(target)})

    async def close(self) -> None:
        """Stop reading; the process itself belongs to ``ProcessPool``."""
        if self._reader is not None:
            self._reader.cancel()
            with suppress(asyncio.CancelledError):
                await self._reader

    async def stream(
        self, target: ServedModel, chat: ChatRequest
    ) -> AsyncGenerator[ChatChunk, None]:
        """Yield pieces as they are generated; closing the generator cancels the work."""
        params = dict(chat.params)
        params.setdefault("seed", random.getrandbits(31))
        fields = {"messages": chat.messages, "tools": chat.tools, "params": params}
        async for event in self._request("chat", target, **fields):
            if "delta" in event:
                yield ChatChunk(text=event["delta"])
            elif event.get("done"):
                yield ChatChunk(
                    tool_calls=event.get("tool_calls") or None,
                    finish_reason=event.get("finish_reason", "stop"),
                    usage=event.get("usage"),
                )
                return

    async def _request(
        self, op: str, target: ServedModel, **fields: Any
    ) -> AsyncGenerator[dict[str, Any], None]:
        if len(self._queues) >= _MAX_PENDING_CHATS:
            raise ApiError(
                429, "TooManyRequests", "Too many chats at once.", headers={"Retry-After": "1"}
            )
        request_id = new_id()
        child = await self._ensure_started()
        queue = self._queues[request_id] = asyncio.Queue()
        is_finished = False
        try:
            await child.send({"op": op, "id": request_id, **self._model_paths(target), **fields})
            while not is_finished:
                event = await queue.get()
                is_finished = bool(event.get("done") or event.get("loaded") or event.get("error"))
                if event.get("error"):
                    raise _to_api_error(event["error"])
                yield event
        finally:
            self._queues.pop(request_id, None)
            if not is_finished:
                await child.send({"op": "cancel", "id": request_id})

    def _model_paths(self, target: ServedModel) -> dict[str, Any]:
        out = self._files.run_folder(target.folder) / "out" if target.folder else None
        return {"base": target.base, "adapter": str(out / target.part) if out else None}

    async def _ensure_started(self) -> ChildProcess:
        async with self._start_lock:
            if self._child is not None and self._child.is_running:
                return self._child
            child = await self._compute.start_generator()
            ready = await child.read_event()
            if ready is None or not ready.get("ready"):
                reason = await child.wait() or "it said nothing"
                raise ApiError(500, "ServiceError", f"The answering process ended: {reason}")
            self._child = child
            self._reader = asyncio.create_task(self._dispatch_events(child))
            return child

    async def _dispatch_events(self, child: ChildProcess) -> None:
        async for event in child.events():
            queue = self._queues.get(str(event.get("id")))
            if queue is not None:
                queue.put_nowait(event)
        reason = await child.wait() or "it ended"
        _LOG.warning("the answering process ended: %s", reason)
        failure = {
            "error": {"code": "internal_error", "message": f"the answering process died: {reason}"}
        }
        for queue in self._queues.values():
            queue.put_nowait(failure)


def _to_api_error(error: dict[str, Any]) -> ApiError:
    code, message = str(error.get("code")), str(error.get("message"))
    status = {"invalid_request": 400, "context_length_exceeded": 400, "out_of_memory": 507}
    return ApiError(status.get(code, 500), code, message)
