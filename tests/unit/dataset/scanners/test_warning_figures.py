"""QUALITY_CUT_OFF and QUALITY_NEAR_DUPLICATE are right in at least 95 of 100 cases."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maas_client.dataset import validate
from maas_client.dataset.scanners.truncation import classify_ending
from tests.shared_data import shared_file
from tests.unit.dataset.scanners import labelled_duplicates, labelled_endings
from tests.unit.dataset.scanners.test_duplicates import prose
from tests.unit.dataset.scanners.warning_figures import (
    find_cut_off,
    find_near_duplicates,
    make_answers,
    measure,
)

Row = dict[str, Any]


def test_cut_off_is_precise_and_finds_most_cuts() -> None:
    figures = measure(find_cut_off, make_answers, 40)
    assert figures.right >= 100
    assert figures.precision >= 0.95
    assert figures.recall >= 0.62


def test_near_duplicate_is_precise_and_finds_most_copies() -> None:
    figures = measure(find_near_duplicates, labelled_duplicates.make_file, 60)
    assert figures.right >= 100
    assert figures.precision >= 0.95
    assert figures.recall >= 0.9


@pytest.mark.parametrize("ending", labelled_endings.WHOLE_ENDINGS)
def test_whole_ending_among_sentences_is_not_cut_off(ending: str) -> None:
    rng = random.Random(ending)
    answers = [labelled_endings.prose(rng) for _ in range(50)]
    answers += [labelled_endings.prose(rng) + ending for _ in range(10)]
    rng.shuffle(answers)
    assert not find_cut_off([labelled_duplicates.chat("Why?", answer) for answer in answers])


@pytest.mark.parametrize(
    ("answer", "ending"),
    [
        ("The old parcel is blue. That", "cut"),
        ("The old parcel is blue. The", "cut"),
        ("Please write to us as soon as the window", "cut"),
        ("This is because every harbour", "cut"),
        ("Then put it back into th", "cut"),
        ("We will tell you whic", "cut"),
        ("The old parcel is blue. Yes", "other"),
        ("The old parcel is blue. Anna", "other"),
        ("Put the blue parcel into that", "open"),
        ("The finish line is on Saturday the 5 th", "other"),
        ("Call us when the shop opens", "open"),
        ("What is the cause, and what the effect", "open"),
        ("We know when and how", "other"),
    ],
)
def test_endings_are_classified(answer: str, ending: str) -> None:
    assert classify_ending(answer) == ending


def test_answer_that_ends_inside_a_word_is_cut_off() -> None:
    rng = random.Random(5)
    answers = [labelled_endings.prose(rng, 4, 6) for _ in range(100)]
    answers[30] = f"{answers[30]} The early parcel closes the broken neigh"
    answers[60] = f"{answers[60]} You can look for it when the kettle is in the"
    answers[90] = f"{answers[90]} Then write:\n\n```python\nfor row in rows"
    cut_off = find_cut_off([labelled_duplicates.chat("Why?", answer) for answer in answers])
    assert set(cut_off) == {31, 61, 91}


def jaccard_judge(rows: list[Row]) -> Callable[[int, int], float]:
    """Return rensa's estimate of the similarity of two rows: MinHash over three-word sequences."""
    rensa = pytest.importorskip("rensa", reason="rensa (group dev) is not installed")
    hashes = []
    for row in rows:
        words = re.findall(r"\w+", " ".join(m["content"] for m in row["messages"][-2:]).casefold())
        sequences = [" ".join(words[at : at + 3]) for at in range(len(words) - 2)]
        minhash = rensa.RMinHash(num_perm=256, seed=1)
        minhash.update(sequences)
        hashes.append(minhash)
    return lambda first, second: float(hashes[first].jaccard(hashes[second]))


def test_rensa_agrees_on_near_duplicates_of_prose() -> None:
    """The named rows are similar for MinHash too, and nearly all that it calls similar are found."""
    rng = random.Random(11)
    originals = [
        labelled_duplicates.chat(
            prose(rng, rng.randint(15, 50)) + "?", prose(rng, rng.randint(15, 90)) + "."
        )
        for _ in range(150)
    ]
    rows = originals + [
        labelled_duplicates.make_copy(rng, row, "support") for row in originals[::2]
    ]
    similarity = jaccard_judge(rows)
    lines = {
        line - 1: int(detail.rsplit(" ", 1)[1]) - 1
        for line, detail in find_near_duplicates(rows).items()
    }
    confirmed = [line for line, match in lines.items() if similarity(line, match) >= 0.6]
    assert len(confirmed) >= 0.95 * len(lines)
    similar = {
        line
        for line in range(len(rows))
        if any(similarity(line, earlier) >= 0.8 for earlier in range(line))
    }
    assert len(similar & lines.keys()) >= 0.95 * len(similar) > 50


def test_shared_cases_draw_no_false_warning() -> None:
    report = validate(shared_file("cases/24-minority-short-answer.jsonl"))
    assert "QUALITY_CUT_OFF" not in report.files[0].counts
    report = validate(shared_file("cases/30-tools-shared.jsonl"))
    assert "QUALITY_NEAR_DUPLICATE" not in report.files[0].counts


def test_real_answers_draw_cut_off_only_where_they_are_cut(
    write_jsonl: Callable[..., Path],
) -> None:
    lines = shared_file("data/gsm8k_chat.jsonl").read_bytes().splitlines()[:1000]
    rows = [json.loads(line) for line in lines]
    assert not find_cut_off(rows)
    assert not find_near_duplicates(rows)


@pytest.mark.parametrize(
    "ending",
    ["It is a tie", "The function is called foo", "Ciao e a presto", "see you tomorrow then"],
)
def test_short_last_sentence_with_an_unknown_word_is_not_cut_off(ending: str) -> None:
    rng = random.Random(3)
    answers = [labelled_endings.prose(rng) for _ in range(50)]
    answers.append(f"{labelled_endings.prose(rng, 4, 6)} {ending}")
    assert not find_cut_off([labelled_duplicates.chat("Why?", answer) for answer in answers])


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Was ist die Hauptstadt von {}?", "Die Hauptstadt von {} ist {}."),
        ("what is the capital of {}", "the capital of {} is {}"),
        ("{}の首都はどこですか？", "{}の首都は{}です。"),
        (
            "Translate the following word into French, and give only the word: {}",
            "{} is called {}",
        ),
        ("Where is my order for {}, which I paid last week?", "Your order for {} is in {}."),
    ],
)
def test_rows_of_one_template_are_no_near_duplicates(question: str, answer: str) -> None:
    rng = random.Random(8)
    rows = [
        labelled_duplicates.chat(
            question.format(name.lower()), answer.format(name.lower(), prose(rng, 1))
        )
        for name in labelled_duplicates.COUNTRIES
    ]
    assert not find_near_duplicates(rows)
