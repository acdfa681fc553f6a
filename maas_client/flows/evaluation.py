"""``client.evaluate``: compare a deployment's answers with the answers in a data file."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from maas_client import graders, scoring
from maas_client.errors import BadRequestError, ConfigError, DatasetError, NotFoundError
from maas_client.flows import chat, deployments, identifiers
from maas_client.flows._io import IO
from maas_client.flows._requests import is_foundry
from maas_client.flows.identifiers import check_number
from maas_client.scoring import Answer
from maas_client.types import Deployment
from maas_client.types.evaluation import AnswerScore, Evaluation
from maas_client.wire.statuses import BASE_PROPERTY, SIMULATED_FINGERPRINT

_log = logging.getLogger("maas_client")
_PARALLEL_REQUESTS = 8


@dataclass(frozen=True, slots=True)
class _Question:
    line: int
    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] | None
    reference: Answer
    row: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Answers:
    scores: list[AnswerScore]
    rejected: dict[int, str]
    """The reasons for which rows were rejected, by line number."""
    is_simulated: bool


async def evaluate(
    io: IO,
    deployment: Deployment | str,
    data: str | PathLike[str],
    *,
    baseline: Deployment | str | None = None,
    max_tokens: int = 512,
    limit: int | None = None,
    grader: graders.Grader | Mapping[str, Any] | str | PathLike[str] | None = None,
) -> Evaluation:
    """Ask a deployment every question in a data file and score its answers against those in the file.

    Each row is sent without its last message, which is the reference answer, at temperature 0. Rows
    without a reference answer are skipped; rows that the service rejects are listed and not scored.

    Args:
        deployment: A deployment or its name.
        data: The path of a JSON Lines file of chats that were not used for training.
        baseline: A second deployment to ask the same questions, such as one of the base model; default:
            none. A warning is logged if the local server runs it on another base.
        max_tokens: The largest number of tokens to generate for each answer; default: 512.
        limit: Use only the first rows; default: all.
        grader: A grader of reinforcement fine-tuning that scores each answer too: its JSON object, the path
            of a file with it, or the result of ``maas_client.graders.load``. Its templates name fields of the
            row; a ``score_model`` grader asks the deployment that its ``model`` names. Default: none.

    Returns:
        The scores, for the file and for each answer.

    Raises:
        DatasetError: The file has an invalid row, or no row with a reference answer.
        ConfigError: The file does not exist, ``limit`` is less than 1, or the grader is invalid.
        UnsupportedError: The grader is of a type that is not available here, such as ``python``.
        NotFoundError: There is no such deployment, or none that the grader asks.

    Example:
        >>> result = client.evaluate("tickets", "held-out.jsonl", baseline="phi-base")
        >>> result.scores.token_f1, result.baseline_scores.token_f1
        (0.81, 0.42)
    """
    identifiers.deployment_id(deployment)  # raises for a value that is not a deployment
    if limit is not None:
        check_number("limit", limit, at_least=1, is_whole=True)
    check_number("max_tokens", max_tokens, at_least=1, is_whole=True)
    checked_grader = await io.call(partial(_load_grader, grader))
    await io.call(partial(_validate, fspath(data)))
    questions, skipped = await io.call(partial(_read_questions, Path(fspath(data)), limit))
    if checked_grader is not None:
        for question in questions:
            graders.check_item(checked_grader, question.row)
    is_checked = await _check_deployments(io, deployment, baseline, checked_grader, questions[0])
    # Where nothing can be looked up, the first row shows what is missing before the others are paid for.
    batches = [questions] if is_checked else [questions[:1], questions[1:]]
    results: dict[str, list[AnswerScore]] = {"deployment": [], "baseline": []}
    rejected: dict[int, str] = {}
    is_simulated = False
    for batch in batches:
        for role, each in (("deployment", deployment), ("baseline", baseline)):
            if each is not None:
                answers = await _ask(io, each, batch, max_tokens, checked_grader)
                results[role] += answers.scores
                rejected |= answers.rejected
                is_simulated |= answers.is_simulated
    scores, baseline_scores = (
        [score for score in scores if score.line not in rejected] for scores in results.values()
    )
    evaluation = Evaluation(
        deployment=_name(deployment),
        scores=scoring.aggregate_scores(scores),
        answers=tuple(scores),
        refused=dict(sorted(rejected.items())),
        skipped=skipped,
        simulated=is_simulated,
    )
    if baseline is None:
        return evaluation
    return evaluation.model_copy(
        update={
            "baseline": _name(baseline),
            "baseline_scores": scoring.aggregate_scores(baseline_scores),
            "token_f1_gain": scoring.mean_difference_interval(
                [score.token_f1 for score in scores],
                [score.token_f1 for score in baseline_scores],
            ),
            "answers": tuple(map(_with_baseline, scores, baseline_scores)),
        }
    )


def _validate(path: str) -> None:
    """Raise for a file with invalid rows: scores of the valid ones alone would mislead."""
    from maas_client.dataset import validate

    if Path(path).exists():
        validate(path, target="local", content=False).raise_if_invalid()


def _read_questions(path: Path, limit: int | None) -> tuple[list[_Question], tuple[int, ...]]:
    """Return the questions, and the line numbers of rows without a reference answer."""
    from maas_client.dataset.rows import read_rows

    if not path.is_file():
        raise ConfigError(f"file not found: {path}", hint="Pass a JSONL file of held-out chats.")
    questions, skipped = [], []
    for line, row in islice(read_rows(path), limit):
        *prompt, last = row["messages"]
        if last.get("role") != "assistant" or not prompt:
            skipped.append(line.number)
            continue
        reference = Answer(_to_text(last.get("content")), last.get("tool_calls") or ())
        messages = [
            {key: value for key, value in message.items() if key != "weight"} for message in prompt
        ]
        questions.append(_Question(line.number, messages, row.get("tools"), reference, row))
    if not questions:
        raise DatasetError(
            f"{path.name} has no row with a reference answer",
            hint="Each row must end with an assistant message. Check the file: maas-client validate",
        )
    return questions, tuple(skipped)


async def _check_deployments(
    io: IO,
    deployment: Deployment | str,
    baseline: Deployment | str | None,
    grader: graders.Grader | None,
    question: _Question,
) -> bool:
    """Look up what will be asked before an answer is paid for, and warn of a baseline on another base.

    Returns False for Azure's Foundry, where the right to chat does not include the right to read deployments.
    """
    compared = [
        identifiers.deployment_id(each) for each in (deployment, baseline) if each is not None
    ]
    if is_foundry(io) and not (io.scope.local and io.scope.values.get("account")):
        return False
    bases = {name: _base(await deployments.get(io, name)) for name in compared}
    if len({base for base in bases.values() if base}) > 1:
        _log.warning(
            "%s: the scores differ by more than the training; use a baseline on the same base",
            " and ".join(f"{name} runs on {base}" for name, base in bases.items()),
        )
    for grader_question in graders.questions(grader, "", question.row) if grader else ():
        with _explain_missing_model(grader_question):
            await deployments.get(io, grader_question.model)
    return True


@contextmanager
def _explain_missing_model(question: graders.GraderQuestion) -> Iterator[None]:
    """Say in a ``NotFoundError`` that the grader asks this deployment."""
    try:
        yield
    except NotFoundError as error:
        name = f"{question.grader} " if question.grader else ""
        error.hint = (
            f"The grader {name}asks {question.model}: deploy it, or change the grader's model."
        )
        raise


def _base(deployment: Deployment) -> str | None:
    """Return the base weights of a deployment; None where the service does not report them."""
    return (deployment.raw.get("tags") or {}).get(BASE_PROPERTY)


async def _ask(
    io: IO,
    deployment: Deployment | str,
    questions: Sequence[_Question],
    max_tokens: int,
    grader: graders.Grader | None,
) -> _Answers:
    is_simulated = False

    async def ask(question: _Question) -> AnswerScore | str:
        nonlocal is_simulated
        try:
            reply = await chat.complete(
                io,
                deployment,
                question.messages,
                tools=question.tools,
                temperature=0,
                max_tokens=max_tokens,
            )
        except BadRequestError as error:  # because of this row: too long, or filtered
            return error.message
        is_simulated |= reply.system_fingerprint == SIMULATED_FINGERPRINT
        message = reply.choices[0].message
        calls = [call.model_dump() for call in message.tool_calls or ()]
        answer = Answer(message.content or "", calls)
        score = scoring.score_answer(question.line, question.reference, answer)
        return score if grader is None else await _grade(io, grader, question, answer, score)

    results = await io.parallel(ask, questions, _PARALLEL_REQUESTS)
    rejected = {
        q.line: each for q, each in zip(questions, results, strict=True) if isinstance(each, str)
    }
    scores = [each for each in results if isinstance(each, AnswerScore)]
    return _Answers(scores, rejected, is_simulated)


def _load_grader(
    grader: graders.Grader | Mapping[str, Any] | str | PathLike[str] | None,
) -> graders.Grader | None:
    if grader is None or isinstance(grader, graders.Grader):
        return grader
    return graders.load(grader)


async def _grade(
    io: IO, grader: graders.Grader, question: _Question, answer: Answer, score: AnswerScore
) -> AnswerScore:
    """Return the score with the grader's, whose models are asked first."""
    replies, calls = {}, answer.tool_calls
    for grader_question in graders.questions(grader, answer.text, question.row, tool_calls=calls):
        with _explain_missing_model(grader_question):
            reply = await chat.complete(
                io, grader_question.model, grader_question.messages, **grader_question.options
            )
        replies[grader_question.grader] = reply.choices[0].message.content or ""
    result = graders.score(grader, answer.text, question.row, tool_calls=calls, replies=replies)
    return score.model_copy(update={"grade": result.score, "passed": result.passed})


def _with_baseline(score: AnswerScore, baseline: AnswerScore) -> AnswerScore:
    return score.model_copy(
        update={
            "baseline": baseline.answer,
            "baseline_exact": baseline.exact,
            "baseline_token_f1": baseline.token_f1,
            "baseline_grade": baseline.grade,
        }
    )


def _to_text(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _name(deployment: Deployment | str) -> str:
    return deployment if isinstance(deployment, str) else deployment.name
