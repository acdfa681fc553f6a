"""Fixtures: a tiny base, its tokenizer, chat rows and examples."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from maas_client.chat import TEMPLATES  # noqa: E402 - after the skip
from maas_client.local import bases  # noqa: E402
from maas_client.local.training import data as training_data  # noqa: E402
from maas_client.local.training import load_base  # noqa: E402
from maas_client.local.training.data import Example, tokenize_rows  # noqa: E402
from tests.local.training.rows import make_rows  # noqa: E402


@pytest.fixture(autouse=True)
def short_sample_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of a run's time would be the sample answers before and after it."""
    monkeypatch.setattr(training_data, "_SAMPLE_TOKENS", 2)


@pytest.fixture(scope="session")
def tokenizer(base: bases.BaseWeights) -> Any:
    return load_base.load_tokenizer(base.folder)


@pytest.fixture(scope="session")
def examples(tokenizer: Any) -> list[Example]:
    examples, counts = tokenize_rows(
        enumerate(make_rows(12), 1), tokenizer, TEMPLATES["phi3"], 4096
    )
    assert len(examples) == 12
    assert not counts.dropped
    return examples


@pytest.fixture
def data(tmp_path: Path) -> Callable[..., str]:
    def write(rows: list[dict[str, Any]], name: str = "train.jsonl") -> str:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return write
