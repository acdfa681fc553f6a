"""Packing: several documents in one sequence, without padding, grouped into optimiser steps.

Documents that begin alike (a system message, the prompt of a preference, samples of one prompt) share the
tokens of that prefix: its activations and their gradients are computed once. So a pack is a list of segments,
each after a parent segment or at the beginning, and a document is a segment with the chain of its parents.

Which examples form which step depends on the seed and the epoch only, so every process of a run, and a
run that resumes from a checkpoint, uses the same steps.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import NamedTuple, TypeVar

import torch  # noqa: TID253 - this module is imported by the training process only

from maas_client.local.machine.matmul_choice import MOST_PACKS_AT_ONCE
from maas_client.local.resources.training_config import TrainingConfig
from maas_client.local.training.data import Example, Item, PreferencePair

_MIN_SHARED_TOKENS = 16
"""Shorter prefixes are not shared: another segment takes as long in attention as some tokens elsewhere."""
_SHARED_TOKEN_SIZE = 0.25
"""What a shared token counts against the limit of a pack: keys and values are copied for each document."""
_SPEED_EXPONENT = 0.7
"""n threads on one pack are as fast as n^0.7 threads with a pack each: two as 1.6, measured."""


AnyItem = TypeVar("AnyItem", bound=Item)


class Pack(NamedTuple):
    """Input of ``ModelWithLoss``: T tokens of several documents, with N targets."""

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    """Position of each token within its document."""
    segments: torch.Tensor
    """The length of each segment and the number of its parent, -1 for none: ``[[12, -1], [30, 0], [9, 0]]``.
    Stays on the CPU."""
    loss_positions: torch.Tensor
    """Position of the token before each target; documents with a shared prefix may have the same."""
    targets: torch.Tensor
    """The target tokens."""

    def to(self, device: torch.device) -> Pack:
        """Return a copy of the pack on ``device``."""
        tensors = (self.input_ids, self.position_ids, self.loss_positions, self.targets)
        input_ids, position_ids, loss_positions, targets = (tensor.to(device) for tensor in tensors)
        return Pack(input_ids, position_ids, self.segments, loss_positions, targets)


class PreferencePack(NamedTuple):
    """Input of ``ModelWithPreferenceLoss``: P pairs of documents, each with the preferred one first."""

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    segments: torch.Tensor
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
        on_cpu = {"segments", "answer_lengths"}
        fields = self._asdict().items()
        return PreferencePack(**{n: t if n in on_cpu else t.to(device) for n, t in fields})


@dataclass(frozen=True, slots=True)
class Batch:
    """The packs of one optimiser step in one process."""

    packs: Sequence[Sequence[Pack | PreferencePack]]
    """The packs of each micro-batch. They are computed at the same time, each with its part of the threads."""
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
    shares_prefixes: bool = True
    """Whether documents that begin alike share those tokens."""
    threads: int = 1
    """Threads that may compute packs of their own at the same time."""
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
    limits = effective_limits(limits, config)
    size = config.examples_per_step
    per_epoch, total = config.steps_per_epoch(len(examples)), config.total_steps(len(examples))
    order: list[int] = []
    for step in range(start_step, total):
        epoch, start = divmod(step, per_epoch)
        if start == 0 or not order:
            order = epoch_order(len(examples), config.seed, epoch)
        step_examples = [examples[index] for index in order[start * size : (start + 1) * size]]
        yield _batch(step_examples, config, limits, rank, (step + 1) / per_epoch)


def effective_limits(limits: PackLimits, config: TrainingConfig) -> PackLimits:
    """Return the limits of a run: what this configuration does not allow is left out.

    With dropout each document has its own, drawn in one order. Each thread's gradients need memory, so a whole
    model and one whose activations do not fit into memory are trained on one pack at a time.
    """
    is_tight = config.method == "Full" or bool(config.gradient_checkpointing)
    if config.lora_dropout or is_tight or config.processes > 1:
        limits = replace(limits, threads=1)
    return replace(limits, shares_prefixes=False) if config.lora_dropout else limits


def _batch(
    step_examples: Sequence[Item],
    config: TrainingConfig,
    limits: PackLimits,
    rank: int,
    epoch: float,
) -> Batch:
    rank_examples = step_examples[rank :: config.processes]
    packs = [
        divide_into_packs(documents, limits)
        for documents in _group_micro_batches(rank_examples, config, limits)
    ]
    pack_count = 1
    if config.syncs_every_pack:
        per_rank = (step_examples[number :: config.processes] for number in range(config.processes))
        pack_count = max(len(_group_micro_batches(part, config, limits)) for part in per_rank)
    packs += [[pack_items(step_examples[:1], with_loss=False)]] * (pack_count - len(packs))
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
            packs=[[pack_items(documents)]],
            tokens=sum(example.tokens for example in documents),
            learned_tokens=sum(example.learned_tokens for example in documents),
            epoch=0.0,
            lines=tuple(example.line for example in documents),
            pairs=_count_pairs(documents),
        )


def _count_pairs(items: Sequence[Item]) -> int:
    return sum(isinstance(item, PreferencePair) for item in items)


def group_examples(examples: Sequence[AnyItem], limits: PackLimits) -> Iterator[list[AnyItem]]:
    """Yield groups of examples that may share a pack, in order."""
    group: list[AnyItem] = []
    size = 0.0
    for example in examples:
        added = _added_size(group, example, limits)
        if group and not (
            size + added <= limits.max_tokens and _has_same_frequencies(group[0], example, limits)
        ):
            yield group
            group, size = [], 0.0
            added = _added_size(group, example, limits)
        group.append(example)
        size += added
    if group:
        yield group


def _added_size(group: Sequence[Item], example: Item, limits: PackLimits) -> float:
    """Return what an example adds to the size of a pack: its tokens, less for those that it shares."""
    if not limits.shares_prefixes:
        return example.tokens
    ids = [document.input_ids for item in group for document in _documents(item)]
    size = 0.0
    for document in _documents(example):
        shared = max((_shared_tokens(document.input_ids, other) for other in ids), default=0)
        saved = shared if shared >= _MIN_SHARED_TOKENS else 0
        size += document.tokens - (1 - _SHARED_TOKEN_SIZE) * saved
        ids.append(document.input_ids)
    return size


def _has_same_frequencies(first: Item, example: Item, limits: PackLimits) -> bool:
    threshold = limits.longrope_threshold
    return threshold is None or (first.longest > threshold) == (example.longest > threshold)


def _documents(item: Item) -> tuple[Example, ...]:
    return (item.preferred, item.other) if isinstance(item, PreferencePair) else (item,)


def divide_into_packs(items: Sequence[Item], limits: PackLimits) -> list[Pack | PreferencePack]:
    """Return examples or pairs in packs that are computed at the same time."""
    return [
        pack_items(part, shares_prefixes=limits.shares_prefixes)
        for part in divide_items(items, limits)
    ]


def divide_items(items: Sequence[AnyItem], limits: PackLimits) -> list[list[AnyItem]]:
    """Return examples or pairs in the parts whose packs take the shortest time when computed at once."""
    fastest, shortest = [list(items)], math.inf
    most = min(limits.threads, len(items), MOST_PACKS_AT_ONCE)
    for count in range(1, most + 1) if most > 1 else ():
        parts = _balanced_parts(items, count)
        longest = max(_pack_size(part, limits) for part in parts)
        estimate = longest / (limits.threads // count) ** _SPEED_EXPONENT
        if estimate < shortest:
            fastest, shortest = parts, estimate
    return fastest


def _pack_size(items: Sequence[Item], limits: PackLimits) -> int:
    """Return the tokens of a pack of these documents."""
    documents = [document.input_ids for item in items for document in _documents(item)]
    return len(lay_out(documents, shares_prefixes=limits.shares_prefixes).input_ids)


def _balanced_parts(items: Sequence[AnyItem], count: int) -> list[list[AnyItem]]:
    """Divide items into parts of about as many tokens: the longest first, each to the smallest part."""
    parts: list[list[int]] = [[] for _ in range(count)]
    sizes = [0] * count
    for index in sorted(range(len(items)), key=lambda index: -items[index].tokens):
        smallest = sizes.index(min(sizes))
        parts[smallest].append(index)
        sizes[smallest] += items[index].tokens
    return [[items[index] for index in sorted(part)] for part in parts]


def pack_items(
    items: Sequence[Item], *, with_loss: bool = True, shares_prefixes: bool = True
) -> Pack | PreferencePack:
    """Put the documents of examples or pairs into one pack."""
    pairs = [item for item in items if isinstance(item, PreferencePair)]
    documents = [document for item in items for document in _documents(item)]
    pack = pack_examples(documents, with_loss=with_loss, shares_prefixes=shares_prefixes)
    if not pairs:
        return pack
    return PreferencePack(
        *pack,
        torch.tensor([document.learned_tokens if with_loss else 0 for document in documents]),
        torch.tensor([value if with_loss else 0.0 for pair in pairs for value in pair.reference]),
        torch.tensor([1.0 if with_loss else 0.0] * len(pairs)),
    )


def pack_examples(
    examples: Sequence[Example], *, with_loss: bool = True, shares_prefixes: bool = True
) -> Pack:
    """Put documents into one pack; with ``with_loss=False`` no token carries loss."""
    layout = lay_out([example.input_ids for example in examples], shares_prefixes=shares_prefixes)
    loss_positions, targets = [], []
    for example, positions in zip(examples, layout.positions, strict=True):
        for index in range(1, len(example.input_ids)):
            if with_loss and example.loss_mask[index]:
                loss_positions.append(positions[index - 1])
                targets.append(example.input_ids[index])
    return Pack(
        torch.tensor(layout.input_ids),
        torch.tensor(layout.position_ids),
        torch.tensor(layout.segments, dtype=torch.int32),
        torch.tensor(loss_positions, dtype=torch.long),
        torch.tensor(targets, dtype=torch.long),
    )


@dataclass(slots=True)
class Layout:
    """Where the tokens of documents stand in a pack."""

    positions: list[list[int]]
    """For each document, the position of each of its tokens in the pack."""
    input_ids: list[int] = field(default_factory=list)
    position_ids: list[int] = field(default_factory=list)
    segments: list[tuple[int, int]] = field(default_factory=list)
    """``Pack.segments``."""


def lay_out(documents: Sequence[Sequence[int]], *, shares_prefixes: bool = True) -> Layout:
    """Return the layout of documents, given as token ids, in a pack."""
    layout = Layout([[] for _ in documents])
    min_shared = _MIN_SHARED_TOKENS if shares_prefixes else None
    _add_segments(layout, documents, range(len(documents)), 0, -1, min_shared)
    return layout


def _add_segments(
    layout: Layout,
    documents: Sequence[Sequence[int]],
    members: Sequence[int],
    start: int,
    parent: int,
    min_shared: int | None,
) -> None:
    """Add the tokens from ``start`` on of documents whose earlier tokens are the segment ``parent``."""
    while members:
        first, *others = members
        group, members, end = [first], others, len(documents[first])
        if min_shared is not None:
            shared = {
                other: _shared_tokens(documents[first], documents[other], start) for other in others
            }
            sharing = [other for other in others if shared[other] >= min_shared]
            if sharing:
                end = start + min(shared[other] for other in sharing)
                group += sharing
                members = [other for other in others if shared[other] < min_shared]
        offset = len(layout.input_ids)
        for member in group:
            layout.positions[member] += range(offset, offset + end - start)
        layout.input_ids += documents[first][start:end]
        layout.position_ids += range(start, end)
        layout.segments.append((end - start, parent))
        if len(group) > 1:
            number = len(layout.segments) - 1
            _add_segments(layout, documents, group, end, number, min_shared)


def _shared_tokens(first: Sequence[int], second: Sequence[int], start: int = 0) -> int:
    """Return how many tokens from ``start`` on are equal, without the last one of either document."""
    longest = min(len(first), len(second)) - 1
    equal = takewhile(lambda index: first[index] == second[index], range(start, longest))
    return sum(1 for _ in equal)
