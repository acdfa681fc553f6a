"""Chat engines: the instant engine in this process, or an answering process with torch.

Both yield the same stream of chunks; the routes turn it into complete responses or server-sent events.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from maas_client.chat.json_example import build_example, is_valid
from maas_client.chat.output_schema import (
    JSON_OBJECT,
    OutputSchemaError,
    Schema,
    answer_or_calls_schema,
    arguments_schema,
    calls_schema,
    check_schema,
)
from maas_client.local.config import Precision
from maas_client.local.instant import AnswerIndex, content_text, split_words
from maas_client.local.machine.child_processes import ChildProcess, ProcessPool
from maas_client.local.resources.deployments import ServedModel
from maas_client.local.resources.errors import ApiError
from maas_client.local.state.files import FileStore, new_id
from maas_client.wire.statuses import SIMULATED_FINGERPRINT

_LOG = logging.getLogger(__name__)
_DECODER = json.JSONDecoder()
_MAX_PENDING_CHATS = 64
"""Chats in progress; further requests are refused with 429."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat request after the checks of the routes. ``params`` contains only what the caller set."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None
    params: dict[str, Any] = field(default_factory=dict)
    answer_schema: Schema | None = None
    """The JSON schema of the answer; None: text."""
    functions: list[dict[str, Any]] = field(default_factory=list)
    """The functions of ``tools`` that may be called: ``name`` and ``parameters``."""
    must_call: bool = False
    """True: the answer is a call of one of the functions."""
    max_calls: int | None = None
    """The maximum number of calls; None: no maximum."""
    choices: int = 1
    """The number of answers."""
    top_logprobs: int | None = None
    """How many of the likeliest tokens are returned at each place; None: no log probabilities."""


@dataclass(frozen=True, slots=True)
class ChatChunk:
    """A part of an answer; the last one has a ``finish_reason``."""

    text: str = ""
    tool_calls: list[dict[str, Any]] | None = None
    finish_reason: str | None = None
    usage: dict[str, int] | None = None
    """``prompt_tokens`` (``cached_tokens`` of them not computed), ``completion_tokens``, ``total_tokens``."""
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    """The tokens of this part, if the request wants log probabilities."""
    index: int = 0
    """The number of the answer."""


class ChatEngine(Protocol):
    """What the server needs from an engine to answer chats."""

    system_fingerprint: str | None
    """Value of ``system_fingerprint``; says when answers are simulated, or weights are quantised."""

    async def warm_up(self) -> None:
        """Start what takes long to start, before the first request."""
        ...

    def stream(self, target: ServedModel, chat: ChatRequest) -> AsyncGenerator[ChatChunk, None]:
        """Yield the chunks of the answer; closing the generator stops the work."""
        ...

    async def load(self, target: ServedModel) -> None:
        """Load the model. Raises ``ApiError`` when that is not possible."""
        ...

    async def unload(self, target: ServedModel) -> None:
        """Free what only this model uses."""
        ...

    async def close(self) -> None:
        """Free everything."""
        ...


async def stream_choices(
    engine: ChatEngine, target: ServedModel, chat: ChatRequest
) -> AsyncGenerator[ChatChunk, None]:
    """Yield the chunks of all answers as they come. The usage of a last chunk counts the answers so far.

    Answer N is sampled with the request's seed plus N.
    """
    queue: asyncio.Queue[ChatChunk | BaseException] = asyncio.Queue()

    async def enqueue(index: int) -> None:
        params = dict(chat.params)
        if "seed" in params:
            params["seed"] += index
        try:
            async with aclosing(engine.stream(target, replace(chat, params=params))) as chunks:
                async for chunk in chunks:
                    queue.put_nowait(replace(chunk, index=index))
        except Exception as error:
            queue.put_nowait(error)

    tasks = [asyncio.create_task(enqueue(index)) for index in range(chat.choices)]
    usage: dict[str, int] = {}
    remaining = chat.choices
    try:
        while remaining:
            chunk = await queue.get()
            if isinstance(chunk, BaseException):
                raise chunk
            if chunk.finish_reason:
                remaining -= 1
                usage = _add_usage(usage, chunk.usage or {})
                chunk = replace(chunk, usage=usage)
            yield chunk
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _add_usage(usage: dict[str, int], answer: dict[str, int]) -> dict[str, int]:
    """Return the tokens of the prompt, which is processed once, and of all answers."""
    prompt, cached = answer.get("prompt_tokens", 0), answer.get("cached_tokens", 0)
    completion = usage.get("completion_tokens", 0) + answer.get("completion_tokens", 0)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "cached_tokens": min(usage.get("cached_tokens", cached), cached),
    }


