"""The fast acceptor, the full rules and the schema say the same; ``tests/fuzz`` goes on for hours."""

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
def test_acceptor_rules_and_schema_agree_on_mutated_lines(target: str, model: str | None) -> None:
    seen = agreement.run(300, seed=7, target=target, model=model)
    assert seen["lawful"] > 20
    assert seen["unlawful"] > 20


def test_they_agree_on_the_corpus() -> None:
    judges = agreement.Judges()
    for fault in LINE_FAULTS:
        judges.compare(fault.line)
    for data in CONTROLS.values():
        for line in data.removeprefix(b"\xef\xbb\xbf").splitlines()[:2]:
            judges.compare(line)
    assert judges.seen["accepted fast"] > 5


def test_a_disagreement_would_be_seen() -> None:
    judges = agreement.Judges()
    judges.schema = judges.schema.evolve(schema={"type": "object"})
    with pytest.raises(agreement.Disagreement):
        judges.compare(b"{}")


def test_a_message_without_a_role_is_refused_in_a_block_of_one_shape() -> None:
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
def test_rows_that_do_not_stand_one_on_a_line_are_not_taken_for_those_that_do(
    lines: list[bytes],
) -> None:
    judges = agreement.Judges()
    judges.acceptor.split([_GOOD + b"\n"] * 3)
    for _ in range(2):
        taken = judges.acceptor.split(lines)
        for at in taken.accepted:
            assert judges.checker.validate(make_line(1, 0, lines[at])).row is not None
        judges.acceptor.split([b"{}\n"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**63), st.integers(0, 12))
def test_blocks_and_single_lines_are_judged_alike(seed: int, count: int) -> None:
    rng = random.Random(seed)
    judges = agreement.Judges()
    lines = [mutations.line(rng) + b"\n" for _ in range(count)]
    lines += [rng.choice(mutations.BASES) + b"\n" for _ in range(12 - count)]
    rng.shuffle(lines)
    for _ in range(2):  # the second time with a decoder for the shape of the first
        taken = judges.acceptor.split(lines)
        alone = [
            at for at, line in enumerate(lines) if list(judges.acceptor.split([line]).accepted)
        ]
        assert list(taken.accepted) == alone
        assert sorted([*taken.accepted, *taken.undecided]) == list(range(12))


def test_validate_survives_noise() -> None:
    assert robustness.run(3000, seed=3) >= 3000
