"""Every scanner accepts every valid row, and no finding contains text of a row."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from maas_client.dataset.codes import all_codes
from maas_client.dataset.content_scan import make_scanners
from maas_client.dataset.parsing.lines import Line
from maas_client.dataset.rules.chat import LineValidator
from maas_client.dataset.rules.context import build_context
from maas_client.dataset.scanners.near_duplicates import NearDuplicateScanner

BOOK = build_context("local", None)
CANARY = "zq7canary"
TEXT = st.text(max_size=40) | st.sampled_from(
    [
        f"mail {CANARY}@example.com or +49 30 123456",
        f"AKIA2345ABCDEFGH4567 {CANARY}",
        "I'm sorry, but I can't help with that.",
        "cafÃ© {{name}} TODO",
        "To reset it, first go to the",
        "x" * 700,
    ]
)
PARTS = st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": TEXT}), max_size=3)
CALL = st.fixed_dictionaries(
    {
        "id": st.sampled_from(["a", "b"]),
        "type": st.just("function"),
        "function": st.fixed_dictionaries(
            {"name": st.just("f"), "arguments": st.sampled_from(["{}", '{"x": 1}'])}
        ),
    }
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool"])},
    optional={
        "content": TEXT | PARTS | st.none(),
        "weight": st.sampled_from([0, 1]),
        "name": st.just("n"),
        "tool_calls": st.lists(CALL, max_size=2),
        "tool_call_id": st.sampled_from(["a", "b"]),
    },
)
TURNS = st.tuples(TEXT, TEXT | PARTS).map(
    lambda pair: [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
)
TOOLS = [
    {
        "type": "function",
        "function": {"name": "f", "parameters": {"type": "object", "properties": {}}},
    }
]
ROW = st.fixed_dictionaries(
    {"messages": st.lists(MESSAGE, max_size=5) | TURNS}, optional={"tools": st.just(TOOLS)}
)


@settings(max_examples=400, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=6))
def test_scanners_accept_every_valid_row(rows: list[dict[str, Any]]) -> None:
    checker = LineValidator(BOOK)
    lines = [json.dumps(row).encode() for row in rows]
    good = [
        at
        for at, line in enumerate(lines)
        if checker.validate(Line(at + 1, 0, line)).row is not None
    ]
    if not good:
        return
    fed = ([at + 1 for at in good], [lines[at] for at in good], [rows[at] for at in good])
    for scanner in make_scanners(BOOK, full=True):
        if isinstance(scanner, NearDuplicateScanner):
            scanner.read_rows = lambda numbers: ((number, rows[number - 1]) for number in numbers)
        for finding in [*scanner.feed(*fed), *scanner.finish()]:
            assert finding.code in all_codes()
            assert finding.line == 0 or finding.line in fed[0]
            assert CANARY not in repr(finding)
        json.dumps(scanner.stats())