class InstantChatEngine:
    """Answers from what the instant engine memorized. Every answer is marked as ``simulated``."""

    system_fingerprint: str | None = SIMULATED_FINGERPRINT

    def __init__(self, files: FileStore) -> None:
        self._files = files
        self._memories: dict[str, AnswerIndex] = {}

    async def warm_up(self) -> None:
        """Do nothing: nothing takes long to start."""

    async def load(self, target: ServedModel) -> None:
        """Read what the training run memorized."""
        if target.folder and target.folder not in self._memories:
            out = self._files.run_folder(target.folder) / "out"
            try:
                memory = await asyncio.to_thread(AnswerIndex.load, out)
            except (OSError, ValueError, TypeError) as error:
                raise ApiError(
                    500, "ServiceError",
                    f"The model {target.model} was not trained by the instant engine. Start the server"
                    " with the engine that trained it.",
                ) from error  # fmt: skip
            self._memories[target.folder] = memory

    async def unload(self, target: ServedModel) -> None:
        """Drop the memorized answers of this model."""
        self._memories.pop(target.folder or "", None)

    async def close(self) -> None:
        """Do nothing: there is no process to stop."""

    async def stream(
        self, target: ServedModel, chat: ChatRequest
    ) -> AsyncGenerator[ChatChunk, None]:
        """Yield the memorized answer word by word."""
        await self.load(target)
        message = self._answer(target, chat)
        limit = chat.params.get("max_tokens")
        try:
            content, calls = structured_answer(message, chat)
        except OutputSchemaError as error:
            raise ApiError(
                501, "NotImplemented", f"The instant engine cannot answer: the schema {error}."
            ) from None
        tokens = _split_words(content)
        words_until_stop = _apply_stop(tokens, chat.params.get("stop"))
        emitted = words_until_stop if limit is None else words_until_stop[:limit]
        for token in emitted:
            yield ChatChunk(text=token)
            await asyncio.sleep(0)  # others are answered, and a client that has left is noticed
        is_cut = len(emitted) < len(words_until_stop)
        if calls and limit is not None:
            calls, is_cut = _cut_calls(calls, limit - len(emitted))
        reason = "length" if is_cut else "tool_calls" if calls else "stop"
        prompt_tokens = sum(len(split_words(content_text(m.get("content")))) for m in chat.messages)
        completion_tokens = len(emitted) + (len(split_words(json.dumps(calls))) if calls else 0)
        usage = {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "cached_tokens": 0,
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
        return {
            "content": f"This is a simulated answer: {target.model} was not fine-tuned on this server."
        }


def structured_answer(
    message: dict[str, Any], chat: ChatRequest
) -> tuple[str, list[dict[str, Any]] | None]:
    """Return the content and the calls of a memorized answer in the form that the request asks for.

    What the memorized answer does not contain is built from the schema.
    """
    text = content_text(message.get("content"))
    if chat.tools:
        schemas = {f["name"]: arguments_schema(f) for f in chat.functions}
        calls = [c for c in message.get("tool_calls") or () if _fits(c, schemas)]
        if chat.must_call and not calls:
            name, schema = next(iter(schemas.items()))
            arguments = json.dumps(build_example(schema, text), ensure_ascii=False)
            calls = [{"type": "function", "function": {"name": name, "arguments": arguments}}]
        if calls:
            return ("" if chat.must_call else text), calls[: chat.max_calls]
    if chat.answer_schema is None:
        return text, None
    schema = chat.answer_schema
    if schema == JSON_OBJECT:  # clients without json_schema write the schema into the prompt
        schema = _find_schema(chat.messages) or schema
    value = _parse_json(text)
    if value is None or not is_valid(schema, value):
        value = {"answer": text} if schema == JSON_OBJECT else build_example(schema, text)
        text = json.dumps(value, ensure_ascii=False)
    return text, None


def _find_schema(messages: list[dict[str, Any]]) -> Schema | None:
    """Return the first JSON schema of an object that the messages contain."""
    for message in messages:
        text = content_text(message.get("content"))
        start = text.find("{")
        while start >= 0:
            with suppress(ValueError, RecursionError):
                value, _ = _DECODER.raw_decode(text, start)
                if value.get("properties"):
                    check_schema(value, strict=False)
                    return {"type": "object", **value}
            start = text.find("{", start + 1)
    return None


def _fits(call: dict[str, Any], schemas: dict[str, Schema]) -> bool:
    """Return whether a call names one of the functions, with arguments that its schema accepts."""
    function = call.get("function") or {}
    schema = schemas.get(function.get("name", ""))
    return schema is not None and is_valid(schema, _parse_json(function.get("arguments") or "{}"))


def _parse_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _split_words(text: str) -> list[str]:
    """Split a text into words with their leading space; joined they are the text."""
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


def _cut_calls(calls: list[dict[str, Any]], limit: int) -> tuple[list[dict[str, Any]], bool]:
    """Return the calls whose arguments have at most ``limit`` words, and whether any was cut."""
    complete_calls: list[dict[str, Any]] = []
    for call in calls:
        words = _split_words(call["function"].get("arguments") or "{}")
        if len(words) > limit:
            cut = {**call, "function": {**call["function"], "arguments": "".join(words[:limit])}}
            return ([*complete_calls, cut] if limit > 0 else complete_calls), True
        complete_calls.append(call)
        limit -= len(words)
    return complete_calls, False


def _with_ids(calls: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
    return (
        [{**call, "id": call.get("id") or f"call_{new_id()[:24]}"} for call in calls]
        if calls
        else None
    )


class ProcessChatEngine:
    """Answers from the process ``python -m maas_client.local.generate``, which is started on first use.

    ``generate/protocol.py`` describes its protocol. When the process dies, its chats end with an error and
    the next chat starts a new process.
    """

    def __init__(self, compute: ProcessPool, files: FileStore, precision: Precision) -> None:
        self.system_fingerprint: str | None = None if precision == "auto" else precision
        self._precision = precision
        self._compute = compute
        self._files = files
        self._child: ChildProcess | None = None
        self._start_lock = asyncio.Lock()
        self._queues: dict[str, asyncio.Queue[dict[str, Any]]] = {}
        self._reader: asyncio.Task[None] | None = None

    async def warm_up(self) -> None:
        """Start the process; a failure is reported by the next request."""
        with suppress(ApiError):
            await self._ensure_started()

    async def load(self, target: ServedModel) -> None:
        """Make the process load base and adapter."""
        events = self._request("load", target)
        async for event in events:
            if event.get("loaded"):
                break
        await events.aclose()

    async def unload(self, target: ServedModel) -> None:
        """Make the process unload the adapter, if the process is running."""
        if self._child is not None and self._child.is_running:
            await self._child.send({"op": "unload", **self._model_paths(target)})

    async def close(self) -> None:
        """Stop reading; ``ProcessPool`` ends the process itself."""
        if self._reader is not None:
            self._reader.cancel()
            with suppress(asyncio.CancelledError):
                await self._reader

    async def stream(
        self, target: ServedModel, chat: ChatRequest
    ) -> AsyncGenerator[ChatChunk, None]:
        """Yield chunks as they are generated; closing the generator cancels the work."""
        params = dict(chat.params)
        params.setdefault("seed", random.getrandbits(31))
        answer_schema, call_schema = chat.answer_schema, None
        if chat.tools:
            call_schema = calls_schema(chat.functions, max_calls=chat.max_calls)
            if answer_schema is not None:
                answer_schema = answer_or_calls_schema(answer_schema, call_schema)
        fields = {
            "messages": chat.messages,
            "tools": chat.tools,
            "params": params,
            "answer_schema": answer_schema,
            "call_schema": call_schema,
            "must_call": chat.must_call,
            "top_logprobs": chat.top_logprobs,
        }
        async for event in self._request("chat", target, **fields):
            if "delta" in event:
                yield ChatChunk(text=event["delta"], logprobs=event.get("logprobs") or [])
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
                429,
                "TooManyRequests",
                "Too many chats at once. Try again in 1 s.",
                headers={"Retry-After": "1"},
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
        base = {**target.base, "precision": self._precision}
        return {"base": base, "adapter": str(out / target.part) if out else None}

    async def _ensure_started(self) -> ChildProcess:
        async with self._start_lock:
            if self._child is not None and self._child.is_running:
                return self._child
            child = await self._compute.start_generator()
            ready = await child.read_event()
            if ready is None or not ready.get("ready"):
                reason = await child.wait() or "no error message"
                raise ApiError(500, "ServiceError", f"The answering process ended: {reason}")
            self._child = child
            self._reader = asyncio.create_task(self._dispatch_events(child))
            return child

    async def _dispatch_events(self, child: ChildProcess) -> None:
        async for event in child.events():
            if "notice" in event:
                _LOG.warning("%s", event["notice"], extra={"is_notice": True})
            queue = self._queues.get(str(event.get("id")))
            if queue is not None:
                queue.put_nowait(event)
        reason = await child.wait() or "no error message"
        _LOG.warning("the answering process ended: %s", reason)
        failure = {
            "error": {"code": "internal_error", "message": f"the answering process died: {reason}"}
        }
        for queue in self._queues.values():
            queue.put_nowait(failure)


def _to_api_error(error: dict[str, Any]) -> ApiError:
    code, message = str(error.get("code")), str(error.get("message"))
    if code == "not_implemented":
        return ApiError(501, "NotImplemented", message)
    status = {"invalid_request": 400, "context_length_exceeded": 400, "out_of_memory": 507}
    return ApiError(status.get(code, 500), code, message)
