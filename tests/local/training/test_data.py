"""Which rows a run trains on, and how often its files are validated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from maas_client.chat import TEMPLATES
from maas_client.dataset.block_validator import BlockValidator
from maas_client.local import worker
from maas_client.local.training.data import TrainingData
from tests.local.training.rows import make_rows

MODEL = "Phi-3-mini-4k-instruct"


def write_rows(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_training_uses_the_rows_that_are_valid_for_the_model(
    tokenizer: Any, tmp_path: Path
) -> None:
    """``<|im_start|>`` is a token of other models: here it is text, and gives a warning only."""
    messages = [
        {"role": "user", "content": "What is it?"},
        {"role": "assistant", "content": "An <|im_start|> it is."},
    ]
    path = write_rows(tmp_path / "train.jsonl", [*make_rows(3), {"messages": messages}])
    spec = {"train": path, "model": MODEL}
    assert len(TrainingData.load(spec, tokenizer, TEMPLATES["phi3"], 4096).examples) == 4


def test_a_job_validates_each_file_once(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    validated: list[bytes] = []
    validate = BlockValidator.validate

    def record(self: BlockValidator, block: Any) -> Any:
        validated.extend(block.lines)
        return validate(self, block)

    monkeypatch.setattr(BlockValidator, "validate", record)
    job = {
        "train": write_rows(tmp_path / "train.jsonl", make_rows(30)),
        "validation": write_rows(tmp_path / "validation.jsonl", make_rows(7, seed=1)),
        "model": MODEL,
    }
    assert worker._find_problems(job) is None
    data = TrainingData.load(job, tokenizer, TEMPLATES["phi3"], 4096)
    assert (len(data.examples), len(data.validation_examples)) == (30, 7)
    assert data.samples
    files = [Path(job["train"]), Path(job["validation"])]
    assert b"".join(validated) == b"".join(file.read_bytes() for file in files)
