"""Fixtures for tests of the dataset package."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from maas_client.dataset.issues import Issue
from maas_client.dataset.scanners import Scanner

Row = dict[str, Any]


@pytest.fixture
def make_row() -> Callable[..., Row]:
    """Return a function that makes a row: ``make_row("question", "answer", system=None)``."""

    def make(*texts: str, system: str | None = None) -> Row:
        roles = ["user", "assistant"] * len(texts)
        messages = [
            {"role": role, "content": text} for role, text in zip(roles, texts, strict=False)
        ]
        return {
            "messages": [{"role": "system", "content": system}, *messages] if system else messages
        }

    return make


@pytest.fixture
def run_scanner() -> Callable[..., list[Issue]]:
    """Return a function that feeds rows to a scanner in blocks and returns its issues."""

    def run(
        scanner: Scanner, rows: Sequence[Row], *, block: int = 50, first: int = 1
    ) -> list[Issue]:
        issues: list[Issue] = []
        for start in range(0, len(rows), block):
            chunk = rows[start : start + block]
            lines = [json.dumps(row).encode() for row in chunk]
            issues += scanner.feed(range(first + start, first + start + len(chunk)), lines, chunk)
        return issues + list(scanner.finish())

    return run


@pytest.fixture
def write_jsonl(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes rows as JSON Lines and returns the path."""

    def run(rows: Sequence[Any], name: str = "data.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return run
