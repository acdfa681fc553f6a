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
    """A row whose prompt is being read, alone, in chunks."""

    def __init__(self, row: Row, *, whole: bool) -> None:
        self.row = row
        self.cache = KeyValues()
        self._chunk = len(row.tokens) if whole else CHUNK

    def step(self, model: Model) -> torch.Tensor | None:
        """Read one chunk; return the scores (1, vocabulary) after the last one, None before."""
        start = self.cache.length
        tokens = self.row.tokens[start : start + self._chunk]
        end = start + len(tokens)
        adapter = [self.row.chat.adapter]
        scores = model.forward([tokens], [list(range(start, end))], self.cache, adapter)
        return scores if end == len(self.row.tokens) else None


class Batch:
    """The rows that write."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._cache = KeyValues()

    def join(self, row: Row, cache: KeyValues) -> None:
        """Add a row whose tokens have all been read but the last one."""
        self.rows.append(row)
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
