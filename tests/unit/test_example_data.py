"""The example data: valid on every target, and without overlap between training and evaluation."""

import json
from pathlib import Path
from typing import Any

import pytest

import maas_client as maas

DATA = Path(__file__).parents[2] / "examples" / "data"


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def answers(name: str) -> list[str]:
    return [
        message["content"]
        for row in rows(name)
        for message in row["messages"]
        if message["role"] == "assistant" and message.get("content")
    ]


@pytest.mark.parametrize(
    ("target", "model"),
    [
        ("azureml", "Phi-4-mini-instruct"),
        ("azureml", "Phi-3-mini-4k-instruct"),
        ("foundry", "Ministral-3B"),
        ("local", "smollm2-135m"),
        ("local", None),
    ],
)
def test_example_data_is_valid_on_every_target(target: Any, model: str | None) -> None:
    report = maas.validate(
        DATA / "train.jsonl", model=model, target=target, validation=DATA / "validation.jsonl"
    )
    assert report.ok
    assert [dict(file.counts) for file in report.files] == [{}, {}]


def test_tool_calls_are_valid() -> None:
    report = maas.validate(DATA / "tools.jsonl", target="local", model="smollm2-135m")
    assert report.ok
    assert dict(report.files[0].counts) == {}


def test_files_have_enough_rows() -> None:
    assert len(rows("train.jsonl")) >= 140
    assert len(rows("validation.jsonl")) >= 24
    assert len(rows("tools.jsonl")) >= 12


def test_questions_do_not_overlap() -> None:
    questions_by_file = {name: [row["messages"][0]["content"].casefold() for row in rows(name)]
             for name in ("train.jsonl", "validation.jsonl", "questions.jsonl")}  # fmt: skip
    questions = [question for group in questions_by_file.values() for question in group]
    assert len(questions) == len(set(questions))
    assert not set(answers("validation.jsonl")) & set(answers("train.jsonl"))


def test_answers_have_the_same_style_and_are_short() -> None:
    for name in ("train.jsonl", "validation.jsonl", "tools.jsonl"):
        for answer in answers(name):
            assert answer.startswith("Chirp! ")
            assert answer.endswith(" Fair skies, Pip.")
            assert len(answer) <= 240


def test_expected_words_are_in_the_training_data() -> None:
    training_text = "\n".join(answers("train.jsonl")).casefold()
    for row in rows("questions.jsonl"):
        assert [message["role"] for message in row["messages"]] == ["user"]
        assert row["expect"]
        for word in row["expect"]:
            assert word.casefold() in training_text
