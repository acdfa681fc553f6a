"""Find the data sets and specifications that are not part of the project: ``../shared`` beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"

needs_shared_data = pytest.mark.skipif(
    not SHARED.is_dir(),
    reason="no folder 'shared' with data sets and specifications beside the checkout",
)


def shared_file(name: str) -> Path:
    """Return a file below the shared folder, or skip the test where it is absent."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"../shared/{name} is not beside the checkout")
    return path
