"""Packing: several documents in one sequence, without padding, grouped into optimiser steps.

Which examples form which step depends on the seed and the epoch only, so every process of a run, and a
run that resumes from a checkpoint, uses the same steps.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch  # noqa: TID253 - this module is imported by the training process only

from maas_client.local.resources.training_config import TrainingConfig
from maas_client.local.training.data import Example, Item, PreferencePair


class Pack(NamedTuple):
    """Input of ``ModelWithLoss``: T tokens of several documents, N of which carry loss."""

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    """Position of each token within its document."""
    cu_seqlens: torch.Tensor
    """Start of each document, then the total length: ``[0, 12, 30]``. Stays on the CPU."""
    loss_positions: torch.Tensor
    """Positions whose next token is a target."""
    targets: torch.Tensor
    """The target tokens."""

    def to(self, device: torch.device) -> Pack:
        """Return a copy of the pack on ``device``."""
        tensors = (self.input_ids, self.position_ids, self.loss_positions, self.targets)
        input_ids, position_ids, loss_positions, targets = (tensor.to(device) for tensor in tensors)
        return Pack(input_ids, position_ids, self.cu_seqlens, loss_positions, targets)


class PreferencePack(NamedTuple):
    """Input of ``ModelWithPreferenceLoss``: P pairs of documents, each with the preferred one first."""

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    cu_seqlens: torch.Tensor
    loss_positions: torch.Tensor
    targets: torch.Tensor
    answer_lengths: torch.Tensor
    """Targets of each document. Stays on the CPU."""
    reference: torch.Tensor
    """The base model's log probability of each document's targets."""
    pair_weights: torch.Tensor
    """1 for each pair; 0 for a pair that only keeps a process in step with others."""

    def to(self, device: torch.device) -> PreferencePack:
        """Return a copy of the pack on ``device``."""
        on_cpu = {"cu_seqlens", "answer_lengths"}
        fields = self._asdict().items()
        return PreferencePack(**{n: t if n in on_cpu else t.to(device) for n, t in fields})


@dataclass(frozen=True, slots=True)
class Batch:
    """The packs of one optimiser step in one process."""

    packs: Sequence[Pack | PreferencePack]
    tokens: int
    """Tokens of this process."""
    learned_tokens: int
    """Loss-carrying tokens of all processes."""
    epoch: float
    """Passes over the data after this step."""
    lines: tuple[int, ...]
    """Lines of the training file, for messages that name them."""
    pairs: int = 0
    """Preferences of all processes."""

    @property
    def loss_terms(self) -> int:
        """Return what the summed losses are divided by: preferences, or else loss-carrying tokens."""
        return self.pairs or self.learned_tokens


@dataclass(frozen=True, slots=True)
class PackLimits:
    """Limits on what may share a pack."""

    max_tokens: int = 2048
    """Tokens of a pack; a longer example gets a pack of its own."""
    longrope_threshold: int | None = None
    """Documents longer than this are never packed with shorter ones: models with two sets of rotary
    frequencies (LongRoPE) choose the set by the longest position of the whole sequence."""


def epoch_order(count: int, seed: int, epoch: int) -> list[int]:
    """Return the order in which an epoch visits ``count`` examples."""
    order = list(range(count))
    random.Random(f"{seed}:{epoch}").shuffle(order)  # noqa: S311 - not used for security
    return order


def training_batches(
    examples: Sequence[Item],
    config: TrainingConfig,
    *,
    limits: PackLimits,
    start_step: int = 0,
    rank: int = 0,
) -> Iterator[Batch]:
    """Yield the steps of a run after the first ``start_step``, with the examples of process ``rank``."""
    size = config.examples_per_step
    per_epoch, total = config.steps_per_epoch(len(examples)), config.total_steps(len(examples))
    order: list[int] = []
    for step in range(start_step, total):
        epoch, start = divmod(step, per_epoch)
        if start == 0 or not order:
            order = epoch_order(len(examples), config.seed, epoch)
        step_examples = [examples[index] for index in order[start * size : (start + 1) * size]]
        yield _batch(step_examples, config, limits, rank, (step + 1) / per_epoch)


def _batch(
    step_examples: Sequence[Item],
    config: TrainingConfig,
    limits: PackLimits,
    rank: int,
    epoch: float,
) -> Batch:
    rank_examples = step_examples[rank :: config.processes]
    packs = [
        pack_items(documents) for documents in _group_micro_batches(rank_examples, config, limits)
    ]
    pack_count = 1
    if config.syncs_every_pack:
        per_rank = (step_examples[number :: config.processes] for number in range(config.processes))
        pack_count = max(len(_group_micro_batches(part, config, limits)) for part in per_rank)
    packs += [pack_items(step_examples[:1], with_loss=False)] * (pack_count - len(packs))
    return Batch(
        packs=packs,
        tokens=sum(example.tokens for example in rank_examples),
        learned_tokens=sum(example.learned_tokens for example in step_examples),
        epoch=epoch,
        lines=tuple(example.line for example in step_examples),
        pairs=_count_pairs(step_examples),
    )


def _group_micro_batches(
    rank_examples: Sequence[Item], config: TrainingConfig, limits: PackLimits
) -> list[list[Item]]:
    return [
        documents
        for start in range(0, len(rank_examples), config.batch_size)
        for documents in group_examples(rank_examples[start : start + config.batch_size], limits)
    ]


def evaluation_batches(examples: Sequence[Item], limits: PackLimits) -> Iterator[Batch]:
    """Yield all examples once, in order, in packs as full as the limits allow."""
    for documents in group_examples(examples, limits):
        yield Batch(
            packs=[pack_items(documents)],
            tokens=sum(example.tokens for example in documents),
            learned_tokens=sum(example.learned_tokens for example in documents),
            epoch=0.0,
            lines=tuple(example.line for example in documents),
            pairs=_count_pairs(documents),
        )


def _count_pairs(items: Sequence[Item]) -> int:
    return sum(isinstance(item, PreferencePair) for item in items)


def group_examples(examples: Sequence[Item], limits: PackLimits) -> Iterator[list[Item]]:
    """Yield groups of examples that may share a pack, in order."""
    group: list[Item] = []
    for example in examples:
        if group and not _fits(group, example, limits):
            yield group
            group = []
        group.append(example)
    if group:
        yield group


def _fits(group: Sequence[Item], example: Item, limits: PackLimits) -> bool:
    if sum(member.tokens for member in group) + example.tokens > limits.max_tokens:
        return False
    threshold = limits.longrope_threshold
    return threshold is None or (group[0].longest > threshold) == (example.longest > threshold)


def pack_items(items: Sequence[Item], *, with_loss: bool = True) -> Pack | PreferencePack:
    """Concatenate the documents of examples or pairs into one pack."""
    pairs = [item for item in items if isinstance(item, PreferencePair)]
    documents = [item for item in items if isinstance(item, Example)]
    if not pairs:
        return pack_examples(documents, with_loss=with_loss)
    documents = [document for pair in pairs for document in (pair.preferred, pair.other)]
    return PreferencePack(
        *pack_examples(documents, with_loss=with_loss),
        torch.tensor([document.learned_tokens if with_loss else 0 for document in documents]),
        torch.tensor([value if with_loss else 0.0 for pair in pairs for value in pair.reference]),
        torch.tensor([1.0 if with_loss else 0.0] * len(pairs)),
    )


def pack_examples(examples: Sequence[Example], *, with_loss: bool = True) -> Pack:
    """Concatenate documents into one pack; with ``with_loss=False`` no token carries loss."""
    input_ids: list[int] = []
    position_ids: list[int] = []
    cu_seqlens, loss_positions, targets = [0], [], []
    for example in examples:
        start = len(input_ids)
        for index in range(1, len(example.input_ids)):
            if with_loss and example.loss_mask[index]:
                loss_positions.append(start + index - 1)
                targets.append(example.input_ids[index])
        input_ids += example.input_ids
        position_ids += range(len(example.input_ids))
        cu_seqlens.append(len(input_ids))
    return Pack(
        torch.tensor(input_ids),
        torch.tensor(position_ids),
        torch.tensor(cu_seqlens, dtype=torch.int32),
        torch.tensor(loss_positions, dtype=torch.long),
        torch.tensor(targets, dtype=torch.long),
    )
