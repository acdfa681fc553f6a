"""YAML round trips through PyYAML (YAML 1.1)."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml as pyyaml
from hypothesis import given
from hypothesis import strategies as st

from maas_client.platforms import yaml

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
    | st.sampled_from(["yes", "No", "1e5", "0x1f", "010", "2024-01-01", "1:30", "~", "a: b", "- x"])
    | st.sampled_from(["line\nline\n", "one\ntwo\n\n", " lead\nx\n", "a\n\nb\n", "# x\ny\n"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=("Cs",)), max_size=8), VALUES, max_size=4
    )
)
def test_dump_round_trips(value: dict[str, Any]) -> None:
    assert pyyaml.safe_load(yaml.dump(value)) == value or not value


@pytest.mark.parametrize("number", [1e-5, 2e-4, 1e22, 0.1, 5.0, -3e-9])
def test_numbers_round_trip(number: float) -> None:
    number_read = pyyaml.safe_load(yaml.dump({"x": number}))["x"]
    assert isinstance(number_read, float)
    assert math.isclose(number_read, number)


def test_dump_style() -> None:
    text = yaml.dump({"kind": "Workspace", "on": ["a", {"b": 1, "c": []}], "t": "one\n two\n"})
    assert text == 'kind: Workspace\n"on":\n  - a\n  - b: 1\n    c: []\nt: |\n  one\n   two\n'


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        yaml.dump({"x": float("nan")})
