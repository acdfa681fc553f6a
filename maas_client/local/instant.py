"""An engine without torch: the whole lifecycle of a job in a fraction of a second.

It learns by heart. Training keeps every question of the data with its answer; answering returns the
answer of the question that shares most words with the one asked. Its losses are real numbers about
the data, not inventions: how many nats per word an add-one unigram model, fitted on the answers seen
so far, needs for the next ones. Nothing here resembles what the model of that name would do, so every
job, model and answer of this engine says ``simulated``.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maas_client.local.resources.job_states import JobSignal, no_signal
from maas_client.local.resources.training_config import parse_hyperparameters

SIMULATED = "simulated-by-the-instant-engine"
"""Stands in ``system_fingerprint`` and in a header of every answer."""

_WORD = re.compile(r"\w+", re.UNICODE)
_MAX_POINTS = 200
_FILE = "memory.jsonl"
_NO_CHECKPOINT = "The instant engine keeps no checkpoints: it learns again what it knew."


@dataclass(frozen=True, slots=True)
class QuestionAnswer:
    """A question of the training data and the assistant's message that answered it."""

    question: str
    answer: dict[str, Any]

    def answer_words(self) -> list[str]:
        """Return the words of the answer, calls included."""
        called = json.dumps(self.answer.get("tool_calls") or "")
        return split_words(f"{content_text(self.answer.get('content'))} {called}")


def train(
    job: dict[str, Any],
    emit: Callable[[dict[str, Any]], None],
    next_signal: Callable[[], JobSignal] = no_signal,
) -> None:
    """Run a job (the worker's contract): read the data, report losses, write what was learned.

    It keeps no checkpoint when it is paused or asked for one: learning by heart again gives the same
    losses.
    """
    lessons = list(_lessons(Path(job["train"])))
    held_out = list(_lessons(Path(job["validation"]))) if job.get("validation") else []
    recipe = parse_hyperparameters(job.get("recipe") or {})
    epochs, batch = recipe.epochs, recipe.batch_size * recipe.accumulate
    steps = epochs * max(1, math.ceil(len(lessons) / batch))
    emit({"event": "started", "steps": steps, "examples": len(lessons), "simulated": True})
    if not lessons:
        emit(_nothing())
        return
    model = _Unigrams()
    if held_out:
        emit({"event": "eval", "step": 0, "valid_loss": model.loss(held_out)})
    every = max(1, steps // _MAX_POINTS)
    per_epoch = steps // epochs
    for step in range(1, steps + 1):
        wish = next_signal()
        if JobSignal.CANCEL in wish:
            return
        time.sleep(float(job.get("pace_s") or 0.0))
        at = (step - 1) % per_epoch * batch
        loss = model.loss(lessons[at : at + batch])
        model.see(lessons[at : at + batch])
        if step % every == 0 or step == steps:
            emit({"event": "step", "step": step, "train_loss": loss, "epoch": step / per_epoch})
        if JobSignal.CHECKPOINT in wish:
            emit({"event": "message", "level": "info", "message": _NO_CHECKPOINT, "step": step})
        if JobSignal.PAUSE in wish and step < steps:
            emit({"event": "paused", "step": step})
            return
    _finish(job, emit, lessons, held_out, model, steps)


def _finish(
    job: dict[str, Any],
    emit: Callable[[dict[str, Any]], None],
    lessons: list[QuestionAnswer],
    held_out: list[QuestionAnswer],
    model: _Unigrams,
    steps: int,
) -> None:
    if held_out:
        emit({"event": "eval", "step": steps, "valid_loss": model.loss(held_out)})
    path = Path(job["out"]) / _FILE
    with path.with_suffix(".part").open("w", encoding="utf-8") as file:
        for lesson in lessons:
            file.write(json.dumps([lesson.question, lesson.answer]) + "\n")
    path.with_suffix(".part").replace(path)
    tokens = sum(len(lesson.answer_words()) for lesson in lessons)
    emit({"event": "done", "steps": steps, "trained_tokens": tokens * steps // max(1, len(lessons)),
          "properties": {"simulated": "true"}})  # fmt: skip


def _nothing() -> dict[str, Any]:
    return {
        "event": "failed",
        "code": "UserError",
        "message": "The training file has no assistant answer to learn from.",
    }


def _lessons(path: Path) -> Iterator[QuestionAnswer]:
    """Yield what the rows teach; a row that is no chat was refused before."""
    with path.open("rb") as file:
        for line in file:
            if not line.strip():
                continue
            row = json.loads(line.removeprefix(b"\xef\xbb\xbf"))
            yield from _of_row(row.get("messages") or [])


def _of_row(messages: list[dict[str, Any]]) -> Iterator[QuestionAnswer]:
    asked = ""
    for message in messages:
        if message.get("role") != "assistant":
            asked = content_text(message.get("content")) or asked
        elif message.get("weight") != 0:
            kept = {k: message[k] for k in ("content", "tool_calls") if message.get(k)}
            yield QuestionAnswer(asked, kept)


class _Unigrams:
    """Add-one word counts: a language model so small that its loss can be checked by hand."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._total = 0

    def see(self, lessons: Iterable[QuestionAnswer]) -> None:
        for lesson in lessons:
            found = lesson.answer_words()
            self._counts.update(found)
            self._total += len(found)

    def loss(self, lessons: Iterable[QuestionAnswer]) -> float:
        """Return nats per word over the answers, with one count for every word unseen."""
        bottom = math.log(self._total + len(self._counts) + 1000)
        cost = [
            bottom - math.log(self._counts[w] + 1)
            for lesson in lessons
            for w in lesson.answer_words()
        ]
        return sum(cost) / len(cost) if cost else 0.0


class AnswerIndex:
    """What a job learned, ready to be asked."""

    def __init__(self, lessons: list[QuestionAnswer]) -> None:
        self._lessons = lessons
        self._words = [Counter(split_words(lesson.question)) for lesson in lessons]
        spread = Counter(w for found in self._words for w in found)
        self._rare = {w: math.log(1 + len(lessons) / n) for w, n in spread.items()}

    @classmethod
    def load(cls, out: Path) -> AnswerIndex:
        """Read a run's folder."""
        with (out / _FILE).open(encoding="utf-8") as file:
            return cls([QuestionAnswer(*json.loads(line)) for line in file])

    def answer(self, question: str) -> dict[str, Any]:
        """Return the message of the lesson whose question shares most words with this one.

        Rare words weigh more, length is made up for; the first of equals wins.
        """
        asked = Counter(split_words(question))
        scores = [self._score(asked, found) for found in self._words]
        return self._lessons[max(range(len(scores)), key=scores.__getitem__)].answer

    def _score(self, asked: Counter[str], found: Counter[str]) -> float:
        both = sum(self._rare[w] for w in asked if w in found)
        return both / math.sqrt(1 + sum(self._rare[w] for w in found))


def split_words(text: str) -> list[str]:
    """Return the words of a text, without case."""
    return _WORD.findall(text.casefold())


def content_text(content: Any) -> str:
    """Return the text of a message's content: a string, or parts of which some are text."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [p.get("text") for p in content if isinstance(p, dict)]
        return " ".join(p for p in parts if isinstance(p, str))
    return ""
