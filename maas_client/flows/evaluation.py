"""``client.evaluate``: ask a deployment what is already answered, and compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from maas_client import scoring
from maas_client.errors import BadRequestError, ConfigError, DatasetError
from maas_client.flows import chat
from maas_client.flows._io import IO
from maas_client.scoring import Answer
from maas_client.types import Deployment
from maas_client.types.evaluation import AnswerScore, Evaluation

_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class _Question:
    line: int
    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] | None
    want: Answer


async def evaluate(
    io: IO,
    deployment: Deployment | str,
    data: str | PathLike[str],
    *,
    baseline: Deployment | str | None = None,
    max_tokens: int = 512,
    limit: int | None = None,
) -> Evaluation:
    """Ask each row of ``data`` up to its last answer, and score what comes back against it.

    Answers are drawn at temperature 0. ``baseline`` is a second deployment, asked the same (the base
    model's, say); ``limit`` takes the first rows only. Rows the service refuses are listed, not counted.
    Raises ``DatasetError`` for a file with a broken line, and for one with nothing to ask.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit= is a number of rows from 1 on, not {limit}")
    await io.call(partial(_check, fspath(data)))
    questions, skipped = await io.call(partial(_questions, Path(fspath(data)), limit))
    ours, refused = await _answers(io, deployment, questions, max_tokens)
    theirs: dict[int, Answer] = {}
    if baseline is not None:
        theirs, also = await _answers(io, baseline, questions, max_tokens)
        refused |= also
    kept = [q for q in questions if q.line not in refused]
    scored = [scoring.score_answer(q.line, q.want, ours[q.line]) for q in kept]
    found = Evaluation(
        deployment=_name(deployment),
        scores=scoring.aggregate_scores(scored),
        answers=tuple(scored),
        refused=dict(sorted(refused.items())),
        skipped=skipped,
    )
    if baseline is None:
        return found
    compared = [scoring.score_answer(q.line, q.want, theirs[q.line]) for q in kept]
    return found.model_copy(
        update={
            "baseline": _name(baseline),
            "baseline_scores": scoring.aggregate_scores(compared),
            "token_f1_gain": scoring.mean_difference_interval(
                [one.token_f1 for one in scored], [one.token_f1 for one in compared]
            ),
            "answers": tuple(map(_beside, scored, compared)),
        }
    )


def _check(path: str) -> None:
    """Refuse a damaged file: scores of the rows that happen to be whole would mislead."""
    from maas_client.dataset import validate

    if Path(path).is_file():
        validate(path, target="local", content=False).raise_if_invalid()


def _questions(path: Path, limit: int | None) -> tuple[list[_Question], tuple[int, ...]]:
    from maas_client.dataset.rows import read_rows

    if not path.is_file():
        raise ConfigError(f"there is no file {path}", hint="Name a JSONL file of held-out chats.")
    questions, skipped = [], []
    for line, row in islice(read_rows(path), limit):
        *before, last = row["messages"]
        if last.get("role") != "assistant" or not before:
            skipped.append(line.number)
            continue
        want = Answer(_text(last.get("content")), last.get("tool_calls") or ())
        asked = [{k: v for k, v in one.items() if k != "weight"} for one in before]
        questions.append(_Question(line.number, asked, row.get("tools"), want))
    if not questions:
        raise DatasetError(
            f"{path.name} has no row to ask",
            hint="Each row must end with the answer to compare with. See: maas-client validate",
        )
    return questions, tuple(skipped)


async def _answers(
    io: IO, deployment: Deployment | str, questions: Sequence[_Question], max_tokens: int
) -> tuple[dict[int, Answer], dict[int, str]]:
    """Return what was answered and what was refused, by line."""

    async def ask(question: _Question) -> tuple[int, Answer | str]:
        try:
            reply = await chat.complete(
                io,
                deployment,
                question.messages,
                tools=question.tools,
                temperature=0,
                max_tokens=max_tokens,
            )
        except BadRequestError as error:  # this row's own fault: too long, filtered
            return question.line, error.message
        message = reply.choices[0].message
        calls = [call.model_dump() for call in message.tool_calls or ()]
        return question.line, Answer(message.content or "", calls)

    said = await io.parallel(ask, questions, _AT_ONCE)
    answered = {line: one for line, one in said if isinstance(one, Answer)}
    return answered, {line: one for line, one in said if isinstance(one, str)}


def _beside(ours: AnswerScore, theirs: AnswerScore) -> AnswerScore:
    return ours.model_copy(
        update={
            "baseline": theirs.got,
            "baseline_exact": theirs.exact,
            "baseline_token_f1": theirs.token_f1,
        }
    )


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _name(deployment: Deployment | str) -> str:
    return deployment if isinstance(deployment, str) else deployment.name
