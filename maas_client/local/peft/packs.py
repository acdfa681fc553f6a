"""Examples to packs: several documents in one sequence, without padding.

Which examples make which step depends on the seed and the epoch alone, so that every process of a
run, and a run that goes on after a kill, sees the same steps.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch  # noqa: TID253 - this module is imported by the training process only

from maas_client.local.peft.examples import Example
from maas_client.local.rules.recipe import Recipe


class Pack(NamedTuple):
    """What ``Learner`` takes: T tokens of several documents, of which N are to be learned."""

    ids: torch.Tensor
    positions: torch.Tensor
    """Of each token in its own document."""
    bounds: torch.Tensor
    """Where documents begin, and the end; stays on the CPU."""
    learned: torch.Tensor
    """Places whose next token is learned."""
    targets: torch.Tensor
    """Those tokens."""

    def to(self, device: torch.device) -> Pack:
        """Return the pack on a device."""
        move = (self.ids, self.positions, self.learned, self.targets)
        ids, positions, learned, targets = (side.to(device) for side in move)
        return Pack(ids, positions, self.bounds, learned, targets)


@dataclass(frozen=True, slots=True)
class Batch:
    """One optimiser step of one process."""

    packs: list[Pack]
    tokens: int
    """Of this process."""
    learned: int
    """Of all processes: what the summed losses are divided by."""
    epoch: float
    """How many passes over the data are done after this step."""
    lines: tuple[int, ...]
    """Of the data file, for a message that must name them."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a pack may hold."""

    tokens: int = 2048
    """An example longer than this is alone in its pack."""
    long_from: int | None = None
    """Documents longer than this are never packed with shorter ones: models with two sets of
    rotary frequencies choose by the longest position of the whole sequence."""


def total_steps(count: int, recipe: Recipe) -> int:
    """Return how many optimiser steps a run over ``count`` examples has."""
    return recipe.max_steps or recipe.epochs * steps_per_epoch(count, recipe)


def steps_per_epoch(count: int, recipe: Recipe) -> int:
    """Return how many optimiser steps one pass over ``count`` examples has."""
    return max(1, math.ceil(count / (recipe.batch_size * recipe.accumulate * recipe.processes)))


def order(count: int, seed: int, epoch: int) -> list[int]:
    """Return the order in which an epoch visits ``count`` examples."""
    places = list(range(count))
    random.Random(f"{seed}:{epoch}").shuffle(places)  # noqa: S311 - an order, no secret
    return places


def batches(
    examples: Sequence[Example],
    recipe: Recipe,
    *,
    limits: Limits,
    after: int = 0,
    rank: int = 0,
) -> Iterator[Batch]:
    """Yield the steps of a run, those after step ``after``, as process ``rank`` sees them."""
    size = recipe.batch_size * recipe.accumulate * recipe.processes
    per_epoch, total = steps_per_epoch(len(examples), recipe), total_steps(len(examples), recipe)
    places: list[int] = []
    for step in range(after, total):
        epoch, at = divmod(step, per_epoch)
        if at == 0 or not places:
            places = order(len(examples), recipe.seed, epoch)
        chosen = [examples[place] for place in places[at * size : (at + 1) * size]]
        yield _batch(chosen, recipe, limits, rank, (step + 1) / per_epoch)


def _batch(
    chosen: Sequence[Example], recipe: Recipe, limits: Limits, rank: int, epoch: float
) -> Batch:
    own = chosen[rank :: recipe.processes]
    packs = [pack(documents) for documents in _parts(own, recipe, limits)]
    least = 1
    if recipe.meets_in_every_pack:
        others = (chosen[other :: recipe.processes] for other in range(recipe.processes))
        least = max(len(_parts(other, recipe, limits)) for other in others)
    packs += [pack(chosen[:1], learned=False)] * (least - len(packs))
    return Batch(
        packs=packs,
        tokens=sum(len(example.ids) for example in own),
        learned=sum(example.learned_tokens for example in chosen),
        epoch=epoch,
        lines=tuple(example.line for example in chosen),
    )


def _parts(own: Sequence[Example], recipe: Recipe, limits: Limits) -> list[list[Example]]:
    return [
        documents
        for at in range(0, len(own), recipe.batch_size)
        for documents in split(own[at : at + recipe.batch_size], limits)
    ]


def batches_in_order(examples: Sequence[Example], limits: Limits) -> Iterator[Batch]:
    """Yield all examples once, in order, packed as full as they may be: for evaluation."""
    for documents in split(examples, limits):
        yield Batch(
            packs=[pack(documents)],
            tokens=sum(len(one.ids) for one in documents),
            learned=sum(one.learned_tokens for one in documents),
            epoch=0.0,
            lines=tuple(one.line for one in documents),
        )


def split(examples: Sequence[Example], limits: Limits) -> Iterator[list[Example]]:
    """Yield groups of examples that may share a pack, in order."""
    group: list[Example] = []
    for example in examples:
        if group and not _fits(group, example, limits):
            yield group
            group = []
        group.append(example)
    if group:
        yield group


def _fits(group: Sequence[Example], example: Example, limits: Limits) -> bool:
    if sum(len(one.ids) for one in group) + len(example.ids) > limits.tokens:
        return False
    edge = limits.long_from
    return edge is None or (len(group[0].ids) > edge) == (len(example.ids) > edge)


def pack(examples: Sequence[Example], *, learned: bool = True) -> Pack:
    """Put documents one after the other; ``learned=False`` marks nothing as learned."""
    ids: list[int] = []
    positions: list[int] = []
    bounds, places, targets = [0], [], []
    for example in examples:
        start = len(ids)
        marked = (at for at in range(1, len(example.ids)) if learned and example.learned[at])
        for at in marked:
            places.append(start + at - 1)
            targets.append(example.ids[at])
        ids += example.ids
        positions += range(len(example.ids))
        bounds.append(len(ids))
    return Pack(
        torch.tensor(ids),
        torch.tensor(positions),
        torch.tensor(bounds, dtype=torch.int32),
        torch.tensor(places, dtype=torch.long),
        torch.tensor(targets, dtype=torch.long),
    )
