"""From a broken rule to its place in the file: line, column, byte, pointer, words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from maas_client.dataset.codes import Severity, code
from maas_client.dataset.fault import Fault, pointer
from maas_client.dataset.read import Line
from maas_client.dataset.scan import BadJson, Document, byte_of, scan
from maas_client.types.report import Problem


def words(name: str, detail: str) -> str:
    """Return a problem's message: the code's own words, then what differs."""
    message = code(name).message
    return f"{message}: {detail}" if detail else message


def about_file(name: str, severity: Severity, detail: str = "", *, offset: int = 0) -> Problem:
    """Return a problem of the file as a whole."""
    return Problem(
        code=name,
        severity=severity,
        line=0,
        column=0,
        offset=offset,
        pointer="",
        message=words(name, detail),
        hint=code(name).hint,
    )


def about_json(fault: BadJson, severity: Severity, line: Line) -> Problem:
    """Return a problem of a line that is not strict JSON."""
    return _placed(
        fault.code, severity, line, fault.byte_column - 1, pointer(fault.path), fault.message
    )


def about_row(faults: Sequence[tuple[Fault, Severity]], line: Line) -> Iterator[Problem]:
    """Yield problems of a row that is JSON, each at the key, value or character it is about."""
    seen = scan(line.data, [fault.path for fault, _ in faults])
    places = [_place(fault, seen, line.data) for fault, _ in faults]
    columns = _columns(line.data, places)
    for (fault, severity), at in zip(faults, places, strict=True):
        where = pointer(fault.path)
        yield _placed(fault.code, severity, line, at, where, fault.detail, columns[at])


def _columns(data: bytes, places: Sequence[int]) -> dict[int, int]:
    """Return the columns, from 1, of some bytes of a line: in one pass, however long the line is."""
    found: dict[int, int] = {}
    column, before = 1, 0
    for at in sorted(set(places)):
        column += len(data[before:at].decode("utf-8", "replace"))
        found[at], before = column, at
    return found


def about_line(name: str, severity: Severity, line: Line, detail: str = "") -> Problem:
    """Return a problem of a line, at its beginning."""
    return _placed(name, severity, line, 0, "", detail)


def _place(fault: Fault, document: Document, data: bytes) -> int:
    """Return the byte of the line where a fault is: of the key, else of the value or of the
    character in it, else of what holds it."""
    path = fault.path
    if fault.key and path in document.keys:
        begin = document.keys[path]
        return begin if fault.at is None else byte_of(data, begin, fault.at)
    if fault.at is not None and path in document.spans:
        return byte_of(data, document.spans[path][0], fault.at)
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
        line=line.no,
        column=column or _columns(line.data, [at])[at],
        offset=line.offset + at,
        pointer=where,
        message=words(name, detail),
        hint=code(name).hint,
    )
