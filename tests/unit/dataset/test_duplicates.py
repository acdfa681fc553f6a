"""Exact and near duplicates, conflicting answers, leakage."""

from __future__ import annotations

import random
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

    def feed(self, *args: Any) -> list[Issue]:
        self._exact.feed(*args)
        return super().feed(*args)


def prose(rng: random.Random, size: int) -> str:
    """Return a text of ``size`` words, from about ten thousand different words."""
    return " ".join(
        "".join(rng.choices(SYLLABLES, k=rng.choice([1, 2, 2, 3]))) for _ in range(size)
    )


def test_duplicates_are_found_whatever_the_order_of_keys(talk: Any, scan: Any) -> None:
    a = talk("one?", "1")
    turned = {"messages": [dict(reversed(list(m.items()))) for m in a["messages"]]}
    found = scan(DuplicateScanner(), [a, talk("two?", "2"), turned, a])
    assert [(f.line, f.code, f.detail) for f in found] == [
        (3, "QUALITY_DUPLICATE", "the same as line 1"),
        (4, "QUALITY_DUPLICATE", "the same as line 1"),
    ]


def test_line_numbers_skip_lines_that_are_not_rows(talk: Any) -> None:
    scanner = DuplicateScanner()
    scanner.feed([1, 2], [b"", b""], [talk("a?", "1"), talk("b?", "2")])
    scanner.feed([5, 9], [b"", b""], [talk("c?", "3"), talk("b?", "2")])
    [finding] = scanner.finish()
    assert (finding.line, finding.detail) == (9, "the same as line 2")


def test_each_conflicting_answer_is_reported_once(talk: Any, scan: Any) -> None:
    rows = [
        talk("why?", "because"),
        talk("why?", "dunno"),
        talk("why?", "dunno"),
        talk("how?", "so"),
    ]
    found = scan(DuplicateScanner(), rows)
    assert [(f.line, f.code) for f in found] == [(3, "QUALITY_DUPLICATE"), (2, "QUALITY_CONFLICT")]
    assert found[1].detail == "the same prompt as line 1"


def test_rows_with_different_tools_have_different_prompts(talk: Any, scan: Any) -> None:
    def row_with_tool(name: str) -> dict[str, Any]:
        tool = {"type": "function", "function": {"name": name, "parameters": {}}}
        return {**talk("go", f"done {name}"), "tools": [tool]}

    assert not scan(
        DuplicateScanner(), [row_with_tool("a"), row_with_tool("b"), talk("go", "done")]
    )


def test_leakage_names_the_line_in_the_training_file(talk: Any, scan: Any) -> None:
    train = DuplicateScanner()
    scan(train, [talk(f"q{i}?", f"{i}") for i in range(2000)])
    validation = DuplicateScanner([train])
    found = scan(validation, [talk("new?", "1"), talk("q1500?", "another answer")])
    assert [(f.line, f.code) for f in found] == [(2, "QUALITY_LEAKAGE")]
    assert "line 1501 of the training file" in found[0].detail


def test_memory_is_sixteen_bytes_per_row(talk: Any) -> None:
    import tracemalloc

    rows = [talk(f"question number {i}?", f"the answer is {i}") for i in range(20_000)]
    tracemalloc.start()
    scanner = DuplicateScanner()
    for start in range(0, len(rows), 100):
        scanner.feed(range(start + 1, start + 101), [b""] * 100, rows[start : start + 100])
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 16 * len(rows) * 1.2 + 10_000


@pytest.mark.parametrize("size", [25, 55, 62, 120, 480, 1500])
def test_near_duplicates_of_every_length_are_found(talk: Any, scan: Any, size: int) -> None:
    rng = random.Random(size)
    rows = [talk(prose(rng, size // 2), prose(rng, size // 2)) for _ in range(300)]
    edited = []
    for row in rows:
        texts = [m["content"].split(" ") for m in row["messages"]]
        part = rng.choice(texts)
        part[rng.randrange(len(part))] = "changed"
        edited.append(talk(*(" ".join(words) for words in texts)))
    scanner = NearOnly()
    assert not scan(scanner, rows)
    found = scan(scanner, edited, first=301)
    right = [f for f in found if f.detail == f"nearly the same as line {f.line - 300}"]
    assert len(right) >= 0.95 * len(rows)


def test_near_duplicate_in_the_same_block_is_found_and_no_row_matches_itself(
    talk: Any, scan: Any
) -> None:
    rng = random.Random(1)
    text = prose(rng, 60)
    rows = [
        talk(text, "It opens at nine in the morning."),
        talk(text, "It opens at ten in the morning."),
    ]
    [finding] = scan(NearOnly(), rows)
    assert (finding.line, finding.detail) == (2, "nearly the same as line 1")
    for size in range(300, 520):
        assert not scan(NearOnly(), [talk("x" * size, "y")])


def test_exact_duplicates_are_not_reported_as_near_duplicates(talk: Any, scan: Any) -> None:
    rng = random.Random(9)
    rows = [talk(prose(rng, 60), prose(rng, 60)) for _ in range(40)]
    assert not scan(NearOnly(), rows + rows)
    changed = [
        {"messages": [{"role": "system", "content": "New."}, *row["messages"]]} for row in rows
    ]
    assert len(scan(NearOnly(), rows + changed)) == len(rows)


def test_shared_template_does_not_cause_many_findings(talk: Any, scan: Any) -> None:
    rng = random.Random(2)
    template = prose(rng, 150)
    rows = [talk(f"{template}\n{prose(rng, 30)}", prose(rng, 5)) for _ in range(1000)]
    assert len(scan(NearOnly(), rows)) <= 2 * TEMPLATE_REPEATS


def test_near_leakage_is_reported_for_different_prompts(talk: Any, scan: Any) -> None:
    rng = random.Random(11)
    rows = [talk(prose(rng, 50), prose(rng, 50)) for _ in range(300)]
    train = NearOnly()
    scan(train, rows)
    question, answer = (m["content"] for m in rows[200]["messages"])
    validation = [talk(prose(rng, 50), prose(rng, 50)), talk(f"{question} please", answer), rows[7]]
    [finding] = scan(NearOnly(training=[train]), validation)
    assert (finding.line, finding.code) == (2, "QUALITY_LEAKAGE")
    assert finding.detail == "nearly the same as line 201 of the training file"


def test_validate_finds_leakage_from_every_training_file(talk: Any, write: Any) -> None:
    rows = [talk(f"question {i}?", f"This is answer {i}.") for i in range(30)]
    first, second = write(rows[:15], "a.jsonl"), write(rows[15:], "b.jsonl")
    validation = write([rows[3], talk("new?", "yes."), rows[20]], "v.jsonl")
    report = validate(first, second, validation=validation)
    assert report.files[2].counts["QUALITY_LEAKAGE"] == 2
    assert "QUALITY_LEAKAGE" not in report.files[1].counts


def test_rows_beyond_the_limit_are_counted_but_not_compared(talk: Any, scan: Any) -> None:
    scanner = NearOnly(max_rows=100)
    rng = random.Random(3)
    scan(scanner, [talk(prose(rng, 40), "ok") for _ in range(150)])
    assert scanner.stats() == {"near_duplicates_not_compared": 50}
