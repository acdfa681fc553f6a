"""The quality scanner finds bad answers with few false alarms."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from maas_client.dataset.report import to_pointer
from maas_client.dataset.scanners.quality import (
    QualityScanner,
    has_mojibake,
    has_placeholder,
    is_refusal,
)
from maas_client.dataset.scanners.truncation import classify_ending
from tests.shared_data import shared_file


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, but as an AI language model I cannot do that.",
        "As an AI language model, I do not have feelings.",
        "Sorry, I cannot assist with that request.",
        "I am unable to provide this.",
        "Unfortunately, I am not able to answer that.",
    ],
)
def test_refusals_are_detected(answer: str) -> None:
    assert is_refusal(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry to hear that your parcel is late. Here is what to do.",
        "As an alternative, take the bus.",
        "I can't recommend this museum enough!",
        "Sorry about the delay! Your ticket is 12.",
        "AI cannot replace teachers, the article says.",
    ],
)
def test_similar_answers_are_not_refusals(answer: str) -> None:
    assert not is_refusal(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "TODO",
        "Dear [Your Name],",
        "Hi {{customer_name}}, welcome",
        "lorem ipsum dolor",
        "tbd",
        "<insert date here>",
    ],
)
def test_placeholders_are_detected(answer: str) -> None:
    assert has_placeholder(answer)


@pytest.mark.parametrize(
    "answer",
    ["a[i] < b[j]", "[1, 2]", "none", "Your name is [sic] Ann.", "<<3+4=7>>7", "{'a': {1}}"],
)
def test_similar_text_is_not_a_placeholder(answer: str) -> None:
    assert not has_placeholder(answer)


@pytest.mark.parametrize(
    "text", ["cafÃ©", "itâ€™s", "Â£5", "ðŸ˜€", "bad \ufffd byte", "Ð¿Ñ€Ð¸Ð²ÐµÑ‚"]
)
def test_mojibake_is_detected(text: str) -> None:
    assert has_mojibake(text)


@pytest.mark.parametrize(
    "text",
    ["café", "привет", "Ã", "GÂTEAU", "naïve", "château — “fine”", "São", "ÀÉÎÕÜ", "Đà Nẵng"],
)
def test_valid_text_is_not_mojibake(text: str) -> None:
    assert not has_mojibake(text)


def test_mojibake_of_every_accented_word_is_found() -> None:
    for word in (
        "garçon",
        "Straße",
        "señor",
        "fjörd",
        "œuvre",
        "“quoted”",
        "año",
        "über",
        "Ελλάδα",
        "日本",
    ):
        broken = word.encode().decode("cp1252", "ignore")
        assert has_mojibake(broken) or word in ("Ελλάδα", "日本"), broken


@pytest.mark.parametrize(
    ("answer", "ending"),
    [
        ("To install it, first open the settings and click on the", "cut"),
        ("There are three things to consider here, namely the price,", "cut"),
        ("```python\nprint(1)\nThen we go on and run it with more", "cut"),
        ("The capital of France is", "cut"),
        ("I am in", "other"),
        ("The meeting was moved to Thursday because the room is tak", "open"),
        ("The meeting was moved to Thursday because the room is taken.", "ended"),
        ("Berlin", "other"),
        ("The answer is 42", "other"),
        ("Here you go:\n- apples and pears\n- bread and also butter", "other"),
        ("```python\nprint(1)\n```", "ended"),
        ("これは文です。", "ended"),
    ],
)
def test_endings_are_classified(answer: str, ending: str) -> None:
    assert classify_ending(answer) == ending


def test_open_ending_is_reported_only_if_other_answers_end_with_a_full_stop(
    make_row: Any, run_scanner: Any
) -> None:
    complete = [make_row(f"q{i}?", f"This is the full answer to question {i}.") for i in range(12)]
    open_ended = make_row("q?", "The meeting was moved to Thursday because the room is tak")
    [finding] = run_scanner(QualityScanner(), [*complete, open_ended])
    assert (finding.code, finding.line, to_pointer(finding.path)) == (
        "QUALITY_CUT_OFF",
        13,
        "/messages/1/content",
    )
    informal = [
        make_row(f"q{i}?", f"it is simply what people call number {i} around here")
        for i in range(12)
    ]
    assert not run_scanner(QualityScanner(), [*informal, open_ended])


def test_findings_have_the_pointer_of_the_message(make_row: Any, run_scanner: Any) -> None:
    row = make_row("cafÃ© where?", "I'm sorry, but I can't help with that.", system="Be kind.")
    issues = run_scanner(QualityScanner(), [row])
    assert [(f.code, to_pointer(f.path)) for f in issues] == [
        ("QUALITY_REFUSAL", "/messages/2/content"),
        ("QUALITY_MOJIBAKE", "/messages/1/content"),
    ]


def test_rows_with_tools_and_parts_are_checked(run_scanner: Any) -> None:
    rows = [
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "cafÃ©"}]},
                {"role": "assistant", "content": None, "tool_calls": []},
            ]
        },
    ]
    assert [to_pointer(f.path) for f in run_scanner(QualityScanner(), rows)] == [
        "/messages/0/content/0/text"
    ]


def test_real_data_has_few_findings() -> None:
    lines = shared_file("data/gsm8k_chat.jsonl").read_bytes().splitlines()
    rows = [json.loads(line) for line in lines]
    scanner = QualityScanner()
    issues = [*scanner.feed(range(1, len(rows) + 1), lines, rows), *scanner.finish()]
    assert len(issues) <= 0.001 * len(rows), issues[:5]


def test_scanners_share_a_prefilter_without_hiding_findings(write_jsonl: Any) -> None:
    """PII and mojibake are both searched after digits, in one pass over a block."""
    code = (
        "import json, sys\n"
        "from maas_client.dataset import validate\n"
        "print(json.dumps(validate(sys.argv[1]).files[0].counts))\n"
    )
    broken = "Caf\u00c3\u00a9, \u00e2\u20ac\u2122 is it."
    messages = [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": broken}]
    path = write_jsonl([{"messages": messages}])
    result = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert json.loads(result.stdout)["QUALITY_MOJIBAKE"] == 1


@pytest.mark.parametrize("answer", ["\u200b", "\ufeff", " \u2060\u200b "])
def test_invisible_answer_is_a_placeholder(answer: str) -> None:
    assert has_placeholder(answer)
    assert not has_placeholder(f"{answer}yes")


def test_long_line_without_a_full_stop_takes_linear_time() -> None:
    from maas_client.dataset.scanners.truncation import last_sentence

    assert last_sentence("One. Two? three") == "three"
    line = "an answer " * 40_000  # minutes if the time were quadratic
    assert last_sentence(line) == line
