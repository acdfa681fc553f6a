"""From a broken rule to its place in the file: line, column, byte, pointer, words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from maas_client.dataset.codes import Severity, get_code
from maas_client.dataset.issues import Issue, to_pointer
from maas_client.dataset.parsing.json_scan import JsonDocument, JsonError, byte_offset, scan_json
from maas_client.dataset.parsing.lines import Line
from maas_client.types.report import Problem


def format_message(name: str, detail: str) -> str:
    """Return a problem's message: the code's own words, then what differs."""
    message = get_code(name).message
    return f"{message}: {detail}" if detail else message


def file_problem(name: str, severity: Severity, detail: str = "", *, offset: int = 0) -> Problem:
    """Return a problem of the file as a whole."""
    return Problem(
        code=name,
        severity=severity,
        line=0,
        column=0,
        offset=offset,
        pointer="",
        message=format_message(name, detail),
        hint=get_code(name).hint,
    )


def json_problem(fault: JsonError, severity: Severity, line: Line) -> Problem:
    """Return a problem of a line that is not strict JSON."""
    return _placed(
        fault.code, severity, line, fault.byte_column - 1, to_pointer(fault.path), fault.message
    )


def row_problems(issues: Sequence[tuple[Issue, Severity]], line: Line) -> Iterator[Problem]:
    """Yield problems of a row that is JSON, each at the key, value or character it is about."""
    seen = scan_json(line.data, [fault.path for fault, _ in issues])
    places = [_place(fault, seen, line.data) for fault, _ in issues]
    columns = _columns(line.data, places)
    for (fault, severity), at in zip(issues, places, strict=True):
        where = to_pointer(fault.path)
        yield _placed(fault.code, severity, line, at, where, fault.detail, columns[at])


def _columns(data: bytes, places: Sequence[int]) -> dict[int, int]:
    """Return the columns, from 1, of some bytes of a line: in one pass, however long the line is."""
    found: dict[int, int] = {}
    column, before = 1, 0
    for at in sorted(set(places)):
        column += len(data[before:at].decode("utf-8", "replace"))
        found[at], before = column, at
    return found


def line_problem(name: str, severity: Severity, line: Line, detail: str = "") -> Problem:
    """Return a problem of a line, at its beginning."""
    return _placed(name, severity, line, 0, "", detail)


def _place(fault: Issue, document: JsonDocument, data: bytes) -> int:
    """Return the byte of the line where a fault is: of the key, else of the value or of the
    character in it, else of what holds it."""
    path = fault.path
    if fault.in_key and path in document.key_offsets:
        begin = document.key_offsets[path]
        return begin if fault.char_offset is None else byte_offset(data, begin, fault.char_offset)
    if fault.char_offset is not None and path in document.spans:
        return byte_offset(data, document.spans[path][0], fault.char_offset)
    while path not in document.spans and path:
        path = path[:-1]
    return document.spans.get(path, (0, 0))[0]


def _placed(
    name: str,
    severity: Severity,
    line: Line,
    at: int,
    where: str,
    detail: str,
    column: int | None = None,
) -> Problem:
    return Problem(
        code=name,
        severity=severity,
        line=line.number,
        column=column or _columns(line.data, [at])[at],
        offset=line.offset + at,
        pointer=where,
        message=format_message(name, detail),
        hint=get_code(name).hint,
    )
