"""Packing and the order of training steps."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from maas_client.local.resources.training_config import TrainingConfig  # noqa: E402
from maas_client.local.training.data import Example  # noqa: E402 - after the skip
from maas_client.local.training.packing import (  # noqa: E402
    PackLimits,
    divide_into_packs,
    evaluation_batches,
    group_examples,
    pack_examples,
    training_batches,
)


def example(line: int, length: int, learned: int = 2) -> Example:
    marks = [False] * (length - learned) + [True] * learned
    return Example(list(range(100 * line, 100 * line + length)), marks, line)


def test_pack_has_no_padding_and_restarts_positions() -> None:
    pack = pack_examples([example(1, 4), example(2, 3)])
    assert pack.input_ids.tolist() == [100, 101, 102, 103, 200, 201, 202]
    assert pack.position_ids.tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert pack.segments.tolist() == [[4, -1], [3, -1]]
    assert pack.loss_positions.tolist() == [1, 2, 4, 5]
    assert pack.targets.tolist() == [102, 103, 201, 202]


def test_first_token_of_a_document_has_no_loss() -> None:
    pack = pack_examples([example(1, 3), example(2, 2, learned=2)])
    assert pack.loss_positions.tolist() == [0, 1, 3]


def documents(*parts: tuple[range, ...]) -> list[Example]:
    return [
        Example(ids := [token for part in document for token in part], [True] * len(ids), line)
        for line, document in enumerate(parts)
    ]


SYSTEM, PROMPT = range(20), range(100, 130)


def test_documents_share_the_tokens_that_they_begin_with() -> None:
    examples = documents(
        (SYSTEM, PROMPT, range(200, 205)),
        (range(300, 307),),
        (SYSTEM, range(400, 403)),
        (SYSTEM, PROMPT, range(500, 502)),
    )
    pack = pack_examples(examples)
    assert pack.segments.tolist() == [[20, -1], [30, 0], [5, 1], [2, 1], [3, 0], [7, -1]]
    assert pack.input_ids.tolist() == [
        *SYSTEM, *PROMPT, *range(200, 205), 500, 501, 400, 401, 402, *range(300, 307),
    ]  # fmt: skip
    assert pack.position_ids.tolist() == [
        *range(55), 50, 51, 20, 21, 22, *range(7),
    ]  # fmt: skip
    assert pack.targets.tolist() == [t for e in examples for t in e.input_ids[1:]]
    before_targets = pack.position_ids[pack.loss_positions] + 1
    assert before_targets.tolist() == [i for e in examples for i in range(1, len(e.input_ids))]
    assert pack.loss_positions.tolist().count(19) == 3, "three documents go on after the prefix"


@pytest.mark.parametrize(
    ("parts", "segments"),
    [
        (((range(15), range(50, 60)), (range(15), range(70, 75))), [[25, -1], [20, -1]]),
        (((range(16), range(50, 60)), (range(16), range(70, 75))), [[16, -1], [10, 0], [5, 0]]),
        (((range(30),), (range(30),)), [[29, -1], [1, 0], [1, 0]]),
        (((range(40),), (range(18),)), [[17, -1], [23, 0], [1, 0]]),
        (((range(16),), (range(16),)), [[16, -1], [16, -1]]),
        (((range(1),), (range(0),)), [[1, -1], [0, -1]]),
    ],
    ids=["short prefix", "shortest prefix", "equal", "one contains the other", "small", "empty"],
)
def test_limits_of_shared_prefixes(
    parts: tuple[tuple[range, ...], ...], segments: list[list[int]]
) -> None:
    assert pack_examples(documents(*parts)).segments.tolist() == segments


@pytest.mark.parametrize(("dropout", "tokens"), [(0.0, 55), (0.1, 75)])
def test_documents_with_dropout_share_nothing(dropout: float, tokens: int) -> None:
    examples = documents((SYSTEM, PROMPT), (SYSTEM, range(5)))
    config = TrainingConfig(batch_size=2, epochs=1, lora_dropout=dropout)
    (step,) = training_batches(examples, config, limits=PackLimits())
    assert [[len(pack.input_ids) for pack in packs] for packs in step.packs] == [[tokens]]


def test_shared_tokens_count_a_quarter_against_the_limit() -> None:
    examples = documents(*[(range(100), range(1000 * n, 1000 * n + 20)) for n in range(1, 9)])
    sizes = [len(group) for group in group_examples(examples, PackLimits(120 + 3 * 45))]
    assert sizes == [4, 4]
    unshared = PackLimits(120 + 3 * 45, shares_prefixes=False)
    assert [len(group) for group in group_examples(examples, unshared)] == [2, 2, 2, 2]


@pytest.mark.parametrize(
    ("lengths", "threads", "sizes"),
    [
        ([30, 50, 40, 20], 2, [70, 70]),
        ([30, 50, 40, 20], 1, [140]),
        ([30, 50, 40, 20], 8, [70, 70]),
        ([100, 20, 10], 2, [130]),  # the longest alone would take longer than all with both threads
        ([100], 2, [100]),
        ([9] * 64, 64, [144] * 4),
    ],
)
def test_examples_are_divided_among_threads_if_that_is_faster(
    lengths: list[int], threads: int, sizes: list[int]
) -> None:
    examples = [example(line, length) for line, length in enumerate(lengths)]
    limits = PackLimits(threads=threads, shares_prefixes=False)
    packs = divide_into_packs(examples, limits)
    assert sorted(len(pack.input_ids) for pack in packs) == sorted(sizes)
    assert sum(len(pack.targets) for pack in packs) == sum(e.learned_tokens for e in examples)


def test_documents_with_a_long_shared_prefix_stay_in_one_pack() -> None:
    answers = documents(*[(range(500), range(1000 * n, 1000 * n + 50)) for n in (1, 2, 3, 4)])
    (pack,) = divide_into_packs(answers, PackLimits(threads=2))
    assert len(pack.input_ids) == 500 + 4 * 50


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "Full"},
        {"lora_dropout": 0.1},
        {"gradient_checkpointing": True},
        {"processes": 2},
    ],
)
def test_some_runs_compute_one_pack_at_a_time(settings: dict[str, Any]) -> None:
    config = TrainingConfig(batch_size=4, **settings)
    (step, *_) = training_batches(
        [example(line, 20) for line in range(8)], config, limits=PackLimits(threads=2)
    )
    assert [len(packs) for packs in step.packs] == [1]


def test_each_epoch_shuffles_all_examples() -> None:
    examples = [example(line, 5) for line in range(10)]
    config = TrainingConfig(epochs=2, batch_size=3)
    steps = list(training_batches(examples, config, limits=PackLimits()))
    assert len(steps) == config.total_steps(10) == 8
    first = [line for step in steps[:4] for line in step.lines]
    second = [line for step in steps[4:] for line in step.lines]
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    assert [step.epoch for step in steps][-1] == 2.0


@pytest.mark.parametrize("after", [0, 1, 4, 7])
def test_resumed_run_has_the_same_steps(after: int) -> None:
    examples = [example(line, 5) for line in range(10)]
    config = TrainingConfig(epochs=2, batch_size=3)
    all_steps = [step.lines for step in training_batches(examples, config, limits=PackLimits())]
    remaining = [
        step.lines
        for step in training_batches(examples, config, limits=PackLimits(), start_step=after)
    ]
    assert remaining == all_steps[after:]


def test_max_steps_repeats_the_data() -> None:
    examples = [example(line, 5) for line in range(3)]
    steps = list(
        training_batches(examples, TrainingConfig(max_steps=5, batch_size=2), limits=PackLimits())
    )
    assert [len(step.lines) for step in steps] == [2, 1, 2, 1, 2]


@pytest.mark.parametrize("count", [8, 9])
def test_ranks_share_the_examples_of_a_step(count: int) -> None:
    examples = [example(line, 5, learned=1 + line % 3) for line in range(count)]
    config = TrainingConfig(batch_size=2, gradient_accumulation_steps=2, processes=2)
    ranks = [
        list(training_batches(examples, config, limits=PackLimits(), rank=rank)) for rank in (0, 1)
    ]
    assert len(ranks[0]) == len(ranks[1])
    for first_rank, second_rank in zip(*ranks, strict=True):
        assert first_rank.learned_tokens == second_rank.learned_tokens
        assert first_rank.lines == second_rank.lines
        assert first_rank.packs
        assert second_rank.packs
        learned = sum(
            len(pack.targets) for packs in (*first_rank.packs, *second_rank.packs) for pack in packs
        )
        assert learned == first_rank.learned_tokens


def test_packs_respect_the_token_limit() -> None:
    groups = list(
        group_examples([example(n, size) for n, size in enumerate([5, 4, 20, 3])], PackLimits(9))
    )
    assert [[len(member.input_ids) for member in group] for group in groups] == [
        [5, 4],
        [20],
        [3],
    ]


def test_documents_above_the_longrope_threshold_are_packed_apart() -> None:
    groups = group_examples(
        [example(n, size) for n, size in enumerate([5, 9, 9, 4])],
        PackLimits(100, longrope_threshold=8),
    )
    assert [[len(member.input_ids) for member in group] for group in groups] == [
        [5],
        [9, 9],
        [4],
    ]


def test_evaluation_covers_every_example_once() -> None:
    examples = [example(line, 7) for line in range(9)]
    seen = Counter(
        line for batch in evaluation_batches(examples, PackLimits(20)) for line in batch.lines
    )
    assert seen == Counter(range(9))
