"""The fast path, the full rules and the schema agree. ``tests/fuzz`` runs the same checks for hours."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maas_client.dataset.parsing.lines import make_line
from tests.fuzz import agreement, mutations, robustness
from tests.unit.dataset.corpus import CONTROLS, LINE_FAULTS


@pytest.mark.parametrize("model", [None, "Phi-3-mini-4k-instruct", "Phi-3-medium-4k-instruct"])
@pytest.mark.parametrize("target", ["azureml", "foundry", "local"])
def test_fast_path_rules_and_schema_agree_on_mutated_lines(target: str, model: str | None) -> None:
    seen = agreement.run(300, seed=7, target=target, model=model)
    assert seen["lawful"] > 20
    assert seen["unlawful"] > 20


def test_fast_path_rules_and_schema_agree_on_the_corpus() -> None:
    judges = agreement.Judges()
    for fault in LINE_FAULTS:
        judges.compare(fault.line)
    for data in CONTROLS.values():
        for line in data.removeprefix(b"\xef\xbb\xbf").splitlines()[:2]:
            judges.compare(line)
    assert judges.seen["accepted fast"] > 5


def test_disagreement_is_detected() -> None:
    judges = agreement.Judges()
    judges.schema = judges.schema.evolve(schema={"type": "object"})
    with pytest.raises(agreement.Disagreement):
        judges.compare(b"{}")


def test_message_without_a_role_is_rejected_in_a_uniform_block() -> None:
    judges = agreement.Judges()
    good = (
        b'{"messages": [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}]}\n'
    )
    bad = b'{"messages": [{"role": "user", "content": "\\"\\""}, {"content": "\\"\\""}]}\n'
    for _ in range(2):
        assert list(judges.acceptor.split([good, good]).accepted) == [0, 1]
    assert judges.acceptor.split([good, bad]).undecided == [1]
    assert (
        judges.acceptor.split([good] * 3).rows[2]
        == judges.checker.validate(make_line(1, 0, good)).row
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
    judges = agreement.Judges()
    judges.acceptor.split([_GOOD + b"\n"] * 3)
    for _ in range(2):
        result = judges.acceptor.split(lines)
        for at in result.accepted:
            assert judges.checker.validate(make_line(1, 0, lines[at])).row is not None
        judges.acceptor.split([b"{}\n"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**63), st.integers(0, 12))
def test_blocks_and_single_lines_give_the_same_result(seed: int, count: int) -> None:
    rng = random.Random(seed)
    judges = agreement.Judges()
    lines = [mutations.line(rng) + b"\n" for _ in range(count)]
    lines += [rng.choice(mutations.BASES) + b"\n" for _ in range(12 - count)]
    rng.shuffle(lines)
    for _ in range(2):  # the second time with a decoder for the shape of the first
        result = judges.acceptor.split(lines)
        alone = [
            at for at, line in enumerate(lines) if list(judges.acceptor.split([line]).accepted)
        ]
        assert list(result.accepted) == alone
        assert sorted([*result.accepted, *result.undecided]) == list(range(12))


def test_validate_handles_random_bytes() -> None:
    assert robustness.run(3000, seed=3) >= 3000
