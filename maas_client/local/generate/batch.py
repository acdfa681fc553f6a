"""Rows that are decoded together: one token each per step, joining and leaving between steps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch  # noqa: TID253 - this room lives in the answering process, where torch is loaded

from maas_client.local.generate.cache import KeyValues
from maas_client.local.generate.model import Model
from maas_client.local.generate.protocol import Chat
from maas_client.local.generate.sampling import Sampler
from maas_client.local.generate.text import TextStream

CHUNK = 512
"""Prompt tokens read in one step, so that a long prompt does not silence the others."""


@dataclass(slots=True, eq=False)
class Row:
    """One answer in the making."""

    chat: Chat
    tokens: list[int]
    """The prompt and what has been written; the last one has not been read yet."""
    asked: int
    """How many of them are the prompt."""
    limit: int
    """How many may be written."""
    sampler: Sampler
    stream: TextStream

    @property
    def written(self) -> int:
        """Return how many tokens the answer has, its end token included."""
        return len(self.tokens) - self.asked


class Reading:
    """Rows whose prompts are being read: one in chunks, or several short ones in one go."""

    def __init__(self, rows: list[Row], *, whole: bool) -> None:
        self.rows = rows
        self.cache = KeyValues()
        self._width = max(len(row.tokens) for row in rows)
        self._chunk = self._width if whole or len(rows) > 1 else CHUNK
        self.cache.pads = [self._width - len(row.tokens) for row in rows]

    def step(self, model: Model) -> torch.Tensor | None:
        """Read one chunk; return the scores (rows, vocabulary) after the last one, None before."""
        start = self.cache.length
        end = min(start + self._chunk, self._width)
        padded = [
            ([0] * pad + row.tokens, [0] * pad + list(range(len(row.tokens))))
            for row, pad in zip(self.rows, self.cache.pads, strict=True)
        ]
        scores = model.forward(
            [tokens[start:end] for tokens, _ in padded],
            [positions[start:end] for _, positions in padded],
            self.cache,
            [row.chat.adapter for row in self.rows],
        )
        return scores if end == self._width else None


class Batch:
    """The rows that write."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._cache = KeyValues()

    def join(self, rows: list[Row], cache: KeyValues) -> None:
        """Add rows whose tokens have all been read but the last one each."""
        self.rows += rows
        self._cache.join(cache)

    def leave(self, gone: Iterable[Row]) -> None:
        """Take rows out, if they are in."""
        out = set(map(id, gone))
        kept = [at for at, row in enumerate(self.rows) if id(row) not in out]
        if len(kept) < len(self.rows):
            self._cache.keep(kept)
            self.rows = [self.rows[at] for at in kept]

    def step(self, model: Model) -> list[tuple[Row, int]]:
        """Read each row's last token and return each row's next one, which is not added yet."""
        scores = model.forward(
            [row.tokens[-1:] for row in self.rows],
            [[len(row.tokens) - 1] for row in self.rows],
            self._cache,
            [row.chat.adapter for row in self.rows],
        )
        return list(zip(self.rows, pick(self.rows, scores), strict=True))


def pick(rows: list[Row], scores: torch.Tensor) -> list[int]:
    """Return each row's next token, given scores (rows, vocabulary)."""
    likeliest: list[int] = scores.argmax(-1).tolist()
    return [
        likeliest[at] if row.sampler.greedy else row.sampler.pick(scores[at])
        for at, row in enumerate(rows)
    ]
