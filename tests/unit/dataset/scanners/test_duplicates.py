"""Exact and near duplicates, conflicting answers, leakage."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from maas_client.dataset import validate
from maas_client.dataset.issues import Issue
from maas_client.dataset.scanners.duplicates import DuplicateScanner
from maas_client.dataset.scanners.near_duplicates import TEMPLATE_REPEATS, NearDuplicateScanner

SYLLABLES = [
    "ba",
    "den",
    "fo",
    "gar",
    "hi",
    "kel",
    "lu",
    "mar",
    "ni",
    "ost",
    "pa",
    "quin",
    "ro",
    "sa",
    "ter",
    "ul",
    "vor",
    "wen",
    "xi",
    "yan",
    "zu",
    "ch",
    "str",
]


class NearOnly(NearDuplicateScanner):
    """Near duplicates only: feeds the exact scanner too, and drops its findings."""

    def __init__(self, **options: Any) -> None:
        super().__init__(DuplicateScanner(), **options)

        self.rows: dict[int, Any] = {}
        self.read_rows = lambda numbers: [(n, self.rows[n]) for n in set(numbers)]

    def feed(self, *args: Any) -> tuple[Issue, ...]:
        self._exact.feed(*args)
        self.rows.update(zip(args[0], args[2], strict=True))
        return super().feed(*args)

    def finish(self) -> Iterator[Issue]:
        yield from super().finish()
        self._candidates.clear()


def prose(rng: random.Random, size: int) -> str:
    """Return a text of ``size`` words, from about ten thousand different words."""
    return " ".join(
        "".join(rng.choices(SYLLABLES, k=rng.choice([1, 2, 2, 3]))) for _ in range(size)
    )


def test_duplicates_are_found_whatever_the_order_of_keys(make_row: Any, run_scanner: Any) -> None:
    a = make_row("one?", "1")
    turned = {"messages": [dict(reversed(list(m.items()))) for m in a["messages"]]}
    issues = run_scanner(DuplicateScanner(), [a, make_row("two?", "2"), turned, a])
    assert [(f.line, f.code, f.detail) for f in issues] == [
        (3, "QUALITY_DUPLICATE", "the same as line 1"),
        (4, "QUALITY_DUPLICATE", "the same as line 1"),
    ]


def test_line_numbers_skip_lines_that_are_not_rows(make_row: Any) -> None:
    scanner = DuplicateScanner()
    scanner.feed([1, 2], [b"", b""], [make_row("a?", "1"), make_row("b?", "2")])
    scanner.feed([5, 9], [b"", b""], [make_row("c?", "3"), make_row("b?", "2")])
    [finding] = scanner.finish()
    assert (finding.line, finding.detail) == (9, "the same as line 2")


def test_each_conflicting_answer_is_reported_once(make_row: Any, run_scanner: Any) -> None:
    rows = [
        make_row("why?", "because"),
        make_row("why?", "dunno"),
        make_row("why?", "dunno"),
        make_row("how?", "so"),
    ]
    issues = run_scanner(DuplicateScanner(), rows)
    assert [(f.line, f.code) for f in issues] == [(3, "QUALITY_DUPLICATE"), (2, "QUALITY_CONFLICT")]
    assert issues[1].detail == "the same prompt as line 1"


def test_rows_with_different_tools_have_different_prompts(make_row: Any, run_scanner: Any) -> None:
    def row_with_tool(name: str) -> dict[str, Any]:
        tool = {"type": "function", "function": {"name": name, "parameters": {}}}
        return {**make_row("go", f"done {name}"), "tools": [tool]}

    assert not run_scanner(
        DuplicateScanner(), [row_with_tool("a"), row_with_tool("b"), make_row("go", "done")]
    )


def test_leakage_names_the_line_in_the_training_file(make_row: Any, run_scanner: Any) -> None:
    train = DuplicateScanner()
    run_scanner(train, [make_row(f"q{i}?", f"{i}") for i in range(2000)])
    validation = DuplicateScanner([train])
    issues = run_scanner(validation, [make_row("new?", "1"), make_row("q1500?", "another answer")])
    assert [(f.line, f.code) for f in issues] == [(2, "QUALITY_LEAKAGE")]
    assert "line 1501 of the training file" in issues[0].detail


def test_memory_is_sixteen_bytes_per_row(make_row: Any) -> None:
    import tracemalloc

    rows = [make_row(f"question number {i}?", f"the answer is {i}") for i in range(20_000)]
    tracemalloc.start()
    scanner = DuplicateScanner()
    for start in range(0, len(rows), 100):
        scanner.feed(range(start + 1, start + 101), [b""] * 100, rows[start : start + 100])
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 16 * len(rows) * 1.2 + 10_000


@pytest.mark.parametrize("size", [25, 55, 62, 120, 480, 1500])
def test_near_duplicates_of_every_length_are_found(
    make_row: Any, run_scanner: Any, size: int
) -> None:
    rng = random.Random(size)
    rows = [make_row(prose(rng, size // 2), prose(rng, size // 2)) for _ in range(300)]
    edited = []
    for row in rows:
        texts = [m["content"].split(" ") for m in row["messages"]]
        part = rng.choice(texts)
        part[rng.randrange(len(part))] = "changed"
        edited.append(make_row(*(" ".join(words) for words in texts)))
    scanner = NearOnly()
    assert not run_scanner(scanner, rows)
    issues = run_scanner(scanner, edited, first=301)
    right = [f for f in issues if f.detail == f"nearly the same as line {f.line - 300}"]
    assert len(right) >= 0.95 * len(rows)


@pytest.mark.parametrize("words", [44, 47, 60])
def test_rows_with_edits_are_found_by_the_ends_of_long_answers(
    make_row: Any, run_scanner: Any, words: int
) -> None:
    """Answers of about the size from which an answer alone is the sketch, and longer ones."""
    rng = random.Random(words)
    rows = [make_row(prose(rng, 60), prose(rng, words)) for _ in range(200)]
    edited = []
    for row in rows:
        texts = [message["content"].split(" ") for message in row["messages"]]
        for text in rng.choices(texts, k=2):
            text[rng.randrange(len(text))] = "changed"
        edited.append(make_row(*map(" ".join, texts)))
    issues = run_scanner(NearOnly(), rows + edited)
    right = [f for f in issues if f.detail == f"nearly the same as line {f.line - 200}"]
    assert len(right) >= 0.94 * len(rows)


@pytest.mark.parametrize("turns", [1, 2])
def test_questions_tell_rows_with_one_long_answer_apart(
    make_row: Any, run_scanner: Any, turns: int
) -> None:
    rng = random.Random(turns)
    answers = [prose(rng, 70) for _ in range(4)]

    def row(question: str) -> Any:
        if turns == 1:
            return make_row(question, rng.choice(answers))
        texts = question, prose(rng, 9), "Okay, thank you.", answers[len(question) % 4]
        roles = ("user", "assistant") * 2
        return {
            "messages": [
                {"role": role, "content": text} for role, text in zip(roles, texts, strict=True)
            ]
        }

    rows = [row(f"{prose(rng, 14)}?") for _ in range(600)]
    copies = []
    for original in rows[::6]:
        first, *later = original["messages"]
        question = first["content"].replace(" ", ", ", 1)
        copies.append({"messages": [first | {"content": question}, *later]})
    issues = run_scanner(NearOnly(), rows + copies)
    right = [f for f in issues if f.detail == f"nearly the same as line {(f.line - 601) * 6 + 1}"]
    assert len(issues) == len(right) >= 0.8 * len(copies)


def test_near_duplicate_in_the_same_block_is_found_and_no_row_matches_itself(
    make_row: Any, run_scanner: Any
) -> None:
    rng = random.Random(1)
    text = prose(rng, 60)
    rows = [
        make_row(text, "It opens at nine in the morning."),
        make_row(text, "It opens at ten in the morning."),
    ]
    [finding] = run_scanner(NearOnly(), rows)
    assert (finding.line, finding.detail) == (2, "nearly the same as line 1")
    for size in range(300, 520):
        assert not run_scanner(NearOnly(), [make_row("x" * size, "y")])


def test_exact_duplicates_are_not_reported_as_near_duplicates(
    make_row: Any, run_scanner: Any
) -> None:
    rng = random.Random(9)
    rows = [make_row(prose(rng, 60), prose(rng, 60)) for _ in range(40)]
    assert not run_scanner(NearOnly(), rows + rows)
    changed = [
        {"messages": [{"role": "system", "content": "New."}, *row["messages"]]} for row in rows
    ]
    assert len(run_scanner(NearOnly(), rows + changed)) == len(rows)


def test_shared_template_does_not_cause_many_findings(make_row: Any, run_scanner: Any) -> None:
    rng = random.Random(2)
    template = prose(rng, 150)
    rows = [make_row(f"{template}\n{prose(rng, 30)}", prose(rng, 5)) for _ in range(1000)]
    assert len(run_scanner(NearOnly(), rows)) <= 2 * TEMPLATE_REPEATS


def test_near_leakage_is_reported_for_different_prompts(make_row: Any, run_scanner: Any) -> None:
    rng = random.Random(11)
    rows = [make_row(prose(rng, 50), prose(rng, 50)) for _ in range(300)]
    train = NearOnly()
    run_scanner(train, rows)
    question, answer = (m["content"] for m in rows[200]["messages"])
    validation = [
        make_row(prose(rng, 50), prose(rng, 50)),
        make_row(f"{question} please", answer),
        rows[7],
    ]
    [finding] = run_scanner(NearOnly(training=[train]), validation)
    assert (finding.line, finding.code) == (2, "QUALITY_LEAKAGE")
    assert finding.detail == "nearly the same as line 201 of the training file"


def test_validate_finds_leakage_from_every_training_file(make_row: Any, write_jsonl: Any) -> None:
    rows = [make_row(f"question {i}?", f"This is answer {i}.") for i in range(30)]
    first, second = write_jsonl(rows[:15], "a.jsonl"), write_jsonl(rows[15:], "b.jsonl")
    validation = write_jsonl([rows[3], make_row("new?", "yes."), rows[20]], "v.jsonl")
    report = validate(first, second, validation=validation)
    assert report.files[2].counts["QUALITY_LEAKAGE"] == 2
    assert "QUALITY_LEAKAGE" not in report.files[1].counts


def test_rows_beyond_the_limit_are_counted_but_not_compared(
    make_row: Any, run_scanner: Any
) -> None:
    scanner = NearOnly(max_rows=100)
    rng = random.Random(3)
    run_scanner(scanner, [make_row(prose(rng, 40), "ok") for _ in range(150)])
    assert scanner.stats() == {"near_duplicates_not_compared": 50}


def test_memory_of_compared_rows_is_released_if_no_validation_file_follows(
    make_row: Any, run_scanner: Any
) -> None:
    import tracemalloc

    rng = random.Random(4)
    rows = [make_row(prose(rng, 40), prose(rng, 20)) for _ in range(1000)]
    used = {}
    for keep_pieces in (True, False):
        exact = DuplicateScanner()
        scanner = NearDuplicateScanner(exact, 900, keep_pieces=keep_pieces)
        tracemalloc.start()
        for start in range(0, len(rows), 100):
            block = range(start + 1, start + 101), [b""] * 100, rows[start : start + 100]
            exact.feed(*block)
            scanner.feed(*block)
        used[keep_pieces] = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert scanner.stats() == {"near_duplicates_not_compared": 100}
    assert used[False] < used[True] / 4, used


@pytest.mark.parametrize("block_size", [1, 3, 40])
def test_near_duplicates_do_not_depend_on_the_blocks_of_a_file(
    make_row: Any, block_size: int
) -> None:
    rng = random.Random(6)
    template = " b ".join(f"indistinct stone {n}" for n in range(4))

    def answer() -> str:  # its pieces, which end at a b, are shorter than those of the template
        return " b ".join(f"ocean {rng.randrange(1000, 9999)}" for _ in range(15))

    text = answer()
    rows = [make_row(f"What is in {n}?", f"{answer()} b {template}") for n in range(36)]
    rows += [make_row("What is here?", text), make_row("What is here?", f"{text} b {template}")]
    scanner = NearOnly()
    for start in range(0, len(rows), block_size):
        block = rows[start : start + block_size]
        numbers = range(start + 1, start + 1 + len(block))
        scanner.feed(numbers, [b""] * len(block), block)
    found = [(issue.line, issue.detail) for issue in scanner.finish()]
    assert found == [(38, "nearly the same as line 37")]


def test_rows_in_memory_are_compared_too(make_row: Any) -> None:
    rng = random.Random(12)
    rows = [make_row(prose(rng, 30) + "?", prose(rng, 40) + ".") for _ in range(60)]
    question, answer = (message["content"] for message in rows[20]["messages"])
    copy = make_row(f"Hello, {question}", answer)
    report = validate([*rows, copy], validation=[copy, make_row("Why not?", "Because.")])
    assert report.files[0].counts["QUALITY_NEAR_DUPLICATE"] == 1
    assert report.files[1].counts["QUALITY_LEAKAGE"] == 1
    report = validate(rows, validation=[copy, make_row("Why not?", "Because.")])
    assert report.files[1].counts["QUALITY_LEAKAGE"] == 1
