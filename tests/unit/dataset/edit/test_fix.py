"""``fix`` writes valid rows, keeps or drops what it cannot repair, and loses no data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maas_client.dataset import validate
from maas_client.dataset.edit.fix import FixResult, fix
from maas_client.errors import ConfigError, DatasetError


def row(question: str = "Wo?", answer: str = "Im Café.") -> dict[str, Any]:
    messages = [("user", question), ("assistant", answer)]
    return {"messages": [{"role": role, "content": text} for role, text in messages]}


def line(value: Any = None, **options: Any) -> str:
    return json.dumps(row() if value is None else value, ensure_ascii=False, **options)


ROW_WITH_TOOLS = {
    "messages": [
        {"role": "user", "content": "go"},
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
            ],
        },
    ],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "f",
                "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
            },
        }
    ],
}
ENCODED_TWICE = json.loads(json.dumps(ROW_WITH_TOOLS))
ENCODED_TWICE["messages"][1]["tool_calls"][0]["function"]["arguments"] = json.dumps(
    json.dumps({"a": 1})
)
CASES: dict[str, tuple[bytes, str]] = {
    "utf-16": (f"{line()}\n".encode("utf-16"), "UTF-16"),
    "utf-16 without a byte order mark": (f"{line()}\n".encode("utf-16-le"), "UTF-16"),
    "utf-32": (f"{line()}\n".encode("utf-32"), "UTF-32"),
    "windows-1252": (f"{line()}\n".encode("windows-1252"), "Windows-1252"),
    "bom": (f"{line()}\n".encode("utf-8-sig"), "byte order mark"),
    "crlf": (f"{line()}\r\n{line(row('a?', 'b'))}\r\n".encode(), "CRLF"),
    "cr": (f"{line()}\r{line(row('a?', 'b'))}\r".encode(), "carriage returns"),
    "no line feed at the end": (line().encode(), "line feed at the end"),
    "blank": (f"\n{line()}\n  \n".encode(), "blank line"),
    "array": (f"[{line()},\n{line(row('a?', 'b'))}]".encode(), "an array"),
    "array on one line": (f"[{line()}, {line(row('a?', 'b'))}]".encode(), "an array"),
    "pretty": (f"{line(indent=2)}\n{line(row('a?', 'b'), indent=2)}\n".encode(), "several lines"),
    "pretty array": (json.dumps([row(), row("a?", "b")], indent=2).encode(), "an array"),
    "two on a line": (f"{line()}{line(row('a?', 'b'))}\n".encode(), "split several objects"),
    "comma between lines": (f"{line()},\n{line(row('a?', 'b'))},\n".encode(), "commas after"),
    "form feed": (line().encode() + b"\x0c\n", "stray characters"),
    "no-break space": (f"{line()}\xa0\n".encode(), "stray characters"),
    "line of NULs": (f"{line()}\n".encode() + b"\0" * 9, "NUL bytes"),
    "trailing comma": (line().replace("}]}", "},]}").encode() + b"\n", "trailing commas"),
    "trailing comma, brackets in text": (
        line(row("a,]}", "b,}")).replace("}]}", "},]}").encode() + b"\n",
        "trailing commas",
    ),
    "raw tab": (line().replace("Im Caf", "Im\tCaf").encode() + b"\n", "control characters"),
    "duplicate keys": (
        line().replace('"role": "user"', '"role": "user", "role": "user"').encode() + b"\n",
        "duplicate keys",
    ),
    "python": (f"{row()!r}\n".encode(), "Python"),
    "nul padding": (f"{line()}".encode() + b"\0\0\n", "stray characters"),
    "key case": (
        line().replace("messages", "Messages").replace("role", "Role").encode() + b"\n",
        "key",
    ),
    "role case": (line().replace('"user"', '"User"').encode() + b"\n", "role"),
    "weight": (
        line({"messages": [row()["messages"][0], {**row()["messages"][1], "weight": "1"}]}).encode()
        + b"\n",
        "weight",
    ),
    "arguments as an object": (line(ROW_WITH_TOOLS).encode() + b"\n", "arguments as a string"),
    "arguments twice": (line(ENCODED_TWICE).encode() + b"\n", "encoded twice"),
}


@pytest.fixture
def run_fix(tmp_path: Path) -> Callable[..., tuple[FixResult, Path]]:
    def run(data: bytes, **options: Any) -> tuple[FixResult, Path]:
        source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
        source.write_bytes(data)
        result = fix(source, out, **options)
        assert source.read_bytes() == data
        return result, out

    return run


@pytest.mark.parametrize("name", CASES)
def test_fixed_file_is_valid_and_its_repairs_are_listed(name: str, run_fix: Any) -> None:
    data, repair = CASES[name]
    result, out = run_fix(data)
    assert result.ok
    assert result.rows >= 1
    assert any(repair in text for text in result.repairs), result.repairs
    format_errors = [
        p.code
        for p in validate(out, target="local").errors
        if not p.code.startswith(("SERVICE_", "FILE_E"))
    ]
    assert not format_errors
    written = out.read_bytes()
    assert written.endswith(b"\n")
    assert b"\r" not in written
    assert not written.startswith(b"\xef\xbb\xbf")
    texts = [
        m.get("content") for line in written.splitlines() for m in json.loads(line)["messages"]
    ]
    assert not any(text and "\ufffd" in text for text in texts)


def test_valid_lines_are_not_changed(run_fix: Any) -> None:
    data = b'{ "messages":[{"content":"\\u00e9 1.50","role":"user"},{"role":"assistant","content":"b"}] }\n'
    result, out = run_fix(data)
    assert out.read_bytes() == data
    assert not result.repairs


def test_text_is_not_changed(run_fix: Any) -> None:
    result, out = run_fix(f"{line(row('Größe, €5?', '“Süß” – ja.'))}\n".encode("windows-1252"))
    assert json.loads(out.read_bytes()) == row("Größe, €5?", "“Süß” – ja.")
    assert result.ok


def test_single_windows_1252_line_in_a_utf_8_file_is_converted(run_fix: Any) -> None:
    good = f"{line(row('Où est le café ?', 'Là-bas.'))}\n".encode()
    bad = f"{line(row('Größe, €5?', '“Süß” – ja.'))}\n".encode("windows-1252")
    result, out = run_fix(good * 2 + bad + good)
    assert result.ok
    assert result.repaired_lines == [(3, "converted Windows-1252 to UTF-8")]
    assert out.read_bytes().splitlines(keepends=True)[0] == good
    assert json.loads(out.read_bytes().splitlines()[2]) == row("Größe, €5?", "“Süß” – ja.")


def test_windows_1252_line_in_an_ascii_file_is_listed_with_its_number(run_fix: Any) -> None:
    plain = f"{line(row('Where?', 'There.'))}\n".encode()
    result, _ = run_fix(plain * 6 + f"{line()}\n".encode("latin-1") + plain)
    assert result.repaired_lines == [(7, "converted Windows-1252 to UTF-8")]


@pytest.mark.parametrize(
    "bad",
    [
        line(row("Где это?", "Там.")).encode("windows-1251"),
        line(row("どこ", "ここ")).encode("shift-jis"),
        line(row("Πού;", "Εκεί.")).encode("iso-8859-7"),
        line().encode("latin-1").replace(b"Wo", "Wö".encode() * 3),
        line().encode()[:-1].replace("é".encode(), b"\xc3"),
        line().replace("é", "\x81").encode("latin-1"),
    ],
)
def test_line_in_an_unknown_encoding_is_kept_and_listed(bad: bytes, run_fix: Any) -> None:
    good = f"{line()}\n".encode()
    result, out = run_fix(good + bad + b"\n" + good)
    assert [(each.line, each.codes) for each in result.unfixed_lines] == [(2, ("JSON_UTF8",))]
    assert bad in out.read_bytes()


BROKEN = b'{"messages": [{"role": "user"\n'
_START = b'{"messages": [{"role": "user", "content": "a"'
_ANSWER = b'{"role": "assistant", "content": "c"'
CONFLICT = _START + b', "content": "b"}, ' + _ANSWER + b"}]}\n"
NAN = _START + b"}, " + _ANSWER + b', "weight": NaN}]}\n'


@pytest.mark.parametrize("bad", [BROKEN, CONFLICT, NAN, b"\xff\xfe\x00junk\n", b"not json\n"])
def test_line_that_would_need_a_guess_is_not_changed(bad: bytes, run_fix: Any) -> None:
    good = f"{line()}\n".encode()
    result, out = run_fix(good + bad + good)
    assert not result.ok
    assert [each.line for each in result.unfixed_lines] == [2]
    assert result.unfixed_lines[0].codes
    assert bad in out.read_bytes()


def test_drop_writes_unfixed_lines_to_a_second_file(run_fix: Any) -> None:
    good = f"{line()}\n".encode()
    result, out = run_fix(good + BROKEN + good, drop=True)
    assert (result.ok, result.rows, result.unfixed_count) == (True, 2, 1)
    assert out.read_bytes() == good * 2
    assert Path(str(result.dropped_path)).read_bytes() == BROKEN


def test_result_without_rows_is_not_ok(run_fix: Any) -> None:
    result, out = run_fix(BROKEN, drop=True)
    assert (result.ok, result.rows, result.unfixed_count, out.read_bytes()) == (False, 0, 1, b"")


def test_drop_writes_no_second_file_if_all_lines_are_fixed(run_fix: Any) -> None:
    result, out = run_fix(f"{line()}\n".encode(), drop=True)
    assert result.dropped_path is None
    assert sorted(p.name for p in out.parent.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_source_is_overwritten_only_with_in_place(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(f"{line()}\r\n".encode())
    with pytest.raises(ConfigError, match="is the file that is read"):
        fix(path, tmp_path / "." / "a.jsonl")
    fix(path, path, in_place=True)
    assert path.read_bytes() == f"{line()}\n".encode()


def test_file_without_json_is_rejected_and_nothing_is_written(tmp_path: Path) -> None:
    for data, match in (
        (b"PK\x03\x04abc", "not a text file"),
        (b"a,b\n1,2\n", "convert"),
        (b"[{1}", "syntax"),
    ):
        source = tmp_path / "in.jsonl"
        source.write_bytes(data)
        with pytest.raises(DatasetError, match=match):
            fix(source, tmp_path / "out.jsonl")
    assert [p.name for p in tmp_path.iterdir()] == ["in.jsonl"]


def test_arbitrary_bytes_raise_dataset_error_only(tmp_path: Path) -> None:
    from hypothesis import given, settings
    from hypothesis import strategies as st

    source = tmp_path / "in.jsonl"

    @settings(max_examples=300, deadline=None, database=None)
    @given(
        st.lists(
            st.sampled_from(
                [
                    *(data for data, _ in CASES.values()),
                    BROKEN,
                    CONFLICT,
                    b"\xff",
                    b"[",
                    b"\0",
                    b"{}\n",
                ]
            ),
            max_size=4,
        ).map(b"".join)
        | st.binary(max_size=200)
    )
    def run(data: bytes) -> None:
        source.write_bytes(data)
        try:
            fix(source, tmp_path / "out.jsonl", drop=True)
        except DatasetError:
            return

    run()
