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

from maas_client.local.resources.training_config import TrainingConfig
from maas_client.local.training.data import Example


class Pack(NamedTuple):
    """What ``ModelWithLoss`` takes: T tokens of several documents, of which N are to be learned."""

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    """Of each token in its own document."""
    cu_seqlens: torch.Tensor
    """Where documents begin, and the end; stays on the CPU."""
    loss_positions: torch.Tensor
    """Places whose next token is learned."""
    targets: torch.Tensor
    """Those tokens."""

    def to(self, device: torch.device) -> Pack:
        """Return the pack on a device."""
        move = (self.input_ids, self.position_ids, self.loss_positions, self.targets)
        ids, positions, learned, targets = (side.to(device) for side in move)
        return Pack(ids, positions, self.cu_seqlens, learned, targets)


@dataclass(frozen=True, slots=True)
class Batch:
    """One optimiser step of one process."""

    packs: list[Pack]
    tokens: int
    """Of this process."""
    learned_tokens: int
    """Of all processes: what the summed losses are divided by."""
    epoch: float
    """How many passes over the data are done after this step."""
    lines: tuple[int, ...]
    """Of the data file, for a message that must name them."""


@dataclass(frozen=True, slots=True)
class PackLimits:
    """What a pack may hold."""

    max_tokens: int = 2048
    """An example longer than this is alone in its pack."""
    longrope_threshold: int | None = None
    """Documents longer than this are never packed with shorter ones: models with two sets of
    rotary frequencies choose by the longest position of the whole sequence."""


def total_steps(count: int, config: TrainingConfig) -> int:
    """Return how many optimiser steps a run over ``count`` examples has."""
    return config.max_steps or config.epochs * steps_per_epoch(count, config)


def steps_per_epoch(count: int, config: TrainingConfig) -> int:
    """Return how many optimiser steps one pass over ``count`` examples has."""
    return max(1, math.ceil(count / (config.batch_size * config.accumulate * config.processes)))


def epoch_order(count: int, seed: int, epoch: int) -> list[int]:
    """Return the order in which an epoch visits ``count`` examples."""
    places = list(range(count))
    random.Random(f"{seed}:{epoch}").shuffle(places)  # noqa: S311 - an order, no secret
    return places


def training_batches(
    examples: Sequence[Example],
    config: TrainingConfig,
    *,
    limits: PackLimits,
    start_step: int = 0,
    rank: int = 0,
) -> Iterator[Batch]:
    """Yield the steps of a run, those after step ``after``, as process ``rank`` sees them."""
    size = config.batch_size * config.accumulate * config.processes
    per_epoch, total = steps_per_epoch(len(examples), config), total_steps(len(examples), config)
    places: list[int] = []
    for step in range(start_step, total):
        epoch, at = divmod(step, per_epoch)
        if at == 0 or not places:
            places = epoch_order(len(examples), config.seed, epoch)
        chosen = [examples[place] for place in places[at * size : (at + 1) * size]]
        yield _batch(chosen, config, limits, rank, (step + 1) / per_epoch)


def _batch(
    chosen: Sequence[Example], recipe: TrainingConfig, limits: PackLimits, rank: int, epoch: float
) -> Batch:
    own = chosen[rank :: recipe.processes]
    packs = [pack_examples(documents) for documents in _parts(own, recipe, limits)]
    least = 1
    if recipe.syncs_every_pack:
        others = (chosen[other :: recipe.processes] for other in range(recipe.processes))
        least = max(len(_parts(other, recipe, limits)) for other in others)
    packs += [pack_examples(chosen[:1], with_loss=False)] * (least - len(packs))
    return Batch(
        packs=packs,
        tokens=sum(len(example.input_ids) for example in own),
        learned_tokens=sum(example.learned_tokens for example in chosen),
        epoch=epoch,
        lines=tuple(example.line for example in chosen),
    )


def _parts(
    own: Sequence[Example], recipe: TrainingConfig, limits: PackLimits
) -> list[list[Example]]:
    return [
        documents
        for at in range(0, len(own), recipe.batch_size)
        for documents in group_examples(own[at : at + recipe.batch_size], limits)
    ]


def evaluation_batches(examples: Sequence[Example], limits: PackLimits) -> Iterator[Batch]:
    """Yield all examples once, in order, packed as full as they may be: for evaluation."""
    for documents in group_examples(examples, limits):
        yield Batch(
            packs=[pack_examples(documents)],
            tokens=sum(len(one.input_ids) for one in documents),
            learned_tokens=sum(one.learned_tokens for one in documents),
            epoch=0.0,
            lines=tuple(one.line for one in documents),
        )


def group_examples(examples: Sequence[Example], limits: PackLimits) -> Iterator[list[Example]]:
    """Yield groups of examples that may share a pack, in order."""
    group: list[Example] = []
    for example in examples:
        if group and not _fits(group, example, limits):
            yield group
            group = []
        group.append(example)
    if group:
        yield group


def _fits(group: Sequence[Example], example: Example, limits: PackLimits) -> bool:
    if sum(len(one.input_ids) for one in group) + len(example.input_ids) > limits.max_tokens:
        return False
    edge = limits.longrope_threshold
    return edge is None or (len(group[0].input_ids) > edge) == (len(example.input_ids) > edge)


def pack_examples(examples: Sequence[Example], *, with_loss: bool = True) -> Pack:
    """Put documents one after the other; ``learned=False`` marks nothing as learned."""
    ids: list[int] = []
    positions: list[int] = []
    bounds, places, targets = [0], [], []
    for example in examples:
        start = len(ids)
        marked = (
            at for at in range(1, len(example.input_ids)) if with_loss and example.loss_mask[at]
        )
        for at in marked:
            places.append(start + at - 1)
            targets.append(example.input_ids[at])
        ids += example.input_ids
        positions += range(len(example.input_ids))
        bounds.append(len(ids))
    return Pack(
        torch.tensor(ids),
        torch.tensor(positions),
        torch.tensor(bounds, dtype=torch.int32),
        torch.tensor(places, dtype=torch.long),
        torch.tensor(targets, dtype=torch.long),
    )
