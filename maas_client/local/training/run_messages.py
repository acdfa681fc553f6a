"""Messages of a run: how it starts, which rows were changed or dropped, what the model answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch  # noqa: TID253 - this module is imported by the training process only

from maas_client.local.bases import BaseWeights
from maas_client.local.training.checkpoints import Checkpoint
from maas_client.local.training.data import RowCounts, generate_answers
from maas_client.local.training.setup import TrainingSetup

Emit = Callable[[dict[str, Any]], None]


def emit_message(emit: Emit, text: str, level: str = "info") -> None:
    """Emit a ``message`` event."""
    emit({"event": "message", "level": level, "message": text})


def emit_start(job: TrainingSetup, checkpoint: Checkpoint | None, emit: Emit) -> None:
    """Emit ``started`` and the messages about data, base, adapters and checkpoint."""
    emit(
        {
            "event": "started",
            **job.describe(),
            "resumed_from": checkpoint.step if checkpoint else None,
        }
    )
    for event in checkpoint.extra["recent"] if checkpoint else ():
        emit(event)  # a server that was killed may not have stored them
    for name, counts in (
        ("training", job.data.row_counts),
        ("validation", job.data.validation_row_counts),
    ):
        for text in _describe_changed_rows(name, counts):
            emit_message(emit, text, "warning")
    for text in job.warnings:
        emit_message(emit, text, "warning")
    emit_message(emit, BaseWeights(**job.base).describe())
    emit_message(emit, f"Trained: {job.coverage.describe()}.")
    if job.config.processes > 1 or job.config.deepspeed_stage:
        emit_message(emit, f"Runs in {job.placement}.")
    if checkpoint is not None:
        text = f"Resumed after step {checkpoint.step} of {job.progress.total_steps}."
        if checkpoint.extra["threads"] != torch.get_num_threads():
            text += " The number of threads has changed, so results may differ in the last bits."
        emit_message(emit, text)


def answer_events(job: TrainingSetup, model_name: str) -> Iterator[dict[str, Any]]:
    """Yield the current answers to sample questions of the validation data, as events."""
    answers = generate_answers(job.model, job.tokenizer, job.template, job.data.samples)
    for sample, answer in answers:
        yield {
            "event": "message",
            "level": "info",
            "message": f"{model_name} answers {_short(sample.question)} with {_short(answer)}",
            "step": job.progress.step,
            "sample": {"answer": answer, **sample._asdict()},
        }


def format_lines(numbers: list[int]) -> str:
    """Return the first five line numbers as text."""
    return ", ".join(map(str, numbers[:5])) + (", …" if len(numbers) > 5 else "")


def _short(text: str) -> str:
    one_line = " ".join(text.split())
    return f"“{one_line[:80]}…”" if len(one_line) > 80 else f"“{one_line}”"


def _describe_changed_rows(name: str, counts: RowCounts) -> list[str]:
    changes = [
        ("were truncated at the model's limit", counts.truncated),
        ("have no tokens to train on and were dropped", counts.dropped),
        (
            "had their system message merged into the first user message, as the service does",
            counts.merged,
        ),
    ]
    return [
        f"{len(lines)} {name} rows {change} (line {format_lines(lines)})."
        for change, lines in changes
        if lines
    ]
