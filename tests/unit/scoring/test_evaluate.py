"""The flow on a fake port: what is asked, what is counted, what is only listed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from maas_client.cli.evaluate import format_answers, format_confusion, format_scores
from maas_client.errors import BadRequestError, ConfigError, DatasetError
from maas_client.flows import chat
from maas_client.flows.evaluation import evaluate
from maas_client.types import ChatCompletion
from tests.unit.fake_port import FakePort


def row(question: str, answer: str, **more: Any) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer, **more},
        ]
    }


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [row("red?", "warm"), row("blue?", "cold", weight=1), row("long?", "warm")]
    rows += [row("green?", "cold")]
    path = tmp_path / "held_out.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any, dict[str, Any]]]:
    """Stands for the service: the tuned one knows all but green, the baseline nothing."""
    calls: list[tuple[Any, Any, dict[str, Any]]] = []

    async def complete(_: Any, deployment: str, messages: Any, **options: Any) -> ChatCompletion:
        calls.append((deployment, messages, options))
        text = messages[-1]["content"]
        if text == "long?":
            raise BadRequestError("too long", status=400)
        answer = {"red?": "warm", "blue?": "cold"}.get(text, "warm")
        answer = answer if deployment == "tuned" else "I do not know"
        choice = {"message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}
        return ChatCompletion.model_validate({"choices": [choice]})

    monkeypatch.setattr(chat, "complete", complete)
    return calls


async def test_rows_are_asked_without_their_answer_and_scored(data: Path, asked: list[Any]) -> None:
    found = await evaluate(FakePort(), "tuned", data, max_tokens=9)
    deployment, messages, options = asked[1]
    assert deployment == "tuned"
    assert messages == [{"role": "user", "content": "blue?"}]
    assert options == {"tools": None, "temperature": 0, "max_tokens": 9}
    assert found.scores.answers == 3
    assert found.scores.exact_match == pytest.approx(2 / 3)
    assert found.refused == {3: "too long"}
    assert [one.line for one in found.answers] == [1, 2, 4]


async def test_the_baseline_is_asked_the_same(data: Path, asked: list[Any]) -> None:
    found = await evaluate(FakePort(), "tuned", data, baseline="base", limit=2)
    assert [deployment for deployment, _, _ in asked] == ["tuned"] * 2 + ["base"] * 2
    assert found.baseline_scores is not None
    assert found.baseline_scores.exact_match == 0
    assert found.answers[0].baseline == "I do not know"
    assert found.token_f1_gain is not None
    assert found.token_f1_gain[0] > 0.9
    text = format_scores(found)
    assert "better" in text
    assert "tuned" in text
    assert "I do not know" in format_answers(found, 1)


async def test_labels_are_shown_as_a_table(data: Path, asked: list[Any]) -> None:
    with data.open("a") as file:
        file.writelines(json.dumps(row("red?", "warm")) + "\n" for _ in range(2))
    found = await evaluate(FakePort(), "tuned", data)
    assert found.scores.labels is not None
    assert found.scores.labels.confusion == {"cold": {"cold": 1, "warm": 1}, "warm": {"warm": 3}}
    lines = format_confusion(found.scores.labels).splitlines()
    assert lines[1].split() == ["cold", "1", "1", "0.667"]


async def test_a_file_with_nothing_to_ask(tmp_path: Path) -> None:
    path = tmp_path / "none.jsonl"
    path.write_text("not json\n")
    with pytest.raises(DatasetError, match="line 1: not JSON"):
        await evaluate(FakePort(), "tuned", path)
    path.write_text("")
    with pytest.raises(DatasetError):
        await evaluate(FakePort(), "tuned", path)
    with pytest.raises(ConfigError, match="file not found"):
        await evaluate(FakePort(), "tuned", tmp_path / "absent.jsonl")
