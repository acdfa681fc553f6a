"""A short soak test; ``make soak`` is the full one."""

from __future__ import annotations

import pytest

from tests.faults import pollers, soak


@pytest.mark.slow
def test_nothing_is_lost_doubled_or_torn() -> None:
    figures = soak.run(soak.SHORT, seed=1)
    assert [figure for figure in figures if figure.verdict == "FAILED"] == []
    assert len(figures) > 10


@pytest.mark.parametrize(
    ("connections", "seconds", "interval"),
    [(100, 2, 0.2), pytest.param(10_000, 600, 10, marks=pytest.mark.full_size)],
)
def test_pollers_get_answers_in_time(connections: int, seconds: float, interval: float) -> None:
    figures = pollers.run(connections, seconds, interval)
    assert figures["connections"] == connections
    assert figures["requests"] >= connections * seconds / interval / 2
    assert figures["errors"] == 0
    assert figures["p99_ms"] < 1000
    assert figures.get("server_mb", 0) < 300
