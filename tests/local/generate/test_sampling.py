"""Sampling follows the requested distribution and is reproducible by seed."""

from __future__ import annotations

from collections import Counter

import pytest

torch = pytest.importorskip("torch")

from maas_client.local.generate.protocol import SamplingParams  # noqa: E402 - after the skip
from maas_client.local.generate.sampling import Sampler  # noqa: E402
from tests.local.generate.conftest import BaseUnderTest, run_until_done  # noqa: E402

MASS = torch.tensor([0.5, 0.25, 0.15, 0.1])


def draws(count: int, **params: float) -> Counter[int]:
    sampler = Sampler(SamplingParams(seed=7, **params))  # type: ignore[arg-type]  # floats only here
    return Counter(sampler.sample(MASS.log()) for _ in range(count))


def test_samples_follow_the_distribution() -> None:
    counts = draws(4000)
    for token, mass in enumerate(MASS.tolist()):
        assert counts[token] / 4000 == pytest.approx(mass, abs=0.03)


def test_temperature_sharpens_the_distribution() -> None:
    sharp = (MASS**2 / (MASS**2).sum()).tolist()
    counts = draws(4000, temperature=0.5)
    for token, mass in enumerate(sharp):
        assert counts[token] / 4000 == pytest.approx(mass, abs=0.03)


def test_smallest_temperature_takes_the_likeliest_token() -> None:
    assert set(draws(20, temperature=1e-300)) == {0}


@pytest.mark.parametrize(
    ("top_p", "expected_tokens"), [(0.5, {0}), (0.6, {0, 1}), (0.0, {0}), (0.95, {0, 1, 2, 3})]
)
def test_top_p_keeps_the_smallest_nucleus(top_p: float, expected_tokens: set[int]) -> None:
    assert set(draws(500, top_p=top_p)) == expected_tokens


def test_wide_nucleus_exceeds_the_top_candidates() -> None:
    sampler = Sampler(SamplingParams(seed=1, top_p=0.99))
    counts = {sampler.sample(torch.zeros(2000)) for _ in range(3000)}
    assert len(counts) > 1000


def test_penalties_lower_repeated_tokens() -> None:
    sampler = Sampler(SamplingParams(temperature=0, presence_penalty=2.0))
    scores = torch.tensor([1.5, 1.0, 0.0])
    assert [sampler.sample(scores) for _ in range(4)] == [0, 1, 2, 0]


def test_seed_gives_the_same_answer_alone_and_in_a_batch(phi: BaseUnderTest) -> None:
    params = {"temperature": 1.0, "top_p": 0.9, "max_tokens": 30}
    alone = phi.scheduler()
    chat = phi.chat("hello", seed=5, **params)
    alone.submit(chat)
    first = run_until_done(alone)[chat.id]["tokens"]
    crowd = phi.scheduler()
    other_requests = [phi.chat("noise " * n, seed=n, **params) for n in range(4)]
    again, other_seed = phi.chat("hello", seed=5, **params), phi.chat("hello", seed=6, **params)
    for request in (*other_requests, again, other_seed):
        crowd.submit(request)
    counts = run_until_done(crowd)
    assert counts[again.id]["tokens"] == first
    assert counts[other_seed.id]["tokens"] != first
