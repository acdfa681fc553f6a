"""Lines made to slow a reader down are handled quickly, in little memory, with a small report."""

from __future__ import annotations

import json
import time
import tracemalloc
from pathlib import Path

import pytest

from maas_client.dataset import validate
from maas_client.dataset.parsing.file_type import detect_wrong_format
from maas_client.dataset.rules.tools import _first_mismatch
from tests.unit.dataset.corpus import (
    ANSWER,
    GOOD,
    USER,
    VALID_LINES,
    call,
    dump,
    file,
    message,
    message_with_calls,
    row,
    row_with_tools,
    tool,
)

MB = 1 << 20
KEY = "k" * (2 * MB)
HOSTILE_LINES = {
    "values": b"[" + b"0," * (2 * MB) + b"0]",
    "values without end": b"[" + b"0," * (2 * MB),
    "objects": b'{"messages": [' + b"{}," * MB + b"{}]}",
    "messages": b'{"messages": [' + b'{"role":"user","content":"a"},' * 200_000 + b"1]}",
    "good messages": row(*[USER, ANSWER] * 20_000),
    "bad messages": b'{"messages": [' + b'{"role":"x"},' * 60_000 + b"{}]}",
    "depth": b"[" * (4 * MB),
    "depth of objects": b'{"a":' * MB,
    "long key": b'{"' + KEY.encode() + b'": 1, "messages": []}',
    "long key in a message": row({**USER, KEY: 1}, ANSWER),
    "long role": row(message(KEY, "x"), ANSWER),
    "long number": b'{"messages": ' + b"9" * MB + b"}",
    "long bad number": b'{"messages": ' + b"9" * MB + b"x}",
    "long string cut short": b'{"messages": "' + b"a" * (8 * MB),
    "backslashes": b'{"messages": "' + b"\\\\" * (4 * MB) + b'"}',
    "backslashes cut short": b'{"messages": "' + b"\\\\" * (4 * MB) + b"\\",
    "quotes": b'"' * (4 * MB),
    "escaped quotes": dump({"messages": [USER, message("assistant", '"' * MB)]}),
    "hidden quotes": b'{"messages": [{"role": "user", "content": "' + rb"\u0022" * MB + b'"}]}',
    "surrogates": b'{"messages": "' + rb"\ud800" * MB + b'"}',
    "duplicate keys": b"{" + b'"a":1,' * 200_000 + b'"a":1}',
    "not a number, often": b"[" + b"NaN," * 200_000 + b"NaN]",
    "angles": row(USER, message("assistant", "<" * (4 * MB))),
    "half tokens": row(USER, message("assistant", "<|end" * MB)),
    "blanks": row(USER, message("assistant", " " * (8 * MB))),
    "arguments": row_with_tools(message_with_calls(call(arguments="[" * MB))),
    "many calls": row_with_tools(message_with_calls(*[call(f"c{n}") for n in range(5000)])),
    "many tools": row_with_tools(ANSWER, tools=[tool(f"t{n}") for n in range(5000)]),
    "white space": b" " * (8 * MB) + GOOD,
}


@pytest.mark.parametrize("name", HOSTILE_LINES)
def test_hostile_line_is_handled_quickly(tmp_path: Path, name: str) -> None:
    path = tmp_path / "bomb.jsonl"
    path.write_bytes(file(*VALID_LINES, HOSTILE_LINES[name], *VALID_LINES))
    start = time.process_time()
    report = validate(path, target="azureml", content=False)
    assert time.process_time() - start < 5
    assert report.files[0].lines == 25
    assert len(report.model_dump_json()) < MB


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"[" + b"0," * (MB // 2) + b"0]", id="values"),
        pytest.param(b"[" * MB, id="depth"),
        pytest.param(b'{"messages": [' + b'{"role":"x"},' * 15_000 + b"{}]}", id="bad messages"),
        pytest.param(b'{"' + KEY[: MB // 2].encode() + b'": 1, "messages": []}', id="long key"),
        pytest.param(b"{" + b'"a":1,' * 50_000 + b'"a":1}', id="duplicate keys"),
    ],
)
def test_hostile_line_needs_little_memory(tmp_path: Path, line: bytes) -> None:
    """A quarter of the lines above, as tracing is slow: memory grows with the length of a line."""
    path = tmp_path / "bomb.jsonl"
    path.write_bytes(file(*VALID_LINES, b"[0]", b'{"messages": [{"role": "x"}]}'))
    validate(path, content=False)  # imports
    path.write_bytes(file(*VALID_LINES, line, *VALID_LINES))
    tracemalloc.start()
    validate(path, content=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24 * MB


@pytest.mark.parametrize(
    "data", [b"}" + b"\r" * 65_000, b"}\r" * 32_000 + b"x", b"a," * 32_000, b"\r{" * 32_000]
)
def test_file_format_is_detected_in_linear_time(data: bytes) -> None:
    start = time.process_time()
    detect_wrong_format(data, is_complete=True)
    assert time.process_time() - start < 1


def test_hostile_tool_schema_is_handled_quickly() -> None:
    start = time.process_time()
    slow = {"type": "object", "properties": {"a": {"type": "string", "pattern": "(a+)+$"}}}
    assert _first_mismatch(json.dumps(slow), {"a": "a" * 60 + "!"}) is None
    names = {"type": "object", "patternProperties": {"(a+)+$": {}}, "additionalProperties": False}
    assert _first_mismatch(json.dumps(names), {"a" * 60 + "!": 1}) is None
    chain = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)}
    blown = {"$defs": {**chain, "d40": {}}, "$ref": "#/$defs/d0"}
    assert _first_mismatch(json.dumps(blown), {}) is None
    assert _first_mismatch('{"$ref": "https://example.com/x"}', {}) is None
    assert time.process_time() - start < 2


def test_lone_surrogates_in_keys_do_not_break_the_report(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(
        file(
            b'{"messages": [{"r\\ud800": {"x": NaN, "y\\udc00": "\\ud800"}, "role": "user"}], "\\ud83d": 1}',
            b'{"\\ud800": 1}',
        )
    )
    report = validate(path).files[0]
    assert report.counts["JSON_SURROGATE"] >= 3
    json.loads(report.model_dump_json())


@pytest.mark.parametrize("value", [[1], "text", 1, True, {"tools": 1}, {"messages": [1]}])
def test_any_value_beside_messages_is_validated(tmp_path: Path, value: object) -> None:
    path = tmp_path / "train.jsonl"
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    keys = ("input", "chosen", "rejected", "preferred_output", "non_preferred_output", "tools")
    rows = [{"messages": chat, key: value} for key in keys]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert validate(path).files[0].lines == len(keys)
