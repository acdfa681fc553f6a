"""What a run learns from and is judged by: both files, read, rendered and tokenised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maas_client.chat import Template
from maas_client.dataset import read
from maas_client.errors import DatasetError
from maas_client.local.peft.examples import Example, Tally, encode
from maas_client.local.peft.samples import Sample, choose
from maas_client.local.state import durable


@dataclass(frozen=True, slots=True)
class Data:
    """The examples of a job, and what became of the other rows."""

    examples: list[Example]
    held_out: list[Example]
    tally: Tally
    held_tally: Tally
    samples: list[Sample]
    hashes: dict[str, str]
    """sha256 of each file: ``train_sha256``, ``validation_sha256``."""

    @classmethod
    def read(
        cls, spec: Mapping[str, Any], tokenizer: Any, template: Template, longest: int
    ) -> Data:
        """Read a job's files; rows are cut at ``longest`` tokens.

        Raises ``DatasetError`` for a row that the template has no place for, and when nothing is
        left to learn.
        """
        train, held, model = spec["train"], spec.get("validation"), spec.get("model")
        examples, tally = _encoded(train, model, tokenizer, template, longest)
        if not examples:
            raise DatasetError(
                "No assistant tokens found after preprocessing: the training file has nothing to "
                "learn from."
            )
        judged = _encoded(held, model, tokenizer, template, longest) if held else ([], Tally())
        return cls(
            examples=examples,
            held_out=judged[0],
            tally=tally,
            held_tally=judged[1],
            samples=(
                choose((row for _, row in read.rows(held, model=model)), template) if held else []
            ),
            hashes={
                f"{name}_sha256": durable.sha256_of(Path(path))
                for name, path in (("train", train), ("validation", held))
                if path
            },
        )

    @property
    def longest(self) -> int:
        """Return the tokens of the longest training example."""
        return max(len(example.ids) for example in self.examples)


def _encoded(
    path: str, model: str | None, tokenizer: Any, template: Template, longest: int
) -> tuple[list[Example], Tally]:
    """Read the rows that ``validate`` finds good for this model: it was asked before the job began."""
    rows = ((line.no, row) for line, row in read.rows(path, model=model))
    return encode(rows, tokenizer, template, longest)
