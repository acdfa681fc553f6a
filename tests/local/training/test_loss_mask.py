"""The loss mask selects exactly the assistant's text, for every template and tokenizer."""

from __future__ import annotations

import json
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from maas_client._settings import Settings  # noqa: E402 - after the skip
from maas_client.chat import TEMPLATES, Segment, render  # noqa: E402
from maas_client.errors import DatasetError  # noqa: E402
from maas_client.local.training import load_base  # noqa: E402
from maas_client.local.training.data import Example, loss_mask, tokenize_rows  # noqa: E402
from maas_client.local.training.run import _describe_changed_rows  # noqa: E402
from tests.local.training.rows import make_rows  # noqa: E402
from tests.shared_data import shared_file  # noqa: E402

TOOL_ROW = {
    "messages": [
        {"role": "user", "content": "Köln?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"function": {"name": "weather", "arguments": '{"city": "Köln"}'}}],
        },
        {"role": "tool", "content": "3°"},
        {"role": "assistant", "content": "  \n3 degrees. 🦆\n"},
    ],
    "tools": [{"type": "function", "function": {"name": "weather", "parameters": {}}}],
}


def _smollm2() -> Any:
    folder = Settings.load().cache_path() / "smollm2-135m"
    if not (folder / "manifest.json").exists():
        pytest.skip("smollm2-135m has not been pulled")
    return load_base.load_tokenizer(str(folder))


def learned_text(example: Example, tokenizer: Any) -> str:
    ids = [i for i, learned in zip(example.input_ids, example.loss_mask, strict=True) if learned]
    return str(tokenizer.decode(ids))


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_loss_mask_matches_answers(name: str, tokenizer: Any) -> None:
    template = TEMPLATES[name]
    rows: list[dict[str, Any]] = make_rows(24) + ([TOOL_ROW] if template.tools else [])
    examples, _ = tokenize_rows(enumerate(rows, 1), tokenizer, template, 4096)
    by_line = {example.line: example for example in examples}
    for line, row in enumerate(rows, 1):
        segments = render(row["messages"], row.get("tools"), template)
        answers = "".join(segment.text for segment in segments if segment.in_loss)
        assert learned_text(by_line[line], tokenizer) == answers
        assert answers.endswith(template.end_of_turn)
        text = "".join(segment.text for segment in segments)
        assert tokenizer.decode(by_line[line].input_ids) == text


def test_loss_mask_matches_answers_with_smollm2() -> None:
    tokenizer = _smollm2()
    template = TEMPLATES["smollm2"]
    rows = [*make_rows(24), TOOL_ROW]
    examples, _ = tokenize_rows(enumerate(rows, 1), tokenizer, template, 4096)
    for row, example in zip(rows, examples, strict=True):
        segments = render(row["messages"], row.get("tools"), template)
        answers = "".join(segment.text for segment in segments if segment.in_loss)
        assert learned_text(example, tokenizer) == answers


def test_loss_mask_matches_microsofts_tool_sample(tokenizer: Any) -> None:
    path = shared_file("data/foundry_stock_toolcall_train.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    examples, counts = tokenize_rows(enumerate(rows, 1), tokenizer, TEMPLATES["phi4-mini"], 1 << 20)
    assert (counts.rows, counts.dropped, counts.truncated) == (86, [], [])
    for row, example in zip(rows, examples, strict=True):
        segments = render(row["messages"], row["tools"], TEMPLATES["phi4-mini"])
        answers = "".join(segment.text for segment in segments if segment.in_loss)
        assert learned_text(example, tokenizer) == answers


def test_token_spanning_prompt_and_answer_has_no_loss() -> None:
    segments = [Segment("ab", in_loss=False), Segment("cd", in_loss=True), Segment("e", False)]
    assert loss_mask(segments, [(0, 1), (1, 3), (3, 4), (4, 5)]) == [False, False, True, False]


def test_rows_whose_answers_are_beyond_the_limit_are_dropped_and_reported(tokenizer: Any) -> None:
    path = shared_file("cases/16b-half-long.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    _, counts = tokenize_rows(enumerate(rows, 1), tokenizer, TEMPLATES["phi3"], 64)
    assert (counts.rows, counts.dropped) == (18, [1, 2, 3, 4, 5, 6])
    assert (
        "6 training rows have no tokens to train on and were dropped (line 1, 2, 3, 4, 5, …)."
        in _describe_changed_rows("training", counts)
    )


def test_truncated_and_dropped_rows_are_counted(tokenizer: Any) -> None:
    def row(question: str, answer: str) -> dict[str, Any]:
        return {
            "messages": [
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ]
        }

    rows = [row("q", "a" * 10), row("q", "a" * 100), row("q" * 100, "a")]
    examples, counts = tokenize_rows(enumerate(rows, 1), tokenizer, TEMPLATES["phi3"], 40)
    assert [example.line for example in examples] == [1, 2]
    assert (counts.rows, counts.truncated, counts.dropped) == (3, [2, 3], [3])
    assert len(examples[1].input_ids) == 40
    assert counts.learned_tokens == sum(example.learned_tokens for example in examples)


def test_merged_system_messages_are_counted(tokenizer: Any) -> None:
    _, counts = tokenize_rows(enumerate(make_rows(6), 1), tokenizer, TEMPLATES["phi3-medium"], 4096)
    assert counts.merged == [1, 4]


def test_row_the_template_cannot_render_names_its_line(tokenizer: Any) -> None:
    with pytest.raises(DatasetError, match=r"line 7: phi3's template does not support tools"):
        tokenize_rows([(7, TOOL_ROW)], tokenizer, TEMPLATES["phi3"], 4096)
