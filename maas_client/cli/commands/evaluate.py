"""``maas-client evaluate``: score a deployment on held-out chats, next to a baseline."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from maas_client.cli import _connection
from maas_client.cli._output import align_columns, print_json, print_note
from maas_client.cli._parser import positive_int, refuse_unused, whole_number

if TYPE_CHECKING:
    from maas_client.types.evaluation import Evaluation, LabelScores, Scores

_WIDTH = 60


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("deployment", metavar="DEPLOYMENT", help="name of the deployment")
    parser.add_argument("data", metavar="FILE", help="held-out chats with answers, JSON Lines")
    parser.add_argument("--baseline", metavar="DEPLOYMENT", help="deployment to compare with")
    parser.add_argument("--limit", type=positive_int, metavar="N",
                        help="use only the first N rows (default: all)")  # fmt: skip
    parser.add_argument(
        "--max-tokens",
        type=positive_int,
        default=512,
        metavar="N",
        help="longest answer, in tokens (default 512)",
    )
    parser.add_argument(
        "--grader",
        metavar="FILE",
        help="also score with this grader of reinforcement fine-tuning (JSON)",
    )
    parser.add_argument(
        "--answers",
        type=whole_number,
        default=5,
        metavar="N",
        help="print N answers next to the expected ones (default 5)",
    )
    _connection.add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Print the scores, then some answers next to the expected ones."""
    if args.json:
        refuse_unused(args, "with --json, which has every answer", ["answers"], "Leave out {}.")
    with _connection.connect(args) as client:
        evaluation = client.evaluate(
            args.deployment,
            args.data,
            baseline=args.baseline,
            max_tokens=args.max_tokens,
            limit=args.limit,
            grader=args.grader,
        )
    if args.json:
        print_json(evaluation)
        return 0
    print(format_scores(evaluation))
    if evaluation.scores.labels is not None:
        print("\n" + format_confusion(evaluation.scores.labels))
    if args.answers and evaluation.answers:
        print("\n" + format_answers(evaluation, args.answers))
    if evaluation.simulated:
        print_note(
            "simulated answers: the instant engine runs no model, and the scores say nothing about one"
        )
    for line, reason in evaluation.refused.items():
        print_note(f"line {line} was rejected: {reason}")
    if evaluation.skipped:
        print_note(
            f"{len(evaluation.skipped)} rows have no answer to compare with and were skipped"
        )
    return 0


_MIN_ANSWERS = 20
"""With fewer answers, an interval that excludes 0 says little about other rows."""


def format_scores(evaluation: Evaluation) -> str:
    """Return the scores as a table, with the baseline in the second row."""
    rows = [["DEPLOYMENT", "ANSWERS", "EXACT", "TOKEN F1", "MACRO F1"]]
    rows[0] += [] if evaluation.scores.grade is None else ["GRADE", "PASSED"]
    rows.append(_row(evaluation.deployment, evaluation.scores))
    if evaluation.baseline is not None and evaluation.baseline_scores is not None:
        rows.append(_row(evaluation.baseline, evaluation.baseline_scores))
    text = align_columns(rows)
    if evaluation.token_f1_gain is not None:
        low, high = evaluation.token_f1_gain
        verdict = "better" if low > 0 else "worse" if high < 0 else "no clear difference"
        if evaluation.scores.answers < _MIN_ANSWERS:
            verdict = "too few answers for a verdict"
        text += f"\ntoken F1 against the baseline: {low:+.3f} to {high:+.3f} (95 %): {verdict}"
    return text


def _row(name: str, scores: Scores) -> list[str]:
    macro = f"{scores.labels.macro_f1:.3f}" if scores.labels else "-"
    passed = "-" if scores.pass_rate is None else f"{scores.pass_rate:.3f}"
    return [
        name,
        str(scores.answers),
        f"{scores.exact_match:.3f}",
        f"{scores.token_f1:.3f}",
        macro,
        *([] if scores.grade is None else [f"{scores.grade:.3f}", passed]),
    ]


def format_confusion(labels: LabelScores) -> str:
    """Return the confusion matrix: a row per expected label, a column per predicted label."""
    predicted = sorted({name for row in labels.confusion.values() for name in row})
    rows = [["EXPECTED \\ PREDICTED", *map(_truncate, predicted), "F1"]]
    for expected, row in labels.confusion.items():
        counts = (str(row.get(name, 0)) for name in predicted)
        rows.append([_truncate(expected), *counts, f"{labels.f1[expected]:.3f}"])
    return align_columns(rows)


def format_answers(evaluation: Evaluation, count: int) -> str:
    """Return the ``count`` answers with the lowest score, next to the expected answers."""
    lowest = sorted(evaluation.answers, key=lambda answer: (answer.token_f1, answer.line))[:count]
    parts = []
    for answer in lowest:
        rows = [
            ["expected", _truncate(answer.expected)],
            [evaluation.deployment, _truncate(answer.answer)],
        ]
        if answer.baseline is not None:
            rows.append([evaluation.baseline or "baseline", _truncate(answer.baseline)])
        heading = f"line {answer.line}, token F1 {answer.token_f1:.2f}"
        parts.append(f"{heading}\n{align_columns(rows)}")
    return "\n\n".join(parts)


def _truncate(text: str) -> str:
    line = "".join(c if c.isprintable() else " " for c in text)
    return line if len(line) <= _WIDTH else line[: _WIDTH - 1] + "…"
