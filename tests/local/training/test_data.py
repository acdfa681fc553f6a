"""Which rows a run learns from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from maas_client.chat import TEMPLATES
from maas_client.local.training.data import TrainingData
from tests.local.training.rows import talk


def test_the_rows_are_those_that_the_check_found_good_for_the_model(
    tokenizer: Any, tmp_path: Path
) -> None:
    """``<|im_start|>`` is a token of other models: for this one it is text, told as a warning."""
    path = tmp_path / "train.jsonl"
    messages = [
        {"role": "user", "content": "What is it?"},
        {"role": "assistant", "content": "An <|im_start|> it is."},
    ]
    rows = [*talk(3), {"messages": messages}]
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    spec = {"train": str(path), "model": "Phi-3-mini-4k-instruct"}
    assert len(TrainingData.load(spec, tokenizer, TEMPLATES["phi3"], 4096).examples) == 4
