"""Reading lines: numbers as in ``wc -l``, exact offsets, constant memory, one pass."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maas_client.dataset import validate
from maas_client.dataset.parsing.json_scan import JsonError
from maas_client.dataset.parsing.lines import Line, read_blocks, read_lines
from maas_client.dataset.parsing.strict_json import parse_json
from maas_client.dataset.rows import read_rows
from tests.unit.dataset.corpus import BROKEN_LINES, VALID_FILES, VALID_LINES, answer, file


def read(data: bytes, *, limit: int = 1000, size: int = 7) -> list[tuple[int, int, bytes, bool]]:
    lines = []
    for block in read_blocks(io.BytesIO(data), max_line_bytes=limit, block_bytes=size):
        at = block.offset
        for no, line in enumerate(block.lines, block.first_line):
            lines.append((no, at, line, block.truncated))
            at += len(line)
    return lines


@given(st.binary(max_size=200), st.integers(1, 50))
def test_every_byte_is_in_exactly_one_line(data: bytes, size: int) -> None:
    lines = read(data, size=size)
    mark = 3 if data.startswith(b"\xef\xbb\xbf") else 0
    assert b"".join(line for _, _, line, _ in lines) == data[mark:]
    assert [no for no, _, _, _ in lines] == list(range(1, len(lines) + 1))
    for _, at, line, _ in lines:
        assert data[at : at + len(line)] == line
        assert b"\n" not in line[:-1]
    raw = [block.raw for block in read_blocks(io.BytesIO(data), block_bytes=size)]
    assert b"".join(raw) == data


@given(st.lists(st.integers(0, 40), max_size=12), st.integers(1, 30), st.integers(5, 20))
def test_line_over_the_limit_is_truncated_and_the_next_is_complete(
    sizes: list[int], size: int, limit: int
) -> None:
    written = [bytes([97 + n % 26]) * length for n, length in enumerate(sizes)]
    data = b"".join(line + b"\n" for line in written)
    lines = read(data, size=size, limit=limit)
    assert len(lines) == len(written)
    at = 0
    for (_, offset, line, cut), whole in zip(lines, written, strict=True):
        assert offset == at
        assert cut == (len(whole) > limit)
        assert line.rstrip(b"\n") == whole[:limit]
        at += len(whole) + 1


def test_lines_end_only_at_line_feeds(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes("a\u2028b\x0bc\x0cd\x85e\rf\r\n\r\ng".encode())
    assert list(read_lines(path)) == [
        Line(1, 0, "a\u2028b\x0bc\x0cd\x85e\rf".encode()),
        Line(2, 16, b""),
        Line(3, 18, b"g"),
    ]


def test_byte_order_mark_is_removed_from_the_first_line_only(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n")
    assert list(read_lines(path)) == [Line(1, 3, b"a"), Line(2, 5, b"\xef\xbb\xbfb")]


def test_line_over_the_limit_is_not_kept_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    with path.open("wb") as out:
        for _ in range(40):
            out.write(b"x" * (1 << 20))
        out.write(b"\n" + VALID_LINES[0] + b"\n")
    tracemalloc.start()
    lines = list(read_lines(path, max_line_bytes=1 << 20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [(line.number, line.truncated, len(line.data)) for line in lines] == [
        (1, True, 1 << 20),
        (2, False, len(VALID_LINES[0])),
    ]
    assert peak < 8 << 20


def test_long_line_is_reported_and_the_next_is_validated(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    long = answer("y" * (17 << 20))
    path.write_bytes(file(*VALID_LINES, long, *VALID_LINES[:3]))
    report = validate(path, content=False).files[0]
    [problem] = [p for p in report.problems if p.severity == "error"]
    assert (problem.code, problem.line, problem.column) == ("JSON_LINE_TOO_LONG", 13, 1)
    assert problem.offset == len(file(*VALID_LINES))
    assert (report.lines, report.examples) == (16, 15)


@pytest.mark.parametrize("data", [b"", b"\n", b"a", b"a\n", b"a\nb", b"\n\n\n", b"a\r\n"])
def test_lines_are_counted_like_wc_plus_an_unterminated_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(data)
    expected = data.count(b"\n") + (bool(data) and not data.endswith(b"\n"))
    assert validate(path).files[0].lines == expected


@pytest.mark.parametrize("name", VALID_FILES)
def test_read_rows_returns_all_rows_of_valid_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(VALID_FILES[name])
    rows = list(read_rows(path))
    assert [row for _, row in rows] == [json.loads(line.data) for line in read_lines(path)]
    assert [line for line, _ in rows] == list(read_lines(path))


def test_read_rows_returns_the_rows_that_validate_accepts(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(file(*[each for f in BROKEN_LINES for each in (f.line, VALID_LINES[3])]))
    report = validate(path, target="local").files[0]
    numbers = [line.number for line, _ in read_rows(path)]
    assert report.examples == len(numbers)
    for at, fault in enumerate(BROKEN_LINES):
        alone = tmp_path / "one.jsonl"
        alone.write_bytes(file(VALID_LINES[0], fault.line))
        accepted = validate(alone, target="local", content=False).files[0].examples == 2
        assert (2 * at + 1 in numbers) == accepted, fault.name


def test_parse_json_is_strict() -> None:
    assert parse_json(b' {"a": [1, "\\u00e4", null]} ') == {"a": [1, "ä", None]}
    for fault in BROKEN_LINES:
        if fault.code.startswith("JSON_") and fault.severity == "error":
            with pytest.raises(JsonError) as caught:
                parse_json(fault.line)
            assert caught.value.code == fault.code
            assert caught.value.byte_column == fault.offset + 1


@pytest.mark.parametrize("megabytes", [64, pytest.param(10_000, marks=pytest.mark.full_size)])
def test_memory_and_time_of_a_check_do_not_grow_with_the_file(
    megabytes: int, tmp_path: Path
) -> None:
    row = answer("a sentence of some words. " * 60)
    block = file(*[row] * (2**20 // len(row)))
    peaks = {}
    for size in (8, megabytes):
        path = tmp_path / "large.jsonl"
        with path.open("wb") as out:
            for _ in range(size):
                out.write(block)
        code = (
            "import resource, sys, time, maas_client.dataset as d\n"
            "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "report = d.validate(sys.argv[1], content=False)\n"
            "usage = resource.getrusage(resource.RUSAGE_SELF)\n"
            "print(report.ok, report.files[0].bytes, usage.ru_maxrss - before, usage.ru_utime)"
        )
        command = [sys.executable, "-c", code, str(path)]
        ok, size_bytes, kilobytes, cpu_s = subprocess.check_output(command, text=True).split()
        assert (ok, int(size_bytes)) == ("True", path.stat().st_size)
        peaks[size] = int(kilobytes)
    path.unlink()
    assert peaks[megabytes] < 64 * 1024
    assert peaks[megabytes] - peaks[8] < 8 * 1024
    assert float(cpu_s) < 5 + megabytes / 66  # 10 GB in 150 s on one core
