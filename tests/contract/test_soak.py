"""A short soak test; ``make soak`` is the full one."""

from __future__ import annotations

import pytest

from tests.faults import soak


@pytest.mark.slow
def test_nothing_is_lost_doubled_or_torn() -> None:
    figures = soak.run(soak.SHORT, seed=1)
    assert [figure for figure in figures if figure.verdict == "FAILED"] == []
    assert len(figures) > 10
