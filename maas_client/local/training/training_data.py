"""What a run learns from and is judged by: both files, read, rendered and tokenised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maas_client.chat import ChatTemplate
from maas_client.dataset.rows import read_rows
from maas_client.errors import DatasetError
from maas_client.local.state import atomic_folder
from maas_client.local.training.data import Example, RowCounts, tokenize_rows
from maas_client.local.training.samples import Sample, choose_samples


@dataclass(frozen=True, slots=True)
class TrainingData:
    """The examples of a job, and what became of the other rows."""

    examples: list[Example]
    validation_examples: list[Example]
    row_counts: RowCounts
    validation_row_counts: RowCounts
    samples: list[Sample]
    hashes: dict[str, str]
    """sha256 of each file: ``train_sha256``, ``validation_sha256``."""

    @classmethod
    def load(
        cls, spec: Mapping[str, Any], tokenizer: Any, template: ChatTemplate, max_length: int
    ) -> TrainingData:
        """Read a job's files; rows are cut at ``longest`` tokens.

        Raises ``DatasetError`` for a row that the template has no place for, and when nothing is
        left to learn.
        """
        train, held, model = spec["train"], spec.get("validation"), spec.get("model")
        examples, tally = _encoded(train, model, tokenizer, template, max_length)
        if not examples:
            raise DatasetError(
                "No assistant tokens found after preprocessing: the training file has nothing to "
                "learn from."
            )
        judged = (
            _encoded(held, model, tokenizer, template, max_length) if held else ([], RowCounts())
        )
        return cls(
            examples=examples,
            validation_examples=judged[0],
            row_counts=tally,
            validation_row_counts=judged[1],
            samples=(
                choose_samples((row for _, row in read_rows(held, model=model)), template)
                if held
                else []
            ),
            hashes={
                f"{name}_sha256": atomic_folder.sha256_of(Path(path))
                for name, path in (("train", train), ("validation", held))
                if path
            },
        )

    @property
    def longest_example(self) -> int:
        """Return the tokens of the longest training example."""
        return max(len(example.input_ids) for example in self.examples)


def _encoded(
    path: str, model: str | None, tokenizer: Any, template: ChatTemplate, longest: int
) -> tuple[list[Example], RowCounts]:
    """Read the rows that ``validate`` finds good for this model: it was asked before the job began."""
    rows = ((line.number, row) for line, row in read_rows(path, model=model))
    return tokenize_rows(rows, tokenizer, template, longest)
