"""Read the valid rows of a file: the same rows for ``validate``, training and evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from typing import Any

from maas_client.dataset.block_check import BlockValidator
from maas_client.dataset.parsing.lines import Line, read_blocks
from maas_client.dataset.report.collector import ProblemCollector
from maas_client.dataset.rules.context import build_context
from maas_client.dataset.rules.service import ServiceRules


def read_rows(
    path: str | PathLike[str], *, target: str = "local", model: str | None = None
) -> Iterator[tuple[Line, dict[str, Any]]]:
    """Yield every valid row of a chat file with its line, in order.

    These are exactly the rows that ``validate`` counts as examples for the same target and model.
    Blank and invalid lines are skipped; ``validate`` reports them.

    Args:
        path: a JSON Lines file.
        target: ``azureml``, ``foundry`` or ``local``.
        model: validate for this model.

    Yields:
        The line, with its number and offset, and the row as a dictionary.

    Raises:
        OSError: the file cannot be read.
        ConfigError: the target or the model is unknown.
    """
    context = build_context(target, model)
    validator = BlockValidator(context, ProblemCollector(context), ServiceRules(context))
    with open(path, "rb", buffering=0) as file:
        for block in read_blocks(file):
            valid = validator.validate(block)
            yield from zip(valid.get_lines(), valid.rows, strict=True)
