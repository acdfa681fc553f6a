"""What a run says about itself in words: how it begins, what was left out, what the model answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch  # noqa: TID253 - this module is imported by the training process only

from maas_client.local.bases import BaseWeights
from maas_client.local.training import samples
from maas_client.local.training.checkpoints import Checkpoint
from maas_client.local.training.data import RowCounts
from maas_client.local.training.setup import TrainingSetup

Emit = Callable[[dict[str, Any]], None]


def emit_message(emit: Emit, text: str, level: str = "info") -> None:
    """Say a sentence."""
    emit({"event": "message", "level": level, "message": text})


def emit_start(job: TrainingSetup, found: Checkpoint | None, emit: Emit) -> None:
    """Say what is about to run, and from where."""
    emit({"event": "started", **job.describe(), "resumed_from": found.step if found else None})
    for told in found.extra["recent"] if found else ():
        emit(told)  # a server that was killed may not have written them down
    for name, tally in (
        ("training", job.data.row_counts),
        ("validation", job.data.validation_row_counts),
    ):
        for text in _tallies(name, tally):
            emit_message(emit, text, "warning")
    for text in job.warnings:
        emit_message(emit, text, "warning")
    emit_message(emit, BaseWeights(**job.base).describe())
    emit_message(emit, f"Trained: {job.coverage.describe()}.")
    if job.config.processes > 1 or job.config.deepspeed_stage:
        emit_message(emit, f"Runs in {job.placement}.")
    if found is not None:
        said = f"Resumed after step {found.step} of {job.progress.total_steps}."
        if found.extra["threads"] != torch.get_num_threads():
            said += " The number of threads has changed, so the last bits may differ."
        emit_message(emit, said)


def answer_events(job: TrainingSetup, who: str) -> Iterator[dict[str, Any]]:
    """Yield what the model answers to held-out questions now, as events."""
    told = samples.generate_answers(job.model, job.tokenizer, job.template, job.data.samples)
    for sample, answer in told:
        yield {
            "event": "message",
            "level": "info",
            "message": f"{who} answers {_short(sample.question)} with {_short(answer)}",
            "step": job.progress.step,
            "sample": {"answer": answer, **sample._asdict()},
        }


def format_lines(numbers: list[int]) -> str:
    """Return line numbers for people: the first five."""
    return ", ".join(map(str, numbers[:5])) + (", …" if len(numbers) > 5 else "")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return f"“{line[:80]}…”" if len(line) > 80 else f"“{line}”"


def _tallies(name: str, tally: RowCounts) -> list[str]:
    said = []
    if tally.truncated:
        said.append(
            (f"{len(tally.truncated)} {name} rows were cut at the base's limit", tally.truncated)
        )
    if tally.dropped:
        text = f"{len(tally.dropped)} {name} rows have nothing left to learn and were dropped"
        said.append((text, tally.dropped))
    if tally.merged:
        text = f"{len(tally.merged)} {name} rows had their system message merged into the first"
        said.append((f"{text} user message, as the service does", tally.merged))
    return [f"{text} (line {format_lines(numbers)})." for text, numbers in said]
