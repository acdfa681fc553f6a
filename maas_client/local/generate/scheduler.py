"""Schedule the requests for one base: queue, prefill, decode, finish."""

from __future__ import annotations

import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from maas_client.chat import parse_completion
from maas_client.local.generate.batch import PREFILL_CHUNK, DecodeBatch, Prefill, Row, next_tokens
from maas_client.local.generate.logprobs import LogprobRecorder
from maas_client.local.generate.model import InferenceModel
from maas_client.local.generate.prefix_cache import PrefixCache, shared_length
from maas_client.local.generate.protocol import BaseSpec, GenerationError, GenerationRequest
from maas_client.local.generate.sampling import Sampler

if TYPE_CHECKING:
    import torch

Reply = dict[str, Any]
_CACHE_FRACTION = 4
"""The cache may use a quarter of the memory (1 / this)."""
_EXPECTED_TOKENS = 256
"""Completion tokens assumed per row when checking cache memory."""
_WORTH_WAITING = 16
"""Tokens that a step computes in about the time it needs to read the weights: a prompt waits one step to save
more."""


class BatchScheduler:
    """Continuous batching for one base. ``step`` does bounded work: one prefill chunk and one token per row."""

    def __init__(
        self,
        base: BaseSpec,
        max_rows: int,
        clock: Callable[[], float] = time.monotonic,
        prefixes: PrefixCache | None = None,
    ) -> None:
        self.model = InferenceModel(base)
        self._base = base
        self._prefixes = PrefixCache(0) if prefixes is None else prefixes
        self._max_rows = max_rows
        self._clock = clock
        self._waiting: deque[Row] = deque()
        self._prefill: Prefill | None = None
        self._short, self._long = DecodeBatch(), DecodeBatch()
        self._last_used: dict[str | None, float] = {}

    @property
    def busy(self) -> bool:
        """Return whether any row is waiting or active."""
        return bool(self._waiting or self._prefill or self._short.rows or self._long.rows)

    def load_adapter(self, adapter: str | None) -> None:
        """Load an adapter (None: the base itself) and mark it as used. Raises ``GenerationError``."""
        if adapter is not None:
            self.model.load_adapter(adapter)
        if adapter not in self._last_used:
            self._last_used[adapter] = self._clock()
            self._update_merge()
        self._last_used[adapter] = self._clock()

    def unload_adapter(self, adapter: str | None) -> None:
        """Unload an adapter, unless rows still use it."""
        if any(row.request.adapter == adapter for row in self._rows()):
            return
        self._last_used.pop(adapter, None)
        for is_long in (False, True):
            self._prefixes.drop((self._base, adapter, is_long))
        if adapter is not None:
            self.model.unload_adapter(adapter)
        self._update_merge()

    def unload_idle(self, seconds: float) -> bool:
        """Unload what was not used for ``seconds``; return True if nothing is left."""
        threshold = self._clock() - seconds
        for adapter in [adapter for adapter, used in self._last_used.items() if used < threshold]:
            self.unload_adapter(adapter)
        return not self._last_used and not self.busy

    def _update_merge(self) -> None:
        """Merge a single adapter into the weights; otherwise apply adapters per row. Drop unused weights."""
        names = list(self._last_used)
        if names:
            self.model.set_merged_adapter(names[0] if len(names) == 1 else None)
        else:
            self.model.drop_weights()

    def submit(self, request: GenerationRequest) -> None:
        """Queue a request. Raises ``GenerationError`` if it cannot be answered."""
        self.load_adapter(request.adapter)
        prompt = self.model.tokenizer.encode_prompt(request)
        available = self.model.architecture.context_length - len(prompt)
        max_tokens = request.params.max_tokens
        if available < (max_tokens or 1):
            raise GenerationError(
                "context_length_exceeded",
                _too_long(self.model.architecture.context_length, prompt, max_tokens),
            )
        self._check_bias(request)
        row = Row(
            request=request,
            tokens=prompt,
            prompt_length=len(prompt),
            max_new_tokens=max_tokens or available,
            sampler=Sampler(request.params),
            stream=self.model.tokenizer.new_stream(request),
        )
        if request.top_logprobs is not None:
            row.logprobs = LogprobRecorder(
                request.top_logprobs, self.model.tokenizer.describe_token
            )
        self._constrain(row)
        self._waiting.append(row)

    def _check_bias(self, request: GenerationRequest) -> None:
        """Refuse biases of tokens that the model does not have."""
        size = self.model.architecture.vocab_size
        for token in request.params.logit_bias:
            if not 0 <= token < size:
                text = (
                    f"logit_bias has the token {token}: the model has the tokens 0 to {size - 1}."
                )
                raise GenerationError("invalid_request", text)

    def _constrain(self, row: Row) -> None:
        """Compile the request's schemas. Raises ``GenerationError`` for one that cannot be enforced."""
        request = row.request
        schema = request.call_schema if request.must_call else request.answer_schema
        if schema is not None:
            row.constraint = self.model.grammars.compile(schema, row.max_new_tokens)
        elif request.call_schema is not None and find_spec("llguidance"):
            row.call_constraint = self.model.grammars.compile(
                request.call_schema, row.max_new_tokens
            )

    def cancel(self, request_id: str) -> None:
        """Cancel a request; ignore unknown ids."""
        self._remove([row for row in self._rows() if row.request.id == request_id])

    def _rows(self) -> list[Row]:
        prefill = self._prefill.rows if self._prefill else []
        return [*self._waiting, *prefill, *self._short.rows, *self._long.rows]

    def _remove(self, rows: list[Row]) -> None:
        removed_ids = set(map(id, rows))
        self._waiting = deque(row for row in self._waiting if id(row) not in removed_ids)
        # between steps, a prefill in progress has one row
        if self._prefill and id(self._prefill.rows[0]) in removed_ids:
            self._prefill = None
        self._short.remove_rows(rows)
        self._long.remove_rows(rows)

    def step(self) -> Iterator[Reply]:
        """Do one step of work and yield its replies when they are known: a prompt's first token comes before
        the next of other rows. An exception ends all active rows, each with an error; waiting rows stay
        queued."""
        try:
            yield from self._run_prefill()
            for batch in (self._short, self._long):
                if batch.rows:
                    yield from self._decode(batch)
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            if _is_out_of_memory(error):
                self._prefixes.clear()
            rows = self._rows()[len(self._waiting) :]
            self._prefill, self._short, self._long = None, DecodeBatch(), DecodeBatch()
            for row in rows:
                yield {"id": row.request.id, "error": _error_reply(error)}

    def _run_prefill(self) -> Iterator[Reply]:
        """Process a chunk of the oldest prompt, or several short prompts; start decoding when complete."""
        if self._prefill is None and self._waiting and self._has_room([self._waiting[0]]):
            rows = self._take_prefill_rows()
            self._prefill = Prefill(rows, is_long=self._is_long(rows[0]))
            self._prefill.start(
                [self._prefixes.find(self._prefix_key(row), _reusable_tokens(row)) for row in rows]
            )
        if self._prefill is None:
            return
        prefill = self._prefill
        logits = prefill.step(self.model)
        if logits is None:
            return
        active = []
        for index, token in enumerate(next_tokens(prefill.rows, logits)):
            is_finished, replies = self._append_token(prefill.rows[index], token)
            yield from replies
            if not is_finished:
                active.append(index)
        for index, row in enumerate(prefill.rows):  # the first tokens do not wait for this
            self._remember(row, row.tokens[:-1], partial(prefill.cache.copy_tokens, index))
        self._start_decoding(prefill, active)
        self._prefill = None

    def _take_prefill_rows(self) -> list[Row]:
        """Remove from the queue the oldest row, and following rows that fit into the same prefill."""
        rows = [self._waiting.popleft()]
        while self._waiting and self._fits_with(rows, self._waiting[0]):
            rows.append(self._waiting.popleft())
        return rows

    def _fits_with(self, rows: list[Row], row: Row) -> bool:
        """Return whether one more prompt fits into the prefill without much padding."""
        if any(self._is_long(row) for row in (*rows, row)) or self._would_reuse(row, rows):
            return False
        rows = [*rows, row]
        lengths = [len(row.tokens) - self._known_tokens(row) for row in rows]
        padded = max(lengths) * len(lengths)
        fits = padded <= PREFILL_CHUNK and padded * 3 // 4 <= sum(lengths)
        return fits and self._has_room(rows)

    def _would_reuse(self, row: Row, rows: list[Row]) -> bool:
        """Return whether a row that waits for these rows' prefill has much less to compute."""
        if not self._prefixes.is_enabled:
            return False
        key, tokens = self._prefix_key(row), _reusable_tokens(row)
        shared = [
            shared_length(other.tokens, tokens) for other in rows if self._prefix_key(other) == key
        ]
        return max(shared, default=0) - self._known_tokens(row) > _WORTH_WAITING

    def _known_tokens(self, row: Row) -> int:
        return self._prefixes.match(self._prefix_key(row), _reusable_tokens(row))

    def _prefix_key(self, row: Row, length: int | None = None) -> Hashable:
        """Return what keys and values of ``length`` tokens depend on beside the tokens; by default of all."""
        return self._base, row.request.adapter, self._is_long(row, length)

    def _remember(
        self, row: Row, tokens: list[int], copy: Callable[[int, int], torch.Tensor]
    ) -> None:
        """Store keys and values for later prompts, if there is memory."""
        try:
            self._prefixes.add(self._prefix_key(row, len(tokens)), tokens, copy)
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            self._prefixes.clear()

    def _has_room(self, new_rows: list[Row]) -> bool:
        """Return whether the cache has memory for these rows too. Every row takes the width of the longest; a
        single row is always admitted."""
        rows = [*self._short.rows, *self._long.rows, *new_rows]
        if len(rows) == 1 or len(rows) > self._max_rows:
            return len(rows) == 1
        longest = max(len(row.tokens) for row in rows) + _EXPECTED_TOKENS
        needed_bytes = len(rows) * longest * self.model.cache_bytes_per_token
        return needed_bytes <= self.model.memory_bytes // _CACHE_FRACTION

    def _start_decoding(self, prefill: Prefill, active: list[int]) -> None:
        """Move rows to decoding. Rows that outgrew the short position encoding are queued for a new prefill."""
        rows, cache = [prefill.rows[index] for index in active], prefill.cache
        outgrown = [row for row in rows if self._is_long(row)]
        if outgrown and cache.length > (self.model.architecture.longrope_threshold or 0):
            self._long.add_rows(rows, cache)
            return
        staying = [index for index in active if prefill.rows[index] not in outgrown]
        if staying:
            if len(staying) < len(prefill.rows):
                cache.keep_rows(staying)
            self._short.add_rows([prefill.rows[index] for index in staying], cache)
        self._waiting.extendleft(reversed(outgrown))

    def _decode(self, batch: DecodeBatch) -> Iterator[Reply]:
        finished: list[Row] = []
        outgrown: list[Row] = []
        for row, token in batch.step(self.model):
            is_finished, replies = self._append_token(row, token)
            yield from replies
            if is_finished:
                finished.append(row)
            elif batch is self._short and self._is_long(row):
                outgrown.append(row)
        if self.model.keeps_answers:
            for row in finished:
                self._remember(row, row.tokens[:-1], partial(batch.copy_tokens, row))
        self._waiting.extendleft(outgrown)
        batch.remove_rows([*finished, *outgrown])

    def _is_long(self, row: Row, length: int | None = None) -> bool:
        threshold = self.model.architecture.longrope_threshold
        length = len(row.tokens) if length is None else length
        return threshold is not None and length > threshold

    def _append_token(self, row: Row, token: int) -> tuple[bool, list[Reply]]:
        """Append a token to a row; return whether the row is finished, and its replies."""
        row.tokens.append(token)
        self._last_used[row.request.adapter] = self._clock()
        is_finished = token in self.model.tokenizer.end_token_ids
        if row.logprobs is not None and not is_finished:
            row.logprobs.keep(len(row.stream.text))
        text = "" if is_finished else row.stream.feed(token)
        replies = [self._delta(row, text)] if text else []
        if row.constraint is not None and not is_finished:
            is_finished = row.constraint.accept(token)
        elif row.call_constraint is not None:
            self._start_call(row)
        if is_finished or row.stream.stopped:
            return True, replies + self._finish(row, "stop")
        if row.completion_length >= row.max_new_tokens:
            return True, replies + self._finish(row, "length")
        return False, replies

    def _delta(self, row: Row, text: str) -> Reply:
        reply: Reply = {"id": row.request.id, "delta": text}
        if row.logprobs is not None:
            reply["logprobs"] = row.logprobs.take(row.stream.sent_text)
        return reply

    def _start_call(self, row: Row) -> None:
        """Apply the constraint of calls once the text that begins a call is complete."""
        _, marker, rest = row.stream.text.partition(self.model.tokenizer.call_marker or "\0")
        if marker:
            constraint, row.call_constraint = row.call_constraint, None
            if constraint is not None and constraint.accept_text(rest):
                row.constraint = constraint

    def _finish(self, row: Row, reason: str) -> list[Reply]:
        remaining_text = row.stream.finish()
        calls = self._parse_calls(row)
        has_text = remaining_text and not calls and not row.request.must_call
        replies = [self._delta(row, remaining_text)] if has_text else []
        final_reply: Reply = {
            "id": row.request.id,
            "done": True,
            "finish_reason": "tool_calls" if calls else reason,
            "usage": {
                "prompt_tokens": row.prompt_length,
                "completion_tokens": row.completion_length,
                "total_tokens": row.prompt_length + row.completion_length,
                "cached_tokens": row.cached_tokens or 0,
            },
        }
        return [*replies, final_reply | {"tool_calls": calls} if calls else final_reply]

    def _parse_calls(self, row: Row) -> list[Reply]:
        request, text = row.request, row.stream.text
        if not request.tools:
            return []
        is_list = request.answer_schema is not None and text.startswith("[")
        if (
            request.must_call or is_list
        ):  # the prompt or the grammar stands for the text before a call
            text = (self.model.tokenizer.call_marker or "") + text
        elif request.answer_schema is not None:
            return []
        return parse_completion(text, self.model.template)[1]


def _reusable_tokens(row: Row) -> list[int]:
    """Return the tokens of a prompt that need not be computed if they are known: all but two, as a prefill
    has at least two columns."""
    return row.tokens[:-2]


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "memory" in str(error).lower()


def _error_reply(error: Exception) -> Reply:
    if _is_out_of_memory(error):
        text = (
            "Memory ran out while answering. Request fewer tokens, or send fewer requests at once."
        )
        return {"code": "out_of_memory", "message": text}
    text = f"Answering failed ({type(error).__name__}). See the log."
    return {"code": "internal_error", "message": text}


def _too_long(context: int, prompt: list[int], max_tokens: int | None) -> str:
    details = f"{len(prompt)} in the messages"
    if max_tokens is not None:
        details += f", {max_tokens} in the completion"
    return (
        f"This model's maximum context length is {context} tokens. However, you requested "
        f"{len(prompt) + (max_tokens or 1)} tokens ({details}). Please reduce the length of the "
        "messages or completion."
    )
