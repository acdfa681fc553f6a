"""Draws: the distribution asked for, the same ones for the same seed."""

from __future__ import annotations

from collections import Counter

import pytest

torch = pytest.importorskip("torch")

from maas_client.local.generate.protocol import SamplingParams  # noqa: E402 - after the skip
from maas_client.local.generate.sampling import Sampler  # noqa: E402
from tests.local.generate.conftest import Bench, drain  # noqa: E402

MASS = torch.tensor([0.5, 0.25, 0.15, 0.1])


def draws(count: int, **params: float) -> Counter[int]:
    sampler = Sampler(SamplingParams(seed=7, **params))  # type: ignore[arg-type]  # floats only here
    return Counter(sampler.sample(MASS.log()) for _ in range(count))


def test_samples_follow_the_distribution() -> None:
    got = draws(4000)
    for token, mass in enumerate(MASS.tolist()):
        assert got[token] / 4000 == pytest.approx(mass, abs=0.03)


def test_temperature_sharpens_the_distribution() -> None:
    sharp = (MASS**2 / (MASS**2).sum()).tolist()
    got = draws(4000, temperature=0.5)
    for token, mass in enumerate(sharp):
        assert got[token] / 4000 == pytest.approx(mass, abs=0.03)


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.5, {0}), (0.6, {0, 1}), (0.0, {0}), (0.95, {0, 1, 2, 3})]
)
def test_top_p_keeps_the_smallest_nucleus(top_p: float, kept: set[int]) -> None:
    assert set(draws(500, top_p=top_p)) == kept


def test_wide_nucleus_exceeds_the_top_candidates() -> None:
    sampler = Sampler(SamplingParams(seed=1, top_p=0.99))
    got = {sampler.sample(torch.zeros(2000)) for _ in range(3000)}
    assert len(got) > 1000


def test_penalties_lower_repeated_tokens() -> None:
    sampler = Sampler(SamplingParams(temperature=0, presence_penalty=2.0))
    scores = torch.tensor([1.5, 1.0, 0.0])
    assert [sampler.sample(scores) for _ in range(4)] == [0, 1, 2, 0]


def test_seed_gives_the_same_answer_alone_and_in_a_batch(phi: Bench) -> None:
    asked = {"temperature": 1.0, "top_p": 0.9, "max_tokens": 30}
    alone = phi.host()
    chat = phi.chat("hello", seed=5, **asked)
    alone.submit(chat)
    first = drain(alone)[chat.id]["tokens"]
    crowd = phi.host()
    others = [phi.chat("noise " * n, seed=n, **asked) for n in range(4)]
    again, other = phi.chat("hello", seed=5, **asked), phi.chat("hello", seed=6, **asked)
    for one in (*others, again, other):
        crowd.submit(one)
    got = drain(crowd)
    assert got[again.id]["tokens"] == first
    assert got[other.id]["tokens"] != first
