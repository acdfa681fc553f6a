"""One base, and everyone who is being answered from it."""

from __future__ import annotations

import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from maas_client.chat import parse_completion
from maas_client.local.generate.batch import PREFILL_CHUNK, DecodeBatch, Prefill, Row, next_tokens
from maas_client.local.generate.model import InferenceModel
from maas_client.local.generate.protocol import BaseWeights, GenerationError, GenerationRequest
from maas_client.local.generate.sampling import Sampler

Reply = dict[str, Any]
_CACHE_PART = 4
"""The cache may take a quarter of the memory."""
_AHEAD = 256
"""Tokens a row is expected to write, when it is asked whether there is room for it."""


class BatchScheduler:
    """``step`` does a bounded piece of work: a chunk of one prompt, and one token of every row."""

    def __init__(
        self, base: BaseWeights, max_rows: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.model = InferenceModel(base)
        self._max_rows = max_rows
        self._clock = clock
        self._waiting: deque[Row] = deque()
        self._reading: Prefill | None = None
        self._short, self._long = DecodeBatch(), DecodeBatch()
        self._used: dict[str | None, float] = {}

    @property
    def busy(self) -> bool:
        """Tell whether there is a row that waits, is read or writes."""
        return bool(self._waiting or self._reading or self._short.rows or self._long.rows)

    def load_adapter(self, adapter: str | None) -> None:
        """Hold an adapter (None: the base itself) and mark it as used now. Raises ``GenerationError``."""
        if adapter is not None:
            self.model.load_adapter(adapter)
        if adapter not in self._used:
            self._used[adapter] = self._clock()
            self._settle()
        self._used[adapter] = self._clock()

    def unload_adapter(self, adapter: str | None) -> None:
        """Drop an adapter; the rows it answers go on as long as there are any."""
        if any(row.request.adapter == adapter for row in self._rows()):
            return
        self._used.pop(adapter, None)
        if adapter is not None:
            self.model.unload_adapter(adapter)
        self._settle()

    def unload_idle(self, seconds: float) -> bool:
        """Drop what was not asked for so long; return True if nothing is left."""
        latest = self._clock() - seconds
        for adapter in [name for name, used in self._used.items() if used < latest]:
            self.unload_adapter(adapter)
        return not self._used and not self.busy

    def _settle(self) -> None:
        """An adapter that is alone is merged; two, or one and the base itself, stand side by side."""
        names = list(self._used)
        self.model.set_merged_adapter(names[0] if len(names) == 1 else None)

    def submit(self, chat: GenerationRequest) -> None:
        """Take a question. Raises ``GenerationError`` if it cannot be answered."""
        self.load_adapter(chat.adapter)
        prompt = self.model.tokenizer.encode_prompt(chat)
        room = self.model.context_length - len(prompt)
        wanted = chat.params.max_tokens
        if room < (wanted or 1):
            raise GenerationError(
                "context_length_exceeded", _too_long(self.model.context_length, prompt, wanted)
            )
        self._waiting.append(
            Row(
                request=chat,
                tokens=prompt,
                prompt_length=len(prompt),
                max_new_tokens=wanted or room,
                sampler=Sampler(chat.params),
                stream=self.model.tokenizer.new_stream(chat),
            )
        )

    def cancel(self, name: str) -> None:
        """Stop answering a question; an unknown one has ended already."""
        self._remove([row for row in self._rows() if row.request.id == name])

    def _rows(self) -> list[Row]:
        reading = self._reading.rows if self._reading else []
        return [*self._waiting, *reading, *self._short.rows, *self._long.rows]

    def _remove(self, rows: list[Row]) -> None:
        gone = set(map(id, rows))
        self._waiting = deque(row for row in self._waiting if id(row) not in gone)
        if self._reading and id(self._reading.rows[0]) in gone:  # the only one, between steps
            self._reading = None
        self._short.remove_rows(rows)
        self._long.remove_rows(rows)

    def step(self) -> Iterator[Reply]:
        """Work a little and yield what there is to say. What goes wrong ends the answers that were
        being worked on, each with an error; those that wait go on."""
        try:
            yield from self._read()
            for batch in (self._short, self._long):
                if batch.rows:
                    yield from self._write(batch)
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            rows = self._rows()[len(self._waiting) :]
            self._reading, self._short, self._long = None, DecodeBatch(), DecodeBatch()
            for row in rows:
                yield {"id": row.request.id, "error": _fault(error)}

    def _read(self) -> Iterator[Reply]:
        """Read a chunk of the oldest prompt, or several short ones; after its last one a row joins
        those who write."""
        if self._reading is None and self._waiting and self._has_room([self._waiting[0]]):
            rows = self._next()
            self._reading = Prefill(rows, single_chunk=self._is_long(rows[0]))
        if self._reading is None:
            return
        reading = self._reading
        scores = reading.step(self.model)
        if scores is None:
            return
        self._reading = None
        going = []
        for at, token in enumerate(next_tokens(reading.rows, scores)):
            ended, said = self._take(reading.rows[at], token)
            yield from said
            if not ended:
                going.append(at)
        self._place(reading, going)

    def _next(self) -> list[Row]:
        """Take the oldest waiting row, and those after it that can be read along with it."""
        rows = [self._waiting.popleft()]
        while self._waiting and self._goes_along(rows, self._waiting[0]):
            rows.append(self._waiting.popleft())
        return rows

    def _goes_along(self, rows: list[Row], row: Row) -> bool:
        """Tell whether one more prompt fits into one reading without much padding."""
        rows = [*rows, row]
        lengths = [len(one.tokens) for one in rows]
        padded = max(lengths) * len(lengths)
        fits = padded <= PREFILL_CHUNK and padded * 3 // 4 <= sum(lengths)
        return fits and not any(map(self._is_long, rows)) and self._has_room(rows)

    def _has_room(self, more: list[Row]) -> bool:
        """Tell whether these rows may write too. In the cache every row is as wide as the longest; a
        row that is alone may always write."""
        rows = [*self._short.rows, *self._long.rows, *more]
        if len(rows) == 1 or len(rows) > self._max_rows:
            return len(rows) == 1
        longest = max(len(one.tokens) for one in rows) + _AHEAD
        needed = len(rows) * longest * self.model.cache_bytes_per_token
        return needed <= self.model.memory_bytes // _CACHE_PART

    def _place(self, reading: Prefill, going: list[int]) -> None:
        """Let rows write. One that has just outgrown the short position encoding is read again."""
        rows, cache = [reading.rows[at] for at in going], reading.cache
        outgrown = [row for row in rows if self._is_long(row)]
        if outgrown and cache.length > (self.model.longrope_threshold or 0):
            self._long.add_rows(rows, cache)
            return
        self._waiting.extendleft(reversed(outgrown))
        stay = [at for at in going if reading.rows[at] not in outgrown]
        if stay:
            if len(stay) < len(reading.rows):
                cache.keep_rows(stay)
            self._short.add_rows([reading.rows[at] for at in stay], cache)

    def _write(self, batch: DecodeBatch) -> Iterator[Reply]:
        gone = []
        for row, token in batch.step(self.model):
            ended, said = self._take(row, token)
            yield from said
            if ended:
                gone.append(row)
            elif batch is self._short and self._is_long(row):
                gone.append(row)
                self._waiting.appendleft(row)
        batch.remove_rows(gone)

    def _is_long(self, row: Row) -> bool:
        return (
            self.model.longrope_threshold is not None
            and len(row.tokens) > self.model.longrope_threshold
        )

    def _take(self, row: Row, token: int) -> tuple[bool, list[Reply]]:
        """Give a row its next token; return whether it has ended, and what there is to say."""
        row.tokens.append(token)
        self._used[row.request.adapter] = self._clock()
        ended = token in self.model.tokenizer.end_token_ids
        piece = "" if ended else row.stream.feed(token)
        said: list[Reply] = [{"id": row.request.id, "delta": piece}] if piece else []
        if ended or row.stream.stopped:
            return True, said + self._finish(row, "stop")
        if row.completion_length >= row.max_new_tokens:
            return True, said + self._finish(row, "length")
        return False, said

    def _finish(self, row: Row, reason: str) -> list[Reply]:
        rest = row.stream.finish()
        calls: list[Reply] = []
        if row.request.tools:
            _, calls = parse_completion(row.stream.text, self.model.template)
        said: list[Reply] = [{"id": row.request.id, "delta": rest}] if rest and not calls else []
        done: Reply = {
            "id": row.request.id,
            "done": True,
            "finish_reason": "tool_calls" if calls else reason,
            "usage": {
                "prompt_tokens": row.prompt_length,
                "completion_tokens": row.completion_length,
                "total_tokens": row.prompt_length + row.completion_length,
            },
        }
        return [*said, done | {"tool_calls": calls} if calls else done]


def _fault(error: Exception) -> Reply:
    if isinstance(error, MemoryError) or "memory" in str(error).lower():
        text = "Memory ran out while answering. Ask for fewer tokens, or fewer at once."
        return {"code": "out_of_memory", "message": text}
    text = f"Answering failed ({type(error).__name__}): see the log."
    return {"code": "internal_error", "message": text}


def _too_long(context: int, prompt: list[int], wanted: int | None) -> str:
    asked = f"{len(prompt)} in the messages"
    if wanted is not None:
        asked += f", {wanted} in the completion"
    return (
        f"This model's maximum context length is {context} tokens. However, you requested "
        f"{len(prompt) + (wanted or 1)} tokens ({asked}). Please reduce the length of the "
        "messages or completion."
    )
