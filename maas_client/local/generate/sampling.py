"""The next token of one row.

Drawn by inverting the distribution at a number from ``random.Random(seed)``, so that the same seed
gives the same answer on every version of torch, alone and in a batch.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import torch  # noqa: TID253 - this room lives in the answering process, where torch is loaded

from maas_client.local.generate.protocol import SamplingParams

_TOP = 256
"""Candidates looked at first; almost every nucleus lies within them."""


class Sampler:
    """Draws one answer's tokens, and remembers which it has drawn."""

    def __init__(self, params: SamplingParams) -> None:
        self._params = params
        self._uniform: Callable[[], float] = random.Random(params.seed).random  # noqa: S311 - no secret
        self._counts: Counter[int] = Counter()

    @property
    def is_greedy(self) -> bool:
        """True when the likeliest token is taken, and nothing changes the scores before."""
        p = self._params
        return p.temperature == 0 and not (p.frequency_penalty or p.presence_penalty)

    def sample(self, scores: torch.Tensor) -> int:
        """Return the next token for ``scores`` (vocabulary,), before softmax."""
        if self.is_greedy:
            return int(scores.argmax())
        scores = self._penalised(scores.float())
        token = self._draw(scores) if self._params.temperature > 0 else int(scores.argmax())
        self._counts[token] += 1
        return token

    def _penalised(self, scores: torch.Tensor) -> torch.Tensor:
        p = self._params
        if not self._counts or not (p.frequency_penalty or p.presence_penalty):
            return scores
        scores = scores.clone()
        for token, count in self._counts.items():
            scores[token] -= p.frequency_penalty * count + p.presence_penalty
        return scores

    def _draw(self, scores: torch.Tensor) -> int:
        mass = torch.softmax(scores / self._params.temperature, dim=-1).double()
        if self._params.top_p >= 1:
            return self._invert(mass.cumsum(0))
        likeliest, tokens = _nucleus(mass, self._params.top_p)
        return int(tokens[self._invert(likeliest.cumsum(0))])

    def _invert(self, cumulated: torch.Tensor) -> int:
        wanted = self._uniform() * float(cumulated[-1])
        at = int(torch.searchsorted(cumulated, wanted, right=True))
        return min(at, len(cumulated) - 1)


def _nucleus(mass: torch.Tensor, top_p: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the smallest set of likeliest tokens that holds ``top_p``: their mass, their ids."""
    likeliest, tokens = mass.topk(min(_TOP, len(mass)))
    if float(likeliest.sum()) < top_p:
        likeliest, tokens = mass.sort(descending=True, stable=True)
    kept = int(torch.searchsorted(likeliest.cumsum(0), top_p)) + 1
    return likeliest[:kept], tokens[:kept]
