"""The fast path, the full rules and the schema agree. ``tests/fuzz`` runs the same checks for hours."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maas_client.dataset.parsing.lines import make_line
from tests.fuzz import agreement, mutations, robustness
from tests.unit.dataset.corpus import BROKEN_LINES, VALID_FILES


@pytest.mark.parametrize("model", [None, "Phi-3-mini-4k-instruct", "Phi-3-medium-4k-instruct"])
@pytest.mark.parametrize("target", ["azureml", "foundry", "local"])
def test_fast_path_rules_and_schema_agree_on_mutated_lines(target: str, model: str | None) -> None:
    counts = agreement.run(300, seed=7, target=target, model=model)
    assert counts["valid by the schema"] > 20
    assert counts["invalid by the schema"] > 20


def test_fast_path_rules_and_schema_agree_on_the_corpus() -> None:
    comparison = agreement.Comparison()
    for fault in BROKEN_LINES:
        comparison.compare(fault.line)
    for data in VALID_FILES.values():
        for line in data.removeprefix(b"\xef\xbb\xbf").splitlines()[:2]:
            comparison.compare(line)
    assert comparison.counts["accepted by the fast path"] > 5


def test_disagreement_is_detected() -> None:
    comparison = agreement.Comparison()
    comparison.schema = comparison.schema.evolve(schema={"type": "object"})
    with pytest.raises(agreement.Disagreement):
        comparison.compare(b"{}")


def test_message_without_a_role_is_rejected_in_a_uniform_block() -> None:
    comparison = agreement.Comparison()
    good = (
        b'{"messages": [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}]}\n'
    )
    bad = b'{"messages": [{"role": "user", "content": "\\"\\""}, {"content": "\\"\\""}]}\n'
    for _ in range(2):
        assert list(comparison.fast_path.partition([good, good]).accepted) == [0, 1]
    assert comparison.fast_path.partition([good, bad]).undecided == [1]
    assert (
        comparison.fast_path.partition([good] * 3).rows[2]
        == comparison.line_validator.validate(make_line(1, 0, good)).row
    )


_GOOD = b'{"messages": [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}]}'
_QUOTED = _GOOD.replace(b"1", b'\\"' * 40)


@pytest.mark.parametrize(
    "lines",
    [
        [_GOOD + _GOOD + b"\n", b"\n"],
        [b"\n", _GOOD + b" " + _GOOD + b"\n"],
        [_QUOTED[:130] + b"\n", _QUOTED[130:] + b"\n", _QUOTED + _QUOTED + b"\n"],
        [_GOOD[:13] + b"\n", _GOOD[13:] + _GOOD + b"\n"],
    ],
)
def test_rows_that_share_or_span_lines_are_not_accepted(
    lines: list[bytes],
) -> None:
    comparison = agreement.Comparison()
    comparison.fast_path.partition([_GOOD + b"\n"] * 3)
    for _ in range(2):
        result = comparison.fast_path.partition(lines)
        for at in result.accepted:
            assert comparison.line_validator.validate(make_line(1, 0, lines[at])).row is not None
        comparison.fast_path.partition([b"{}\n"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**63), st.integers(0, 12))
def test_blocks_and_single_lines_give_the_same_result(seed: int, count: int) -> None:
    rng = random.Random(seed)
    comparison = agreement.Comparison()
    lines = [mutations.make_line(rng) + b"\n" for _ in range(count)]
    lines += [rng.choice(mutations.BASES) + b"\n" for _ in range(12 - count)]
    rng.shuffle(lines)
    for _ in range(2):  # the second time with a decoder for the shape of the first
        result = comparison.fast_path.partition(lines)
        alone = [
            at
            for at, line in enumerate(lines)
            if list(comparison.fast_path.partition([line]).accepted)
        ]
        assert list(result.accepted) == alone
        assert sorted([*result.accepted, *result.undecided]) == list(range(12))


@pytest.mark.parametrize("count", [3000, pytest.param(10_000_000, marks=pytest.mark.full_size)])
def test_validate_handles_random_bytes(count: int) -> None:
    assert robustness.run(count, seed=3) >= count
