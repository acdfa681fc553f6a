"""From issues to ``Problem`` objects: line, column, byte offset, JSON pointer and message."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from maas_client.dataset.codes import Severity, get_code
from maas_client.dataset.issues import Issue, KeyPath
from maas_client.dataset.parsing.json_scan import JsonDocument, JsonError, byte_offset, scan_json
from maas_client.dataset.parsing.lines import Line
from maas_client.types.report import Problem

_MAX_STEP_CHARS = 80
"""Of a key in a pointer: a key can be as long as the line."""
_MAX_MASKED_CHARS = 16_384
"""Of a key that are searched for secrets before it is printed: longer than any secret."""


def format_message(code: str, detail: str) -> str:
    """Return a problem's message: the code's own message, then what differs from case to case."""
    message = get_code(code).message
    return f"{message}: {detail}" if detail else message


def file_problem(issue: Issue, severity: Severity) -> Problem:
    """Return a problem of the file as a whole."""
    return Problem(
        code=issue.code,
        severity=severity,
        line=0,
        column=0,
        offset=0,
        pointer="",
        message=format_message(issue.code, issue.detail),
        hint=issue.hint or get_code(issue.code).hint,
    )


def json_problem(error: JsonError, severity: Severity, line: Line) -> Problem:
    """Return a problem of a line that is not strict JSON."""
    issue = Issue(error.code, error.path, error.message)
    return _to_problem(issue, severity, line, error.byte_column - 1)


def line_problem(code: str, severity: Severity, line: Line) -> Problem:
    """Return a problem of a line, placed at its first byte."""
    return _to_problem(Issue(code), severity, line, 0)


def row_problems(issues: Sequence[tuple[Issue, Severity]], line: Line) -> Iterator[Problem]:
    """Yield the problems of one row, each at the key, value or character that it is about."""
    document = scan_json(line.data, [issue.path for issue, _ in issues])
    positions = [_position(issue, document, line.data) for issue, _ in issues]
    columns = _columns(line.data, positions)
    for (issue, severity), position in zip(issues, positions, strict=True):
        yield _to_problem(issue, severity, line, position, columns[position])


def to_pointer(path: KeyPath) -> str:
    """Return a path as a JSON pointer (RFC 6901), safe to print.

    Long keys are shortened, lone surrogates replaced, and secrets in keys masked.
    """
    return "".join("/" + _pointer_step(step) for step in path)


def _pointer_step(step: str | int) -> str:
    if isinstance(step, int):
        return str(step)
    from maas_client.dataset.scanners.secrets import mask_secrets  # late: its patterns are costly

    key = mask_secrets(step[:_MAX_MASKED_CHARS])
    short = key if len(key) <= _MAX_STEP_CHARS else key[:_MAX_STEP_CHARS] + "…"
    printable = short.encode("utf-8", "replace").decode()
    return printable.replace("~", "~0").replace("/", "~1")


def _columns(data: bytes, positions: Sequence[int]) -> dict[int, int]:
    """Return the column (from 1) of each byte position, in one pass over a line of any length."""
    columns: dict[int, int] = {}
    column, previous = 1, 0
    for position in sorted(set(positions)):
        column += len(data[previous:position].decode("utf-8", "replace"))
        columns[position], previous = column, position
    return columns


def _position(issue: Issue, document: JsonDocument, data: bytes) -> int:
    """Return the byte position of an issue within its line.

    The first that exists of: the key or the character in it, the character in the value, the value,
    the nearest container of the value.
    """
    path = issue.path
    if issue.in_key and path in document.key_offsets:
        start = document.key_offsets[path]
        return start if issue.char_offset is None else byte_offset(data, start, issue.char_offset)
    if issue.char_offset is not None and path in document.spans:
        return byte_offset(data, document.spans[path][0], issue.char_offset)
    while path not in document.spans and path:
        path = path[:-1]
    return document.spans.get(path, (0, 0))[0]


def _to_problem(
    issue: Issue, severity: Severity, line: Line, position: int, column: int | None = None
) -> Problem:
    return Problem(
        code=issue.code,
        severity=severity,
        line=line.number,
        column=column or _columns(line.data, [position])[position],
        offset=line.offset + position,
        pointer=to_pointer(issue.path),
        message=format_message(issue.code, issue.detail),
        hint=issue.hint or get_code(issue.code).hint,
    )
