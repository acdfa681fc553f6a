"""``maas-client evaluate``: ask a deployment what is already answered, and compare."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from maas_client.cli import _connection
from maas_client.cli._output import align_columns, print_json, print_note
from maas_client.cli._parser import positive_int

if TYPE_CHECKING:
    from maas_client.types.evaluation import Evaluation, LabelScores, Scores

_WIDTH = 60


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("deployment", metavar="DEPLOYMENT", help="its name")
    parser.add_argument("data", metavar="FILE", help="held-out chats (JSONL), answers included")
    parser.add_argument("--baseline", metavar="DEPLOYMENT", help="ask this one too, and compare")
    parser.add_argument("--limit", type=positive_int, metavar="N", help="the first N rows only")
    parser.add_argument(
        "--max-tokens", type=int, default=512, metavar="N", help="the longest answer (default 512)"
    )
    parser.add_argument(
        "--answers",
        type=int,
        default=5,
        metavar="N",
        help="show N answers side by side (default 5)",
    )
    _connection.add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Print the scores; answers side by side after them."""
    with _connection.connect(args) as client:
        found = client.evaluate(
            args.deployment,
            args.data,
            baseline=args.baseline,
            max_tokens=args.max_tokens,
            limit=args.limit,
        )
    if args.json:
        print_json(found)
        return 0
    print(format_scores(found))
    if found.scores.labels is not None:
        print("\n" + format_confusion(found.scores.labels))
    if args.answers and found.answers:
        print("\n" + format_answers(found, args.answers))
    for line, reason in found.refused.items():
        print_note(f"line {line} was refused: {reason}")
    if found.skipped:
        print_note(f"{len(found.skipped)} rows end without an answer to compare with")
    return 0


def format_scores(found: Evaluation) -> str:
    """Return the scores as a table, the baseline below."""
    rows = [["DEPLOYMENT", "ANSWERS", "EXACT", "TOKEN F1", "MACRO F1"]]
    rows.append(_row(found.deployment, found.scores))
    if found.baseline is not None and found.baseline_scores is not None:
        rows.append(_row(found.baseline, found.baseline_scores))
    text = align_columns(rows)
    if found.token_f1_gain is not None:
        low, high = found.token_f1_gain
        verdict = "better" if low > 0 else "worse" if high < 0 else "no clear difference"
        text += f"\ntoken F1 against the baseline: {low:+.3f} to {high:+.3f} (95 %): {verdict}"
    return text


def _row(name: str, scores: Scores) -> list[str]:
    macro = f"{scores.labels.macro_f1:.3f}" if scores.labels else "-"
    return [
        name,
        str(scores.answers),
        f"{scores.exact_match:.3f}",
        f"{scores.token_f1:.3f}",
        macro,
    ]


def format_confusion(labels: LabelScores) -> str:
    """Return the confusion table: a line per wanted label, a column per given one."""
    given = sorted({name for row in labels.confusion.values() for name in row})
    rows = [["WANTED \\ GIVEN", *map(_cut, given), "F1"]]
    for want, row in labels.confusion.items():
        rows.append(
            [_cut(want), *(str(row.get(name, 0)) for name in given), f"{labels.f1[want]:.3f}"]
        )
    return align_columns(rows)


def format_answers(found: Evaluation, count: int) -> str:
    """Return some answers beside what was wanted: the worst first, they teach most."""
    worst = sorted(found.answers, key=lambda one: (one.token_f1, one.line))[:count]
    parts = []
    for one in worst:
        rows = [["wanted", _cut(one.want)], [found.deployment, _cut(one.got)]]
        if one.baseline is not None:
            rows.append([found.baseline or "baseline", _cut(one.baseline)])
        parts.append(f"line {one.line}, token F1 {one.token_f1:.2f}\n{align_columns(rows)}")
    return "\n\n".join(parts)


def _cut(text: str) -> str:
    line = "".join(c if c.isprintable() else " " for c in text)
    return line if len(line) <= _WIDTH else line[: _WIDTH - 1] + "…"
