"""Rows that are decoded together: one token each per step, joining and leaving between steps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch  # noqa: TID253 - this room lives in the answering process, where torch is loaded

from maas_client.local.generate.cache import KeyValueCache
from maas_client.local.generate.model import InferenceModel
from maas_client.local.generate.protocol import GenerationRequest
from maas_client.local.generate.sampling import Sampler
from maas_client.local.generate.text_stream import TextStream

PREFILL_CHUNK = 512
"""Prompt tokens read in one step, so that a long prompt does not silence the others."""


@dataclass(slots=True, eq=False)
class Row:
    """One answer in the making."""

    request: GenerationRequest
    tokens: list[int]
    """The prompt and what has been written; the last one has not been read yet."""
    prompt_length: int
    """How many of them are the prompt."""
    max_new_tokens: int
    """How many may be written."""
    sampler: Sampler
    stream: TextStream

    @property
    def completion_length(self) -> int:
        """Return how many tokens the answer has, its end token included."""
        return len(self.tokens) - self.prompt_length


class Prefill:
    """Rows whose prompts are being read: one in chunks, or several short ones in one go."""

    def __init__(self, rows: list[Row], *, single_chunk: bool) -> None:
        self.rows = rows
        self.cache = KeyValueCache()
        self._width = max(len(row.tokens) for row in rows)
        self._chunk = self._width if single_chunk or len(rows) > 1 else PREFILL_CHUNK
        self.cache.padding = [self._width - len(row.tokens) for row in rows]

    def step(self, model: InferenceModel) -> torch.Tensor | None:
        """Read one chunk; return the scores (rows, vocabulary) after the last one, None before."""
        start = self.cache.length
        end = min(start + self._chunk, self._width)
        padded = [
            ([0] * pad + row.tokens, [0] * pad + list(range(len(row.tokens))))
            for row, pad in zip(self.rows, self.cache.padding, strict=True)
        ]
        scores = model.forward(
            [tokens[start:end] for tokens, _ in padded],
            [positions[start:end] for _, positions in padded],
            self.cache,
            [row.request.adapter for row in self.rows],
        )
        return scores if end == self._width else None


class DecodeBatch:
    """The rows that write."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._cache = KeyValueCache()

    def add_rows(self, rows: list[Row], cache: KeyValueCache) -> None:
        """Add rows whose tokens have all been read but the last one each."""
        self.rows += rows
        self._cache.append_rows(cache)

    def remove_rows(self, finished: Iterable[Row]) -> None:
        """Take rows out, if they are in."""
        out = set(map(id, finished))
        kept = [at for at, row in enumerate(self.rows) if id(row) not in out]
        if len(kept) < len(self.rows):
            self._cache.keep_rows(kept)
            self.rows = [self.rows[at] for at in kept]

    def step(self, model: InferenceModel) -> list[tuple[Row, int]]:
        """Read each row's last token and return each row's next one, which is not added yet."""
        scores = model.forward(
            [row.tokens[-1:] for row in self.rows],
            [[len(row.tokens) - 1] for row in self.rows],
            self._cache,
            [row.request.adapter for row in self.rows],
        )
        return list(zip(self.rows, next_tokens(self.rows, scores), strict=True))


def next_tokens(rows: list[Row], scores: torch.Tensor) -> list[int]:
    """Return each row's next token, given scores (rows, vocabulary)."""
    likeliest: list[int] = scores.argmax(-1).tolist()
    return [
        likeliest[at] if row.sampler.is_greedy else row.sampler.sample(scores[at])
        for at, row in enumerate(rows)
    ]
